"""Streaming sessions of `Windowed`: window by window, joined in the middle of each overlap."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

import numpy as np

from audiotokens.audio import Waveform, WaveformLike, as_waveform
from audiotokens.errors import AudioError, AudioTokensError, NotOfferedError, TokensError
from audiotokens.tokenfile import read_tokens, write_tokens
from audiotokens.tokenizer import Decoder, Encoder, Session
from audiotokens.tokens import Tokens

if TYPE_CHECKING:
    from audiotokens.recordings.windowed import Windowed

_FADE_SECONDS = 0.02


@dataclass(frozen=True)
class Plan:
    """Where windows lie, in samples at the input rate.

    Args:
        frame: the shortest piece that is whole frames of every stream.
        window: length of every window but the last.
        overlap: what neighbours share, two whole frames or a multiple of that.
    """

    frame: int
    window: int
    overlap: int

    @property
    def step(self) -> int:
        """From the start of a window to that of the next."""
        return self.window - self.overlap

    @property
    def margin(self) -> int:
        """Half an overlap: from the start of a window to the cut."""
        return self.overlap // 2


@dataclass(frozen=True)
class Disagreement:
    """Share of the codes, from 0 to 1, that two windows give differently to the frames that they share.

    Args:
        overlaps: in whole overlaps, their ends included, which no result is taken from.
        cuts: in the two frames beside every cut, the worst that is kept.
    """

    overlaps: float
    cuts: float


class _WindowSession(Session):
    """State that both directions share: counters, and tokens and waveforms that wait."""

    def __init__(self, tokenizer: Windowed, plan: Plan) -> None:
        self._tokenizer, self._plan = tokenizer, plan
        self._counters = {
            "windows": 0,
            "received": 0,
            "finished": 0,
            "compared": 0,
            "differing": 0,
            "beside": 0,
            "cut": 0,
        }

    def save(self) -> bytes:
        from safetensors.numpy import save

        metadata = {name: str(value) for name, value in self._counters.items()}
        metadata |= {"session": type(self).__name__, "fingerprint": self._tokenizer.fingerprint}
        return save(self._waiting(), metadata)

    def restore(self, state: bytes) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(state)
            metadata = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])["__metadata__"]
            counters = {name: int(metadata[name]) for name in self._counters}
        except (SafetensorError, ValueError, KeyError) as error:
            raise TokensError(f"the saved state cannot be read ({error}); save it again") from None
        expected = (type(self).__name__, self._tokenizer.fingerprint)
        found = (metadata.get("session"), str(metadata.get("fingerprint")))
        if found != expected:
            raise TokensError(
                f"the saved state is of {found[0]} {found[1][:8]}, "
                f"this is {expected[0]} {expected[1][:8]}: restore it where it came from"
            )
        self._counters = counters
        self._set_waiting(tensors)

    def fork(self) -> Self:
        twin = copy.copy(self)
        twin._counters = dict(self._counters)
        return twin

    def _waiting(self) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _set_waiting(self, tensors: Mapping[str, np.ndarray]) -> None:
        raise NotImplementedError

    def _open(self) -> None:
        if self._counters["finished"]:
            raise TokensError("the session is finished; start another one")

    def _clipped(self, tokens: Tokens, start: int, end: int | None = None) -> Tokens:
        """Cut at samples, both on whole frames; to the end without `end`."""
        rate = tokens.sample_rate
        return tokens.clip(Fraction(start, rate), None if end is None else Fraction(end, rate))


class WindowEncoder(_WindowSession, Encoder):
    """A running encoder of `Windowed`."""

    def __init__(self, tokenizer: Windowed, plan: Plan, num_codebooks: int) -> None:
        super().__init__(tokenizer, plan)
        self._books = num_codebooks
        self._held: Waveform = np.zeros((tokenizer.spec.channels, 0), np.float32)
        # The codes that the window before gives to the overlap with the one that begins at `_held`.
        self._tail: Tokens | None = None

    @property
    def disagreement(self) -> Disagreement | None:
        """How much the windows so far disagree; None: there was only one."""
        found = self._counters
        if not found["compared"]:
            return None
        return Disagreement(found["differing"] / found["compared"], found["cut"] / found["beside"])

    def push(self, chunk: WaveformLike) -> Tokens | None:
        self._open()
        samples = as_waveform(chunk)
        if len(samples) != len(self._held):
            raise AudioError(f"the chunk has {len(samples)} channels, expected {len(self._held)}")
        self._counters["received"] += samples.shape[1]
        plan, parts, start = self._plan, [], 0
        held = np.concatenate([self._held, samples], axis=1) if self._held.size else samples
        while held.shape[1] - start >= plan.window:
            tokens = self._encoded(held[:, start : start + plan.window])
            parts.append(self._clipped(tokens, self._begin, plan.window - plan.margin))
            self._tail = self._clipped(tokens, plan.step)
            self._counters["windows"] += 1
            start += plan.step
        self._held = held[:, start:].copy()
        return Tokens.concatenate(parts) if parts else None

    def finish(self) -> Tokens:
        self._open()
        if not self._counters["received"]:
            raise AudioError("the stream ended before any sample came; push audio before finish")
        self._counters["finished"] = 1
        if self._tail is not None and self._held.shape[1] == self._plan.overlap:
            return self._clipped(self._tail, self._plan.margin)
        tokens = self._encoded(self._held)
        return self._clipped(tokens, self._begin) if self._begin else tokens

    @property
    def _begin(self) -> int:
        return self._plan.margin if self._counters["windows"] else 0

    def _encoded(self, waveform: Waveform) -> Tokens:
        """Encode one window, and compare its beginning with the end of the one before."""
        spec = self._tokenizer.spec
        given = self._tokenizer.inner.encode(waveform, spec.sample_rate, num_codebooks=self._books)
        if any(stream.segments is not None for stream in given.streams.values()):
            raise NotOfferedError(f"{self._tokenizer.inner.spec.name} cuts windows of its own already")
        tokens = self._tokenizer.outward(given)
        if self._tail is not None:
            self._compare(self._tail, self._clipped(tokens, 0, self._plan.overlap))
        return tokens

    def _compare(self, before: Tokens, after: Tokens) -> None:
        frame, margin = self._plan.frame, self._plan.margin
        for start, end, counted, differing in (
            (0, self._plan.overlap, "compared", "differing"),
            (margin - frame, margin + frame, "beside", "cut"),
        ):
            first, second = (self._clipped(tokens, start, end) for tokens in (before, after))
            for name, stream in first.streams.items():
                same = stream.codes == second.streams[name].codes
                self._counters[counted] += same.size
                self._counters[differing] += int(np.count_nonzero(~same))

    def _waiting(self) -> dict[str, np.ndarray]:
        tail = {} if self._tail is None else {"tail": _packed(self._tail)}
        return {"held": self._held, **tail}

    def _set_waiting(self, tensors: Mapping[str, np.ndarray]) -> None:
        self._held = tensors["held"]
        self._tail = _unpacked(tensors["tail"]) if "tail" in tensors else None


class WindowDecoder(_WindowSession, Decoder):
    """A running decoder of `Windowed` where the inner tokenizer has none."""

    def __init__(self, tokenizer: Windowed, plan: Plan, num_codebooks: int | None) -> None:
        super().__init__(tokenizer, plan)
        self._books = num_codebooks
        spec = tokenizer.spec
        self._fade = min(round(_FADE_SECONDS * spec.output_sample_rate) // 2 * 2, self._out(plan.margin) * 2)
        self._held: Tokens | None = None
        # What the window before gives from the cross-fade on; used to its end if no window follows.
        self._tail: Waveform = np.zeros((spec.channels, 0), np.float32)

    def push(self, tokens: Tokens) -> np.ndarray:
        self._open()
        tokens = self._tokenizer.checked(tokens, self._books)
        self._counters["received"] += tokens.num_samples
        held = tokens if self._held is None else Tokens.concatenate([self._held, tokens])
        plan, parts = self._plan, [self._tail[:, :0]]
        while held.num_samples >= plan.window:
            samples = self._joined(self._clipped(held, 0, plan.window))
            cut = samples.shape[1] - self._out(plan.margin) - self._fade // 2
            parts.append(samples[:, :cut])
            self._tail = samples[:, cut:].copy()
            self._counters["windows"] += 1
            held = self._clipped(held, plan.step)
        self._held = held
        return np.concatenate(parts, axis=1)

    def finish(self) -> np.ndarray:
        self._open()
        self._counters["finished"] = 1
        if self._held is None:
            return self._tail[:, :0]
        if self._counters["windows"] and self._held.num_samples == self._plan.overlap:
            return self._tail
        return self._joined(self._held)

    def _joined(self, tokens: Tokens) -> Waveform:
        """Decode one window from its cut on, faded in over the end of the window before."""
        tokenizer, half = self._tokenizer, self._fade // 2
        samples = tokenizer.inner.decode(tokenizer.inward(tokens))
        if not self._counters["windows"]:
            return samples
        samples = samples[:, self._out(self._plan.margin) - half :].copy()
        weight = ((np.arange(self._fade) + 0.5) / max(self._fade, 1)).astype(np.float32)
        samples[:, : self._fade] *= weight
        samples[:, : self._fade] += self._tail[:, : self._fade] * (1 - weight)
        return samples

    def _out(self, samples: int) -> int:
        return samples * self._tokenizer.spec.output_sample_rate // self._tokenizer.spec.sample_rate

    def _waiting(self) -> dict[str, np.ndarray]:
        held = {} if self._held is None else {"held": _packed(self._held)}
        return {"tail": self._tail, **held}

    def _set_waiting(self, tensors: Mapping[str, np.ndarray]) -> None:
        self._tail = tensors["tail"]
        self._held = _unpacked(tensors["held"]) if "held" in tensors else None


class InnerDecoder(Decoder):
    """The inner tokenizer's streaming decoder, for tokens of `Windowed`: exact, no windows needed."""

    def __init__(self, tokenizer: Windowed, session: Decoder) -> None:
        self._tokenizer, self._session = tokenizer, session

    def push(self, tokens: Tokens) -> np.ndarray:
        return self._session.push(self._tokenizer.inward(self._tokenizer.checked(tokens)))

    def finish(self) -> np.ndarray:
        return self._session.finish()

    def save(self) -> bytes:
        return self._session.save()

    def restore(self, state: bytes) -> None:
        self._session.restore(state)

    def fork(self) -> InnerDecoder:
        twin = self._session.fork()
        if not isinstance(twin, Decoder):
            raise TokensError("a decoder's copy is no decoder")
        return InnerDecoder(self._tokenizer, twin)


def _packed(tokens: Tokens) -> np.ndarray:
    file = io.BytesIO()
    write_tokens(file, tokens)
    return np.frombuffer(file.getvalue(), np.uint8)


def _unpacked(content: np.ndarray) -> Tokens:
    try:
        return read_tokens(io.BytesIO(content.tobytes()))
    except AudioTokensError as error:
        raise TokensError(f"the saved state cannot be read ({error}); save it again") from None
