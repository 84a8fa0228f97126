"""SNAC (Siuzdak et al. 2024, "SNAC: Multi-scale neural audio codec"): residual books at several rates.

A codec like DAC (Snake units, weight-normed convolutions with zeros on both sides, tanh at the end), whose
residual quantizer averages each level's input over a window of frames, the first levels over the longest:
coarse codes are rare ones. The units' wide convolutions are depthwise, the last convolution of the encoder
and the first of the decoder too (section 3.3); both nets can have an attention layer inside disjoint windows
at the frame rate (section 3.4); and after each transposed convolution the decoder adds noise in proportion to
a linear map of its input (section 3.2),

    x <- x + n W x,    n ~ N(0, 1), one number per sample.

The original draws n in every decoding. Here it is drawn in training only, and decoding is the same each time:
without noise, or with that of `SNACConfig.noise_seed`, a function of the sample's number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self

from audiotokens.architectures.dac import (
    QUANTIZER_RULES,
    check_strides,
    down,
    factorized_book,
    rework_books,
    units,
    up,
)
from audiotokens.architectures.reference import Reference, Shapes
from audiotokens.codec import Codec, Parts
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError
from audiotokens.nn.block import Block, Residual, Sequential
from audiotokens.nn.conv import Conv1d, centered
from audiotokens.nn.framing import WholeFrames, WholeGroups
from audiotokens.nn.layers import LayerNorm, Tanh
from audiotokens.nn.noise_block import NoiseBlock
from audiotokens.nn.snake import Snake
from audiotokens.nn.windows import LocalMHA
from audiotokens.quantizers import MultiscaleConfig, Quantizer, build_quantizer
from audiotokens.spec import Spec, StreamSpec, Taxonomy

_HEAD = 64


def factorized_levels(
    latent: int, strides: tuple[int, ...], *, size: int = 4096, dim: int = 8
) -> MultiscaleConfig:
    """SNAC's quantizer: one book for each stride, of `size` entries of `dim` dimensions."""
    return MultiscaleConfig(strides=strides, inner=factorized_book(latent, size, dim), gradient="chain")


