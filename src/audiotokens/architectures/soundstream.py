"""SoundStream (Zeghidour et al. 2021, arXiv:2107.03312) in the paper's form, and Lyra V2, a trained one.

A causal convolutional autoencoder with residual vector quantization. The encoder is

    conv -> [unit d=1, unit d=3, unit d=9, a, conv of stride s] for each s -> a, conv to the latents,
    unit d(x) = x + conv_1(a(conv_{k,d}(a(x)))),

its width doubles at each stride, and the decoder mirrors it with transposed convolutions before the units.
No normalization; all padding is zeros on the left, so nothing looks ahead. The paper has C = 32, strides
2, 4, 5, 8, kernels of 7 in the units and of 2 s in the strided layers, and ELU for a (its figure 3). Where
the units have their activations it does not draw; here they stand before each convolution, as in Lyra. The
paper's denoising layer (FiLM) is not built. No weights of it were published.

Lyra V2 (google/lyra 1.3.2, Apache-2.0) is Google's own SoundStream for 16 kHz speech. It differs: the first
and the last layer are a learned filter bank of 64 samples with a hop of 16; units have a depthwise
convolution of 3 taps, a dense and a grouped one of 1; strided layers are grouped so that a group has 64
channels at the narrower side; a is LeakyReLU of slope 0.3; 46 books have 16 entries each. It is published as
three TFLite graphs, whose wider layers have 8-bit weights. `read_graphs` takes the weights out, to be run in
floating point, which scores a little better than the 8-bit activations of the graphs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from audiotokens.architectures.graphs import Graph, Operator
from audiotokens.architectures.reference import Reference
from audiotokens.codec import Codec, Parts
from audiotokens.config import from_dict
from audiotokens.errors import CheckpointError
from audiotokens.nn.block import Block, Residual, Sequential
from audiotokens.nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d
from audiotokens.nn.framing import WholeFrames
from audiotokens.nn.layers import ELU, LeakyReLU
from audiotokens.quantizers import Quantizer, QuantizerConfig, RVQConfig, VectorConfig, build_quantizer
from audiotokens.spec import Spec, StreamSpec, Taxonomy


@dataclass(frozen=True)
class SoundStreamConfig:
    """Configuration of a SoundStream.

    Args:
        sample_rate: in Hz.
        width: channels C after the first convolution; each stride doubles them.
        strides: of the encoder's blocks, in order; their kernels are twice as long.
        outer_kernel: taps of the first and of the last convolution.
        outer_stride: stride of both; the hop is its product with all strides.
        latent: dimensions of the quantized latents.
        encoder_latent_kernel: taps of the encoder's last convolution.
        decoder_latent_kernel: taps of the decoder's first convolution.
        latent_groups: groups of both of these.
        unit: "dense": a dilated convolution and one of 1 tap; "depthwise": a dilated depthwise one without
            bias, and two of 1 tap, the second one grouped.
        unit_kernel: taps of the dilated convolutions.
        dilations: of the units of each block.
        group_width: channels that a group of a strided layer has at its narrower side, and a group of a unit
            has; None: no groups.
        slope: of LeakyReLU; None: ELU.
        quantizer: configuration of any quantizer.
    """

    sample_rate: int = 24000
    width: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    outer_kernel: int = 7
    outer_stride: int = 1
    latent: int = 256
    encoder_latent_kernel: int = 3
    decoder_latent_kernel: int = 7
    latent_groups: int = 1
    unit: Literal["dense", "depthwise"] = "dense"
    unit_kernel: int = 7
    dilations: tuple[int, ...] = (1, 3, 9)
    group_width: int | None = None
    slope: float | None = None
    quantizer: QuantizerConfig = field(default_factory=lambda: RVQConfig(num_codebooks=24))

    def __post_init__(self) -> None:
        numbers = ("sample_rate", "width", "outer_stride", "latent", "latent_groups", "unit_kernel")
        for name in (*numbers, "encoder_latent_kernel", "decoder_latent_kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("strides", "dilations"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise ValueError(f"{name} are {values}, expected numbers of at least 1")
        if self.outer_kernel < self.outer_stride:
            raise ValueError(
                f"outer_kernel is {self.outer_kernel}, expected at least outer_stride = {self.outer_stride}"
            )
        if self.group_width is not None and self.width % self.group_width and self.group_width % self.width:
            raise ValueError(
                f"group_width is {self.group_width}, expected a multiple or divisor of {self.width}"
            )
        for name, channels in (("latent", self.latent), ("width at the latents", self.widest)):
            if channels % self.latent_groups:
                raise ValueError(
                    f"latent_groups is {self.latent_groups}, which does not divide {name} {channels}"
                )

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return self.outer_stride * math.prod(self.strides)

    @property
    def widest(self) -> int:
        """Channels beside the latents."""
        return self.width << len(self.strides)

    def groups(self, width: int) -> int:
        """Groups of a layer whose narrower side has `width` channels."""
        return 1 if self.group_width is None else max(1, width // self.group_width)


VARIANTS: dict[str, SoundStreamConfig] = {
    "soundstream-24khz": SoundStreamConfig(),
    "lyra-v2": SoundStreamConfig(
        sample_rate=16000, width=64, strides=(5, 2, 2), outer_kernel=64, outer_stride=16, latent=64,
        decoder_latent_kernel=3, latent_groups=4, unit="depthwise", unit_kernel=3, group_width=64, slope=0.3,
        quantizer=RVQConfig(num_codebooks=46, inner=VectorConfig(codebook_size=16)),
    ),
    "tiny": SoundStreamConfig(
        width=8, strides=(4, 5, 8), latent=32,
        quantizer=RVQConfig(num_codebooks=4, inner=VectorConfig(codebook_size=16)),
    ),
    "tiny-lyra": SoundStreamConfig(
        sample_rate=16000, width=8, strides=(5, 2), outer_kernel=16, outer_stride=4, latent=8,
        decoder_latent_kernel=3, latent_groups=2, unit="depthwise", unit_kernel=3, group_width=8, slope=0.3,
        quantizer=RVQConfig(num_codebooks=4, inner=VectorConfig(codebook_size=16)),
    ),
}  # fmt: skip


LYRA_SAMPLE_RATE = 16000
"""In Hz; the graphs do not tell it."""
_LYRA_QUIRKS = (
    "Lyra runs its wider layers with 8-bit activations, which are floating point here: about one code in "
    "five of the first 16 books differs from a Lyra encoder's, as between two sets of kernels of TFLite.",
    "Zeros before the first sample are not silence to the encoder: codes of the first half second differ "
    "from those after a longer silence.",
)


def _activation(config: SoundStreamConfig) -> Block:
    return ELU() if config.slope is None else LeakyReLU(config.slope)


def _unit(config: SoundStreamConfig, width: int, dilation: int) -> Residual:
    kernel = config.unit_kernel
    if config.unit == "dense":
        dilated: list[Block] = [Conv1d(width, width, kernel, dilation=dilation)]
    else:
        dilated = [DepthwiseConv1d(width, kernel, dilation=dilation), Conv1d(width, width, 1)]
    groups = config.groups(width) if config.unit == "depthwise" else 1
    last = Conv1d(width, width, 1, groups=groups)
    return Residual(Sequential(_activation(config), *dilated, _activation(config), last))


def _encoder(config: SoundStreamConfig) -> Sequential:
    width = config.width
    blocks: list[Block] = [
        WholeFrames(config.hop),
        Conv1d(1, width, config.outer_kernel, stride=config.outer_stride),
    ]
    for stride in config.strides:
        blocks += [_unit(config, width, dilation) for dilation in config.dilations]
        groups = config.groups(width)
        down = Conv1d(width, 2 * width, 2 * stride, stride=stride, groups=groups)
        blocks += [_activation(config), down]
        width *= 2
    kernel, groups = config.encoder_latent_kernel, config.latent_groups
    return Sequential(*blocks, _activation(config), Conv1d(width, config.latent, kernel, groups=groups))


def _decoder(config: SoundStreamConfig) -> Sequential:
    width, kernel = config.widest, config.decoder_latent_kernel
    blocks: list[Block] = [Conv1d(config.latent, width, kernel, groups=config.latent_groups)]
    for stride in reversed(config.strides):
        narrow = width // 2
        up = ConvTranspose1d(width, narrow, 2 * stride, stride=stride, groups=config.groups(narrow))
        blocks += [_activation(config), up]
        blocks += [_unit(config, narrow, dilation) for dilation in config.dilations]
        width = narrow
    kernel, stride = config.outer_kernel, config.outer_stride
    last = Conv1d(width, 1, kernel) if stride == 1 else ConvTranspose1d(width, 1, kernel, stride=stride)
    return Sequential(*blocks, _activation(config), last)


class SoundStreamCodec(Codec):
    """SoundStream and Lyra V2; see the module's text."""

    architecture = "soundstream"
    config_class = SoundStreamConfig
    config: SoundStreamConfig

    @classmethod
    def build(cls, config: SoundStreamConfig) -> Parts:
        quantizer = build_quantizer(config.quantizer, config.latent)
        return Parts(_encoder(config), quantizer, _decoder(config))

    @classmethod
    def default_spec(cls, config: SoundStreamConfig, quantizer: Quantizer, name: str) -> Spec:
        rate = Fraction(config.sample_rate, config.hop)
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=config.sample_rate,
            output_sample_rate=config.sample_rate,
            streams=(StreamSpec("codes", quantizer.codebook_sizes, rate),),
            legal_prefixes=quantizer.legal_prefixes,
            streamable=True,
            causal=True,
            quirks=_LYRA_QUIRKS if config == VARIANTS["lyra-v2"] else (),
            source="https://arxiv.org/abs/2107.03312",
            taxonomy=Taxonomy(
                encoder="CNN (T)",
                quantizer=quantizer.label,
                training="joint",
                objective="GAN + reconstruction + feature matching",
                domain="speech" if config.sample_rate == LYRA_SAMPLE_RATE else "speech, music",
            ),
        )


