"""Streaming sessions of networks: state as a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from audiotokens.audio import WaveformLike, as_waveform
from audiotokens.errors import AudioError, NotOfferedError
from audiotokens.kept import KeptSession
from audiotokens.nn.block import Block, State
from audiotokens.tokenizer import Decoder, Encoder
from audiotokens.tokens import Source, Tokens
from audiotokens.vocoder import Synthesizer

if TYPE_CHECKING:
    from audiotokens.codec import Codec, StoredModel
    from audiotokens.codec.base import Codes
    from audiotokens.codec.vocoder import NetVocoder


class _NetSession(KeptSession):
    """State shared by all sessions: the net's tensors, and what is counted."""

    def __init__(self, model: StoredModel, net: Block, like: Tensor) -> None:
        if net.unbounded:
            raise NotOfferedError(f"{model.spec.name} reads whole recordings, because of {net.unbounded}")
        super().__init__(model)
        self._device = model.device
        self.state: State = net.initial_state(1, like=like)

    def save(self) -> bytes:
        arrays = (tensor.contiguous().cpu().numpy() for tensor in self.state)
        return self._packed({f"state.{index}": array for index, array in enumerate(arrays)})

    def restore(self, state: bytes) -> None:
        metadata, arrays = self._unpacked(state)
        tensors = (torch.from_numpy(arrays[f"state.{index}"].copy()) for index in range(len(arrays)))
        self.state = tuple(tensor.to(self._device) for tensor in tensors)
        self._counters = {name: int(metadata[name]) for name in self._counters}


