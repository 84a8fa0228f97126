"""Codecs of the package transformers (Encodec, Dac, Mimi, Xcodec) as tokenizers.

The model runs as transformers has it, in float32: whole recordings one by one, no streaming. Where this
package has the family itself, `audiotokens import` reads the same folder and gives exact codes and streaming.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiotokens.errors import CheckpointError, MissingExtraError, NotOfferedError
from audiotokens.spec import Spec, StreamSpec, Taxonomy
from audiotokens.tokenizer import Streams, Tokenizer
from audiotokens.tokens import CodeStream, Conditioning, Segment, Tokens

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Family:
    """What differs from one model of transformers to the next.

    Args:
        model: name of its class.
        books: number of books, from its configuration.
        streams: how many books each stream has, from its configuration.
        whole_hops: whether the caller pads the waveform to whole hops.
        min_samples: shorter input is padded to this length.
        source: paper.
    """

    model: str
    books: Callable[[Any], int]
    streams: Callable[[Any], Mapping[str, int]]
    whole_hops: bool = False
    min_samples: int = 1
    source: str = ""


FAMILIES: dict[str, Family] = {
    "encodec": Family(
        "EncodecModel",
        books=lambda config: int(config.num_quantizers),
        streams=lambda config: {"codes": int(config.num_quantizers)},
        source="Défossez et al. 2022, arXiv:2210.13438",
    ),
    "dac": Family(
        "DacModel",
        books=lambda config: int(config.n_codebooks),
        streams=lambda config: {"codes": int(config.n_codebooks)},
        whole_hops=True,
        source="Kumar et al. 2023, arXiv:2306.06546",
    ),
    "mimi": Family(
        "MimiModel",
        books=lambda config: int(config.num_quantizers),
        streams=lambda config: {
            "semantic": int(config.num_semantic_quantizers),
            "acoustic": int(config.num_quantizers - config.num_semantic_quantizers),
        },
        whole_hops=True,
        source="Défossez et al. 2024, arXiv:2410.00037",
    ),
    "xcodec": Family(
        "XcodecModel",
        books=lambda config: int(config.num_quantizers),
        streams=lambda config: {"codes": int(config.num_quantizers)},
        whole_hops=True,
        min_samples=1280,
        source="Ye et al. 2024, arXiv:2408.17175",
    ),
}
"""`model_type` of a configuration of transformers -> how its model is used."""


class TransformersTokenizer(nn.Module, Tokenizer):
    """A codec of transformers.

    Args:
        model: in evaluation mode.
        name: of the tokenizer.
        fingerprint: SHA-256 over its configuration and weights.

    Raises:
        NotOfferedError: the model is of a kind that is not in `FAMILIES`.
    """

    def __init__(self, model: nn.Module, *, name: str, fingerprint: str) -> None:
        super().__init__()
        config: Any = model.config
        self._family = _family(config.model_type)
        self._config = config
        self._fingerprint = fingerprint
        self.model: Any = model.eval()
        self._spec = _spec(self._family, config, name)

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _segmented(self) -> bool:
        return getattr(self._config, "chunk_length_s", None) is not None

    @torch.inference_mode()
    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        x = torch.from_numpy(waveform).to(self.model.device)[None]
        if self._family.whole_hops:
            x = nn.functional.pad(x, (0, -x.shape[2] % int(self.spec.hop)))
        if self._config.model_type == "encodec":
            codes, segments = self._encode_windows(x)
        else:
            options = {"num_quantizers": num_codebooks} if self._config.model_type == "mimi" else {}
            codes, segments = self.model.encode(x, **options).audio_codes[0], None
        return self._streams(codes[:num_codebooks], segments), {}

    def _encode_windows(self, x: Tensor) -> tuple[Tensor, tuple[Segment, ...] | None]:
        bandwidth = max(self._config.target_bandwidths)
        encoded = self.model.encode(x, bandwidth=bandwidth)
        windows = list(encoded.audio_codes[:, 0])
        if encoded.last_frame_pad_length:
            windows[-1] = windows[-1][:, : -encoded.last_frame_pad_length]
        if not self._segmented:
            return windows[0], None
        stride, length = self._config.chunk_stride, self._config.chunk_length
        segments = tuple(
            Segment(
                start_sample=i * stride,
                num_samples=min(length, x.shape[2] - i * stride),
                frames=window.shape[1],
                scale=float(scale) if scale is not None else 1.0,
            )
            for i, (window, scale) in enumerate(zip(windows, encoded.audio_scales))
        )
        return torch.cat(windows, 1), segments

    def _streams(self, codes: Tensor, segments: tuple[Segment, ...] | None) -> Streams:
        streams: Streams = {}
        first = 0
        for stream in self.spec.streams:
            part = codes[first : first + stream.num_codebooks]
            first += stream.num_codebooks
            if len(part):
                sizes = stream.codebook_sizes[: len(part)]
                streams[stream.name] = CodeStream(
                    part.cpu().numpy(), sizes, stream.frame_rate, segments=segments
                )
        return streams

    @torch.inference_mode()
    def _decode(self, tokens: Tokens) -> np.ndarray:
        codes = torch.from_numpy(np.array(tokens.codes)).to(self.model.device)
        if self._config.model_type == "encodec":
            waveform = self._decode_windows(codes, next(iter(tokens.streams.values())).segments)
        else:
            waveform = self.model.decode(audio_codes=codes[None]).audio_values
        decoded: np.ndarray = waveform.reshape(self.spec.channels, -1).cpu().numpy()
        return decoded

    def _decode_windows(self, codes: Tensor, segments: tuple[Segment, ...] | None) -> Tensor:
        if segments is None:
            waveform: Tensor = self.model.decode(codes[None, None], [None]).audio_values
            return waveform
        windows = torch.split(codes, [segment.frames for segment in segments], 1)
        missing = windows[0].shape[1] - windows[-1].shape[1]
        filled = [*windows[:-1], nn.functional.pad(windows[-1], (0, missing))]
        scales = [torch.tensor([[segment.scale]], device=codes.device) for segment in segments]
        joined: Tensor = self.model.decode(
            torch.stack(filled)[:, None], scales, last_frame_pad_length=missing
        ).audio_values
        return joined


def load(folder: Path | str, *, name: str = "", device: str = "cpu") -> TransformersTokenizer:
    """Load a folder in the format of transformers: `config.json` and safetensors.

    Args:
        folder: holds `config.json` with a "model_type" of `FAMILIES`, and `model.safetensors`.
        name: of the tokenizer; default: the folder's.
        device: torch device.

    Raises:
        NotOfferedError: the model is of another kind.
        CheckpointError: the weights are missing or damaged, or only there as a pickle.
        MissingExtraError: transformers is not installed.
    """
    folder = Path(folder)
    try:
        description = (folder / "config.json").read_bytes()
        family = _family(json.loads(description).get("model_type"))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder}: config.json cannot be read ({error}); get it again") from None
    weights = sorted(folder.glob("*.safetensors"))
    if not any((folder / each).is_file() for each in _WEIGHTS):
        raise CheckpointError(
            f"{folder}: has no model.safetensors, and pickled weights are not read; get the safetensors file"
        )
    try:
        import transformers
    except ModuleNotFoundError:
        raise MissingExtraError("A model of transformers", "transformers") from None
    from safetensors import SafetensorError

    digest = hashlib.sha256(description)
    for path in weights:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    try:
        model = getattr(transformers, family.model).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        text = " ".join(str(error).split())
        raise CheckpointError(f"{folder}: transformers cannot load it ({text}); get it again") from None
    tokenizer = TransformersTokenizer(model, name=name or folder.name, fingerprint=digest.hexdigest())
    return tokenizer.to(device)


def _family(model_type: object) -> Family:
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise NotOfferedError(
            f"models of transformers of the type {model_type!r} have no adapter; there is one for "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]


def _spec(family: Family, config: Any, name: str) -> Spec:
    model_type = config.model_type
    size = int(config.codebook_size)
    sample_rate = _sample_rate(config)
    rate = Fraction(sample_rate, _hop(config))
    books = family.books(config)
    spec = Spec(
        name=name,
        architecture=f"transformers {family.model}",
        sample_rate=sample_rate,
        output_sample_rate=sample_rate,
        channels=int(getattr(config, "audio_channels", 1)),
        streams=tuple(
            StreamSpec(stream, (size,) * count, rate)
            for stream, count in family.streams(config).items()
            if count
        ),
        legal_prefixes=tuple(range(1, books + 1)),
        receptive_field=None,
        min_samples=family.min_samples,
        quirks=("float32 without exact mode: codes may depend on threads and versions.",),
        source=family.source,
        taxonomy=Taxonomy(quantizer="RVQ", training="joint", domain="general"),
    )
    if model_type == "dac":
        quirk = "With odd strides the decoder gives some samples less, which are filled with zeros."
        spec = replace(spec, quirks=(*spec.quirks, quirk))
    return spec


def _sample_rate(config: Any) -> int:
    return int(config.sample_rate if config.model_type == "xcodec" else config.sampling_rate)


def _hop(config: Any) -> int:
    """Samples per frame; some configurations of transformers state it before a last down-sampling."""
    if config.model_type == "mimi":
        samples: int = round(config.sampling_rate / config.frame_rate)
        return samples
    if config.model_type == "encodec":
        return int(np.prod(config.upsampling_ratios))
    return int(config.hop_length)
