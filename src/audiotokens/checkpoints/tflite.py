"""TFLite files: tensors, operators and constants, read from the flatbuffer without any other package.

A flatbuffer is a tree of tables. A table begins with the distance back to its vtable, which says at what
distance from the table's begin each field lies, 0 where it has its default; strings, vectors and tables are
named by the distance to them, forward. (FlatBuffers, "Internals"; fields by their numbers in schema.fbs of
TensorFlow Lite, version 3.) Every distance is checked, and a file may not name more entries than it has
bytes, so that no cut or forged file reads outside of itself or runs on and on.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audiotokens.architectures.graphs import Graph, GraphTensor, Operator
from audiotokens.errors import CheckpointError

_MAGIC = b"TFL3"
_DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 6: "?", 7: "<i2", 9: "i1", 10: "<f8", 12: "<u8"}
_DTYPES |= {15: "<u4", 16: "<u2"}
_KINDS = {0: "ADD", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE", 22: "RESHAPE"}
_KINDS |= {36: "GATHER", 41: "SUB", 45: "STRIDED_SLICE", 49: "SPLIT", 67: "TRANSPOSE_CONV", 98: "LEAKY_RELU"}
_KINDS |= {99: "SQUARED_DIFFERENCE", 114: "QUANTIZE", 129: "CALL_ONCE", 142: "VAR_HANDLE"}
_KINDS |= {143: "READ_VARIABLE", 144: "ASSIGN_VARIABLE"}
_OPTIONS: dict[str, dict[str, tuple[int, str, float]]] = {
    "CONV_2D": {"stride_w": (1, "<i", 0), "stride_h": (2, "<i", 0), "dilation_h": (5, "<i", 1)},
    "DEPTHWISE_CONV_2D": {
        "stride_h": (2, "<i", 0), "depth_multiplier": (3, "<i", 0), "dilation_h": (6, "<i", 1)
    },
    "TRANSPOSE_CONV": {"stride_w": (1, "<i", 0), "stride_h": (2, "<i", 0)},
    "LEAKY_RELU": {"alpha": (0, "<f", 0)},
}  # fmt: skip
"""What is read of the options of an operator: number of the field, type, default."""


def read_tflite(path: Path | str) -> tuple[Graph, ...]:
    """Return the graphs of a .tflite file, the main one first.

    Raises:
        CheckpointError: the file cannot be read, or is not a whole TFLite file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); name an existing file") from None
    return parse_tflite(data, where=str(path))


def is_tflite(start: bytes) -> bool:
    """Whether a file that starts with these bytes, at least 8, says that it is a TFLite file."""
    return start[4:8] == _MAGIC


def parse_tflite(data: bytes, *, where: str = "the file") -> tuple[Graph, ...]:
    """Return the graphs that the bytes of a .tflite file hold, the main one first.

    Args:
        data: the whole file; constants are views of it.
        where: names the file in errors.

    Raises:
        CheckpointError: this is not a whole TFLite file.
    """
    if not is_tflite(data):
        raise CheckpointError(f"{where}: is not a TFLite file, which has {_MAGIC.decode()} at byte 4")
    bytes_ = _Bytes(data, where)
    model = _Table(bytes_, bytes_.follow(0))
    kinds = [_kind(code) for code in model.tables(1)]
    buffers = [buffer.content(0) for buffer in model.tables(4)]
    graphs = tuple(_graph(table, kinds, buffers) for table in model.tables(2))
    if not graphs:
        raise bytes_.damaged("it has no graph")
    return graphs