class CodecEncoder(_NetSession, Encoder):
    """A running encoder of a `Codec`."""

    def __init__(self, codec: Codec, num_codebooks: int) -> None:
        super().__init__(codec, codec.encoding_net, codec.sample)
        self._codec, self._books = codec, num_codebooks

    def push(self, chunk: WaveformLike) -> Tokens | None:
        tokens = self._advance(self.checked(chunk), final=False)
        return tokens if tokens.num_samples else None

    def checked(self, chunk: WaveformLike) -> np.ndarray:
        """Return a chunk as float32 `[C, T]`, after checking that the session can take it."""
        self._check_open()
        samples = as_waveform(chunk)
        if samples.shape[0] != self._codec.spec.channels:
            raise AudioError(
                f"the chunk has {samples.shape[0]} channels, expected {self._codec.spec.channels}"
            )
        return samples

    def finish(self) -> Tokens:
        self._check_open()
        if not self._counters["received"]:
            raise AudioError("the stream ended before any sample came; push audio before finish")
        self._counters["finished"] = 1
        return self._advance(np.zeros((self._codec.spec.channels, 0), np.float32), final=True)

    def _advance(self, samples: np.ndarray, *, final: bool) -> Tokens:
        x = self.received(samples, final=final)
        codes, frames, self.state = self.step(x, self.state, final=final)
        return self.returned(codes, frames, final=final)

    # The three parts of a step; sessions whose pieces and states have equal shapes can share the second one.

    def received(self, samples: np.ndarray, *, final: bool) -> Tensor:
        """Count samples `[C, T]`, and return them as the net's next piece `[1, C, T']`."""
        codec = self._codec
        # A stream shorter than the model's minimum is padded like a whole recording.
        missing = codec.spec.min_samples - self._counters["received"] - samples.shape[1] if final else 0
        self._counters["received"] += samples.shape[1]
        if missing > 0:
            samples = np.pad(samples, ((0, 0), (0, missing)))
        return codec.sample.new_tensor(samples)[None]

    @torch.inference_mode()
    def step(self, x: Tensor, state: State, *, final: bool) -> tuple[Codes, int, State]:
        """Map pieces `[B, C, T]` of streams, with their states; return codes, latent frames and states."""
        latents, state = self._codec.encoding_net.step(x, state, final=final)
        return self._codec.quantize(latents, self._books), latents.shape[2], state

    def returned(self, codes: Codes, frames: int, *, final: bool) -> Tokens:
        """Count latent frames, and return their codes, of a batch of 1, as tokens."""
        codec = self._codec
        received, before = self._counters["received"], self._counters["returned"]
        hop = int(codec.spec.hop)
        hops = self._counters["returned"] = before + -(-frames // codec.frames_per_hop)
        num_samples = (received if final else hops * hop) - before * hop
        source = Source(codec.spec.sample_rate, num_samples, codec.spec.channels)
        return codec.make_tokens(codec.code_streams(codes), {}, num_samples, source)


class CodecDecoder(_NetSession, Decoder):
    """A running decoder of a `Codec`."""

    def __init__(self, codec: Codec, num_codebooks: int | None) -> None:
        super().__init__(codec, codec.decoder_net, codec.sample)
        self._codec, self._books = codec, num_codebooks
        self._counters["codebooks"] = codec.spec.check_prefix(num_codebooks)

    def push(self, tokens: Tokens) -> np.ndarray:
        return self._advance(self.received(self.checked(tokens)), final=False)

    def checked(self, tokens: Tokens) -> Tokens:
        """Return tokens cut to the session's books, after checking that it can take them."""
        self._check_open()
        return self._codec.checked(tokens, self._books)

    def finish(self) -> np.ndarray:
        self._check_open()
        self._counters["finished"] = 1
        nothing = torch.zeros(1, self._codec.quantizer.dim, 0, device=self._codec.device)
        return self._advance(nothing, final=True)

    def _advance(self, latents: Tensor, *, final: bool) -> np.ndarray:
        waveform, self.state = self.step(latents, self.state, final=final)
        return self.returned(waveform, final=final)

    @property
    def codebooks(self) -> int:
        """Number of books of the tokens that came last, on which the net may depend."""
        return self._counters["codebooks"]

    # The three parts of a step, as those of the encoder.

    @torch.inference_mode()
    def received(self, tokens: Tokens) -> Tensor:
        """Count tokens, and return their latents `[1, D, T]`."""
        self._counters["codebooks"] = tokens.num_codebooks
        self._counters["received"] += tokens.num_samples
        return self._codec.dequantize(self._codec.code_tensors(tokens))

    @torch.inference_mode()
    def step(self, latents: Tensor, state: State, *, final: bool) -> tuple[Tensor, State]:
        """Map latents `[B, D, T]` of streams, with their states; return waveforms and states."""
        latents = latents.to(self._codec.sample.dtype)
        return self._codec.decoder_for(self.codebooks).step(latents, state, final=final)

    def returned(self, waveform: Tensor, *, final: bool) -> np.ndarray:
        """Count a waveform `[1, C, T]`, cut it as the length rule says, and return it."""
        due = self._codec.spec.output_length(self._counters["received"])
        samples = waveform[0, :, : due - self._counters["returned"]].cpu().numpy()
        if final:
            missing = due - self._counters["returned"] - samples.shape[1]
            samples = np.pad(samples, ((0, 0), (0, missing)))
        self._counters["returned"] += samples.shape[1]
        return np.ascontiguousarray(samples, dtype=np.float32)


class NetSynthesizer(_NetSession, Synthesizer):
    """A running `NetVocoder`."""

    def __init__(self, vocoder: NetVocoder) -> None:
        super().__init__(vocoder, vocoder.decoder_net, vocoder.sample)
        self._vocoder = vocoder

    def push(self, features: np.ndarray) -> np.ndarray:
        self._check_open()
        return self._advance(self._vocoder.checked_features(features), final=False)

    def finish(self) -> np.ndarray:
        self._check_open()
        self._counters["finished"] = 1
        size = self._vocoder.spec.features.size if self._vocoder.spec.features else 0
        return self._advance(np.zeros((size, 0), np.float32), final=True)

    @torch.inference_mode()
    def _advance(self, features: np.ndarray, *, final: bool) -> np.ndarray:
        x = self._vocoder.sample.new_tensor(features)[None]
        waveform, self.state = self._vocoder.decoder_net.step(x, self.state, final=final)
        self._counters["received"] += features.shape[1]
        self._counters["returned"] += waveform.shape[2]
        return np.ascontiguousarray(waveform[0].cpu().numpy(), dtype=np.float32)
