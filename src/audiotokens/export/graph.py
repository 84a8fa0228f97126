"""A graph under construction: nodes, constants, and how it is written as ONNX."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotokens.export.dims import Dim, Positive, Quotient, Size, Variable
from audiotokens.export.weights import LARGER, WEIGHTS, StoredTensor, StoredWeights

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
_IR_VERSION = 10
TYPES = {"float32": 1, "int8": 3, "int64": 7, "bool": 9, "float16": 10, "float64": 11, "uint64": 13}
"""Number of each type of numbers in ONNX, by numpy's and torch's name of it."""
_INLINE_BYTES = 4096
_CAPITALS = string.ascii_uppercase
_DIGITS = string.digits + string.ascii_letters


@dataclass(frozen=True)
class Node:
    """One operation.

    Args:
        operation: name of the operator in ONNX.
        inputs: names of values; an empty one is left out.
        outputs: names of values.
        attributes: of the operator.
    """

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Port:
    """An input or an output of a graph.

    Args:
        name: of the value.
        dtype: of its numbers, a key of `TYPES`.
        shape: sizes of its axes; a text for one that may differ.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Graph:
    """Nodes in the order in which they were added; equal ones are one.

    Args:
        weights: what constants may point at.
    """

    def __init__(self, weights: StoredWeights) -> None:
        self.weights = weights
        self.nodes: list[Node] = []
        self.inputs: list[Port] = []
        self.outputs: list[tuple[Port, str]] = []
        self.variables: dict[str, tuple[str, int, int]] = {}
        """Where each variable is found: an input, its axis, and how many of its entries one counts."""
        self._constants: dict[str, np.ndarray] = {}
        self._stored: dict[str, StoredTensor] = {}
        self._known: dict[Any, Any] = {}
        self._count = 0

    def add(
        self,
        operation: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 1,
    ) -> tuple[str, ...]:
        """Add a node, or find its equal; return the names of its outputs."""
        attributes = {} if attributes is None else dict(attributes)
        key = (operation, tuple(inputs), repr(sorted(attributes.items())), outputs)
        if key not in self._known:
            names = tuple(self._new_name() for _ in range(outputs))
            self.nodes.append(Node(operation, tuple(inputs), names, attributes))
            self._known[key] = names
        found: tuple[str, ...] = self._known[key]
        return found

    def apply(self, operation: str, *inputs: str, attributes: Mapping[str, Any] | None = None) -> str:
        """Add a node of one output; return its name."""
        return self.add(operation, inputs, attributes)[0]

    def constant(self, values: np.ndarray) -> str:
        """Return the name of a constant."""
        values = np.asarray(values, order="C")
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._known:
            name = self._known[key] = self._new_name()
            self._constants[name] = values
        found: str = self._known[key]
        return found

    def integers(self, *values: int) -> str:
        """Return the name of a constant int64 `[N]`."""
        return self.constant(np.array(values, np.int64))

    def stored(self, name: str) -> str:
        """Return the name of a constant that is a tensor of the file of weights, as it is stored."""
        key = ("stored", name)
        if key not in self._known:
            own = self._known[key] = self._new_name()
            self._stored[own] = self.weights.stored[name]
        found: str = self._known[key]
        return found

    def sizes(self, *sizes: Size) -> str:
        """Return the name of int64 `[N]` with sizes, computed where they are no numbers."""
        if all(isinstance(size, int) for size in sizes):
            return self.integers(*sizes)  # type: ignore[arg-type]
        parts = [self.integers(size) if isinstance(size, int) else self._size(size) for size in sizes]
        return parts[0] if len(parts) == 1 else self.apply("Concat", *parts, attributes={"axis": 0})

    def _size(self, size: Dim) -> str:
        total = ""
        for atom, factor in size.terms.items():
            value = self._atom(atom)
            if factor not in (1, -1):
                value = self.apply("Mul", value, self.integers(abs(factor)))
            if not total:
                total = value if factor > 0 else self.apply("Neg", value)
            else:
                total = self.apply("Add" if factor > 0 else "Sub", total, value)
        return self.apply("Add", total, self.integers(size.constant)) if size.constant else total

    def _atom(self, atom: Any) -> str:
        if isinstance(atom, Quotient):
            of, divisor = self._size(atom.of), self.integers(atom.divisor)
            # Division of ONNX drops the fraction, which for negative numbers is no floor.
            if atom.lower < 0:
                of = self.apply("Sub", of, self.apply("Mod", of, divisor))
            return self.apply("Div", of, divisor)
        if isinstance(atom, Positive):
            return self.apply("Max", self._size(atom.of), self.integers(0))
        if not isinstance(atom, Variable):
            raise TypeError(f"{atom} is no size")
        value, axis, unit = self.variables[atom.name]
        size = self.apply("Shape", value, attributes={"start": axis, "end": axis + 1})
        return size if unit == 1 else self.apply("Div", size, self.integers(unit))

    def output(self, port: Port, value: str) -> None:
        """Make a value an output under the name of a port."""
        self.outputs.append((port, value))

    def _new_name(self) -> str:
        # Short, as graphs hold little else; a capital first, as names of inputs and outputs have none there.
        rest, first = divmod(self._count, 26)
        self._count += 1
        name = _CAPITALS[first]
        while rest:
            rest, digit = divmod(rest - 1, 62)
            name += _DIGITS[digit]
        return name

    def used_nodes(self) -> list[Node]:
        """The nodes that outputs depend on."""
        needed = {value for _, value in self.outputs}
        used: list[Node] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                used.append(node)
        return used[::-1]

    def constant_values(self) -> set[str]:
        """Values that depend on no input."""
        known = {*self._constants, *self._stored}
        for node in self.nodes:
            if all(name in known or not name for name in node.inputs):
                known.update(node.outputs)
        return known

    def model(self) -> ModelProto:
        """The graph as an ONNX model."""
        from onnx import helper

        nodes = self._with_output_names(self.used_nodes())
        used = {name for node in nodes for name in node.inputs}
        initializers = [self._constant(name, item) for name, item in self._constants.items() if name in used]
        initializers += [
            _outside(name, str(item.dtype), item.shape, WEIGHTS, item.offset, item.length)
            for name, item in self._stored.items()
            if name in used
        ]
        made = helper.make_graph(
            [helper.make_node(n.operation, n.inputs, n.outputs, **n.attributes) for n in nodes],
            "g",
            [helper.make_tensor_value_info(p.name, TYPES[p.dtype], p.shape) for p in self.inputs],
            [helper.make_tensor_value_info(p.name, TYPES[p.dtype], p.shape) for p, _ in self.outputs],
            initializers,
        )
        return helper.make_model(
            made,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="audiotokens",
        )

    def _constant(self, name: str, values: np.ndarray) -> Any:
        from onnx import TensorProto

        kind, content = values.dtype.name, values.tobytes()
        if len(content) > _INLINE_BYTES:
            at = self.weights.place(content)
            return _outside(name, kind, values.shape, LARGER, at, len(content))
        return TensorProto(name=name, data_type=TYPES[kind], dims=values.shape, raw_data=content)

    def _with_output_names(self, nodes: list[Node]) -> list[Node]:
        names: dict[str, str] = {}
        copies = []
        produced = {name for node in nodes for name in node.outputs}
        for port, value in self.outputs:
            if value in produced and value not in names:
                names[value] = port.name
            else:
                copies.append(Node("Identity", (names.get(value, value),), (port.name,), {}))
        renamed = [
            Node(
                node.operation,
                tuple(names.get(name, name) for name in node.inputs),
                tuple(names.get(name, name) for name in node.outputs),
                node.attributes,
            )
            for node in nodes
        ]
        return renamed + copies


def _outside(name: str, dtype: str, shape: tuple[int, ...], file: str, offset: int, length: int) -> Any:
    """A constant that lies in another file."""
    from onnx import TensorProto

    outside = TensorProto.EXTERNAL
    kind = TYPES[dtype.removeprefix("torch.")]
    found = TensorProto(name=name, data_type=kind, dims=shape, data_location=outside)
    for key, value in (("location", file), ("offset", offset), ("length", length)):
        found.external_data.add(key=key, value=str(value))
    return found
