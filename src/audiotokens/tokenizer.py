"""The interface that everything talks to: `Tokenizer`, and its streaming sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from audiotokens.audio import (
    RESAMPLER,
    WaveformLike,
    as_waveform,
    check_sample_rate,
    mix_to_channels,
    resample,
)
from audiotokens.errors import NotOfferedError, TokensError
from audiotokens.spec import Spec
from audiotokens.tokens import CodeStream, Conditioning, Source, Tokens

Streams = dict[str, CodeStream]
Exactness: TypeAlias = bool | Literal["float64", "arbitrated"]
"""How little the feeding of the audio may change.

True: codes and samples do not depend on batch, chunks or threads, in the cheapest way that works on the
machine. "float64": rounding, as another machine does it, changes about one latent value in 10^8, for about
twice the time. "arbitrated": the codes of float64, which decides near ties alone, for devices on which it is
slow. False: no care is taken.
"""


class Tokenizer(ABC):
    """Audio in, `Tokens` out, and back.

    A subclass gives `spec`, `fingerprint`, `_encode` and `_decode`; checks, resampling, mixing, padding and
    the length rule live here. What it does not offer it leaves out and says so in its spec.
    """

    block_seconds: ClassVar[int] = 1
    """Length of the pieces in which long recordings are best pushed into a session."""

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """Facts about this tokenizer."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over configuration and weights: equal ones make interchangeable tokens."""

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        """Encode float32 `[C, N]` at `spec.sample_rate`, N at least `spec.min_samples`."""
        raise NotOfferedError(f"{self.spec.name} cannot encode: it only decodes")

    def _decode(self, tokens: Tokens) -> np.ndarray:
        """Decode to float32 `[C, M]` at `spec.output_sample_rate`; the caller brings M to the length rule."""
        raise NotOfferedError(f"{self.spec.name} cannot decode: it only encodes")

    def encode(self, waveform: WaveformLike, sample_rate: int, *, num_codebooks: int | None = None) -> Tokens:
        """Encode one recording.

        Args:
            waveform: numpy or torch, `[T]` or `[C, T]`, float in [-1, 1], int16 or int32.
            sample_rate: of `waveform`, in Hz; another rate than the tokenizer's is resampled (soxr VHQ).
            num_codebooks: a legal prefix (`spec.legal_prefixes`); default: all books.

        Returns:
            The tokens, which also record how the audio was fed.

        Raises:
            AudioError: the waveform is empty, not finite, or of another kind.
            TokensError: `num_codebooks` is not a legal prefix.

        Example:
            >>> tokens = tokenizer.encode(waveform, 16000, num_codebooks=6)  # doctest: +SKIP
        """
        books = self.spec.check_prefix(num_codebooks)
        prepared, source = self.prepare(waveform, sample_rate)
        streams, conditioning = self._encode(self._padded(prepared), books)
        return self.make_tokens(streams, conditioning, prepared.shape[1], source)

    def encode_batch(
        self, waveforms: Sequence[WaveformLike], sample_rate: int, *, num_codebooks: int | None = None
    ) -> list[Tokens]:
        """Encode a list of recordings of one rate; equal to encoding one by one."""
        return [self.encode(waveform, sample_rate, num_codebooks=num_codebooks) for waveform in waveforms]

    def decode(self, tokens: Tokens, *, num_codebooks: int | None = None) -> np.ndarray:
        """Decode tokens of this tokenizer to a float32 waveform `[C, N]` at `spec.output_sample_rate`.

        N is ceil(tokens.num_samples * output rate / input rate).

        Raises:
            TokensError: the tokens are another tokenizer's, or `num_codebooks` is not a legal prefix of
                theirs.
        """
        waveform = self._decode(self.checked(tokens, num_codebooks))
        return self.fit_length(waveform, tokens.num_samples)

    def decode_batch(self, batch: Sequence[Tokens], *, num_codebooks: int | None = None) -> list[np.ndarray]:
        """Decode a list of tokens; equal to decoding one by one."""
        return [self.decode(tokens, num_codebooks=num_codebooks) for tokens in batch]

    def features(self, waveform: WaveformLike, sample_rate: int) -> np.ndarray:
        """Return the latents before quantization, float32 `[D, T]`."""
        raise NotOfferedError(f"{self.spec.name} does not offer features")

    def encoder(self, *, num_codebooks: int | None = None) -> Encoder:
        """Start a streaming encoder session."""
        raise NotOfferedError(f"{self.spec.name} does not offer streaming; use encode")

    def decoder(self, *, num_codebooks: int | None = None) -> Decoder:
        """Start a streaming decoder session."""
        raise NotOfferedError(f"{self.spec.name} does not offer streaming; use decode")

    def prepare(self, waveform: WaveformLike, sample_rate: int) -> tuple[np.ndarray, Source]:
        """Bring a waveform to float32 `[C, N]` at the tokenizer's rate and channels, and record how.

        Raises:
            AudioError: the waveform or the rate is not usable.
        """
        sample_rate = check_sample_rate(sample_rate)
        given = as_waveform(waveform)
        mixed = mix_to_channels(given, self.spec.channels)
        prepared = resample(mixed, sample_rate, self.spec.sample_rate)
        source = Source(
            sample_rate=sample_rate,
            num_samples=given.shape[1],
            channels=given.shape[0],
            resampler=RESAMPLER if sample_rate != self.spec.sample_rate else "",
            mixdown=""
            if given.shape[0] == self.spec.channels
            else f"{given.shape[0]} to {self.spec.channels}",
        )
        return prepared, source

    def checked(self, tokens: Tokens, num_codebooks: int | None = None) -> Tokens:
        """Return the tokens cut to `num_codebooks`, after checking that they are this tokenizer's.

        Raises:
            TokensError: another fingerprint, rate, channels, streams or books, too few frames for the claimed
                length, or an illegal prefix.
        """
        spec = self.spec
        if tokens.fingerprint != self.fingerprint:
            raise TokensError(
                f'the tokens were made by "{tokens.tokenizer}" ({tokens.fingerprint[:8]}), this is '
                f'"{spec.name}" ({self.fingerprint[:8]}): decode them with the tokenizer that made them'
            )
        if num_codebooks is not None:
            spec.check_prefix(num_codebooks)
            tokens = tokens.take(num_codebooks)
        spec.check_prefix(tokens.num_codebooks)
        found_facts, facts = (tokens.sample_rate, tokens.channels), (spec.sample_rate, spec.channels)
        if found_facts != facts:
            raise TokensError(
                f"the tokens are of {found_facts[0]} Hz and {found_facts[1]} channels, "
                f"{spec.name} works with {facts[0]} Hz and {facts[1]}: encode again"
            )
        _check_frames(tokens)
        for stream in spec.streams:
            found = tokens.streams.get(stream.name)
            if (
                found is not None
                and found.codebook_sizes != stream.codebook_sizes[: len(found.codebook_sizes)]
            ):
                raise TokensError(
                    f'{spec.name}: stream "{stream.name}" has book sizes {found.codebook_sizes}, '
                    f"expected {stream.codebook_sizes}"
                )
        return tokens

    def fit_length(self, waveform: np.ndarray, num_samples: int) -> np.ndarray:
        """Trim, or fill with zeros, `[C, M]` to the length rule for `num_samples` encoded samples."""
        length = self.spec.output_length(num_samples)
        missing = length - waveform.shape[1]
        if missing > 0:
            waveform = np.pad(waveform, ((0, 0), (0, missing)))
        return np.ascontiguousarray(waveform[:, :length], dtype=np.float32)

    def _padded(self, waveform: np.ndarray) -> np.ndarray:
        missing = self.spec.min_samples - waveform.shape[1]
        return np.pad(waveform, ((0, 0), (0, missing))) if missing > 0 else waveform

    def make_tokens(
        self,
        streams: Streams,
        conditioning: Mapping[str, Conditioning],
        num_samples: int,
        source: Source | None,
    ) -> Tokens:
        """Put together tokens of this tokenizer."""
        return Tokens(
            streams=streams,
            conditioning=dict(conditioning),
            num_samples=num_samples,
            sample_rate=self.spec.sample_rate,
            channels=self.spec.channels,
            tokenizer=self.spec.name,
            fingerprint=self.fingerprint,
            source=source,
        )


