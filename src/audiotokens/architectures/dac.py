"""DAC, the Descript audio codec (Kumar et al. 2023, "High-fidelity audio compression with improved RVQGAN").

A convolutional autoencoder with Snake activations. The encoder is

    conv -> [unit d=1, unit d=3, unit d=9, Snake, conv of stride s and kernel 2 s] for each s -> Snake, conv,
    unit_d(x) = x + conv_1(Snake(conv_{7,d}(Snake(x)))),

its width doubles at each stride; the decoder mirrors it with transposed convolutions before the units, and
ends with tanh. All padding is zeros, half of it on each side. The residual quantizer looks its entries up by
angle in 8 dimensions, behind linear maps for each level (section 3.2: factorized, L2-normalized codes).

Odd strides. A transposed convolution of stride s and kernel 2 s gives s samples more than T s. For odd s the
published code cuts (s + 1) / 2 on each side, one too many; with strides 2, 4, 5, 8 that one is 8 samples of
sound. The paddings shift nothing: the window of a strided convolution and that of its transposed one both
begin (s + 1) / 2 samples before the hop, so with symmetric kernels the output lines up with the input, and
lacks its last 8 samples. The published 16 and 24 kHz models however decode 8 samples early through the
published code (measured on ten published clips; issue 118 of the original): they were trained, one infers,
while (s - 1) / 2 was cut at the start, as in the first public version of the code. These two variants do so
again, and line up; see `DACConfig.odd_strides`.

The published command line cuts long recordings into windows and runs them without any padding, which gives
other codes: `encode_chunked` and `decode_chunked`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.architectures.reference import TRANSFORMERS_BOOKKEEPING, Reference, Shapes, Tensors
from audiotokens.codec import Codec, Parts
from audiotokens.config import from_dict
from audiotokens.errors import AudioError, ConfigError
from audiotokens.nn.block import Block, Residual, Sequential
from audiotokens.nn.conv import Conv1d, ConvTranspose1d, OverlapAdd, Windowed, centered
from audiotokens.nn.framing import WholeFrames
from audiotokens.nn.layers import Tanh
from audiotokens.nn.snake import Snake, snake_unit
from audiotokens.quantizers import (
    ProjectedConfig,
    Quantizer,
    QuantizerConfig,
    RVQConfig,
    VectorConfig,
    build_quantizer,
)
from audiotokens.quantizers.vector import GradientLearning
from audiotokens.spec import Spec, StreamSpec, Taxonomy

OddStrides = Literal["short", "start", "end"]

_DILATIONS = (1, 3, 9)


def factorized_book(latent: int, size: int, dim: int) -> QuantizerConfig:
    """Book of `size` entries of `dim` dimensions, compared by angle, between linear maps to and from it."""
    learning = GradientLearning()
    if dim == latent:
        book = VectorConfig(codebook_size=size, metric="cosine", learning=learning)
        return ProjectedConfig(inner=book, inner_dim=dim)
    return VectorConfig(codebook_size=size, codebook_dim=dim, metric="cosine", learning=learning)


def factorized_rvq(latent: int, count: int, *, size: int = 1024, dims: tuple[int, ...] = (8,)) -> RVQConfig:
    """DAC's residual quantizer of `count` books, with one number of dimensions or one for each."""
    books = tuple(factorized_book(latent, size, dim) for dim in dims)
    return RVQConfig(
        num_codebooks=count, inner=books if len(books) > 1 else books[0], gradient="chain", commitment=0.0
    )


