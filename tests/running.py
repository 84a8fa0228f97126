"""Two fast numpy tokenizers for long recordings: one remembers all of the past, one hears the whole."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from audiotokens.audio import WaveformLike, as_waveform
from audiotokens.spec import Spec, StreamSpec
from audiotokens.tokenizer import Decoder, Encoder, Streams, Tokenizer
from audiotokens.tokens import CodeStream, Conditioning, Tokens

HOP, RATE, OUTPUT_HOP = 100, 8000, 150
FRAME_RATE = Fraction(RATE, HOP)


class Running(Tokenizer):
    """A frame's code is the sum of all samples so far, in thousandths, modulo 256: nothing is forgotten."""

    pushed = 0

    @property
    def spec(self) -> Spec:
        return Spec(
            name="running",
            sample_rate=RATE,
            output_sample_rate=RATE * OUTPUT_HOP // HOP,
            streams=(StreamSpec("codes", (256,), FRAME_RATE),),
            legal_prefixes=(1,),
            streamable=True,
            causal=True,
            receptive_field=None,
        )

    @property
    def fingerprint(self) -> str:
        return b"running".hex().ljust(64, "0")

    def encoder(self, *, num_codebooks: int | None = None) -> RunningEncoder:
        return RunningEncoder(self)

    def decoder(self, *, num_codebooks: int | None = None) -> RunningDecoder:
        return RunningDecoder(self)

    def sums(self, waveform: np.ndarray, total: int) -> np.ndarray:
        padded = np.pad(waveform[0], (0, -waveform.shape[1] % HOP))
        thousandths = np.rint(1000 * padded).astype(np.int64).reshape(-1, HOP).sum(1)
        return total + np.cumsum(thousandths)

    def streams(self, sums: np.ndarray) -> Streams:
        return {"codes": CodeStream(sums[None] % 256, (256,), FRAME_RATE)}

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        return self.streams(self.sums(waveform, 0)), {}

    def _decode(self, tokens: Tokens) -> np.ndarray:
        return wave(tokens.codes)


def wave(codes: np.ndarray) -> np.ndarray:
    return np.repeat(codes / 256, OUTPUT_HOP, axis=1).astype(np.float32)


class RunningSession:
    def __init__(self, tokenizer: Running) -> None:
        self.tokenizer = tokenizer
        self.state: dict[str, Any] = {"pending": [], "total": 0, "received": 0, "frames": 0}

    def save(self) -> bytes:
        return json.dumps(self.state).encode()

    def restore(self, state: bytes) -> None:
        self.state = json.loads(state)

    def fork(self) -> Any:
        twin = copy.copy(self)
        twin.state = copy.deepcopy(self.state)
        return twin


class RunningEncoder(RunningSession, Encoder):
    def push(self, chunk: WaveformLike) -> Tokens | None:
        samples = as_waveform(chunk)
        self.tokenizer.pushed += samples.shape[1]
        self.state["received"] += samples.shape[1]
        held = np.concatenate([np.array([self.state["pending"]], np.float32), samples], axis=1)
        ready = held.shape[1] // HOP * HOP
        self.state["pending"] = held[0, ready:].tolist()
        return self.advance(held[:, :ready], ready) if ready else None

    def finish(self) -> Tokens:
        rest = np.array([self.state["pending"]], np.float32)
        return self.advance(rest, rest.shape[1])

    def advance(self, samples: np.ndarray, num_samples: int) -> Tokens:
        sums = self.tokenizer.sums(samples, self.state["total"])
        self.state["total"] = int(sums[-1]) if sums.size else self.state["total"]
        return self.tokenizer.make_tokens(self.tokenizer.streams(sums), {}, num_samples, None)


class RunningDecoder(RunningSession, Decoder):
    def push(self, tokens: Tokens) -> np.ndarray:
        before = self.tokenizer.spec.output_length(self.state["received"])
        self.state["received"] += tokens.num_samples
        due = self.tokenizer.spec.output_length(self.state["received"])
        return wave(tokens.codes)[:, : due - before]

    def finish(self) -> np.ndarray:
        return np.zeros((1, 0), np.float32)


class Whole(Running):
    """A frame's code is its mean less that of the recording; decoding takes out the mean again."""

    @property
    def spec(self) -> Spec:
        return replace(super().spec, name="whole", streamable=False)

    @property
    def fingerprint(self) -> str:
        return b"whole".hex().ljust(64, "0")

    def encoder(self, *, num_codebooks: int | None = None) -> RunningEncoder:
        return Tokenizer.encoder(self)  # type: ignore[return-value]

    def decoder(self, *, num_codebooks: int | None = None) -> RunningDecoder:
        return Tokenizer.decoder(self)  # type: ignore[return-value]

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        padded = np.pad(waveform[0], (0, -waveform.shape[1] % HOP), mode="edge").astype(np.float64)
        means = padded.reshape(-1, HOP).mean(1)
        return self.streams(np.clip(np.rint(100 * (means - means.mean())), -128, 127).astype(np.int64)), {}

    def _decode(self, tokens: Tokens) -> np.ndarray:
        signed = (tokens.codes + 128) % 256 - 128.0
        return wave(signed - signed.mean())
