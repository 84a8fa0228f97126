"""Mimi (Defossez et al. 2024, Moshi: a speech-text foundation model for real-time dialogue, section 3.3).

    waveform -> SEANet encoder -> transformer -> conv, stride 2 -> split RVQ
             -> transposed conv, stride 2 -> transformer -> SEANet decoder -> waveform

Everything is causal: a frame of 80 ms of speech is final as soon as it has been heard. The transformers
attend to the last 250 steps of 40 ms. One book, distilled from a speech model, is semantic; the books of an
RVQ beside it are acoustic (`quantizers.split`).

Streams: this codec's sessions give what one pass gives, at any length. (The reference's own streaming keeps
250 keys while it takes two steps at once, so that the first of the two loses its oldest key; its codes
leave those of its offline pass once the recording is longer than the window. transformers 4.57.1 ignores the
window altogether; 5.23.0 keeps it.)
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

from audiotokens.architectures.reference import Reference, Shapes, Tensors
from audiotokens.architectures.seanet import (
    SEANetConfig,
    place_biases,
    seanet_decoder,
    seanet_encoder,
    seanet_of_transformers,
    seanet_rules,
)
from audiotokens.codec import Codec, Parts
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError
from audiotokens.nn.attention import TransformerConfig, transformer
from audiotokens.nn.block import Sequential
from audiotokens.nn.conv import ConvTranspose1d
from audiotokens.nn.framing import WholeFrames
from audiotokens.nn.layers import Linear
from audiotokens.nn.padding import PaddedConv1d, PadMode
from audiotokens.quantizers import (
    EMALearning,
    ProjectedConfig,
    Quantizer,
    QuantizerConfig,
    RVQConfig,
    SplitConfig,
    VectorConfig,
    build_quantizer,
)
from audiotokens.spec import Spec, StreamSpec, Taxonomy

_SMALLEST_USAGE = 1e-5
_SEANET = SEANetConfig(
    dimension=512,
    filters=64,
    ratios=(8, 6, 5, 4),
    last_kernel=3,
    pad_mode="constant",
    true_skip=True,
    lstm_layers=0,
)
_TRANSFORMER = TransformerConfig(layers=8, width=512, heads=8, hidden=2048, window=250)


def split_rvq(codebook_size: int, num_codebooks: int, dim: int | None, *, semantic: int = 1) -> SplitConfig:
    """Mimi's quantizer.

    Args:
        codebook_size: entries of every book.
        num_codebooks: books in all.
        dim: dimensions of the books, behind linear maps without biases; None: those of the latents.
        semantic: how many of the books are semantic.
    """
    book = VectorConfig(codebook_size=codebook_size, learning=EMALearning(decay=0.99))

    def part(books: int) -> QuantizerConfig:
        rvq = RVQConfig(num_codebooks=books, inner=book)
        return rvq if dim is None else ProjectedConfig(inner=rvq, inner_dim=dim, bias=False)

    return SplitConfig(semantic=part(semantic), acoustic=part(num_codebooks - semantic))


@dataclass(frozen=True)
class MimiConfig:
    """Configuration of Mimi; the defaults are those of the published one.

    Args:
        sample_rate: in Hz.
        seanet: the convolutional encoder and decoder.
        transformer: both transformers, between linear maps where its width is not the dimension of SEANet.
        stride: steps of the transformers per frame of codes; 1: no resampling.
        upsample_groups: groups of the transposed convolution before the decoder; None: one per channel.
        whole_frames: whether zeros first fill the waveform up to whole frames (the authors' code, and so the
            published codes); False: every strided convolution fills up its own input, which changes the last
            frame's codes of a recording that is no whole number of frames (transformers).
        quantizer: semantic and acoustic books.
    """

    sample_rate: int = 24000
    seanet: SEANetConfig = _SEANET
    transformer: TransformerConfig = _TRANSFORMER
    stride: int = 2
    upsample_groups: int | None = None
    whole_frames: bool = True
    quantizer: SplitConfig = field(default_factory=lambda: split_rvq(2048, 32, 256))

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ValueError(f"stride is {self.stride}, expected at least 1")

    @property
    def hop(self) -> int:
        """Samples per frame of codes."""
        return self.seanet.hop * self.stride


VARIANTS: dict[str, MimiConfig] = {
    "mimi": MimiConfig(),
    "tiny": MimiConfig(
        seanet=replace(_SEANET, dimension=16, filters=4, ratios=(8, 5, 4)),
        transformer=TransformerConfig(layers=2, width=16, heads=2, hidden=32, window=10),
        quantizer=split_rvq(16, 4, 8),
    ),
}


class MimiCodec(Codec):
    """Mimi; see the module's text. Its legal prefixes are the semantic books and any number of acoustic ones.

    Example:
        >>> codec = MimiCodec(VARIANTS["tiny"]).eval()
        >>> import numpy as np
        >>> list(codec.encode(np.zeros(24000), 24000).streams)
        ['semantic', 'acoustic']
    """

    architecture = "mimi"
    config_class = MimiConfig
    config: MimiConfig

    @classmethod
    def build(cls, config: MimiConfig) -> Parts:
        # The references stand at the same places whatever the configuration leaves out.
        encoder = Sequential(
            WholeFrames(config.hop if config.whole_frames else 1),
            seanet_encoder(config.seanet),
            _steps(config),
            Sequential(*_downsampling(config)),
        )
        decoder = Sequential(
            Sequential(*_upsampling(config)),
            _steps(config),
            seanet_decoder(config.seanet),
        )
        return Parts(encoder, build_quantizer(config.quantizer, config.seanet.dimension), decoder)

    @classmethod
    def default_spec(cls, config: MimiConfig, quantizer: Quantizer, name: str) -> Spec:
        rate = Fraction(config.sample_rate, config.hop)
        semantic = min(quantizer.legal_prefixes)
        sizes = quantizer.codebook_sizes
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=config.sample_rate,
            output_sample_rate=config.sample_rate,
            channels=config.seanet.channels,
            streams=(
                StreamSpec("semantic", sizes[:semantic], rate),
                StreamSpec("acoustic", sizes[semantic:], rate),
            ),
            legal_prefixes=quantizer.legal_prefixes,
            streamable=True,
            causal=config.seanet.causal,
            quirks=_quirks(config),
            weights_license="CC-BY-4.0",
            source="Defossez et al. 2024, arXiv:2410.00037; https://github.com/kyutai-labs/moshi",
            taxonomy=Taxonomy(
                tokens="hybrid",
                encoder="CNN and transformer",
                quantizer=quantizer.label,
                training="joint",
                objective="GAN, reconstruction, feature matching, VQ, semantic distillation",
            ),
        )


def _quirks(config: MimiConfig) -> tuple[str, ...]:
    quirks = []
    if config.stride > 1 and config.upsample_groups is None:
        quirks.append(
            "The convolution before the decoder's transformer mixes no channels, a slip that the published "
            "weights were trained with."
        )
    if not config.whole_frames:
        quirks.append(
            "Every strided convolution fills up its own input, as in transformers: the last frame's codes of "
            "a recording that is no whole number of frames differ from the authors'."
        )
    return tuple(quirks)


def _steps(config: MimiConfig) -> Sequential:
    """The transformer, between linear maps where it has another width than SEANet."""
    width, channels = config.transformer.width, config.seanet.dimension
    maps = [] if width == channels else [Linear(channels, width, bias=False)]
    back = [] if width == channels else [Linear(width, channels, bias=False)]
    return Sequential(Sequential(*maps), transformer(config.transformer), Sequential(*back))


def _downsampling(config: MimiConfig) -> list[PaddedConv1d]:
    channels, stride = config.seanet.dimension, config.stride
    if stride == 1:
        return []
    conv = PaddedConv1d(
        channels,
        channels,
        2 * stride,
        stride=stride,
        causal=config.seanet.causal,
        mode="replicate",
        bias=False,
    )
    return [conv]


def _upsampling(config: MimiConfig) -> list[ConvTranspose1d]:
    channels, stride, seanet = config.seanet.dimension, config.stride, config.seanet
    if stride == 1:
        return []
    # The kernel is 2 strides, so one stride is cut, all of it on the right in the published model.
    right = math.ceil(stride * seanet.trim_right_ratio) if seanet.causal else stride // 2
    groups = config.upsample_groups or channels
    lookahead = stride - right
    conv = ConvTranspose1d(
        channels, channels, 2 * stride, stride=stride, groups=groups, lookahead=lookahead, bias=False
    )
    return [conv]


# Reading published checkpoints


@dataclass(frozen=True)
class _MoshiSEANet:
    """Arguments of moshi's SEANet, and what of them this package builds."""

    channels: int = 1
    dimension: int = 128
    n_filters: int = 32
    n_residual_layers: int = 3
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    activation: Literal["ELU"] = "ELU"
    norm: Literal["none", "weight_norm"] = "none"
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    causal: Literal[True] = True
    pad_mode: PadMode = "constant"
    true_skip: bool = True
    compress: int = 2
    disable_norm_outer_blocks: int = 0