@dataclass(frozen=True)
class DACConfig:
    """Configuration of a DAC.

    Args:
        sample_rate: in Hz.
        encoder_width: channels after the first convolution; each stride doubles them.
        encoder_strides: of the encoder's blocks, in order; their product is the hop.
        latent: dimensions of the quantized latents.
        decoder_width: channels after the decoder's first convolution; each stride halves them.
        decoder_strides: of the decoder's blocks, in order, with the same product.
        odd_strides: how a transposed convolution of odd stride s cuts its surplus of s samples. "short":
            (s + 1) / 2 on each side, as the published code does; a sample is lost. "start": (s - 1) / 2 at
            the start, which is the same output one sample later; the published 16 and 24 kHz models line up
            with their input in this way. "end": (s - 1) / 2 at the end, the same output with its last sample.
        quantizer: configuration of any quantizer.
    """

    sample_rate: int = 44100
    encoder_width: int = 64
    encoder_strides: tuple[int, ...] = (2, 4, 8, 8)
    latent: int = 1024
    decoder_width: int = 1536
    decoder_strides: tuple[int, ...] = (8, 8, 4, 2)
    odd_strides: OddStrides = "short"
    quantizer: QuantizerConfig = field(default_factory=lambda: factorized_rvq(1024, 9))

    def __post_init__(self) -> None:
        for name in ("sample_rate", "encoder_width", "latent", "decoder_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        check_strides(self.encoder_strides, self.decoder_strides, self.decoder_width)

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.encoder_strides)

    @property
    def lost_samples(self) -> int:
        """Samples that the decoder's output is shorter than whole frames."""
        lost = 0
        for stride in self.decoder_strides:
            lost = lost * stride + (stride % 2 if self.odd_strides == "short" else 0)
        return lost


def check_strides(encoder: tuple[int, ...], decoder: tuple[int, ...], width: int) -> None:
    """Check that strides give each frame the samples it came from, and that channels can be halved as often.

    Raises:
        ValueError: what does not fit.
    """
    for name, strides in (("encoder_strides", encoder), ("decoder_strides", decoder)):
        if not strides or min(strides) < 2:
            raise ValueError(f"{name} are {strides}, expected numbers of at least 2")
    if math.prod(encoder) != math.prod(decoder):
        raise ValueError(
            f"encoder_strides {encoder} have the product {math.prod(encoder)} and decoder_strides {decoder} "
            f"{math.prod(decoder)}, expected equal ones"
        )
    if width >> len(decoder) < 1:
        raise ValueError(
            f"decoder_width is {width}, expected at least {1 << len(decoder)}, one halving a stride"
        )


VARIANTS: dict[str, DACConfig] = {
    "dac-16khz": DACConfig(
        sample_rate=16000, encoder_strides=(2, 4, 5, 8), decoder_strides=(8, 5, 4, 2), odd_strides="start",
        quantizer=factorized_rvq(1024, 12),
    ),
    "dac-24khz": DACConfig(
        sample_rate=24000, encoder_strides=(2, 4, 5, 8), decoder_strides=(8, 5, 4, 2), odd_strides="start",
        quantizer=factorized_rvq(1024, 32),
    ),
    "dac-44khz": DACConfig(),
    "dac-44khz-16kbps": DACConfig(latent=128, quantizer=factorized_rvq(128, 18)),
    "tiny": DACConfig(
        sample_rate=16000, encoder_width=4, encoder_strides=(2, 5), latent=16, decoder_width=16,
        decoder_strides=(5, 2), quantizer=factorized_rvq(16, 3, size=16, dims=(4,)),
    ),
}  # fmt: skip


