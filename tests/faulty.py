"""A small numpy tokenizer that keeps every promise, and others that differ from it in one planted fault each.

8 kHz in, 12 kHz out, 40 samples a frame, 13 samples of look-ahead, three nested books of 8. A frame's latent
is the logarithm of a leaky energy, so it depends on all audio before it; its codes are the latent's first
octal digits. The decoder draws straight lines from frame to frame, so it is one frame late.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from audiotokens.audio import WaveformLike, as_waveform
from audiotokens.errors import TokensError
from audiotokens.spec import Spec, StreamSpec
from audiotokens.tokenizer import Decoder, Encoder, Streams, Tokenizer
from audiotokens.tokens import CodeStream, Conditioning, Tokens

HOP, AHEAD, BOOKS, SIZE, FRAME_RATE = 40, 13, 3, 8, Fraction(200)
WINDOW = 2 * HOP + AHEAD
WEIGHTS = np.hanning(WINDOW + 2)[1:-1]
OUTPUT_HOP = 60
LOWEST, HIGHEST = -6.0, 2.5


class Honest(Tokenizer):
    """Keeps every promise."""

    padding: ClassVar[float] = 0.0

    @property
    def spec(self) -> Spec:
        return Spec(
            name=type(self).__name__,
            sample_rate=8000,
            output_sample_rate=12000,
            streams=(StreamSpec("codes", (SIZE,) * BOOKS, FRAME_RATE),),
            legal_prefixes=tuple(range(1, BOOKS + 1)),
            streamable=True,
            lookahead=AHEAD,
            decoder_lookahead=HOP,
        )

    @property
    def fingerprint(self) -> str:
        return type(self).__name__.encode().hex().ljust(64, "0")

    def encode_batch(
        self, waveforms: Sequence[WaveformLike], sample_rate: int, *, num_codebooks: int | None = None
    ) -> list[Tokens]:
        """Encode as one padded array."""
        prepared = [self.prepare(waveform, sample_rate) for waveform in waveforms]
        lengths = [waveform.shape[1] for waveform, _ in prepared]
        batch = np.full((len(prepared), max(lengths)), self.padding)
        for row, (waveform, _) in zip(batch, prepared):
            row[: waveform.shape[1]] = waveform[0]
        latents = self.latents(self.mix(batch), np.zeros(len(batch)), start=True)[0]
        codes = self.quantize(latents, self.spec.check_prefix(num_codebooks))
        return [
            self.make_tokens(self.streams(row[:, : -(-length // HOP)]), {}, length, source)
            for row, length, (_, source) in zip(codes, lengths, prepared)
        ]

    def margins(self, waveform: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Distance of the latent, from 0 to 1, to the nearest border of its cell in each book."""
        latents = self.latents(waveform.astype(np.float64), np.zeros(1), start=True)[0]
        place = self.unit(latents)[0] * float(SIZE) ** np.arange(1, BOOKS + 1)[:, None]
        return {"codes": np.abs(place - np.round(place)) / float(SIZE) ** np.arange(1, BOOKS + 1)[:, None]}

    def encoder(self, *, num_codebooks: int | None = None) -> Encoder:
        return HonestEncoder(self, num_codebooks)

    def decoder(self, *, num_codebooks: int | None = None) -> Decoder:
        return HonestDecoder(self, num_codebooks)

    def fit_length(self, waveform: np.ndarray, num_samples: int) -> np.ndarray:
        return super().fit_length(waveform, num_samples)[:, : self.output_length(num_samples)]

    def output_length(self, num_samples: int) -> int:
        return self.spec.output_length(num_samples)

    def mix(self, batch: np.ndarray) -> np.ndarray:
        return batch

    def energy(self, windows: np.ndarray) -> np.ndarray:
        """`[..., WINDOW]` to `[...]`."""
        energies: np.ndarray = (windows * windows * WEIGHTS).sum(axis=-1)
        return energies

    def latents(
        self, samples: np.ndarray, memory: np.ndarray, *, start: bool, final: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Latents `[B, T]` of `[B, N]`, and the memory `[B]` after; without `start` the first hop is past."""
        padded = np.pad(samples, ((0, 0), (HOP if start else 0, 0)))
        count = (
            -(-(padded.shape[1] - HOP) // HOP) if final else max(0, (padded.shape[1] - HOP - AHEAD) // HOP)
        )
        padded = np.pad(padded, ((0, 0), (0, WINDOW)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, : count * HOP : HOP]
        energies = self.energy(windows)
        for frame in range(count):
            memory = energies[:, frame] = 0.5 * memory + energies[:, frame]
        return np.log10(10**LOWEST + energies), memory

    def unit(self, latents: np.ndarray) -> np.ndarray:
        return np.clip((latents - LOWEST) / (HIGHEST - LOWEST), 0, 1 - 1e-9)

    def quantize(self, latents: np.ndarray, num_codebooks: int) -> np.ndarray:
        """Latents `[B, T]` to codes `[B, K, T]`: octal digits."""
        digits = [
            np.floor(self.unit(latents) * SIZE**k).astype(np.int64) % SIZE
            for k in range(1, num_codebooks + 1)
        ]
        return np.stack(digits, 1)

    def values(self, codes: np.ndarray) -> np.ndarray:
        """Codes `[K, T]` to values `[T]`."""
        scales = float(SIZE) ** -np.arange(1, len(codes) + 1)
        total = np.zeros(codes.shape[1])
        for scale, book in zip(scales, codes):
            total = total + scale * book
        return total

    def streams(self, codes: np.ndarray) -> Streams:
        return {"codes": CodeStream(codes, (SIZE,) * len(codes), FRAME_RATE)}

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        latents = self.latents(waveform.astype(np.float64), np.zeros(1), start=True)[0]
        return self.streams(self.quantize(latents, num_codebooks)[0]), {}

    def _decode(self, tokens: Tokens) -> np.ndarray:
        values = self.values(tokens.codes)
        return draw(values, np.append(values[1:], values[-1]), 0)


def draw(values: np.ndarray, following: np.ndarray, first_frame: int) -> np.ndarray:
    """A tone `[1, 60 T]` whose level goes in straight lines from each value to the following one."""
    ramp = np.arange(OUTPUT_HOP) / OUTPUT_HOP
    level = values[:, None] + (following - values)[:, None] * ramp
    time = first_frame * OUTPUT_HOP + np.arange(level.size)
    return (level.reshape(-1) * np.cos(0.2 * time))[None].astype(np.float32)


class HonestSession:
    """State that JSON can hold."""

    def __init__(self, tokenizer: Honest, num_codebooks: int | None) -> None:
        self.tokenizer = tokenizer
        self.num_codebooks = num_codebooks
        self.state: dict[str, Any] = {"pending": [], "memory": 0.0, "received": 0, "frames": 0, "returned": 0}

    def save(self) -> bytes:
        return json.dumps({"fingerprint": self.tokenizer.fingerprint, **self.state}).encode()

    def restore(self, state: bytes) -> None:
        found = json.loads(state)
        if found.pop("fingerprint") != self.tokenizer.fingerprint:
            raise TokensError("the state is another tokenizer's")
        self.state = found

    def fork(self) -> Any:
        twin = copy.copy(self)
        twin.state = copy.deepcopy(self.state)
        return twin


class HonestEncoder(HonestSession, Encoder):
    def __init__(self, tokenizer: Honest, num_codebooks: int | None) -> None:
        super().__init__(tokenizer, num_codebooks)
        self.state["pending"] = [0.0] * HOP

    def push(self, chunk: WaveformLike) -> Tokens | None:
        samples = as_waveform(chunk)
        self.state["pending"] += samples[0].astype(np.float64).tolist()
        self.state["received"] += samples.shape[1]
        tokens = self.advance(final=False)
        return tokens if tokens.codes.shape[1] else None

    def finish(self) -> Tokens:
        return self.advance(final=True)

    def advance(self, *, final: bool) -> Tokens:
        state = self.state
        pending = np.array([state["pending"]])
        latents, memory = self.tokenizer.latents(
            pending, np.array([state["memory"]]), start=False, final=final
        )
        count = latents.shape[1]
        num_samples = state["received"] - state["frames"] * HOP if final else count * HOP
        state.update(
            pending=state["pending"][count * HOP :], memory=float(memory[0]), frames=state["frames"] + count
        )
        books = self.tokenizer.spec.check_prefix(self.num_codebooks)
        streams = self.tokenizer.streams(self.tokenizer.quantize(latents, books)[0])
        return self.tokenizer.make_tokens(streams, {}, num_samples, None)


class HonestDecoder(HonestSession, Decoder):
    def push(self, tokens: Tokens) -> np.ndarray:
        tokens = self.tokenizer.checked(tokens, self.num_codebooks)
        values = [*self.state["pending"], *self.tokenizer.values(tokens.codes).tolist()]
        self.state["received"] += tokens.num_samples
        self.state["pending"] = values[-1:]
        return self.advance(np.array(values[:-1]), np.array(values[1:]))

    def finish(self) -> np.ndarray:
        values = np.array(self.state["pending"])
        return self.advance(values, values)

    def advance(self, values: np.ndarray, following: np.ndarray) -> np.ndarray:
        due = self.tokenizer.output_length(self.state["received"]) - self.state["returned"]
        samples = draw(values, following, self.state["frames"])[:, :due]
        self.state["frames"] += len(values)
        self.state["returned"] += samples.shape[1]
        return samples


class BatchLeak(Honest):
    """Every item of a batch hears a little of the item before it."""

    def mix(self, batch: np.ndarray) -> np.ndarray:
        return batch + 0.1 * np.roll(batch, 1, axis=0) if len(batch) > 1 else batch


class PaddingLeak(Honest):
    """Padding is not silent, and the last frames of shorter items see it."""

    padding = 0.05


class OffByOneLength(Honest):
    """Rounds the length down where the rule rounds up."""

    def output_length(self, num_samples: int) -> int:
        return num_samples * 3 // 2


class RestartsAtEveryChunk(Honest):
    """A streaming encoder that forgets the past whenever a chunk comes."""

    class Restarting(HonestEncoder):
        def push(self, chunk: WaveformLike) -> Tokens | None:
            self.state["memory"] = 0.0
            return super().push(chunk)

    def encoder(self, *, num_codebooks: int | None = None) -> Encoder:
        return self.Restarting(self, num_codebooks)


class LosesBufferAtFinish(Honest):
    """A streaming decoder that ends without giving what it still holds."""

    class Losing(HonestDecoder):
        def finish(self) -> np.ndarray:
            return np.zeros((1, 0), np.float32)

    def decoder(self, *, num_codebooks: int | None = None) -> Decoder:
        return self.Losing(self, num_codebooks)


class OrderDependentSum(Honest):
    """Adds up one share for each thread, in half precision: other threads are another order of the sum."""

    def energy(self, windows: np.ndarray) -> np.ndarray:
        import torch

        shares = np.array_split(windows * windows * WEIGHTS, torch.get_num_threads(), axis=-1)
        return np.sum([share.sum(axis=-1).astype(np.float16).astype(np.float64) for share in shares], axis=0)


class LooksFurtherThanItSays(Honest):
    """States no look-ahead and has one."""

    @property
    def spec(self) -> Spec:
        return replace(super().spec, lookahead=0)


class RoundsTheLastBook(Honest):
    """The last book used is rounded to the nearest, so that fewer books are not a prefix of more."""

    def quantize(self, latents: np.ndarray, num_codebooks: int) -> np.ndarray:
        step = float(SIZE) ** -num_codebooks
        rounded = np.round(self.unit(latents) / step).clip(0, 1 / step - 1).astype(np.int64)
        return np.stack(
            [rounded // SIZE ** (num_codebooks - k) % SIZE for k in range(1, num_codebooks + 1)], 1
        )


PLANTED: dict[type[Honest], str] = {
    PaddingLeak: "I1",
    BatchLeak: "I2",
    RestartsAtEveryChunk: "I3",
    LosesBufferAtFinish: "I4",
    OrderDependentSum: "I5",
    LooksFurtherThanItSays: "I7",
    OffByOneLength: "I8",
    RoundsTheLastBook: "I10",
}
"""Tokenizer with a fault -> the one promise that it breaks."""