@dataclass(frozen=True)
class _MoshiQuantizer:
    """Arguments of moshi's split quantizer."""

    dimension: int
    n_q: int
    bins: int
    input_dimension: int
    output_dimension: int
    n_q_semantic: int = 1


@dataclass(frozen=True)
class _MoshiTransformer:
    """Arguments of moshi's projected transformer, and what of them this package builds."""

    d_model: int
    num_heads: int
    num_layers: int
    input_dimension: int
    output_dimensions: tuple[int, ...]
    causal: Literal[True]
    positional_embedding: Literal["rope", "rope_concat", "none"]
    conv_layout: Literal[True]
    dim_feedforward: int = 2048
    context: int | None = None
    max_period: float = 10000.0
    layer_scale: float | None = None
    kv_repeat: int = 1
    gating: Literal["none"] = "none"
    norm: Literal["layer_norm"] = "layer_norm"


@dataclass(frozen=True)
class _Moshi:
    """The configuration of Mimi in moshi."""

    sample_rate: int
    channels: int
    frame_rate: float
    seanet: _MoshiSEANet
    quantizer: _MoshiQuantizer
    transformer: _MoshiTransformer


def _from_moshi(arguments: Mapping[str, Any]) -> MimiConfig:
    given = from_dict(_Moshi, arguments, where="configuration of moshi")
    seanet, steps, books = given.seanet, given.transformer, given.quantizer
    widths = {seanet.dimension, steps.input_dimension, *steps.output_dimensions}
    widths |= {books.input_dimension, books.output_dimension}
    if len(widths) > 1 or len(steps.output_dimensions) != 1:
        raise ConfigError(f"the parts have dimensions {sorted(widths)} at their ends, expected one of them")
    if given.channels != seanet.channels:
        raise ConfigError(f"channels is {given.channels}, expected that of seanet, {seanet.channels}")
    own = SEANetConfig(
        channels=seanet.channels,
        dimension=seanet.dimension,
        filters=seanet.n_filters,
        ratios=seanet.ratios,
        residual_layers=seanet.n_residual_layers,
        kernel=seanet.kernel_size,
        last_kernel=seanet.last_kernel_size,
        residual_kernel=seanet.residual_kernel_size,
        dilation_base=seanet.dilation_base,
        compress=seanet.compress,
        pad_mode=seanet.pad_mode,
        true_skip=seanet.true_skip,
        lstm_layers=0,
    )
    layouts: dict[str, Literal["interleaved", "half"]] = {"rope": "interleaved", "rope_concat": "half"}
    return MimiConfig(
        sample_rate=given.sample_rate,
        seanet=own,
        transformer=TransformerConfig(
            layers=steps.num_layers,
            width=steps.d_model,
            heads=steps.num_heads,
            hidden=steps.dim_feedforward,
            window=steps.context,
            key_heads=None if steps.kv_repeat == 1 else steps.num_heads // steps.kv_repeat,
            rotary=layouts.get(steps.positional_embedding),
            rotary_base=steps.max_period,
            layer_scale=steps.layer_scale,
        ),
        stride=_stride(Fraction(given.sample_rate, own.hop), given.frame_rate),
        quantizer=split_rvq(books.bins, books.n_q, books.dimension, semantic=books.n_q_semantic),
    )