def down(width: int, stride: int, *, depthwise: bool = False) -> Sequential:
    """Units, and a convolution from `width` channels to twice as many with the stride."""
    # The reference pads ceil(s / 2) on each side; whole hops come in, so the right side reads floor(s / 2).
    strided = Conv1d(width, 2 * width, 2 * stride, stride=stride, lookahead=stride // 2)
    return Sequential(*units(width, depthwise=depthwise), Snake(width), strided)


def up(inputs: int, outputs: int, stride: int, odd_strides: OddStrides) -> ConvTranspose1d:
    """Transposed convolution with the stride."""
    cut = stride // 2 if odd_strides == "start" else -(-stride // 2)
    trim = stride % 2 if odd_strides == "short" else 0
    return ConvTranspose1d(inputs, outputs, 2 * stride, stride=stride, lookahead=cut, trim=trim)


def units(width: int, *, depthwise: bool = False) -> list[Block]:
    """The three residual units of a stage."""
    return [snake_unit(width, dilation=dilation, depthwise=depthwise) for dilation in _DILATIONS]


class DACCodec(Codec):
    """DAC; see the module's text."""

    architecture = "dac"
    config_class = DACConfig
    config: DACConfig

    @classmethod
    def build(cls, config: DACConfig) -> Parts:
        width = config.encoder_width
        widths = [width << stage for stage in range(len(config.encoder_strides) + 1)]
        encoder = Sequential(
            WholeFrames(config.hop),
            Conv1d(1, width, 7, lookahead=centered(7)),
            Sequential(*(down(w, stride) for w, stride in zip(widths, config.encoder_strides))),
            Snake(widths[-1]),
            Conv1d(widths[-1], config.latent, 3, lookahead=centered(3)),
        )
        # Widths that are odd are halved downwards.
        widths = [config.decoder_width >> stage for stage in range(len(config.decoder_strides) + 1)]
        stages = [
            Sequential(Snake(w), up(w, half, stride, config.odd_strides), *units(half))
            for w, half, stride in zip(widths, widths[1:], config.decoder_strides)
        ]
        decoder = Sequential(
            Conv1d(config.latent, widths[0], 7, lookahead=centered(7)),
            Sequential(*stages),
            Snake(widths[-1]),
            Conv1d(widths[-1], 1, 7, lookahead=centered(7)),
            Tanh(),
        )
        return Parts(encoder, build_quantizer(config.quantizer, config.latent), decoder)

    @classmethod
    def default_spec(cls, config: DACConfig, quantizer: Quantizer, name: str) -> Spec:
        rate = Fraction(config.sample_rate, config.hop)
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=config.sample_rate,
            output_sample_rate=config.sample_rate,
            streams=(StreamSpec("codes", quantizer.codebook_sizes, rate),),
            legal_prefixes=quantizer.legal_prefixes,
            quirks=_quirks(config),
            weights_license="MIT",
            source="Kumar et al. 2023, arXiv:2306.06546",
            taxonomy=Taxonomy(
                encoder="CNN",
                quantizer=quantizer.label,
                training="joint",
                objective="reconstruction, adversarial, feature matching, quantization",
                domain="speech, music, audio",
            ),
        )


def _quirks(config: DACConfig) -> tuple[str, ...]:
    lost = replace(config, odd_strides="short").lost_samples
    if lost and config.odd_strides == "short":
        return (
            "Transposed convolutions of odd stride lose a sample each, as in the published code, so that a "
            f'recording of whole frames ends with {lost} zeros; odd_strides "end" keeps these samples.',
        )
    if lost and config.odd_strides == "start":
        return (
            f"The published code decodes {lost} samples early and {lost} samples short; here the output of "
            'published weights lines up with their input; odd_strides "short" gives what that code gives.',
        )
    return ()


@dataclass(frozen=True)
class _Original:
    """Arguments of the original's constructor, which are `metadata.kwargs` of its checkpoints."""

    encoder_dim: int = 64
    encoder_rates: tuple[int, ...] = (2, 4, 8, 8)
    latent_dim: int | None = None
    decoder_dim: int = 1536
    decoder_rates: tuple[int, ...] = (8, 8, 4, 2)
    n_codebooks: int = 9
    codebook_size: int = 1024
    codebook_dim: int | tuple[int, ...] = 8
    quantizer_dropout: bool | float = False
    sample_rate: int = 44100


@dataclass(frozen=True)
class _Transformers:
    """What counts of the configuration of the model in transformers."""

    encoder_hidden_size: int = 64
    downsampling_ratios: tuple[int, ...] = (2, 4, 8, 8)
    decoder_hidden_size: int = 1536
    upsampling_ratios: tuple[int, ...] | None = None
    n_codebooks: int = 9
    codebook_size: int = 1024
    codebook_dim: int = 8
    quantizer_dropout: bool | float = 0.0
    commitment_loss_weight: float = 0.25
    codebook_loss_weight: float = 1.0
    sampling_rate: int = 16000
    hidden_size: int | None = None
    hop_length: int | None = None