@dataclass(frozen=True)
class SNACConfig:
    """Configuration of a SNAC.

    Args:
        sample_rate: in Hz.
        encoder_width: channels after the first convolution; each stride doubles them, up to the latents.
        encoder_strides: of the encoder's blocks, in order; their product is the samples per frame.
        decoder_width: channels of the decoder's first block; each stride halves them.
        decoder_strides: of the decoder's blocks, in order, with the same product.
        window: frames that attend to each other; None: no attention.
        depthwise: whether wide convolutions have one kernel per channel.
        noise: whether the decoder has noise blocks.
        noise_seed: of their noise when it decodes; None: it decodes without noise.
        quantizer: levels and their strides in frames.
    """

    sample_rate: int = 44100
    encoder_width: int = 64
    encoder_strides: tuple[int, ...] = (2, 3, 8, 8)
    decoder_width: int = 1536
    decoder_strides: tuple[int, ...] = (8, 8, 3, 2)
    window: int | None = 32
    depthwise: bool = True
    noise: bool = True
    noise_seed: int | None = None
    quantizer: MultiscaleConfig = field(default_factory=lambda: factorized_levels(1024, (8, 4, 2, 1)))

    def __post_init__(self) -> None:
        for name in ("sample_rate", "encoder_width", "decoder_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        check_strides(self.encoder_strides, self.decoder_strides, self.decoder_width)
        if self.window is None:
            return
        if self.window < 1:
            raise ValueError(f"window is {self.window}, expected at least 1 or null")
        for name, width in (("latents", self.latent), ("decoder_width", self.decoder_width)):
            if width % _HEAD:
                raise ValueError(f"{name} have {width} channels, attention needs a multiple of {_HEAD}")

    @property
    def latent(self) -> int:
        """Dimensions of the quantized latents."""
        return self.encoder_width << len(self.encoder_strides)

    @property
    def frame(self) -> int:
        """Samples per frame of the latents."""
        return math.prod(self.encoder_strides)

    @property
    def whole(self) -> int:
        """Samples to whose multiples a recording is filled up: whole windows, and codes of every level."""
        return self.frame * math.lcm(max(self.quantizer.strides), self.window or 1)


VARIANTS: dict[str, SNACConfig] = {
    "snac-24khz": SNACConfig(
        sample_rate=24000, encoder_width=48, encoder_strides=(2, 4, 8, 8), decoder_width=1024,
        decoder_strides=(8, 8, 4, 2), window=None, quantizer=factorized_levels(768, (4, 2, 1)),
    ),
    "snac-32khz": SNACConfig(sample_rate=32000),
    "snac-44khz": SNACConfig(),
    "tiny": SNACConfig(
        sample_rate=16000, encoder_width=16, encoder_strides=(3, 4), decoder_width=64,
        decoder_strides=(4, 3), window=4, quantizer=factorized_levels(64, (4, 2, 1), size=16, dim=4),
    ),
}  # fmt: skip


class SNACCodec(Codec):
    """SNAC; see the module's text. Streams "level0", "level1" ... have one book each, at their own rates."""

    architecture = "snac"
    config_class = SNACConfig
    config: SNACConfig

    @classmethod
    def build(cls, config: SNACConfig) -> Parts:
        width, depthwise = config.encoder_width, config.depthwise
        widths = [width << stage for stage in range(len(config.encoder_strides))]
        encoder = Sequential(
            Conv1d(1, width, 7, lookahead=centered(7)),
            *(down(w, stride, depthwise=depthwise) for w, stride in zip(widths, config.encoder_strides)),
            *_attention(config, config.latent),
            _wide(config.latent, config.latent, depthwise),
        )
        widths = [config.decoder_width >> stage for stage in range(len(config.decoder_strides) + 1)]
        stages = zip(widths, widths[1:], config.decoder_strides)
        first = [_wide(config.latent, config.latent, True), Conv1d(config.latent, widths[0], 1)]
        decoder = Sequential(
            *(first if depthwise else [_wide(config.latent, widths[0], False)]),
            *_attention(config, widths[0]),
            *(_stage(config, w, half, stride, layer) for layer, (w, half, stride) in enumerate(stages)),
            Snake(widths[-1]),
            Conv1d(widths[-1], 1, 7, lookahead=centered(7)),
            Tanh(),
        )
        groups = WholeGroups(max(config.quantizer.strides))
        return Parts(
            Sequential(WholeFrames(config.whole), encoder, groups),
            build_quantizer(config.quantizer, config.latent),
            decoder,
        )

    @classmethod
    def default_spec(cls, config: SNACConfig, quantizer: Quantizer, name: str) -> Spec:
        rate = Fraction(config.sample_rate, config.frame)
        quirk = "The noise of the decoder, drawn anew in each decoding by the original, is {}."
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=config.sample_rate,
            output_sample_rate=config.sample_rate,
            streams=tuple(
                StreamSpec(f"level{level}", (size,), rate / stride)
                for level, (size, stride) in enumerate(
                    zip(quantizer.codebook_sizes, config.quantizer.strides)
                )
            ),
            legal_prefixes=quantizer.legal_prefixes,
            quirks=(quirk.format("off" if config.noise_seed is None else "fixed by a seed"),)
            if config.noise
            else (),
            weights_license="MIT",
            source="Siuzdak et al. 2024, arXiv:2410.14411",
            taxonomy=Taxonomy(
                encoder="CNN, local attention" if config.window else "CNN",
                quantizer=quantizer.label,
                training="joint",
                objective="reconstruction, adversarial, feature matching, quantization",
                domain="speech, music, audio",
            ),
        )

    @property
    def frames_per_hop(self) -> int:
        return max(self.config.quantizer.strides)

    def make_noisy(self, seed: int | None) -> Self:
        """Decode with the noise of a seed, or without noise (None). Returns self."""
        for module in self.decoder_net.modules():
            if isinstance(module, NoiseBlock):
                module.seed = seed
        return self


def _wide(inputs: int, outputs: int, depthwise: bool) -> Conv1d:
    return Conv1d(inputs, outputs, 7, groups=inputs if depthwise else 1, lookahead=centered(7))


def _attention(config: SNACConfig, width: int) -> list[Block]:
    if config.window is None:
        return []
    return [Residual(Sequential(LayerNorm(width), LocalMHA(width, config.window, head=_HEAD)))]


def _stage(config: SNACConfig, inputs: int, outputs: int, stride: int, layer: int) -> Sequential:
    noise = [NoiseBlock(outputs, layer=layer, seed=config.noise_seed)] if config.noise else []
    return Sequential(
        Snake(inputs), up(inputs, outputs, stride, "end"), *noise, *units(outputs, depthwise=config.depthwise)
    )