def _stride(steps: Fraction, frame_rate: float) -> int:
    stride = round(steps / Fraction(frame_rate))
    if stride < 1 or abs(stride * frame_rate / steps - 1) > 1e-6:
        raise ConfigError(
            f"the frame rate is {frame_rate} Hz, expected {float(steps)} Hz over a whole number"
        )
    return stride


@dataclass(frozen=True)
class _Transformers:
    """The configuration of Mimi in transformers, and what of it this package builds."""

    model_type: Literal["mimi"] = "mimi"
    sampling_rate: int = 24000
    frame_rate: float | None = None
    audio_channels: int = 1
    hidden_size: int = 512
    num_filters: int = 64
    num_residual_layers: int = 1
    upsampling_ratios: tuple[int, ...] = (8, 6, 5, 4)
    kernel_size: int = 7
    last_kernel_size: int = 3
    residual_kernel_size: int = 3
    dilation_growth_rate: int = 2
    use_causal_conv: bool = True
    pad_mode: PadMode = "constant"
    compress: int = 2
    trim_right_ratio: float = 1.0
    codebook_size: int = 2048
    codebook_dim: int | None = 256
    num_quantizers: int = 32
    use_conv_shortcut: bool = False
    vector_quantization_hidden_dimension: int = 256
    num_semantic_quantizers: int = 1
    upsample_groups: int = 512
    num_hidden_layers: int = 8
    intermediate_size: int = 2048
    num_attention_heads: int = 8
    num_key_value_heads: int = 8
    head_dim: int | None = None
    hidden_act: Literal["gelu"] = "gelu"
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    sliding_window: int | None = 250
    layer_scale_initial_scale: float = 0.01
    attention_bias: Literal[False] = False


