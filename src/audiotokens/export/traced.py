"""Stand-ins for tensors: running the code of the blocks on them writes a graph.

Torch hands every function that meets a `Traced` to it (`__torch_function__`), and while a `Tracing` is
active also those on weights alone, so that what is made of weights is computed in the graph and stored once.
Each function becomes nodes by the table of `emitters`. A product with its two last axes swapped costs
nothing: a `Traced` may lie in the graph with them swapped, as tensors may in memory.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from audiotokens.errors import NotOfferedError
from audiotokens.export.dims import Dim, Size
from audiotokens.export.graph import Graph

EMITTERS: dict[str, Callable[..., Any]] = {}
"""Name of a function or method of torch -> what writes its nodes."""
_OPERATORS = {"truediv": "div", "rtruediv": "rdiv", "invert": "logical_not"}
_active: list[Tracing] = []
_Emitter = TypeVar("_Emitter", bound=Callable[..., Any])


class Traced:
    """A value of a graph with the face of a tensor.

    Args:
        name: of the value in the graph.
        shape: sizes of its axes as the code sees them.
        dtype: of its numbers.
        flipped: whether its two last axes are swapped in the graph.
        constant: whether it depends on no input.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[Size, ...],
        dtype: torch.dtype = torch.float32,
        *,
        flipped: bool = False,
        constant: bool = False,
    ) -> None:
        self.name, self.shape, self.dtype = name, tuple(shape), dtype
        self.flipped, self.constant = flipped, constant
        self.device = torch.device("cpu")

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _emitted(function, args, kwargs or {})

    def __getattr__(self, name: str) -> Callable[..., Traced]:
        if name.startswith("__") or name not in EMITTERS:
            raise AttributeError(f"a traced tensor has no {name}")
        return functools.partial(EMITTERS[name], self)

    def __add__(self, other: Any) -> Traced:
        return _applied("add", self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Traced:
        return _applied("sub", self, other)

    def __rsub__(self, other: Any) -> Traced:
        return _applied("rsub", self, other)

    def __mul__(self, other: Any) -> Traced:
        return _applied("mul", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Traced:
        return _applied("div", self, other)

    def __rtruediv__(self, other: Any) -> Traced:
        return _applied("rdiv", self, other)

    def __floordiv__(self, other: Any) -> Traced:
        return _applied("floordiv", self, other)

    def __mod__(self, other: Any) -> Traced:
        return _applied("mod", self, other)

    def __matmul__(self, other: Any) -> Traced:
        return _applied("matmul", self, other)

    def __neg__(self) -> Traced:
        return _applied("neg", self)

    def __invert__(self) -> Traced:
        return _applied("logical_not", self)

    def __lt__(self, other: Any) -> Traced:
        return _applied("lt", self, other)

    def __ge__(self, other: Any) -> Traced:
        return _applied("ge", self, other)

    def __gt__(self, other: Any) -> Traced:
        return _applied("gt", self, other)

    def __and__(self, other: Any) -> Traced:
        return _applied("and", self, other)

    def __or__(self, other: Any) -> Traced:
        return _applied("or", self, other)

    def __getitem__(self, index: Any) -> Traced:
        return _applied("getitem", self, index)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def mT(self) -> Traced:
        """The same value with the two last axes swapped."""
        shape = (*self.shape[:-2], self.shape[-1], self.shape[-2])
        return Traced(self.name, shape, self.dtype, flipped=not self.flipped, constant=self.constant)

    @property
    def T(self) -> Traced:
        """A matrix with its axes swapped."""
        return self.mT

    def stride(self, axis: int) -> int:
        """1 for the axis whose values are neighbours, else 0."""
        return int(axis % self.ndim == self.ndim - (2 if self.flipped else 1))

    def plain(self) -> str:
        """The name of the value with its axes in order."""
        return self.laid(flipped=False)

    def laid(self, *, flipped: bool) -> str:
        """The name of the value with its two last axes swapped or not."""
        if self.flipped == flipped:
            return self.name
        order = [*range(self.ndim - 2), self.ndim - 1, self.ndim - 2]
        return graph().apply("Transpose", self.name, attributes={"perm": order})


def _applied(name: str, *operands: Any) -> Traced:
    found: Traced = EMITTERS[name](*operands)
    return found


class Tracing(TorchFunctionMode):
    """While it is active, functions of torch on traced tensors and on weights write nodes.

    Args:
        to: the graph.
        computed: constants that the graph computes, by the identity of the tensor.
    """

    def __init__(self, to: Graph, computed: Mapping[int, Callable[[], Traced]]) -> None:
        super().__init__()
        self.graph, self.computed = to, computed

    def __enter__(self) -> Tracing:
        _active.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _active.pop()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = list(_flat([*args, *kwargs.values()]))
        if any(isinstance(item, Traced | Dim) for item in given):
            return _emitted(function, args, kwargs)
        if (
            any(isinstance(item, Tensor) and self.is_weight(item) for item in given)
            and _name(function) in EMITTERS
        ):
            return _emitted(function, args, kwargs)
        return function(*args, **kwargs)

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor is stored in the file of weights, or computed in the graph."""
        return id(tensor) in self.computed or self.graph.weights.name(tensor) is not None


def tracing() -> Tracing:
    """The active one."""
    return _active[-1]


def graph() -> Graph:
    """The graph that is being written."""
    return _active[-1].graph


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Run functions on plain tensors as they are, inside an emitter's own code."""
    with torch._C.DisableTorchFunction():
        yield


def traced(item: Any, *, dtype: torch.dtype | None = None) -> Traced:
    """A value of the graph for a tensor, or for a number with the given type."""
    if isinstance(item, Traced):
        return item
    if isinstance(item, Dim):
        size = graph().apply("Squeeze", graph().sizes(item), graph().integers(0))
        return Traced(size, (), torch.int64)
    if not isinstance(item, Tensor):
        return constant(torch.tensor(item, dtype=dtype))
    if id(item) in tracing().computed:
        return tracing().computed[id(item)]()
    name = graph().weights.name(item)
    return constant(item) if name is None else weight(name)


def constant(tensor: Tensor) -> Traced:
    """A value of the graph for a tensor that is no weight."""
    name = graph().constant(tensor.detach().cpu().numpy())
    return Traced(name, tuple(tensor.shape), tensor.dtype, constant=True)


def weight(name: str) -> Traced:
    """The value in float32 of a tensor of the file of weights."""
    own, stored = graph(), graph().weights.stored[name]
    value = own.stored(name)
    if stored.dtype in (torch.float16, torch.int8):
        value = own.apply("Cast", value, attributes={"to": 1})
    scale = graph().weights.scale(name)
    if scale is not None:
        rows = own.apply("Unsqueeze", own.stored(scale), own.integers(-1))
        value = own.apply("Mul", value, rows)
    dtype = stored.dtype if stored.dtype in (torch.int64, torch.float64) else torch.float32
    return Traced(value, stored.shape, dtype, constant=True)


def emitter(*names: str) -> Callable[[_Emitter], _Emitter]:
    """Make a function the one that writes the nodes of functions of torch."""

    def register(function: _Emitter) -> _Emitter:
        EMITTERS.update(dict.fromkeys(names, function))
        return function

    return register


def _emitted(function: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    name = _name(function)
    if name not in EMITTERS:
        raise NotOfferedError(f"a graph cannot be written: there is no rule for torch's {name}")
    return EMITTERS[name](*args, **kwargs)


def _name(function: Any) -> str:
    name: str = function.__name__
    if name == "__get__":
        return str(function.__self__.__name__)
    name = name.strip("_") if name.startswith("__") else name
    return _OPERATORS.get(name, name)


def _flat(items: Any) -> Iterator[Any]:
    for item in items:
        if isinstance(item, list | tuple):
            yield from _flat(item)
        else:
            yield item