# Reading Lyra's graphs


@dataclass(frozen=True, eq=False)
class _Layer:
    """A convolution of a graph, its weight in the layout of our module, its bias None where it has none."""

    kind: type[Conv1d | DepthwiseConv1d | ConvTranspose1d]
    weight: np.ndarray
    bias: np.ndarray | None
    stride: int
    dilation: int = 1

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights by their names in the module."""
        if self.bias is None:
            return {"taps": self.weight}
        return {
            "conv.weight": self.weight,
            "bias" if self.kind is ConvTranspose1d else "conv.bias": self.bias,
        }


def read_graphs(graphs: Sequence[Graph]) -> tuple[SoundStreamConfig, dict[str, Tensor]]:
    """Return the configuration and the state dict of the codec that the graphs of Lyra V2 make up.

    Each graph is told by its operators: the decoder has transposed convolutions, the encoder only others, and
    the quantizer's search has squared differences to its books. Their layers run in the order of the codec's
    modules.

    Args:
        graphs: of all files, in any order.

    Raises:
        CheckpointError: a part is missing or there twice, or the layers are not those of such a codec.
    """
    encoder = _only(graphs, "encoder", {"CONV_2D"}, without={"TRANSPOSE_CONV"})
    decoder = _only(graphs, "decoder", {"CONV_2D", "TRANSPOSE_CONV"})
    books = _books(_only(graphs, "quantizer", {"SQUARED_DIFFERENCE"}))
    before, after = _layers(encoder), _layers(decoder)
    try:
        config = _read_config(encoder, before, after, books)
        with torch.device("meta"):
            parts = SoundStreamCodec.build(config)
    except (ValueError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"the layers are not those of a Lyra encoder and decoder: {error}") from None
    tensors = _placed("encoder_net", parts.encoder, before) | _placed("decoder_net", parts.decoder, after)
    tensors |= {f"quantizer.levels.{level}.book": book for level, book in enumerate(books)}
    return config, {name: torch.from_numpy(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}


def _only(graphs: Sequence[Graph], part: str, kinds: set[str], without: Set[str] = frozenset()) -> Graph:
    """The one graph that has operators of all `kinds` and of none in `without`."""
    found = []
    for graph in graphs:
        own = {operator.kind for operator in graph.operators}
        if kinds <= own and not own & without:
            found.append(graph)
    if len(found) != 1:
        raise CheckpointError(
            f"found {len(found)} graphs of a Lyra {part}, expected 1: give soundstream_encoder.tflite, "
            "quantizer.tflite and lyragan.tflite of one version, each once"
        )
    return found[0]


def _read_config(
    graph: Graph, encoder: Sequence[_Layer], decoder: Sequence[_Layer], books: Sequence[np.ndarray]
) -> SoundStreamConfig:
    """The configuration by what tells it; whether all layers agree is seen when they are placed."""
    first, *inner, last = encoder
    block = [layer.stride > 1 for layer in inner].index(True) + 1
    dilations = tuple(layer.dilation for layer in inner[:block] if layer.kind is DepthwiseConv1d)
    strides = tuple(layer.stride for layer in inner[block - 1 :: block])
    width = len(first.weight)
    config = SoundStreamConfig(
        sample_rate=LYRA_SAMPLE_RATE,
        width=width,
        strides=strides,
        outer_kernel=first.weight.shape[2],
        outer_stride=first.stride,
        latent=len(last.weight),
        encoder_latent_kernel=last.weight.shape[2],
        decoder_latent_kernel=decoder[0].weight.shape[2],
        latent_groups=(width << len(strides)) // last.weight.shape[1],
        unit="depthwise",
        unit_kernel=len(inner[0].weight),
        dilations=dilations,
        # The last convolution of the widest unit.
        group_width=inner[-2].weight.shape[1],
        slope=_slope(graph),
        quantizer=RVQConfig(num_codebooks=len(books), inner=VectorConfig(codebook_size=len(books[0]))),
    )
    taken = graph.tensors[graph.inputs[0]].shape
    if taken[-1:] != (config.hop,):
        raise ValueError(f"the graph takes {list(taken)} samples, and its strides make a hop of {config.hop}")
    return config


def _slope(graph: Graph) -> float:
    slopes = {op.options["alpha"] for op in graph.operators if op.kind == "LEAKY_RELU"}
    if len(slopes) != 1:
        raise ValueError(f"found {len(slopes)} slopes of LeakyReLU, expected 1")
    # The shortest number that is the same one in float32: 0.3, not 0.30000001192092896.
    return float(str(np.float32(slopes.pop())))


def _layers(graph: Graph) -> list[_Layer]:
    """The convolutions in order; transposed ones over the parts of one split are one grouped layer."""
    count = {part: len(op.outputs) for op in graph.operators if op.kind == "SPLIT" for part in op.outputs}
    layers: list[_Layer] = []
    parts: list[_Layer] = []
    for place, operator in enumerate(graph.operators):
        if operator.kind in {"CONV_2D", "DEPTHWISE_CONV_2D"}:
            layers.append(_convolution(graph, operator))
        elif operator.kind == "TRANSPOSE_CONV":
            parts.append(_transposed(graph, place))
            if len(parts) == count.get(_input(operator, 2), 1):
                layers.append(_joined(parts))
                parts = []
    if parts:
        raise CheckpointError("a grouped transposed convolution lacks a part: get the files again")
    return layers


def _convolution(graph: Graph, operator: Operator) -> _Layer:
    filters = _filters(graph, _input(operator, 1))
    bias = _floats(graph, _input(operator, 2))
    stride, dilation = int(operator.options["stride_h"]), int(operator.options["dilation_h"])
    if operator.kind == "CONV_2D":
        return _Layer(Conv1d, filters.transpose(0, 2, 1), bias, stride, dilation)
    if bias.any():
        raise CheckpointError("a depthwise convolution has a bias, which those of Lyra V2 have not")
    return _Layer(DepthwiseConv1d, filters[0], None, stride, dilation)


def _transposed(graph: Graph, place: int) -> _Layer:
    operator = graph.operators[place]
    filters, bias = _filters(graph, _input(operator, 1)), _input(operator, 3)
    # The bias inside of the operator is rounded to integers; the exact one is taken off the samples that are
    # kept for the next frame, so that it counts once.
    for following in graph.operators[place + 1 :]:
        if following.kind == "SUB":
            bias = _input(following, 1)
        if following.kind in {"SUB", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}:
            break
    stride = int(operator.options["stride_h"])
    return _Layer(ConvTranspose1d, filters.transpose(2, 0, 1), _floats(graph, bias), stride)


def _joined(parts: Sequence[_Layer]) -> _Layer:
    """One grouped transposed convolution of parts of equal shape."""
    if len({(part.weight.shape, part.stride) for part in parts}) > 1:
        raise CheckpointError("the parts of a grouped transposed convolution differ in shape")
    biases = [part.bias for part in parts if part.bias is not None]
    weight = np.concatenate([part.weight for part in parts])
    return _Layer(ConvTranspose1d, weight, np.concatenate(biases), parts[0].stride)


def _filters(graph: Graph, number: int) -> np.ndarray:
    """Filters [A, k, 1, B] as [A, k, B]."""
    filters = _floats(graph, number)
    if filters.ndim != 4 or filters.shape[2] != 1:
        raise CheckpointError(
            f"a convolution has filters of the shape {list(filters.shape)}, expected [A, k, 1, B]"
        )
    return filters[:, :, 0]


def _books(graph: Graph) -> list[np.ndarray]:
    """The books [N, D] that the search takes squared differences to, in its order."""
    searches = [operator for operator in graph.operators if operator.kind == "SQUARED_DIFFERENCE"]
    books = [_floats(graph, _input(operator, 1)) for operator in searches]
    shapes = {book.shape for book in books}
    if len(shapes) != 1 or books[0].ndim != 3 or len(books[0]) != 1:
        raise CheckpointError(f"the books have the shapes {sorted(shapes)}, expected one shape [1, N, D]")
    return [book[0] for book in books]


def _input(operator: Operator, place: int) -> int:
    """The number of the tensor that an operator has as an input; -1: it has no such input."""
    return operator.inputs[place] if place < len(operator.inputs) else -1


def _floats(graph: Graph, number: int) -> np.ndarray:
    if number < 0:
        raise CheckpointError("a layer lacks its weight or bias: get the files again")
    return graph.tensors[number].floats()


def _placed(net: str, blocks: Sequential, layers: Sequence[_Layer]) -> dict[str, np.ndarray]:
    """Tensors by their keys in the codec, once each layer is that of the module in its place."""
    kinds = (Conv1d, DepthwiseConv1d, ConvTranspose1d)
    modules = [(name, module) for name, module in blocks.named_modules() if isinstance(module, kinds)]
    if len(modules) != len(layers):
        raise CheckpointError(f"{net} has {len(layers)} layers, expected {len(modules)}")
    placed: dict[str, np.ndarray] = {}
    for (name, module), layer in zip(modules, layers):
        found, wanted = _described(layer.kind, layer.stride, layer.dilation), _described(*_settings(module))
        if found != wanted:
            raise CheckpointError(f"{net}.{name} is a {found}, expected a {wanted}")
        expected = module.state_dict()
        for key, tensor in layer.tensors().items():
            # Before a codec is built, whose size only the strides and the number of layers tell.
            if tensor.shape != expected[key].shape:
                shapes = f"{list(tensor.shape)}, expected {list(expected[key].shape)}"
                raise CheckpointError(f"{net}.{name}.{key} has the shape {shapes}")
            placed[f"{net}.{name}.{key}"] = tensor
    return placed


def _described(kind: type, stride: int, dilation: int) -> str:
    names = {Conv1d: "convolution", DepthwiseConv1d: "depthwise convolution"}
    return f"{names.get(kind, 'transposed convolution')} of stride {stride} and dilation {dilation}"


def _settings(module: nn.Module) -> tuple[type, int, int]:
    """Type, stride and dilation of a convolution."""
    if isinstance(module, ConvTranspose1d):
        return ConvTranspose1d, module.hop, 1
    if isinstance(module, DepthwiseConv1d):
        return DepthwiseConv1d, 1, module.dilation
    if isinstance(module, Conv1d):
        return Conv1d, module.stride, module.conv.dilation[0]
    raise TypeError(f"{type(module).__name__} is no convolution")


def _own_config(arguments: Mapping[str, Any]) -> SoundStreamConfig:
    """A configuration by this package's own names: nobody published another."""
    return from_dict(SoundStreamConfig, arguments)


# What `read_graphs` gives has the codec's own keys.
SoundStreamCodec.reference = Reference(
    read_config=_own_config, rules=((r"(?:encoder_net|quantizer|decoder_net)\..+", r"\g<0>"),)
)