def read_config(arguments: Mapping[str, Any]) -> DACConfig:
    """Configuration from the original's constructor arguments, or from transformers' `DacConfig`.

    Those of a published model give its variant, which lines up with its input.

    Raises:
        ConfigError: an unknown or ill-typed key, or values that contradict each other.
    """
    if "encoder_hidden_size" in arguments or arguments.get("model_type") == "dac":
        kept = {name: value for name, value in arguments.items() if name not in TRANSFORMERS_BOOKKEEPING}
        found = from_dict(_Transformers, kept, where="config of transformers")
        upsampling = found.upsampling_ratios or found.downsampling_ratios[::-1]
        original = _Original(
            found.encoder_hidden_size, found.downsampling_ratios, found.hidden_size,
            found.decoder_hidden_size, upsampling, found.n_codebooks, found.codebook_size,
            found.codebook_dim, sample_rate=found.sampling_rate,
        )  # fmt: skip
    else:
        original = from_dict(_Original, arguments, where="arguments of DAC")
    dims = original.codebook_dim if isinstance(original.codebook_dim, tuple) else (original.codebook_dim,)
    latent = original.latent_dim or original.encoder_dim << len(original.encoder_rates)
    if len(dims) not in (1, original.n_codebooks):
        raise ConfigError(
            f"codebook_dim has {len(dims)} entries, expected n_codebooks, {original.n_codebooks}"
        )
    try:
        quantizer = factorized_rvq(latent, original.n_codebooks, size=original.codebook_size, dims=dims)
        config = DACConfig(
            sample_rate=original.sample_rate,
            encoder_width=original.encoder_dim,
            encoder_strides=original.encoder_rates,
            latent=latent,
            decoder_width=original.decoder_dim,
            decoder_strides=original.decoder_rates,
            quantizer=quantizer,
        )
    except ValueError as error:
        raise ConfigError(f"arguments of DAC: {error}") from None
    return next((v for v in VARIANTS.values() if replace(v, odd_strides="short") == config), config)


