"""What one recording became: `Tokens`. Plain data, no device, no model; a batch is a list of them.

The parts (`CodeStream`, `Conditioning`, `Segment`) live in `streams`, cutting and joining in `splice`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np

from audiotokens import splice
from audiotokens.errors import MissingExtraError, TokensError
from audiotokens.streams import Codes, CodeStream, Conditioning, Segment, as_count, as_text, same_durations

if TYPE_CHECKING:
    import torch

Part = TypeVar("Part")

__all__ = ["CodeStream", "Conditioning", "Segment", "Source", "Tokens"]


@dataclass(frozen=True)
class Source:
    """How the audio was fed to the tokenizer.

    Args:
        sample_rate: of the given audio, in Hz.
        num_samples: of the given audio, per channel.
        channels: of the given audio.
        resampler: name of the resampler ("soxr-vhq"); empty if the rate was the tokenizer's own.
        mixdown: how channels were mixed ("2 to 1"); empty if they were not.
    """

    sample_rate: int
    num_samples: int
    channels: int
    resampler: str = ""
    mixdown: str = ""

    def __post_init__(self) -> None:
        for name, minimum in (("sample_rate", 1), ("num_samples", 0), ("channels", 1)):
            object.__setattr__(self, name, as_count(getattr(self, name), f"source: {name}", minimum=minimum))
        as_text(self.resampler, "source: resampler", empty=True)
        as_text(self.mixdown, "source: mixdown", empty=True)


@dataclass(frozen=True, eq=False)
class Tokens:
    """What one recording became.

    Args:
        streams: the streams of codes in their order, such as `{"codes": ...}`; SNAC has one for each rate.
        num_samples: of what was encoded, per channel, at `sample_rate`; 0 is legal (a streaming part).
        sample_rate: the tokenizer's input rate in Hz.
        channels: of what was encoded.
        tokenizer: name of the tokenizer.
        fingerprint: SHA-256 over its configuration and weights; equal ones make interchangeable tokens.
        source: how the audio was fed, if known.
        conditioning: what decoding needs beside codes.

    Raises:
        TokensError: the parts contradict each other; the message says which.

    Example:
        >>> stream = CodeStream(np.zeros((2, 50), np.int64), (1024, 1024), Fraction(50))
        >>> tokens = Tokens({"codes": stream}, 16000, 16000, 1, "example", "0" * 64)
        >>> tokens.bitrate
        1000.0
    """

    streams: Mapping[str, CodeStream]
    num_samples: int
    sample_rate: int
    channels: int
    tokenizer: str
    fingerprint: str
    source: Source | None = None
    conditioning: Mapping[str, Conditioning] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, minimum in (("num_samples", 0), ("sample_rate", 1), ("channels", 1)):
            object.__setattr__(self, name, as_count(getattr(self, name), name, minimum=minimum))
        as_text(self.tokenizer, "tokenizer")
        as_text(self.fingerprint, "fingerprint")
        if self.source is not None and not isinstance(self.source, Source):
            raise TokensError(f"source is of type {type(self.source).__name__}, expected Source or None")
        object.__setattr__(self, "streams", _checked_parts(self.streams, CodeStream, "streams"))
        object.__setattr__(
            self, "conditioning", _checked_parts(self.conditioning, Conditioning, "conditioning")
        )
        if not self.streams and not self.conditioning:
            raise TokensError("tokens without streams and conditioning: give at least one stream")
        self._check_windows()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokens):
            return NotImplemented
        return self._facts() == other._facts()

    @property
    def num_codebooks(self) -> int:
        """Number of books of the time-varying streams."""
        return sum(stream.num_codebooks for stream in self._varying().values())

    @property
    def codes(self) -> Codes:
        """The time-varying streams stacked in order, int64 `[K, T]`, read-only.

        Raises:
            TokensError: they differ in frame rate, length or durations; the message names them.
        """
        varying = self._varying()
        first = next(iter(varying.values()), None)
        if first is None:
            raise TokensError(
                "no stream varies with time, so there are no stacked codes: use tokens.streams[name].codes"
            )
        if not all(_same_time(first, stream) for stream in varying.values()):
            rates = ", ".join(f'"{n}" {s.num_frames} frames at {s.frame_rate} Hz' for n, s in varying.items())
            raise TokensError(f"the streams differ in time ({rates}): use tokens.streams[name].codes")
        if len(varying) == 1:
            return first.codes
        stacked = np.concatenate([stream.codes for stream in varying.values()])
        stacked.flags.writeable = False
        return stacked

    @property
    def duration(self) -> float:
        """Length of what was encoded, in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def code_bits(self) -> float:
        """Bits of all codes: the sum of T log2(size) over all books, global ones included."""
        return sum(stream.code_bits for stream in self.streams.values())

    @property
    def bits(self) -> float:
        """`code_bits` plus durations, window scales and conditioning (32 bits for each value)."""
        side = sum(stream.side_bits for stream in self.streams.values())
        return self.code_bits + side + sum(32.0 * item.values.size for item in self.conditioning.values())

    @property
    def bitrate(self) -> float:
        """`bits` per second of `duration`; 0 for tokens of no samples."""
        return self.bits / self.duration if self.num_samples else 0.0

    def take(self, num_codebooks: int) -> Tokens:
        """Return the tokens with their first time-varying books, counted over the streams in order.

        Streams of which no book is left are dropped; global streams and conditioning stay. Which numbers can
        be decoded stands in the tokenizer's spec.

        Raises:
            TokensError: `num_codebooks` is not between 1 and the number of books.
        """
        left = as_count(num_codebooks, "num_codebooks")
        if not 1 <= left <= self.num_codebooks:
            raise TokensError(f"num_codebooks is {left}, these tokens have 1 to {self.num_codebooks}")
        streams = {}
        for name, stream in self.streams.items():
            if not stream.frame_rate:
                streams[name] = stream
            elif left > 0:
                streams[name] = stream.take(left)
                left -= stream.num_codebooks
        return replace(self, streams=streams)

    def clip_bounds(self, start: float | Fraction, end: float | Fraction | None = None) -> tuple[int, int]:
        """Return the samples `(start_sample, end_sample)` that `clip(start, end)` really covers.

        Args:
            start: in seconds.
            end: in seconds; default: the end of the recording.

        Raises:
            TokensError: not 0 <= start < end <= duration.
        """
        return splice.clip_bounds(self, start, end)

    def clip(self, start: float | Fraction, end: float | Fraction | None = None) -> Tokens:
        """Return the tokens of a part of the recording.

        The bounds are rounded to samples and snapped outward to the coarsest frame that all streams share (to
        windows, where there are windows); `clip_bounds` says where they come to lie. Durations are shortened
        at the cut; global streams and conditioning stay. The result is not what encoding the cut waveform
        would give: a codec looks beyond the frame it encodes.

        Args:
            start: in seconds.
            end: in seconds; default: the end of the recording.

        Raises:
            TokensError: not 0 <= start < end <= duration.
        """
        return splice.clip(self, start, end)

    @staticmethod
    def concatenate(items: Iterable[Tokens]) -> Tokens:
        """Join parts in time: those of a streaming session, clips of one recording, utterances of one voice.

        All items must be of one tokenizer (equal fingerprint), with the same streams and books, equal
        global codes and global conditioning; every item but the last must be whole: `num_samples`
        is exactly what its frames stand for. Parts of no frames and no samples change nothing.
        Sources are added up where they agree. The result is not what encoding the joined waveforms
        would give.

        Raises:
            TokensError: nothing to join, or the items do not fit; the message says which and what to do.
        """
        return splice.concatenate(list(items))

    def with_globals(self, other: Tokens) -> Tokens:
        """Return this recording's time-varying parts with the global codes and conditioning of another.

        For tokenizers that keep the voice in global codes this is voice conversion.

        Raises:
            TokensError: another tokenizer, or the global parts are not the same ones or do not exist.
        """
        return splice.with_globals(self, other)

    def torch(self, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
        """Return the codes of every stream as an int64 tensor `[K, T]` on `device`.

        Raises:
            MissingExtraError: torch is not installed.
        """
        try:
            import torch
        except ImportError:
            raise MissingExtraError("Tokens.torch", "torch") from None
        return {name: torch.tensor(stream.codes, device=device) for name, stream in self.streams.items()}

    def save(self, path: str | os.PathLike[str] | IO[bytes], overwrite: bool = False) -> None:
        """Write a `.tok` file for `audiotokens.read_tokens`; an existing file is kept unless `overwrite`.

        Raises:
            AudioTokensError: the file exists or cannot be written.
        """
        from audiotokens.tokenfile import write_tokens

        write_tokens(path, self, overwrite=overwrite)

    def _varying(self) -> dict[str, CodeStream]:
        return {name: stream for name, stream in self.streams.items() if stream.frame_rate}

    def _facts(self) -> tuple[object, ...]:
        scalars = (
            self.num_samples,
            self.sample_rate,
            self.channels,
            self.tokenizer,
            self.fingerprint,
            self.source,
        )
        return (*scalars, list(self.streams.items()), list(self.conditioning.items()))

    def _check_windows(self) -> None:
        for name, stream in self.streams.items():
            last = stream.segments[-1] if stream.segments else None
            if last is not None and last.start_sample >= max(self.num_samples, 1):
                raise TokensError(
                    f'stream "{name}": a segment starts at sample {last.start_sample} of {self.num_samples}: '
                    "windows must start inside the recording"
                )


def _checked_parts(given: Mapping[str, Part], kind: type[Part], what: str) -> dict[str, Part]:
    if not isinstance(given, Mapping):
        raise TokensError(
            f"{what} is of type {type(given).__name__}, expected a mapping of names to {kind.__name__}"
        )
    for name, part in given.items():
        as_text(name, f"a name in {what}")
        if not isinstance(part, kind):
            raise TokensError(f'{what}["{name}"] is of type {type(part).__name__}, expected {kind.__name__}')
    return dict(given)


def _same_time(first: CodeStream, other: CodeStream) -> bool:
    same_grid = first.frame_rate == other.frame_rate and first.num_frames == other.num_frames
    return same_grid and same_durations(first, other)