class _Bytes:
    """Checked access to the bytes of a file."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self._where = memoryview(data), where
        self._left = len(data)

    def damaged(self, found: str) -> CheckpointError:
        return CheckpointError(f"{self._where}: is not a whole TFLite file, {found}: get it again")

    def slice(self, at: int, size: int) -> memoryview:
        if at < 0 or size < 0 or at + size > len(self.data):
            raise self.damaged(f"bytes {at} to {at + size} are named of {len(self.data)}")
        return self.data[at : at + size]

    def number(self, at: int, kind: str) -> float:
        (value,) = struct.unpack(kind, self.slice(at, struct.calcsize(kind)))
        return value  # type: ignore[no-any-return]

    def follow(self, at: int) -> int:
        return at + int(self.number(at, "<I"))

    def spend(self, entries: int) -> None:
        """Count entries of vectors and characters; parts named many times would have no end otherwise."""
        self._left -= entries
        if self._left < 0:
            raise self.damaged("it names more entries than it has bytes")


class _Table:
    """One table; fields are asked for by number."""

    def __init__(self, data: _Bytes, at: int) -> None:
        self.bytes, self._at = data, at
        self._vtable = at - int(data.number(at, "<i"))
        self._fields = (int(data.number(self._vtable, "<H")) - 4) // 2

    def _find(self, field: int) -> int | None:
        if field >= self._fields:
            return None
        distance = int(self.bytes.number(self._vtable + 4 + 2 * field, "<H"))
        return self._at + distance if distance else None

    def number(self, field: int, kind: str, default: float = 0) -> float:
        at = self._find(field)
        return default if at is None else self.bytes.number(at, kind)

    def integer(self, field: int, kind: str = "<i") -> int:
        return int(self.number(field, kind))

    def content(self, field: int, size: int = 1) -> memoryview:
        """The bytes of a vector of entries of `size` bytes; empty where there is none."""
        at = self._find(field)
        if at is None:
            return memoryview(b"")
        start = self.bytes.follow(at)
        return self.bytes.slice(start + 4, int(self.bytes.number(start, "<I")) * size)

    def vector(self, field: int, dtype: str) -> np.ndarray:
        numbers = np.frombuffer(self.content(field, np.dtype(dtype).itemsize), dtype)
        self.bytes.spend(numbers.size)
        return numbers

    def integers(self, field: int) -> tuple[int, ...]:
        return tuple(self.vector(field, "<i4").tolist())

    def text(self, field: int) -> str:
        content = self.content(field)
        self.bytes.spend(len(content))
        return bytes(content).decode("utf-8", errors="replace")

    def table(self, field: int) -> _Table | None:
        at = self._find(field)
        return None if at is None else _Table(self.bytes, self.bytes.follow(at))

    def tables(self, field: int) -> Iterator[_Table]:
        at = self._find(field)
        if at is None:
            return
        start = self.bytes.follow(at) + 4
        count = self.vector(field, "<u4").size
        for place in range(start, start + 4 * count, 4):
            yield _Table(self.bytes, self.bytes.follow(place))


def _kind(code: _Table) -> str:
    # Numbers above 127 stand in the newer field, and 127 in the older one.
    number = max(code.integer(0, "<b"), code.integer(3))
    return _KINDS.get(number, f"OPERATOR_{number}")


def _graph(table: _Table, kinds: list[str], buffers: list[memoryview]) -> Graph:
    tensors = tuple(_tensor(each, buffers) for each in table.tables(0))
    operators = tuple(_operator(each, kinds, len(tensors)) for each in table.tables(3))
    inputs, outputs = table.integers(1), table.integers(2)
    _check_numbers(table, inputs + outputs, len(tensors))
    return Graph(table.text(4), tensors, operators, inputs, outputs)


def _operator(table: _Table, kinds: list[str], tensors: int) -> Operator:
    number = table.integer(0, "<I")
    if number >= len(kinds):
        raise table.bytes.damaged(f"operator code {number} is named of {len(kinds)}")
    inputs, outputs = table.integers(1), table.integers(2)
    _check_numbers(table, inputs + outputs, tensors)
    given, options = table.table(4), {}
    for name, (field, kind, default) in _OPTIONS.get(kinds[number], {}).items():
        options[name] = default if given is None else given.number(field, kind, default)
    return Operator(kinds[number], inputs, outputs, options)


def _check_numbers(table: _Table, numbers: tuple[int, ...], tensors: int) -> None:
    for number in numbers:
        if not -1 <= number < tensors:
            raise table.bytes.damaged(f"tensor {number} is named of {tensors}")


def _tensor(table: _Table, buffers: list[memoryview]) -> GraphTensor:
    name, shape = table.text(3), table.integers(0)
    kind, buffer = table.integer(1, "<b"), table.integer(2, "<I")
    if min(shape, default=0) < 0:
        raise table.bytes.damaged(f'the tensor "{name}" has the shape {list(shape)}')
    if buffer >= len(buffers):
        raise table.bytes.damaged(f"buffer {buffer} is named of {len(buffers)}")
    dtype = np.dtype(_DTYPES[kind]) if kind in _DTYPES else None
    values, content = None, buffers[buffer]
    if dtype is not None and len(content):
        expected = math.prod(shape) * dtype.itemsize
        if len(content) != expected:
            raise table.bytes.damaged(f'the tensor "{name}" has {len(content)} bytes, expected {expected}')
        values = np.frombuffer(content, dtype).reshape(shape)
    return GraphTensor(name, shape, dtype, values, *_quantization(table, name, shape))


def _quantization(table: _Table, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, int]:
    """Scales, zero points (0 where they are left out) and quantized dimension of a tensor."""
    given = table.table(4)
    if given is None:
        return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    scale, zero_point, axis = given.vector(2, "<f4"), given.vector(3, "<i8"), given.integer(6)
    zero_point = zero_point if zero_point.size else np.zeros(scale.size, np.int64)
    fits = scale.size < 2 or (0 <= axis < len(shape) and shape[axis] == scale.size)
    if zero_point.size != scale.size or not fits:
        raise table.bytes.damaged(
            f'the tensor "{name}" of shape {list(shape)} has {scale.size} scales and {zero_point.size} zero '
            f"points along axis {axis}"
        )
    return scale, zero_point, axis
