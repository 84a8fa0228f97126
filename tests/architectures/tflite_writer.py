"""Writes TFLite files for tests: a small flatbuffer writer, and Lyra's graphs of any codec of that form."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from audiotokens.architectures.soundstream import SoundStreamCodec
from audiotokens.nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d

CODES = {"ADD": 0, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "SUB": 41, "SPLIT": 49, "TRANSPOSE_CONV": 67}
CODES |= {"LEAKY_RELU": 98, "SQUARED_DIFFERENCE": 99}
TYPES = {"float32": 0, "int32": 2, "int64": 4, "int8": 9}

Number = tuple[str, float]
Fields = dict[int, Any]
"""A table: field number to a number with its struct format, text, bytes, array, table, or list of tables."""


def write_flatbuffer(root: Fields) -> bytes:
    """Return the bytes of a flatbuffer with the identifier of TFLite."""
    out = bytearray(b"\0\0\0\0TFL3")
    _patch(out, 0, _put_table(out, root))
    return bytes(out)


def _put_table(out: bytearray, fields: Fields) -> int:
    _align(out)
    vtable, count = len(out), max(fields, default=-1) + 1
    out += bytes(4 + 2 * count)
    _align(out)
    table = len(out)
    out += struct.pack("<i", table - vtable) + bytes(4)
    places = {}
    for number, value in fields.items():
        places[number] = len(out)
        struct.pack_into("<H", out, vtable + 4 + 2 * number, len(out) - table)
        out += struct.pack(value[0], value[1]) if isinstance(value, tuple) else bytes(4)
        _align(out)
    struct.pack_into("<HH", out, vtable, 4 + 2 * count, len(out) - table)
    for number, value in fields.items():
        if not isinstance(value, tuple):
            _patch(out, places[number], _put(out, value))
    return table


def _put(out: bytearray, value: Any) -> int:
    if isinstance(value, dict):
        return _put_table(out, value)
    _align(out)
    out += bytes(4)
    place = len(out)
    if isinstance(value, list):
        out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for index, item in enumerate(value):
            _patch(out, place + 4 + 4 * index, _put_table(out, item))
        return place
    content = value.encode() if isinstance(value, str) else bytes(value)
    count = value.size if isinstance(value, np.ndarray) else len(content)
    out += struct.pack("<I", count) + (value.tobytes() if isinstance(value, np.ndarray) else content)
    return place


def _patch(out: bytearray, place: int, target: int) -> None:
    struct.pack_into("<I", out, place, target - place)


def _align(out: bytearray) -> None:
    out += bytes(-len(out) % 8)


@dataclass
class GraphWriter:
    """Gathers tensors and operators of one graph."""

    tensors: list[Fields] = field(default_factory=list)
    operators: list[Fields] = field(default_factory=list)
    buffers: list[Fields] = field(default_factory=lambda: [{}])
    inputs: list[int] = field(default_factory=list)

    def computed(self, *shape: int) -> int:
        """Add a tensor that the graph computes; return its number."""
        self.tensors.append({0: np.array(shape, np.int32), 1: ("<b", 0), 2: ("<I", 0), 3: "computed"})
        return len(self.tensors) - 1

    def constant(self, values: np.ndarray, scale: np.ndarray | None = None, axis: int = 0) -> int:
        """Add a constant, quantized if it has scales; return its number."""
        self.buffers.append({0: np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)})
        shape, kind = np.array(values.shape, np.int32), TYPES[str(values.dtype)]
        tensor: Fields = {0: shape, 1: ("<b", kind), 2: ("<I", len(self.buffers) - 1), 3: "constant"}
        if scale is not None:
            zero_point = np.zeros(scale.size, np.int64)
            tensor[4] = {2: scale.astype(np.float32), 3: zero_point, 6: ("<i", axis)}
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def run(self, kind: str, *inputs: int, outputs: int = 1, options: Fields | None = None) -> list[int]:
        """Add an operator; return the numbers of its outputs."""
        made = [self.computed(1) for _ in range(outputs)]
        self.operators.append(
            {
                0: ("<I", sorted(CODES).index(kind)),
                1: np.array(inputs, np.int32),
                2: np.array(made, np.int32),
                4: options or {},
            }
        )
        return made

    def graph(self) -> Fields:
        """The graph as a table."""
        return {
            0: self.tensors,
            1: np.array(self.inputs, np.int32),
            2: np.array([len(self.tensors) - 1], np.int32),
            3: self.operators,
            4: "main",
        }

    def file(self) -> bytes:
        """A whole file with this one graph."""
        codes: list[Fields] = [{0: ("<b", CODES[kind]), 3: ("<i", CODES[kind])} for kind in sorted(CODES)]
        return write_flatbuffer({0: ("<I", 3), 1: codes, 2: [self.graph()], 3: "test", 4: self.buffers})


def lyra_files(codec: SoundStreamCodec, *, slope: float = 0.3) -> dict[str, bytes]:
    """Return the three files of a codec of Lyra's form, every second layer with weights of 8 bits.

    The codec's own weights become those that the files hold.
    """
    search = GraphWriter()
    rest = search.computed(1, 1, codec.config.latent)
    search.inputs = [rest]
    for key, book in codec.quantizer.state_dict().items():
        assert key.endswith(".book")
        search.run("SQUARED_DIFFERENCE", rest, search.constant(book.numpy()[None]))
    encoder = _net_file(codec.encoder_net, (1, codec.config.hop), slope)
    decoder = _net_file(codec.decoder_net, (1, 1, codec.config.latent), slope)
    return {"encoder": encoder, "quantizer": search.file(), "decoder": decoder}


def _net_file(net: nn.Module, taken: tuple[int, ...], slope: float) -> bytes:
    graph = GraphWriter()
    x = graph.computed(*taken)
    graph.inputs = [x]
    for index, module in enumerate(net.modules()):
        quantized = index % 2 == 1
        if isinstance(module, Conv1d):
            (x,) = _conv(graph, x, module, quantized)
        elif isinstance(module, DepthwiseConv1d):
            weight = _constant(graph, module.taps, (0, 1), lambda w: w[None, :, None], quantized, 3)
            bias = graph.constant(np.zeros(module.channels, np.float32))
            options = {2: ("<i", 1), 3: ("<i", 1), 6: ("<i", module.dilation)}
            (x,) = graph.run("DEPTHWISE_CONV_2D", x, weight, bias, options=options)
        elif isinstance(module, ConvTranspose1d):
            x = _transposed(graph, x, module, quantized)
        (x,) = graph.run("LEAKY_RELU", x, options={0: ("<f", slope)})
    return graph.file()


def _conv(graph: GraphWriter, x: int, module: Conv1d, quantized: bool) -> list[int]:
    conv = module.conv
    weight = _constant(graph, conv.weight, (0,), lambda w: w.transpose(0, 2, 1)[:, :, None], quantized, 0)
    assert conv.bias is not None
    bias = graph.constant(conv.bias.detach().numpy())
    options = {2: ("<i", module.stride), 5: ("<i", conv.dilation[0])}
    return graph.run("CONV_2D", x, weight, bias, options=options)


def _transposed(graph: GraphWriter, x: int, module: ConvTranspose1d, quantized: bool) -> int:
    conv, groups = module.conv, module.conv.groups
    parts = (
        graph.run("SPLIT", graph.constant(np.array(3, np.int32)), x, outputs=groups) if groups > 1 else [x]
    )
    assert module.bias is not None
    biases = np.split(module.bias.detach().numpy(), groups)
    for part, group, bias in zip(parts, range(groups), biases):
        width = conv.in_channels // groups
        weight = conv.weight[group * width : (group + 1) * width]
        filters = _constant(graph, weight, (), lambda w: w.transpose(1, 2, 0)[:, :, None], quantized, 0)
        rounded = graph.constant(np.round(bias * 100).astype(np.int32), np.full(len(bias), 0.01))
        options = {2: ("<i", module.hop)}
        (y,) = graph.run("TRANSPOSE_CONV", graph.constant(np.zeros(4, np.int32)), filters, part, rounded,
                         options=options)  # fmt: skip
        (x,) = graph.run("ADD", y, graph.computed(1))
        graph.run("SUB", x, graph.constant(bias))
    return x


def _constant(
    graph: GraphWriter, weight: torch.Tensor, kept: tuple[int, ...], lay: Any, quantized: bool, axis: int
) -> int:
    """Add a weight; a quantized one is also changed to what its 8 bits hold, a scale per entry of `axis`."""
    values = weight.detach().numpy()
    if not quantized:
        return graph.constant(lay(values))
    channel = {0: 0, 3: 1}[axis] if kept else None
    others = tuple(a for a in range(values.ndim) if a != channel)
    scale = np.abs(values).max(axis=others, keepdims=True).astype(np.float32) / np.float32(127)
    rounded = np.round(values / scale)
    with torch.no_grad():
        weight.copy_(torch.from_numpy(rounded * scale))
    return graph.constant(lay(rounded.astype(np.int8)), scale.ravel(), axis)
