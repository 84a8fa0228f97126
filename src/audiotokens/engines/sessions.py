"""Streaming sessions of exported graphs: state as a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audiotokens.audio import WaveformLike, as_waveform
from audiotokens.engines.steps import Net, StepState
from audiotokens.errors import AudioError, TokensError
from audiotokens.kept import KeptSession
from audiotokens.tokenizer import Decoder, Encoder, Session, Tokenizer
from audiotokens.tokens import Source, Tokens

if TYPE_CHECKING:
    from audiotokens.engines.onnx import OnnxTokenizer


class GraphSession(KeptSession, Session):
    """State shared by all sessions: that of the net, and what is counted."""

    def __init__(self, model: Tokenizer, net: Net) -> None:
        super().__init__(model)
        self._net, self._state = net, net.begin()

    def save(self) -> bytes:
        tensors = {f"state.{index}": tensor for index, tensor in enumerate(self._state.tensors)}
        numbers = {"started": int(self._state.started), "out": self._state.returned}
        return self._packed({**tensors, "waiting": self._state.waiting}, numbers)

    def restore(self, state: bytes) -> None:
        metadata, tensors = self._unpacked(state)
        try:
            counters = {name: int(metadata[name]) for name in self._counters}
            waiting = tensors.pop("waiting")
            handed_on = tuple(tensors[f"state.{index}"] for index in range(len(tensors)))
            found = StepState(waiting, handed_on, bool(int(metadata["started"])), int(metadata["out"]))
        except (KeyError, ValueError):
            raise TokensError("the saved state is incomplete; save it again") from None
        if not self._net.fits(found):
            raise TokensError("the saved state has other shapes than this session; save it again")
        self._state, self._counters = found, counters


class OnnxEncoder(GraphSession, Encoder):
    """A running encoder of an `OnnxTokenizer`."""

    def __init__(self, tokenizer: OnnxTokenizer, net: Net, num_codebooks: int) -> None:
        super().__init__(tokenizer, net)
        self._tokenizer, self._books = tokenizer, num_codebooks

    def push(self, chunk: WaveformLike) -> Tokens | None:
        self._check_open()
        samples = as_waveform(chunk)
        channels = self._tokenizer.spec.channels
        if samples.shape[0] != channels:
            raise AudioError(f"the chunk has {samples.shape[0]} channels, expected {channels}")
        tokens = self._advance(samples, final=False)
        return tokens if tokens.num_samples else None

    def finish(self) -> Tokens:
        self._check_open()
        if not self._counters["received"]:
            raise AudioError("the stream ended before any sample came; push audio before finish")
        self._counters["finished"] = 1
        return self._advance(np.zeros((self._tokenizer.spec.channels, 0), np.float32), final=True)

    def _advance(self, samples: np.ndarray, *, final: bool) -> Tokens:
        tokenizer, spec, graphs = self._tokenizer, self._tokenizer.spec, self._tokenizer.graphs
        # A stream shorter than the model's minimum is padded like a whole recording.
        missing = spec.min_samples - self._counters["received"] if final else 0
        received = self._counters["received"] = self._counters["received"] + samples.shape[1]
        if missing > 0:
            samples = np.pad(samples, ((0, 0), (0, missing)))
        due = tokenizer.frames_due(max(received, spec.min_samples))
        parts, self._state = self._net.advance(samples[None], self._state, final=final, due=due)
        latents = np.concatenate([np.zeros((1, graphs.latent, 0), np.float32), *parts], 2)
        streams = tokenizer.code_streams(tokenizer.quantize(latents, self._books))
        before = self._counters["returned"]
        frames = self._counters["returned"] = before + -(-latents.shape[2] // graphs.frames_per_hop)
        num_samples = (received if final else frames * graphs.hop) - before * graphs.hop
        source = Source(spec.sample_rate, num_samples, spec.channels)
        return tokenizer.make_tokens(streams, {}, num_samples, source)


class OnnxDecoder(GraphSession, Decoder):
    """A running decoder of an `OnnxTokenizer`."""

    def __init__(self, tokenizer: OnnxTokenizer, num_codebooks: int | None) -> None:
        books = tokenizer.spec.check_prefix(num_codebooks)
        super().__init__(tokenizer, tokenizer.decoder_net(books))
        self._tokenizer, self._books = tokenizer, num_codebooks
        self._counters["codebooks"] = books

    def push(self, tokens: Tokens) -> np.ndarray:
        self._check_open()
        tokens = self._tokenizer.checked(tokens, self._books)
        self._counters["codebooks"] = tokens.num_codebooks
        codes = {name: stream.codes for name, stream in tokens.streams.items()}
        latents = self._tokenizer.dequantize(codes, 0, self._tokenizer.hops(codes))
        return self._advance(latents, tokens.num_samples, final=False)

    def finish(self) -> np.ndarray:
        self._check_open()
        self._counters["finished"] = 1
        nothing = np.zeros((1, self._tokenizer.graphs.latent, 0), np.float32)
        return self._advance(nothing, 0, final=True)

    def _advance(self, latents: np.ndarray, num_samples: int, *, final: bool) -> np.ndarray:
        self._counters["received"] += num_samples
        returned = self._counters["returned"]
        due = self._tokenizer.spec.output_length(self._counters["received"])
        self._net = self._tokenizer.decoder_net(self._counters["codebooks"])
        parts, self._state = self._net.advance(latents, self._state, final=final, due=due)
        nothing = np.zeros((1, self._tokenizer.spec.channels, 0), np.float32)
        samples = np.concatenate([nothing, *parts], 2)[0, :, : due - returned]
        if final:
            samples = np.pad(samples, ((0, 0), (0, due - returned - samples.shape[1])))
        self._counters["returned"] += samples.shape[1]
        return np.ascontiguousarray(samples, dtype=np.float32)
