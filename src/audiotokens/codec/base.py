"""`Codec`: a tokenizer made of an encoder, a quantizer and a decoder in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.audio import WaveformLike
from audiotokens.codec.arbitration import Arbitrated
from audiotokens.codec.complexity import parameters, with_complexity
from audiotokens.codec.facts import with_latency, with_texts
from audiotokens.codec.stored import StoredModel
from audiotokens.engines import other_engine
from audiotokens.errors import NotOfferedError, TokensError
from audiotokens.nn.block import Block, Sequential, in_pieces
from audiotokens.quantizers import Quantized, Quantizer
from audiotokens.sessions import CodecDecoder, CodecEncoder
from audiotokens.spec import Spec
from audiotokens.tokenizer import Exactness, Streams, Tokenizer
from audiotokens.tokens import CodeStream, Conditioning, Tokens


@dataclass(frozen=True)
class CodecOutput:
    """Result of a training pass.

    Args:
        waveform: reconstruction `[B, C, T]`.
        latents: `[B, D, T']`.
        quantized: the quantizer's part; None without quantizer.
        second: reconstruction from the same codes with other noise; None where the decoder draws none.
    """

    waveform: Tensor
    latents: Tensor
    quantized: Quantized | None
    second: Tensor | None = None


@dataclass(frozen=True)
class Parts:
    """The modules of a codec: `[B, C, T]` to latents `[B, D, T']`, to codes and back, to `[B, C, T]`."""

    encoder: Sequential
    quantizer: Quantizer
    decoder: Sequential


Codes = Tensor | tuple[Tensor, ...]
"""What a quantizer gives: `[B, K, T]`, or one `[B, K_i, T_i]` per stream where rates differ."""


class Codec(StoredModel, Tokenizer):
    """Encoder, quantizer and decoder.

    A family subclasses it and gives `architecture`, `config_class`, `build` and `default_spec`, whose streams
    share the books of the quantizer in their order. Where an encoder or a decoder needs whole recordings,
    there is no streaming on that side. Arguments and attributes: see `StoredModel`.
    """

    def __init__(self, config: Any, *, spec: Spec | None = None) -> None:
        super().__init__(config, spec=spec)
        parts = self.build(config)
        self.encoder_net, self.quantizer, self.decoder_net = parts.encoder, parts.quantizer, parts.decoder
        computed = self.default_spec(config, parts.quantizer, spec.name if spec else self.architecture)
        described = with_latency(with_texts(computed, spec), parts.encoder, parts.decoder)
        self._spec = replace(described, parameters=parameters(self))
        self.search_width = 1
        # A list hides it from the state dict.
        self._arbitrated: list[Arbitrated] = []

    @classmethod
    def build(cls, config: Any) -> Parts:
        """Build the modules that a configuration describes."""
        raise TypeError(f"{cls.__name__} has no build")

    @classmethod
    def default_spec(cls, config: Any, quantizer: Quantizer, name: str) -> Spec:
        """Facts that follow from the configuration."""
        raise TypeError(f"{cls.__name__} has no default_spec")

    # Training and batches of tensors

    def forward(
        self, waveform: Tensor, *, num_codebooks: Tensor | int | None = None, quantize: bool = True
    ) -> CodecOutput:
        """Reconstruct `[B, C, T]` for training.

        Args:
            waveform: at the model's rate.
            num_codebooks: books to use, one number or one per item `[B]`; default: all.
            quantize: False sends the latents straight into the decoder.
        """
        latents = self.encoder_net(waveform)
        quantized = self.quantizer(latents, num_codebooks=num_codebooks) if quantize else None
        draws = self._decode_draws(quantized.latents.to(self._type) if quantized else latents)
        length = waveform.shape[2]
        # Cut or filled up as the length rule says.
        first, *others = (functional.pad(decoded, (0, length - decoded.shape[2])) for decoded in draws)
        return CodecOutput(first, latents, quantized, others[0] if others else None)

    def _decode_draws(self, latents: Tensor) -> list[Tensor]:
        """Decode once, and a second time from the first block that draws noise on, if there is one."""
        blocks = list(self.decoder_net)
        noisy = [index for index, block in enumerate(blocks) if block.draws and self.training]
        if not noisy:
            return [self.decoder_net(latents)]
        for block in blocks[: noisy[0]]:
            latents = block(latents)
        draws = []
        for _ in range(2):
            decoded = latents
            for block in blocks[noisy[0] :]:
                decoded = block(decoded)
            draws.append(decoded)
        return draws

    @torch.inference_mode()
    def encode_codes(
        self, waveforms: Tensor, lengths: Tensor, num_codebooks: int | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encode a padded batch in one call.

        Args:
            waveforms: `[B, C, T]` at the model's rate.
            lengths: samples of each item `[B]`.
            num_codebooks: a legal prefix; default: all books.

        Returns:
            Per stream the codes `[B, K, T']`, and the number of valid frames `[B]`.
        """
        books = self.spec.check_prefix(num_codebooks)
        latents = self.encoding_net(waveforms.to(self.device, self._type), lengths.to(self.device))
        streams = self.to_streams(self.quantize(latents, books))
        frames = self.encoder_net.output_lengths(lengths)
        return streams, {name: _ceil(frames, self._rates[name] / self._latent_rate) for name in streams}

    @torch.inference_mode()
    def decode_codes(self, codes: dict[str, Tensor], lengths: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Decode a padded batch in one call: waveforms `[B, C, T]` and the number of valid samples `[B]`."""
        latents = self.dequantize({name: stream.to(self.device) for name, stream in codes.items()})
        name = next(iter(codes))
        frames = _ceil(lengths[name].to(self.device), self._latent_rate / self._rates[name])
        net = self.decoder_for(sum(part.shape[1] for part in codes.values()))
        return net(latents.to(self._type), frames).float(), net.output_lengths(frames)

    @property
    def encoding_net(self) -> Block:
        """The net that encodes: the encoder, or one that decides its near ties in float64."""
        return self._arbitrated[0] if self._arbitrated else self.encoder_net

    def decoder_for(self, num_codebooks: int) -> Sequential:
        """The net that decodes latents of so many books; one for all, unless a family says otherwise."""
        return self.decoder_net

    def to_streams(self, codes: Codes) -> dict[str, Tensor]:
        """Deal the quantizer's codes out to the streams `[B, K_i, T_i]`; unused ones are absent."""
        streams = self.spec.streams
        if isinstance(codes, tuple):
            return {stream.name: part for stream, part in zip(streams, codes)}
        parts: dict[str, Tensor] = {}
        for stream in streams:
            part, codes = codes[:, : stream.num_codebooks], codes[:, stream.num_codebooks :]
            if part.shape[1]:
                parts[stream.name] = part
        return parts

    def dequantize(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Return the latents `[B, D, T]` of codes `[B, K, T]` by stream."""
        parts = tuple(streams[stream.name] for stream in self.spec.streams if stream.name in streams)
        if not self.quantizer.several_rates:
            return self.quantizer.decode(torch.cat(parts, 1))
        decode: Callable[[Codes], Tensor] = self.quantizer.decode  # type: ignore[assignment]
        return decode(parts)

    @property
    def _rates(self) -> dict[str, Fraction]:
        return {stream.name: stream.frame_rate for stream in self.spec.streams}

    @property
    def _latent_rate(self) -> Fraction:
        return self.frames_per_hop * self.spec.frame_rate

    # Tokenizer

    def encoder(self, *, num_codebooks: int | None = None) -> CodecEncoder:
        return CodecEncoder(self, self.spec.check_prefix(num_codebooks))

    def decoder(self, *, num_codebooks: int | None = None) -> CodecDecoder:
        return CodecDecoder(self, num_codebooks)

    @torch.inference_mode()
    def features(self, waveform: WaveformLike, sample_rate: int) -> np.ndarray:
        prepared, _ = self.prepare(waveform, sample_rate)
        return self._latents(prepared)[0].float().cpu().numpy()

    @torch.inference_mode()
    def margins(self, waveform: WaveformLike, sample_rate: int) -> dict[str, np.ndarray]:
        """How clearly each code was chosen, by stream, float32 `[K, T]`.

        It is the length of the least change of a latent vector that may change the code, relative to that of
        the vector: an arithmetic whose relative errors are smaller gives the same code.

        Raises:
            AudioError: the waveform or the rate is not usable.
            NotOfferedError: the quantizer does not search books by distance.
        """
        prepared, _ = self.prepare(waveform, sample_rate)
        latents = self._latents(self._padded(prepared)).float()
        codes: Any = self.quantize(latents, self.spec.check_prefix(None))
        lengths = latents.double().norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        found = {}
        for name, part in self.to_streams(self.quantizer.margins(latents, codes)).items():
            frames = int(self._latent_rate / self._rates[name])
            whole = functional.pad(lengths, (0, part.shape[2] * frames - lengths.shape[1]))
            found[name] = (part / whole.unflatten(1, (-1, frames)).amax(2))[0].float().cpu().numpy()
        return found

    @torch.inference_mode()
    def decode_features(self, features: np.ndarray) -> np.ndarray:
        """Decode latents that no quantizer has touched: what the autoencoder alone can do.

        Args:
            features: float32 `[D, T]`, as `features` gives them.

        Returns:
            float32 `[C, M]` at `spec.output_sample_rate`; `fit_length` brings M to the length rule.

        Raises:
            TokensError: another shape, or no frames.
        """
        size = self.quantizer.dim
        if features.ndim != 2 or features.shape[0] != size or not features.shape[1]:
            raise TokensError(f"the latents have the shape {features.shape}, expected [{size}, T]")
        latents = torch.from_numpy(np.asarray(features, np.float32)).to(self.device)
        group = self.frames_per_hop
        whole = -(-latents.shape[1] // group)
        return self._synthesized(
            whole, lambda start, stop: latents[None, :, start * group : stop * group], self.decoder_net
        )

    @torch.inference_mode()
    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        return self.code_streams(self.quantize(self._latents(waveform), num_codebooks)), {}

    @torch.inference_mode()
    def _decode(self, tokens: Tokens) -> np.ndarray:
        streams = self.code_tensors(tokens)
        slowest = self.spec.frame_rate
        hops = min(-(-codes.shape[2] * slowest // self._rates[name]) for name, codes in streams.items())

        def latents(start: int, stop: int) -> Tensor:
            ratios = {name: int(self._rates[name] / slowest) for name in streams}
            cut = {n: codes[..., start * ratios[n] : stop * ratios[n]] for n, codes in streams.items()}
            return self.dequantize(cut)

        return self._synthesized(int(hops), latents, self.decoder_for(tokens.num_codebooks))

    def _synthesized(self, hops: int, latents: Callable[[int, int], Tensor], net: Sequential) -> np.ndarray:
        """Decode block by block; `latents(start, stop)` are those of hops of the slowest stream."""
        state = net.initial_state(1, like=self.sample)
        size = hops if net.unbounded else round(self.block_seconds * self.spec.frame_rate)
        parts = []
        for start in range(0, max(hops, 1), max(size, 1)):
            final = start + size >= hops
            part, state = net.step(latents(start, start + size).to(self._type), state, final=final)
            parts.append(part)
        return torch.cat(parts, 2)[0].float().cpu().numpy()

    @property
    def sample(self) -> Tensor:
        """An empty tensor of the networks' type and device."""
        return torch.zeros(0, dtype=self._type, device=self.device)

    @property
    def frames_per_hop(self) -> int:
        """Latent frames per frame of the slowest stream."""
        return int(max(self._rates.values()) / self.spec.frame_rate)

    def code_streams(self, codes: Codes) -> dict[str, CodeStream]:
        """Wrap the codes of one recording, a batch of 1."""
        parts = self.to_streams(codes)
        return {
            stream.name: CodeStream(
                parts[stream.name][0].cpu().numpy(),
                stream.codebook_sizes[: parts[stream.name].shape[1]],
                stream.frame_rate,
            )
            for stream in self.spec.streams
            if stream.name in parts
        }

    def code_tensors(self, tokens: Tokens) -> dict[str, Tensor]:
        """Codes of each stream as int64 `[1, K, T]` on the device."""
        return {
            name: torch.from_numpy(np.array(stream.codes)).to(self.device)[None]
            for name, stream in tokens.streams.items()
        }

    def _latents(self, waveform: np.ndarray) -> Tensor:
        samples = torch.from_numpy(waveform).to(self.device, self._type)[None]
        return in_pieces(self.encoding_net, samples, round(self.block_seconds * self.spec.sample_rate))

    def quantize(self, latents: Tensor, num_codebooks: int) -> Codes:
        """Return the codes of latents `[B, D, T]` with the first `num_codebooks` books."""
        # Rounding hides the last bits, in which float64 results still depend on shapes and threads.
        latents = latents.float()
        wide = {} if self.search_width == 1 else {"search_width": self.search_width}
        return self.quantizer.encode(latents, num_codebooks=num_codebooks, **wide)

    def other_engines(self) -> dict[str, Tokenizer]:
        """The same tokenizer in other engines, by name: the graphs in its folder, where they can run."""
        if self.search_width != 1:
            return {}
        return other_engine("onnx", self.fingerprint, self.folder, exact=self.exact)

    def make_exact(self, exact: Exactness = True) -> Self:
        super().make_exact(exact)
        self._arbitrated = []
        if exact == "arbitrated":
            hop, frames = int(self.spec.hop), self.frames_per_hop
            books = self.quantizer, self.spec.channels
            self._arbitrated = [Arbitrated(self.encoder_net, *books, hop=hop, frames=frames)]
        return self

    # Files

    def counted(self) -> Spec:
        return with_complexity(self)

    @classmethod
    def load(
        cls, folder: Path | str, *, exact: Exactness = True, device: str = "cpu", search_width: int = 1
    ) -> Self:
        """Load a tokenizer folder of this family.

        Args:
            folder: what `save` wrote.
            exact: see `make_exact`.
            device: torch device.
            search_width: candidates that the residual search keeps; 1 is greedy.

        Raises:
            ConfigError: a key of config.json is unknown, missing or ill-typed.
            CheckpointError: a file is missing or damaged, or the weights do not fit the configuration.
            NotOfferedError: a search width for a quantizer without residual books.
        """
        codec = cls.read(Path(folder))
        if search_width != 1 and not codec.quantizer.can_search_wide:
            raise NotOfferedError(f"{codec.spec.name} has no residual books, so search_width must be 1")
        codec.search_width = search_width
        codec._spec = replace(codec.spec, nested=search_width == 1)
        return codec.to(device).eval().make_exact(exact)


def _ceil(lengths: Tensor, factor: Fraction) -> Tensor:
    return -(-lengths * factor.numerator // factor.denominator)