@dataclass(frozen=True)
class _Original:
    """Arguments of the original's constructor, which are its config.json."""

    sampling_rate: int = 44100
    encoder_dim: int = 64
    encoder_rates: tuple[int, ...] = (3, 3, 7, 7)
    latent_dim: int | None = None
    decoder_dim: int = 1536
    decoder_rates: tuple[int, ...] = (7, 7, 3, 3)
    attn_window_size: int | None = 32
    codebook_size: int = 4096
    codebook_dim: int = 8
    vq_strides: tuple[int, ...] = (8, 4, 2, 1)
    noise: bool = True
    depthwise: bool = True


def read_config(arguments: Mapping[str, Any]) -> SNACConfig:
    """Configuration from the original's constructor arguments.

    Raises:
        ConfigError: an unknown or ill-typed key, or values that contradict each other.
    """
    original = from_dict(_Original, arguments, where="arguments of SNAC")
    latent = original.encoder_dim << len(original.encoder_rates)
    if original.latent_dim not in (None, latent):
        raise ConfigError(f"latent_dim is {original.latent_dim}, the encoder gives {latent}")
    try:
        levels = factorized_levels(
            latent, original.vq_strides, size=original.codebook_size, dim=original.codebook_dim
        )
        return SNACConfig(
            sample_rate=original.sampling_rate,
            encoder_width=original.encoder_dim,
            encoder_strides=original.encoder_rates,
            decoder_width=original.decoder_dim,
            decoder_strides=original.decoder_rates,
            window=original.attn_window_size or None,
            depthwise=original.depthwise,
            noise=original.noise,
            quantizer=levels,
        )
    except ValueError as error:
        raise ConfigError(f"arguments of SNAC: {error}") from None


def guess(shapes: Shapes) -> SNACConfig | None:
    """The 24 kHz model, if tensors of these shapes are its own; the two others differ in their rate only.

    Neither rates, windows nor the strides of the levels are in the weights.
    """
    strided = sorted(name for name in shapes if re.fullmatch(r"encoder\.block\.\d+\.block\.4\.weight", name))
    books = [shapes[name] for name in shapes if name.endswith(".codebook.weight")]
    first = shapes.get("encoder.block.0.weight")
    variant = VARIANTS["snac-24khz"]
    if first is None or not books:
        return None
    strides = tuple(shapes[name][2] // 2 for name in strided)
    found = (first[0], strides, len(books), books[0])
    expected = (variant.encoder_width, variant.encoder_strides, len(variant.quantizer.strides), (4096, 8))
    return variant if found == expected else None


_E, _D = "encoder_net.blocks.1.blocks", "decoder_net.blocks"
_RULES = (
    *(
        rule
        for side, blocks in ((r"encoder\.block", _E), (r"decoder\.model", _D))
        for rule in (
            (rf"{side}\.(\d+)\.alpha", rf"{blocks}.\1.alpha"),
            (rf"{side}\.(\d+)\.(weight|bias)", rf"{blocks}.\1.conv.\2"),
            (rf"{side}\.(\d+)\.norm\.(weight|bias)", rf"{blocks}.\1.block.blocks.0.\2"),
            (rf"{side}\.(\d+)\.(to_qkv|to_out)\.weight", rf"{blocks}.\1.block.blocks.1.\2.weight"),
            (rf"{side}\.(\d+)\.block\.(\d+)\.alpha", rf"{blocks}.\1.blocks.\2.alpha"),
            (rf"{side}\.(\d+)\.block\.(\d+)\.block\.([02])\.alpha",
             rf"{blocks}.\1.blocks.\2.block.blocks.\3.alpha"),
            (rf"{side}\.(\d+)\.block\.(\d+)\.block\.([13])\.(weight|bias)",
             rf"{blocks}.\1.blocks.\2.block.blocks.\3.conv.\4"),
        )
    ),
    (r"encoder\.block\.(\d+)\.block\.4\.(weight|bias)", rf"{_E}.\1.blocks.4.conv.\2"),
    (r"decoder\.model\.(\d+)\.block\.1\.weight", rf"{_D}.\1.blocks.1.conv.weight"),
    (r"decoder\.model\.(\d+)\.block\.1\.bias", rf"{_D}.\1.blocks.1.bias"),
    (r"decoder\.model\.(\d+)\.block\.2\.linear\.weight", rf"{_D}.\1.blocks.2.linear.weight"),
    *QUANTIZER_RULES,
)  # fmt: skip

SNACCodec.reference = Reference(
    read_config=read_config,
    rules=_RULES,
    # The frequencies of the rotary positions, which follow from the width of a head.
    ignored=(r"(encoder\.block|decoder\.model)\.\d+\.rel_pos\.inv_freq",),
    rework=rework_books,
    guess=guess,
)