# What a configuration of transformers says about training, generation and files.
_ABOUT_OTHER_THINGS = frozenset(
    [
        "architectures", "attention_dropout", "chunk_size_feed_forward", "dtype", "id2label",
        "initializer_range", "is_encoder_decoder", "label2id", "max_position_embeddings", "normalize",
        "output_attentions", "output_hidden_states", "problem_type", "return_dict", "tie_word_embeddings",
        "torch_dtype", "transformers_version", "use_cache", "use_streaming", "_name_or_path",
    ]
)  # fmt: skip


def _from_transformers(arguments: Mapping[str, Any]) -> MimiConfig:
    values = {name: value for name, value in arguments.items() if name not in _ABOUT_OTHER_THINGS}
    if "_frame_rate" in values:
        values["frame_rate"] = values.pop("_frame_rate")
    rotation = values.pop("rope_parameters", None) or {}
    if rotation.get("rope_type", "default") != "default":
        raise ConfigError(f'rope_type is "{rotation["rope_type"]}", expected "default"')
    values |= {name: value for name, value in rotation.items() if name == "rope_theta"}
    given = from_dict(_Transformers, values, where="configuration of transformers")
    dim = given.vector_quantization_hidden_dimension
    if (given.codebook_dim or given.hidden_size) != dim:
        raise ConfigError(
            f"codebook_dim is {given.codebook_dim}, expected vector_quantization_hidden_dimension, {dim}"
        )
    seanet = seanet_of_transformers(given)
    heads, keys, groups = given.num_attention_heads, given.num_key_value_heads, given.upsample_groups
    # transformers rounds the rate of its encoder up to whole steps per second, and the stride down.
    steps = math.ceil(given.sampling_rate / seanet.hop)
    frame_rate = given.frame_rate or given.sampling_rate / (2 * seanet.hop)
    return MimiConfig(
        sample_rate=given.sampling_rate,
        seanet=seanet,
        transformer=TransformerConfig(
            layers=given.num_hidden_layers,
            width=given.hidden_size,
            heads=heads,
            hidden=given.intermediate_size,
            window=given.sliding_window,
            head_width=None if given.head_dim in (None, given.hidden_size // heads) else given.head_dim,
            key_heads=None if keys == heads else keys,
            rotary_base=given.rope_theta,
            layer_scale=given.layer_scale_initial_scale,
            norm_eps=given.norm_eps,
        ),
        stride=int(steps / frame_rate),
        upsample_groups=None if groups == given.hidden_size else groups,
        whole_frames=False,
        quantizer=split_rvq(
            given.codebook_size,
            given.num_quantizers,
            None if dim == given.hidden_size else dim,
            semantic=given.num_semantic_quantizers,
        ),
    )


def _read_config(arguments: Mapping[str, Any]) -> MimiConfig:
    return _from_moshi(arguments) if "seanet" in arguments else _from_transformers(arguments)


def _transformer_rules(ours: str, side: str) -> tuple[tuple[str, str], ...]:
    projected = rf"(?:{side}\.)?{side}_transformer\."
    layer = projected + r"(?:transformer\.)?layers\.(\d+)\."
    here = rf"{ours}.blocks.1.blocks.1.blocks.\1."
    attend, feed = here + "blocks.0.block.blocks.", here + "blocks.1.block.blocks."
    return (
        (layer + r"(?:norm1|input_layernorm)\.(weight|bias)", attend + r"0.\2"),
        (layer + r"self_attn\.in_proj(?:_weight|\.weight|s\.0\.weight)", attend + "1.input.weight"),
        (layer + r"self_attn\.([qkv])_proj\.weight", attend + r"1.\2"),
        (layer + r"self_attn\.(?:out_proj|out_projs\.0|o_proj)\.weight", attend + "1.output.weight"),
        (layer + r"(?:layer_scale_1|self_attn_layer_scale)\.scale", attend + "2.scale"),
        (layer + r"(?:norm2|post_attention_layernorm)\.(weight|bias)", feed + r"0.\2"),
        (layer + r"(?:linear1|mlp\.fc1)\.weight", feed + "1.linear.weight"),
        (layer + r"(?:linear2|mlp\.fc2)\.weight", feed + "3.linear.weight"),
        (layer + r"(?:layer_scale_2|mlp_layer_scale)\.scale", feed + "4.scale"),
        (projected + r"input_proj\.weight", rf"{ours}.blocks.0.blocks.0.linear.weight"),
        (projected + r"output_projs\.0\.weight", rf"{ours}.blocks.2.blocks.0.linear.weight"),
    )  # fmt: skip


def _quantizer_rules(ours: str, theirs: str) -> tuple[tuple[str, str], ...]:
    book = rf"quantizer\.{theirs}\.(?:vq\.)?layers\.(\d+)\.(?:_codebook|codebook)\."
    return (
        (rf"quantizer\.{theirs}\.input_proj\.weight", f"quantizer.{ours}.project_in.weight"),
        (rf"quantizer\.{theirs}\.output_proj\.weight", f"quantizer.{ours}.project_out.weight"),
        (book + "(?:embedding_sum|embed_sum|embed_avg)", rf"quantizer.{ours}.levels.\1.sum"),
        (book + "(?:cluster_usage|cluster_size)", rf"quantizer.{ours}.levels.\1.usage"),
    )


_RULES = (
    *seanet_rules("encoder_net.blocks.1", r"encoder(?:\.encoder_seanet)?"),
    *seanet_rules("decoder_net.blocks.2", r"decoder(?:\.decoder_seanet)?"),
    *_transformer_rules("encoder_net.blocks.2", "encoder"),
    *_transformer_rules("decoder_net.blocks.1", "decoder"),
    (r"(?:encoder\.)?downsample\.conv\.(?:conv\.conv\.)?weight", "encoder_net.blocks.3.blocks.0.conv.weight"),
    (
        r"(?:decoder\.)?upsample\.(?:convtr\.convtr\.convtr|conv)\.weight",
        "decoder_net.blocks.0.blocks.0.conv.weight",
    ),
    *_quantizer_rules("semantic", "(?:rvq_first|semantic_residual_vector_quantizer)"),
    *_quantizer_rules("acoustic", "(?:rvq_rest|acoustic_residual_vector_quantizer)"),
)


def _rework(tensors: Tensors, config: MimiConfig) -> Tensors:
    found = place_biases(tensors, "decoder_net.blocks.2", config.seanet)
    for name in [name for name in found if name.endswith(".q")]:
        stem = name.removesuffix("q")
        parts = [found.pop(stem + letter) for letter in "qkv" if stem + letter in found]
        # Rows of queries and keys turn by halves of a head in transformers.
        turned = [_turned(part, config.transformer) for part in parts[:2]]
        found[stem + "input.weight"] = torch.cat([*turned, *parts[2:]])
    for name in [name for name in found if name.endswith(".sum")]:
        stem, usage = name.removesuffix("sum"), found.get(name.removesuffix("sum") + "usage")
        if usage is not None:
            book = found.pop(name) / found.pop(stem + "usage").clamp(min=_SMALLEST_USAGE)[:, None]
            part = config.quantizer.semantic if ".semantic." in name else config.quantizer.acoustic
            place = ".inner.levels." if isinstance(part, ProjectedConfig) else ".levels."
            found[stem.replace(".levels.", place) + "book"] = book
    maps = (".project_in.weight", ".project_out.weight")
    return {n: tensor.squeeze(2) if n.endswith(maps) else tensor for n, tensor in found.items()}


def _turned(rows: Tensor, config: TransformerConfig) -> Tensor:
    """Rows of queries or keys `[heads d, width]` in the order of the configuration, from that of halves."""
    if config.rotary != "interleaved":
        return rows
    return rows.view(-1, 2, config.channels_of_head // 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _guess(shapes: Shapes) -> MimiConfig | None:
    """The published configuration, with as many books as there are."""
    books = [name for name in shapes if re.search(r"_?codebook\.cluster_(usage|size)$", name)]
    widths = {shapes[name] for name in shapes if re.search(r"(linear1|mlp\.fc1)\.weight$", name)}
    published = VARIANTS["mimi"]
    expected = (published.transformer.hidden, published.transformer.width)
    if widths != {expected} or len(books) < 2 or {shapes[name] for name in books} != {(2048,)}:
        return None
    return replace(published, quantizer=split_rvq(2048, len(books), 256))


MimiCodec.reference = Reference(
    read_config=_read_config,
    rules=_RULES,
    ignored=(r"quantizer\..*\.(?:_initialized|initialized|inited)",),
    rework=_rework,
    guess=_guess,
)
