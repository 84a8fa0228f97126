"""WavTokenizer (Ji et al. 2024, an efficient acoustic discrete codec tokenizer for audio language modeling).

    waveform -> SEANet encoder -> one book -> residual blocks and attention -> ConvNeXt -> ISTFT -> waveform

The encoder is EnCodec's with centered convolutions and 512 dimensions, and one book of 4096 entries codes
each frame. The decoder is that of Vocos, with residual blocks and attention over all frames behind its first
convolution; its norms are adaptive, and the condition 0 is used throughout.

The encoder streams. The decoder reads whole recordings: group normalization and attention over all frames
make each sample depend on every code. A recording that is decoded in parts, or with other recordings behind
it, sounds different; in a padded batch each item is decoded as it would be alone.

The original names several books as an option, but each of them would code the same latents and only the last
one's entries would be decoded; one book is what is built here. Its file also holds a SEANet decoder that
nothing uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from audiotokens.architectures.fourier import (
    FOURIER_IGNORED,
    FOURIER_RULES,
    ConvNeXtArguments,
    ConvNeXtBackbone,
    ISTFTArguments,
    ISTFTHead,
    convnext_backbone,
    fourier_head,
    fourier_tensors,
    read_part,
    seanet_of,
)
from audiotokens.architectures.reference import Reference, Shapes, Tensors
from audiotokens.architectures.seanet import SEANetConfig, seanet_encoder, seanet_rules
from audiotokens.codec import Codec, Parts
from audiotokens.errors import ConfigError
from audiotokens.nn.block import Sequential
from audiotokens.nn.resnet import attention_block, group_norm, resnet_block
from audiotokens.quantizers import EMALearning, Quantizer, VectorConfig, build_quantizer
from audiotokens.spec import Spec, StreamSpec, Taxonomy


def _seanet(ratios: tuple[int, ...], *, filters: int = 32, dimension: int = 512) -> SEANetConfig:
    return SEANetConfig(causal=False, ratios=ratios, filters=filters, dimension=dimension)


def _book(size: int) -> VectorConfig:
    return VectorConfig(codebook_size=size, learning=EMALearning(decay=0.99, smoothing=1e-5))


@dataclass(frozen=True)
class WavTokenizerConfig:
    """Configuration of WavTokenizer.

    Args:
        seanet: the encoder.
        quantizer: the book.
        backbone: the decoder's network at the frame rate.
        head: what makes samples of its frames.
        sample_rate: in Hz.
        condition: of the decoder's norms.
    """

    seanet: SEANetConfig
    quantizer: VectorConfig
    backbone: ConvNeXtBackbone
    head: ISTFTHead
    sample_rate: int = 24000
    condition: int = 0

    def __post_init__(self) -> None:
        if self.head.hop != self.seanet.hop:
            raise ValueError(
                f"the head has a hop of {self.head.hop}, expected the encoder's, {self.seanet.hop}"
            )
        if self.backbone.width % 32:
            raise ValueError(f"the backbone's width is {self.backbone.width}, expected a multiple of 32")
        if not 0 <= self.condition < max(self.backbone.conditions, 1):
            most = max(self.backbone.conditions, 1) - 1
            raise ValueError(f"condition is {self.condition}, expected 0 to {most}")


def _published(ratios: tuple[int, ...], n_fft: int) -> WavTokenizerConfig:
    seanet = _seanet(ratios)
    return WavTokenizerConfig(
        seanet=seanet,
        quantizer=_book(4096),
        backbone=ConvNeXtBackbone(width=768, hidden=2304, layers=12, conditions=4),
        head=ISTFTHead(n_fft=n_fft, hop=seanet.hop, padding="same"),
    )


VARIANTS: dict[str, WavTokenizerConfig] = {
    "wavtokenizer-75hz": _published((8, 5, 4, 2), 1280),
    "wavtokenizer-40hz": _published((6, 5, 5, 4), 2400),
    "tiny": WavTokenizerConfig(
        seanet=replace(_seanet((5, 4, 2), filters=2, dimension=8), lstm_layers=1),
        quantizer=_book(16),
        backbone=ConvNeXtBackbone(width=64, hidden=32, layers=1, conditions=2),
        head=ISTFTHead(n_fft=160, hop=40, padding="same"),
        sample_rate=16000,
    ),
}


class WavTokenizerCodec(Codec):
    """WavTokenizer; see the module's text.

    Example:
        >>> import numpy as np
        >>> codec = WavTokenizerCodec(VARIANTS["tiny"]).eval()
        >>> codec.encode(np.zeros(1600), 16000).codes.shape
        (1, 40)
    """

    architecture = "wavtokenizer"
    config_class = WavTokenizerConfig
    config: WavTokenizerConfig

    @classmethod
    def build(cls, config: WavTokenizerConfig) -> Parts:
        width = config.backbone.width
        front = (
            resnet_block(width),
            resnet_block(width),
            attention_block(width),
            resnet_block(width),
            resnet_block(width),
            group_norm(width),
        )
        backbone = convnext_backbone(config.seanet.dimension, config.backbone, config.condition, front=front)
        return Parts(
            seanet_encoder(config.seanet),
            build_quantizer(config.quantizer, config.seanet.dimension),
            Sequential(backbone, fourier_head(width, config.head)),
        )

    @classmethod
    def default_spec(cls, config: WavTokenizerConfig, quantizer: Quantizer, name: str) -> Spec:
        quirks = ["Decoding a part of the codes gives other samples than that part of decoding all of them."]
        if config.head.padding == "center":
            quirks.append(
                f"The last {config.head.hop} samples at most are left out and are zero in the output."
            )
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=config.sample_rate,
            output_sample_rate=config.sample_rate,
            channels=config.seanet.channels,
            streams=(
                StreamSpec(
                    "codes", quantizer.codebook_sizes, Fraction(config.sample_rate, config.seanet.hop)
                ),
            ),
            legal_prefixes=quantizer.legal_prefixes,
            quirks=tuple(quirks),
            source="https://arxiv.org/abs/2408.16532",
            taxonomy=Taxonomy(
                encoder="CNN+RNN (T)",
                quantizer=quantizer.label,
                training="joint",
                objective="GAN + reconstruction + feature matching + VQ",
                domain="speech, music, audio",
            ),
        )


# Checkpoints


@dataclass(frozen=True)
class _ExtractorArguments:
    """Arguments of the original's `EncodecFeatures`; the last two are fixed numbers in its code.

    The bandwidths and the steps of k-means have no influence on the codes.
    """

    encodec_model: Literal["encodec_24khz"] = "encodec_24khz"
    bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0)
    train_codebooks: bool = False
    num_quantizers: int = 1
    dowmsamples: tuple[int, ...] = (6, 5, 5, 4)
    vq_bins: int = 16384
    vq_kmeans: int = 800
    dimension: int = 512
    n_filters: int = 32


_ARGUMENTS: dict[str, tuple[tuple[str, ...], type]] = {
    "feature_extractor": (("EncodecFeatures",), _ExtractorArguments),
    "backbone": (("VocosBackbone",), ConvNeXtArguments),
    "head": (("ISTFTHead",), ISTFTArguments),
}


def _read_config(arguments: Mapping[str, Any]) -> WavTokenizerConfig:
    """Read the original's arguments: those of its three parts, with or without their classes."""
    unknown = sorted(set(arguments) - {*_ARGUMENTS, "sample_rate"})
    if unknown:
        raise ConfigError(f'unknown key "{unknown[0]}"; valid keys: {", ".join(_ARGUMENTS)}, sample_rate')
    extractor, backbone, head = (
        read_part(part, arguments, dict.fromkeys(names, kind))[0]
        for part, (names, kind) in _ARGUMENTS.items()
    )
    if extractor.num_quantizers != 1:
        raise ConfigError(
            f"num_quantizers is {extractor.num_quantizers}, expected 1: others would code the same latents"
        )
    for name, found, expected in (
        ("input_channels", backbone.input_channels, extractor.dimension),
        ("the head's dim", head.dim, backbone.dim),
    ):
        if found != expected:
            raise ConfigError(f"{name} is {found}, expected {expected} as elsewhere")
    try:
        return WavTokenizerConfig(
            seanet=_seanet(extractor.dowmsamples, filters=extractor.n_filters, dimension=extractor.dimension),
            quantizer=_book(extractor.vq_bins),
            backbone=backbone.backbone(),
            head=head.head(),
            sample_rate=arguments.get("sample_rate", 24000),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


_ENCODER = "feature_extractor.encodec.encoder.model"
_CODEBOOK = "feature_extractor.encodec.quantizer.vq.layers.0._codebook"


def _guess(shapes: Shapes) -> WavTokenizerConfig | None:
    seanet = seanet_of(shapes, _ENCODER, _seanet((1,)))
    book, head = shapes.get(f"{_CODEBOOK}.embed"), shapes.get("head.out.weight")
    hidden = shapes.get("backbone.convnext.0.pwconv1.weight")
    norm = shapes.get("backbone.norm.scale.weight")
    if not (seanet and book and head and hidden):
        return None
    layers = sum(bool(re.fullmatch(r"backbone\.convnext\.\d+\.gamma", name)) for name in shapes)
    return WavTokenizerConfig(
        seanet=seanet,
        quantizer=_book(book[0]),
        backbone=ConvNeXtBackbone(
            width=hidden[1], hidden=hidden[0], layers=layers, conditions=norm[0] if norm else 0
        ),
        head=ISTFTHead(n_fft=head[0] - 2, hop=seanet.hop, padding="same"),
    )


def _rework(tensors: Tensors, config: WavTokenizerConfig) -> Tensors:
    # Maps of single frames are convolutions with one tap in the original.
    maps = (".query.weight", ".key.weight", ".value.weight", ".output.weight")
    return {
        name: tensor.flatten(1) if name.endswith(maps) else tensor
        for name, tensor in fourier_tensors(tensors).items()
    }


_AT = r"backbone\.pos_net\.(\d+)\."
_FRONT = r"decoder_net.blocks.0.blocks.1.blocks.\1."

WavTokenizerCodec.reference = Reference(
    read_config=_read_config,
    rules=(
        *seanet_rules("encoder_net", r"feature_extractor\.encodec\.encoder"),
        (r"feature_extractor\.encodec\.quantizer\.vq\.layers\.0\._codebook\.embed", "quantizer.book"),
        (_AT + r"norm1\.(weight|bias)", _FRONT + r"block.blocks.0.\2"),
        (_AT + r"conv1\.(weight|bias)", _FRONT + r"block.blocks.2.conv.\2"),
        (_AT + r"norm2\.(weight|bias)", _FRONT + r"block.blocks.3.\2"),
        (_AT + r"conv2\.(weight|bias)", _FRONT + r"block.blocks.5.conv.\2"),
        (_AT + r"norm\.(weight|bias)", _FRONT + r"block.blocks.0.\2"),
        (_AT + r"q\.(weight|bias)", _FRONT + r"block.blocks.1.query.\2"),
        (_AT + r"k\.(weight|bias)", _FRONT + r"block.blocks.1.key.\2"),
        (_AT + r"v\.(weight|bias)", _FRONT + r"block.blocks.1.value.\2"),
        (_AT + r"proj_out\.(weight|bias)", _FRONT + r"block.blocks.1.output.\2"),
        (_AT + r"(weight|bias)", _FRONT + r"\2"),
        *FOURIER_RULES,
    ),
    ignored=(
        *FOURIER_IGNORED,
        r"feature_extractor\.encodec\.decoder\..*",
        r"feature_extractor\.encodec\.quantizer\..*\.(?:inited|cluster_size|embed_avg)",
    ),
    rework=_rework,
    guess=_guess,
)