def guess(shapes: Shapes) -> DACConfig | None:
    """The published variant that tensors of these shapes belong to; None: none of them.

    Rates are not in the weights, so other models need their configuration.
    """
    strided = _shapes(shapes, r"encoder\.block\.\d+\.(block\.4|conv1)\.weight")
    transposed = _shapes(shapes, r"decoder\.(model|block)\.\d+\.(block\.1|conv_t1)\.weight")
    first = _shapes(shapes, r"encoder\.(block\.0|conv1)\.weight")
    books = _shapes(shapes, r"quantizer\.quantizers\.\d+\.codebook\.weight")
    latent = _shapes(shapes, r"decoder\.(model\.0|conv1)\.weight")
    if not (strided and transposed and first and books and latent):
        return None
    for variant in VARIANTS.values():
        found = replace(
            variant,
            encoder_width=first[0][0],
            encoder_strides=tuple(shape[2] // 2 for shape in strided),
            latent=latent[0][1],
            decoder_width=latent[0][0],
            decoder_strides=tuple(shape[2] // 2 for shape in transposed),
            quantizer=factorized_rvq(latent[0][1], len(books), size=books[0][0], dims=(books[0][1],)),
        )
        if found == variant:
            return variant
    return None


def _shapes(shapes: Shapes, pattern: str) -> list[tuple[int, ...]]:
    """Shapes of the keys of a pattern, in the order of the first number in each."""
    found = [name for name in shapes if re.fullmatch(pattern, name)]
    return [
        shapes[name] for name in sorted(found, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    ]


def rework_books(tensors: Tensors, config: Any) -> dict[str, Tensor]:
    """Take the time axis off the projections of the books, and give shifted numbers their values.

    The rules of a family write an index that counts from another number as "<3-1>".
    """
    reworked = {}
    for name, tensor in tensors.items():
        name = re.sub(r"<(\d+)([-+]1)>", lambda found: str(int(found[1]) + int(found[2])), name)
        level = re.fullmatch(r"quantizer\.levels\.(\d+)\.book", name)
        if level and isinstance(_inner_config(config.quantizer, int(level[1])), ProjectedConfig):
            name = name.replace(".book", ".inner.book")
        reworked[name] = tensor.flatten(1) if re.search(r"\.project_\w+\.weight$", name) else tensor
    return reworked


def _inner_config(quantizer: Any, level: int) -> object:
    inner = getattr(quantizer, "inner", None)
    return inner[min(level, len(inner) - 1)] if isinstance(inner, tuple) else inner


QUANTIZER_RULES = (
    (r"quantizer\.quantizers\.(\d+)\.in_proj\.(weight|bias)", r"quantizer.levels.\1.project_in.\2"),
    (r"quantizer\.quantizers\.(\d+)\.out_proj\.(weight|bias)", r"quantizer.levels.\1.project_out.\2"),
    (r"quantizer\.quantizers\.(\d+)\.codebook\.weight", r"quantizer.levels.\1.book"),
)
_DOWN, _UP = "encoder_net.blocks.2.blocks", "decoder_net.blocks.1.blocks"
_ORIGINAL_RULES = (
    (r"encoder\.block\.0\.(weight|bias)", r"encoder_net.blocks.1.conv.\1"),
    (r"encoder\.block\.(\d+)\.block\.(\d)\.block\.([02])\.alpha",
     rf"{_DOWN}.<\1-1>.blocks.\2.block.blocks.\3.alpha"),
    (r"encoder\.block\.(\d+)\.block\.(\d)\.block\.([13])\.(weight|bias)",
     rf"{_DOWN}.<\1-1>.blocks.\2.block.blocks.\3.conv.\4"),
    (r"encoder\.block\.(\d+)\.block\.3\.alpha", rf"{_DOWN}.<\1-1>.blocks.3.alpha"),
    (r"encoder\.block\.(\d+)\.block\.4\.(weight|bias)", rf"{_DOWN}.<\1-1>.blocks.4.conv.\2"),
    (r"encoder\.block\.\d+\.alpha", r"encoder_net.blocks.3.alpha"),
    (r"encoder\.block\.\d+\.(weight|bias)", r"encoder_net.blocks.4.conv.\1"),
    (r"decoder\.model\.0\.(weight|bias)", r"decoder_net.blocks.0.conv.\1"),
    (r"decoder\.model\.(\d+)\.block\.(\d)\.block\.([02])\.alpha",
     rf"{_UP}.<\1-1>.blocks.\2.block.blocks.\3.alpha"),
    (r"decoder\.model\.(\d+)\.block\.(\d)\.block\.([13])\.(weight|bias)",
     rf"{_UP}.<\1-1>.blocks.\2.block.blocks.\3.conv.\4"),
    (r"decoder\.model\.(\d+)\.block\.0\.alpha", rf"{_UP}.<\1-1>.blocks.0.alpha"),
    (r"decoder\.model\.(\d+)\.block\.1\.weight", rf"{_UP}.<\1-1>.blocks.1.conv.weight"),
    (r"decoder\.model\.(\d+)\.block\.1\.bias", rf"{_UP}.<\1-1>.blocks.1.bias"),
    (r"decoder\.model\.\d+\.alpha", r"decoder_net.blocks.2.alpha"),
    (r"decoder\.model\.\d+\.(weight|bias)", r"decoder_net.blocks.3.conv.\1"),
)  # fmt: skip
_TRANSFORMERS_RULES = (
    (r"encoder\.conv1\.(weight|bias)", r"encoder_net.blocks.1.conv.\1"),
    *(
        rule
        for side, blocks, shift in (("encoder", _DOWN, "-1"), ("decoder", _UP, "+1"))
        for number in (1, 2)
        for rule in (
            (rf"{side}\.block\.(\d+)\.res_unit(\d)\.snake{number}\.alpha",
             rf"{blocks}.\1.blocks.<\g<2>{shift}>.block.blocks.{2 * number - 2}.alpha"),
            (rf"{side}\.block\.(\d+)\.res_unit(\d)\.conv{number}\.(weight|bias)",
             rf"{blocks}.\1.blocks.<\g<2>{shift}>.block.blocks.{2 * number - 1}.conv.\3"),
        )
    ),
    (r"encoder\.block\.(\d+)\.snake1\.alpha", rf"{_DOWN}.\1.blocks.3.alpha"),
    (r"encoder\.block\.(\d+)\.conv1\.(weight|bias)", rf"{_DOWN}.\1.blocks.4.conv.\2"),
    (r"encoder\.snake1\.alpha", r"encoder_net.blocks.3.alpha"),
    (r"encoder\.conv2\.(weight|bias)", r"encoder_net.blocks.4.conv.\1"),
    (r"decoder\.conv1\.(weight|bias)", r"decoder_net.blocks.0.conv.\1"),
    (r"decoder\.block\.(\d+)\.snake1\.alpha", rf"{_UP}.\1.blocks.0.alpha"),
    (r"decoder\.block\.(\d+)\.conv_t1\.weight", rf"{_UP}.\1.blocks.1.conv.weight"),
    (r"decoder\.block\.(\d+)\.conv_t1\.bias", rf"{_UP}.\1.blocks.1.bias"),
    (r"decoder\.snake1\.alpha", r"decoder_net.blocks.2.alpha"),
    (r"decoder\.conv2\.(weight|bias)", r"decoder_net.blocks.3.conv.\1"),
)  # fmt: skip

DACCodec.reference = Reference(
    read_config=read_config,
    rules=(*_ORIGINAL_RULES, *_TRANSFORMERS_RULES, *QUANTIZER_RULES),
    rework=rework_books,
    guess=guess,
)


@torch.inference_mode()
def encode_chunked(codec: DACCodec, waveform: Tensor, window: int) -> tuple[Tensor, int]:
    """Codes of the published command line: windows without padding, which advance by what each decodes to.

    Args:
        codec: any DAC.
        waveform: `[B, 1, T]` at its rate, longer than a window. The original first brings it to -16 LUFS and,
            where it peaks above 1, down to a peak of 1.
        window: samples, rounded up to whole frames; 1 s in the original.

    Returns:
        int64 `[B, K, T']` of all windows in a row, and the number of frames of each window.

    Raises:
        AudioError: a window is too short to give anything, so the original fails too.
    """
    window = -(-window // codec.config.hop) * codec.config.hop
    net = [block for block in codec.encoder_net if not isinstance(block, WholeFrames)]
    advance, delay = _unpadded_length(codec, window), _delay(codec)
    if advance <= 0:
        raise AudioError(f"a window of {window} samples decodes to nothing without padding, expected more")
    padded = functional.pad(waveform, (delay, delay + window))
    codes = []
    for start in range(0, waveform.shape[2], advance):
        latents = padded[..., start : start + window].to(codec.sample)
        for block in net:
            latents = unpadded(block, latents)
        codes.append(codec.quantizer.encode(latents.float()))
    return torch.cat(codes, 2), codes[0].shape[2]


@torch.inference_mode()
def decode_chunked(codec: DACCodec, codes: Tensor, frames: int) -> Tensor:
    """Waveform `[B, 1, T]` of codes `[B, K, T']` of `encode_chunked`, in windows of `frames` frames.

    The original then brings it to the loudness of what was encoded, and cuts it to its length.
    """
    parts = []
    for chunk in torch.split(codes, frames, 2):
        y = codec.quantizer.decode(chunk).to(codec.sample)
        for block in codec.decoder_net:
            y = unpadded(block, y)
        parts.append(y)
    return torch.cat(parts, 2)


def unpadded(block: Block, x: Tensor) -> Tensor:
    """Map `[B, C, T]` by a block whose convolutions give what whole windows give, and nothing is cut."""
    if isinstance(block, Sequential):
        for member in block:
            x = unpadded(member, x)
        return x
    if isinstance(block, Residual):
        y = unpadded(block.block, x)
        beside = (x.shape[2] - y.shape[2]) // 2
        return x[..., beside : x.shape[2] - beside] + y
    if isinstance(block, ConvTranspose1d):
        y = block.synthesize(x, x.new_zeros(x.shape[0], block.outputs, block.span - block.hop))
        return y if block.bias is None else y + block.bias[:, None]
    return block.apply_windows(x) if isinstance(block, Windowed) else block(x)


def _convolutions(codec: DACCodec) -> list[Windowed | OverlapAdd]:
    return [module for module in codec.modules() if isinstance(module, Windowed | OverlapAdd)]


def _unpadded_length(codec: DACCodec, samples: int) -> int:
    """Samples that encoding and decoding without padding leave."""
    for conv in _convolutions(codec):
        if isinstance(conv, Windowed):
            samples = (samples - conv.span) // conv.stride + 1
        else:
            samples = (samples - 1) * conv.hop + conv.span
    return samples


def _delay(codec: DACCodec) -> int:
    """Zeros that the original puts on both sides: half of what is lost, by its own rounding."""
    given = needed = _unpadded_length(codec, 0)
    for conv in reversed(_convolutions(codec)):
        if isinstance(conv, Windowed):
            needed = (needed - 1) * conv.stride + conv.span
        else:
            needed = -((conv.span - needed) // conv.hop) + 1
    return (needed - given) // 2