def _check_frames(tokens: Tokens) -> None:
    """Refuse tokens that claim more samples than their frames can stand for, before anything is allocated."""
    for name, stream in tokens.streams.items():
        if stream.frame_rate and stream.segments is None:
            most = (stream.base_frames + 1) * tokens.sample_rate / stream.frame_rate
            if tokens.num_samples > most:
                raise TokensError(
                    f"the tokens claim {tokens.num_samples} samples, but the {stream.base_frames} frames of "
                    f'stream "{name}" stand for at most {int(most)}: encode again'
                )


class Session(ABC):
    """State of one stream, as a value to save, load and fork. Sessions run at the model's own rate."""

    @abstractmethod
    def save(self) -> bytes:
        """Return the whole state, with the tokenizer's fingerprint."""

    @abstractmethod
    def restore(self, state: bytes) -> None:
        """Continue from a saved state.

        Raises:
            TokensError: the state is another tokenizer's, or damaged.
        """

    @abstractmethod
    def fork(self) -> Session:
        """Return an independent copy that continues from here."""


class Encoder(Session):
    """A running encoder: waveform chunks of any size in, codes out as they become final."""

    @abstractmethod
    def push(self, chunk: WaveformLike) -> Tokens | None:
        """Take a chunk `[T]` or `[C, T]` at `spec.sample_rate`; return the codes now final, if any."""

    @abstractmethod
    def finish(self) -> Tokens:
        """End the stream and return the remaining codes.

        `Tokens.concatenate` of all parts equals one `encode`.
        """


class Decoder(Session):
    """A running decoder: tokens in, samples out as they become final."""

    @abstractmethod
    def push(self, tokens: Tokens) -> np.ndarray:
        """Take the next codes; return the samples `[C, N]` that became final (N may be 0)."""

    @abstractmethod
    def finish(self) -> np.ndarray:
        """End the stream and return the remaining samples `[C, N]`; all parts obey the length rule."""
