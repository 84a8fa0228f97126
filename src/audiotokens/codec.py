"""`Codec`: a tokenizer made of an encoder, a quantizer and a decoder in torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from audiotokens import config as configuration
from audiotokens.audio import WaveformLike
from audiotokens.errors import CheckpointError, NotOfferedError, TokensError
from audiotokens.nn.block import Sequential
from audiotokens.nn.storage import SCALE, WeightBits, pack_tensors, unpack_tensors
from audiotokens.quantizers import Quantized, Quantizer
from audiotokens.sessions import CodecDecoder, CodecEncoder
from audiotokens.spec import Spec
from audiotokens.tokenizer import Streams, Tokenizer
from audiotokens.tokens import CodeStream, Conditioning, Tokens

_BLOCK_SECONDS = 4
FORMAT_VERSION = 1


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


class Codec(nn.Module, Tokenizer):
    """Encoder, quantizer and decoder over one stream called "codes".

    A family subclasses it and gives `architecture`, `config_class`, `build` and `default_spec`.

    Args:
        config: the family's configuration.
        spec: facts that the configuration does not imply (name, licence, data); rates and latency are
            computed.

    Attributes:
        weight_bits: how weights are saved: 16 in float16, 8 with matrices and books in int8, a scale a row.
            Part of the fingerprint.
    """

    architecture: ClassVar[str]
    config_class: ClassVar[type]

    def __init__(self, config: Any, *, spec: Spec | None = None) -> None:
        super().__init__()
        self.config = config
        parts = self.build(config)
        self.encoder_net, self.quantizer, self.decoder_net = parts.encoder, parts.quantizer, parts.decoder
        computed = self.default_spec(config, parts.quantizer, spec.name if spec else self.architecture)
        self._spec = _with_latency(_with_texts(computed, spec), parts)
        self._fingerprint: str | None = None
        self.exact = False
        self.search_width = 1
        self.weight_bits: WeightBits = 16

    @classmethod
    def build(cls, config: Any) -> Parts:
        """Build the modules that a configuration describes."""
        raise TypeError(f"{cls.__name__} has no build")

    @classmethod
    def default_spec(cls, config: Any, quantizer: Quantizer, name: str) -> Spec:
        """Facts that follow from the configuration."""
        raise TypeError(f"{cls.__name__} has no default_spec")

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.architecture, self.config, self.stored_tensors())
        return self._fingerprint

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.decoder_net.parameters()).device

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
        draws = self._decode_draws(quantized.latents if quantized else latents)
        first, *others = (decoded[..., : waveform.shape[2]] for decoded in draws)
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
        latents = self.encoder_net(waveforms.to(self.device, self._encoder_type), lengths.to(self.device))
        codes = self.quantize(latents, books)
        return {"codes": codes}, {"codes": self.encoder_net.output_lengths(lengths)}

    @torch.inference_mode()
    def decode_codes(self, codes: dict[str, Tensor], lengths: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Decode a padded batch in one call: waveforms `[B, C, T]` and the number of valid samples `[B]`."""
        latents = self.quantizer.decode(codes["codes"].to(self.device))
        frames = lengths["codes"].to(self.device)
        return self.decoder_net(latents, frames), self.decoder_net.output_lengths(frames)

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
    def decode_features(self, features: np.ndarray) -> np.ndarray:
        """Decode latents that no quantizer has touched: what the autoencoder alone can do.

        Args:
            features: float32 `[D, T]`, as `features` gives them.

        Returns:
            float32 `[C, M]` at `spec.output_sample_rate`; `fit_length` brings M to the length rule.

        Raises:
            TokensError: another shape, or no frames.
        """
        one_frame = torch.zeros(1, self.spec.legal_prefixes[0], 1, dtype=torch.int64, device=self.device)
        size = self.quantizer.decode(one_frame).shape[1]
        if features.ndim != 2 or features.shape[0] != size or not features.shape[1]:
            raise TokensError(f"the latents have the shape {features.shape}, expected [{size}, T]")
        latents = torch.from_numpy(np.asarray(features, np.float32)).to(self.device)
        return self._synthesized(latents[None], lambda piece: piece)

    @torch.inference_mode()
    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        codes = self.quantize(self._latents(waveform), num_codebooks)
        return {"codes": self.code_stream(codes[0])}, {}

    @torch.inference_mode()
    def _decode(self, tokens: Tokens) -> np.ndarray:
        codes = torch.from_numpy(np.array(tokens.codes)).to(self.device)[None]
        return self._synthesized(codes, self.quantizer.decode)

    def _synthesized(self, frames: Tensor, to_latents: Callable[[Tensor], Tensor]) -> np.ndarray:
        """Decode frames `[1, K or D, T]` block by block."""
        state = self.decoder_net.initial_state(1, like=self.sample_latent)
        parts = []
        pieces = torch.split(frames, round(_BLOCK_SECONDS * self.spec.frame_rate), 2)
        for index, piece in enumerate(pieces):
            part, state = self.decoder_net.step(to_latents(piece), state, final=index == len(pieces) - 1)
            parts.append(part)
        return torch.cat(parts, 2)[0].cpu().numpy()

    @property
    def sample_waveform(self) -> Tensor:
        """An empty tensor of the encoder's type and device."""
        return torch.zeros(0, dtype=self._encoder_type, device=self.device)

    @property
    def sample_latent(self) -> Tensor:
        """An empty tensor of the decoder's type and device."""
        return torch.zeros(0, device=self.device)

    def code_stream(self, codes: Tensor) -> CodeStream:
        """Wrap codes `[K, T]`."""
        stream = self.spec.streams[0]
        return CodeStream(codes.cpu().numpy(), stream.codebook_sizes[: len(codes)], stream.frame_rate)

    def _latents(self, waveform: np.ndarray) -> Tensor:
        samples = torch.from_numpy(waveform).to(self.device, self._encoder_type)[None]
        pieces = torch.split(samples, _BLOCK_SECONDS * self.spec.sample_rate, 2)
        state = self.encoder_net.initial_state(1, like=samples)
        parts = []
        for index, piece in enumerate(pieces):
            part, state = self.encoder_net.step(piece, state, final=index == len(pieces) - 1)
            parts.append(part)
        return torch.cat(parts, 2)

    def quantize(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """Return the codes `[B, K, T]` of latents `[B, D, T]` with the first `num_codebooks` books."""
        # Rounding hides the last bits, in which float64 results still depend on shapes and threads.
        latents = latents.float()
        wide = {} if self.search_width == 1 else {"search_width": self.search_width}
        return self.quantizer.encode(latents, num_codebooks=num_codebooks, **wide)

    @property
    def _encoder_type(self) -> torch.dtype:
        return torch.float64 if self.exact else torch.float32

    # Files

    def make_exact(self, exact: bool = True) -> Self:
        """Run the encoder in float64: codes do not depend on batch, chunks or threads. Returns self."""
        self.exact = exact
        self.encoder_net.to(self._encoder_type)
        return self

    def stored_tensors(self) -> dict[str, Tensor]:
        """Weights as they are stored, so that a saved tokenizer is equal to itself; see `weight_bits`."""
        return pack_tensors(self.state_dict(), self.weight_bits)

    def save(self, folder: Path | str, *, card: str = "") -> Path:
        """Write `config.json`, `model.safetensors` and `README.md` to a folder."""
        from safetensors.torch import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        description = {
            "format": "audiotokens",
            "version": FORMAT_VERSION,
            "architecture": self.architecture,
            "config": configuration.to_dict(self.config),
            "spec": configuration.to_dict(self.spec),
        }
        tensors = {name: tensor.contiguous().cpu() for name, tensor in self.stored_tensors().items()}
        (folder / "model.safetensors").write_bytes(save(tensors))
        (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")
        (folder / "README.md").write_text(
            card or f"# {self.spec.name}\n\nNo card was written for this tokenizer.\n"
        )
        return folder

    @classmethod
    def load(
        cls, folder: Path | str, *, exact: bool = True, device: str = "cpu", search_width: int = 1
    ) -> Self:
        """Load a tokenizer folder of this family.

        Args:
            folder: what `save` wrote.
            exact: encode in float64 (codes independent of batch, chunks and threads); False is faster.
            device: torch device.
            search_width: candidates that the residual search keeps; 1 is greedy.

        Raises:
            ConfigError: a key of config.json is unknown, missing or ill-typed.
            CheckpointError: a file is missing or damaged, or the weights do not fit the configuration.
            NotOfferedError: a search width for a quantizer without residual books.
        """
        folder = Path(folder)
        try:
            description = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{folder}: config.json cannot be read ({error}); get the folder again"
            ) from None
        config: Any = configuration.from_dict(
            cls.config_class, description.get("config"), where="config.json: config"
        )
        spec = configuration.from_dict(Spec, description.get("spec"), where="config.json: spec")
        codec = cls(config, spec=spec)
        codec.load_tensors(folder / "model.safetensors")
        if search_width != 1 and not codec.quantizer.can_search_wide:
            raise NotOfferedError(f"{codec.spec.name} has no residual books, so search_width must be 1")
        codec.search_width = search_width
        codec._spec = replace(codec.spec, nested=search_width == 1)
        return codec.to(device).eval().make_exact(exact)

    def load_tensors(self, path: Path) -> None:
        """Load stored weights, checking every key and shape.

        Raises:
            CheckpointError: the file is missing or damaged, or a tensor is missing, unknown or of another
                shape.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); get the folder again") from None
        self.weight_bits = 8 if any(name + SCALE in stored for name in stored) else 16
        try:
            tensors = unpack_tensors(stored)
        except RuntimeError as error:
            raise CheckpointError(f"{path}: a scale does not fit its tensor ({error})") from None
        expected = {name: tensor.shape for name, tensor in self.state_dict().items()}
        wrong = sorted(set(expected) ^ set(tensors))
        wrong = wrong or [name for name, shape in expected.items() if tensors[name].shape != shape]
        if wrong:
            raise CheckpointError(
                f"{path}: {len(wrong)} tensors do not fit config.json, the first is {wrong[0]}"
            )
        self.load_state_dict(tensors)
        self._fingerprint = None


def fingerprint(architecture: str, config: Any, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over architecture, configuration and stored weights, as 64 hexadecimal digits."""
    digest = hashlib.sha256(architecture.encode())
    digest.update(json.dumps(configuration.to_dict(config), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def _with_texts(computed: Spec, given: Spec | None) -> Spec:
    """Keep computed rates and books; take names, licences and texts from `given`."""
    if given is None:
        return computed
    texts = ("name", "quirks", "code_license", "weights_license", "training_data", "source", "taxonomy")
    return replace(computed, **{name: getattr(given, name) for name in texts})


def _with_latency(spec: Spec, parts: Parts) -> Spec:
    encoding, decoding = parts.encoder.reach, parts.decoder.reach
    hop = int(encoding.stride)
    return replace(
        spec,
        lookahead=encoding.future,
        receptive_field=encoding.past + hop + encoding.future,
        decoder_lookahead=decoding.future * hop,
    )
