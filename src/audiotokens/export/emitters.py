"""What torch's functions are in ONNX: arithmetic and activations. Shapes follow torch's rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiotokens.errors import NotOfferedError
from audiotokens.export.dims import Size, same
from audiotokens.export.graph import TYPES
from audiotokens.export.traced import Traced, emitter, graph, traced, tracing


def elementwise(
    operation: str,
    *operands: Any,
    attributes: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Traced:
    """Apply an operator to values that broadcast; numbers take the type of the first traced one."""
    kind = next(item.dtype for item in operands if isinstance(item, Traced | Tensor))
    values = [traced(item, dtype=kind) for item in operands]
    if len({value.dtype for value in values}) > 1:
        kinds = {value.dtype for value in values if value.dtype.is_floating_point} or {kind}
        wide = torch.float64 if torch.float64 in kinds else next(iter(kinds))
        values = [value if value.dtype == torch.bool else to(value, wide) for value in values]
        kind = wide
    varying = [value for value in values if not value.constant and value.ndim > 1]
    flipped = bool(varying) and all(value.flipped for value in varying)
    shape = broadcast(*(value.shape for value in values))
    names = [_laid(value, flipped) for value in values]
    return Traced(
        graph().apply(operation, *names, attributes=attributes),
        shape,
        dtype or kind,
        flipped=flipped,
        constant=all(value.constant for value in values),
    )


def _laid(value: Traced, flipped: bool) -> str:
    if value.ndim < 2 and flipped and any(not same(size, 1) for size in value.shape):
        return graph().apply("Unsqueeze", value.name, graph().integers(1))
    return value.laid(flipped=flipped) if value.ndim > 1 else value.name


def broadcast(*shapes: tuple[Size, ...]) -> tuple[Size, ...]:
    """The shape of what comes of operands of the given ones."""
    longest = max(map(len, shapes))
    found: list[Size] = []
    for sizes in zip(*((1,) * (longest - len(shape)) + tuple(shape) for shape in shapes)):
        other = [size for size in sizes if not same(size, 1)]
        if any(not same(size, other[0]) for size in other):
            raise NotOfferedError(f"a graph cannot be written: shapes {shapes} do not broadcast")
        found.append(other[0] if other else 1)
    return tuple(found)


@emitter("to", "type_as")
def to(x: Any, *kinds: Any, dtype: Any = None, device: Any = None) -> Traced:
    """A value in another type of numbers."""
    value = traced(x)
    for kind in (*kinds, dtype):
        if isinstance(kind, Traced | Tensor):
            kind = kind.dtype
        if isinstance(kind, torch.dtype) and kind != value.dtype:
            number = TYPES[str(kind).removeprefix("torch.")]
            name = graph().apply("Cast", value.name, attributes={"to": number})
            return Traced(name, value.shape, kind, flipped=value.flipped, constant=value.constant)
    return value


@emitter("double")
def double(x: Any) -> Traced:
    """A value in float64."""
    return to(x, torch.float64)


@emitter("float")
def single(x: Any) -> Traced:
    """A value in float32."""
    return to(x, torch.float32)


@emitter("long")
def whole(x: Any) -> Traced:
    """A value in int64."""
    return to(x, torch.int64)


@emitter("contiguous", "clone", "detach")
def unchanged(x: Any) -> Traced:
    """What changes the memory alone."""
    return traced(x)


@emitter("add", "radd")
def add(x: Any, y: Any, *, alpha: float = 1) -> Traced:
    """x + alpha y; the zeros of a state at its beginning add nothing."""
    if _is_nothing(y, x):
        return traced(x)
    return elementwise("Add", x, y if alpha == 1 else multiply(y, alpha))


def _is_nothing(y: Any, x: Any) -> bool:
    plain = isinstance(y, Tensor) and not tracing().is_weight(y)
    if not plain or len(y.shape) != len(x.shape) or not all(map(same, y.shape, x.shape)):
        return False
    return not bool(y.any())


@emitter("sub")
def subtract(x: Any, y: Any) -> Traced:
    """x - y."""
    return elementwise("Sub", x, y)


@emitter("rsub")
def subtract_from(x: Any, y: Any) -> Traced:
    """y - x."""
    return elementwise("Sub", y, x)


@emitter("mul", "rmul")
def multiply(x: Any, y: Any) -> Traced:
    """x y."""
    return elementwise("Mul", x, y)


@emitter("div")
def divide(x: Any, y: Any) -> Traced:
    """x / y."""
    return elementwise("Div", x, y)


@emitter("rdiv", "rtruediv")
def divide_into(x: Any, y: Any) -> Traced:
    """y / x."""
    return elementwise("Div", y, x)


@emitter("reciprocal")
def reciprocal(x: Any) -> Traced:
    """1 / x."""
    return elementwise("Div", 1.0, x)


@emitter("floordiv", "floor_divide")
def divide_whole(x: Any, y: Any) -> Traced:
    """x / y of whole numbers that are not negative, without the fraction."""
    return elementwise("Div", x, y)


@emitter("mod", "remainder")
def remainder(x: Any, y: Any) -> Traced:
    """x modulo y for integers, with the sign of y."""
    return elementwise("Mod", x, y)


@emitter("addcmul")
def add_product(x: Any, y: Any, z: Any) -> Traced:
    """x + y z."""
    return add(x, multiply(y, z))


@emitter("square")
def square(x: Any) -> Traced:
    """x squared."""
    return multiply(x, x)


@emitter("maximum")
def maximum(x: Any, y: Any) -> Traced:
    """The larger one of two values."""
    return elementwise("Max", x, y)


@emitter("clamp")
def clamp(x: Any, min: Any = None, max: Any = None) -> Traced:
    """A value held between two numbers."""
    if min is not None:
        x = elementwise("Max", x, float(min))
    return x if max is None else elementwise("Min", x, float(max))


def _compare(name: str, operation: str) -> None:
    @emitter(name)
    def compare(x: Any, y: Any) -> Traced:
        return elementwise(operation, x, y, dtype=torch.bool)


for _name, _operation in {
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "and": "And",
    "or": "Or",
}.items():
    _compare(_name, _operation)


def _unary(name: str, operation: str) -> None:
    @emitter(name)
    def apply(x: Any) -> Traced:
        return elementwise(operation, x)


@emitter("logical_not")
def logical_not(x: Any) -> Traced:
    """True for False."""
    return elementwise("Not", x)


for _name in ("exp", "log", "sin", "cos", "tanh", "sqrt", "ceil", "sigmoid", "abs", "sign", "neg"):
    _unary(_name, _name.capitalize())


@emitter("expm1")
def exponential_less_one(x: Any) -> Traced:
    """e^x - 1, by the hyperbolic tangent, so that small values keep their digits."""
    # e^x - 1 = 2 t / (1 - t) with t = tanh(x / 2), which for large x is e^x - 1 as it stands.
    half = elementwise("Tanh", multiply(x, 0.5))
    small = divide(multiply(half, 2.0), subtract_from(half, 1.0))
    near = elementwise("Less", elementwise("Abs", x), 1.0, dtype=torch.bool)
    return where(near, small, subtract(elementwise("Exp", x), 1.0))


@emitter("where")
def where(condition: Any, x: Any, y: Any) -> Traced:
    """x where the condition holds, else y."""
    kind = next(item.dtype for item in (x, y) if isinstance(item, Traced | Tensor))
    x, y = traced(x, dtype=kind), traced(y, dtype=kind)
    condition = traced(condition)
    varying = [value for value in (condition, x, y) if not value.constant and value.ndim > 1]
    flipped = bool(varying) and all(value.flipped for value in varying)
    names = [_laid(value, flipped) for value in (condition, x, y)]
    shape = broadcast(condition.shape, x.shape, y.shape)
    known = all(value.constant for value in (condition, x, y))
    return Traced(graph().apply("Where", *names), shape, kind, flipped=flipped, constant=known)


@emitter("silu")
def silu(x: Any, inplace: bool = False) -> Traced:
    """x sigmoid(x)."""
    return multiply(x, elementwise("Sigmoid", x))


@emitter("elu")
def elu(x: Any, alpha: float = 1.0, inplace: bool = False) -> Traced:
    """x for x > 0, else e^x - 1."""
    return elementwise("Elu", x, attributes={"alpha": alpha})


@emitter("leaky_relu")
def leaky_relu(x: Any, negative_slope: float = 0.01, inplace: bool = False) -> Traced:
    """x for x > 0, else slope x."""
    return elementwise("LeakyRelu", x, attributes={"alpha": negative_slope})


@emitter("gelu")
def gelu(x: Any, approximate: str = "none") -> Traced:
    """x times the normal distribution function of x."""
    return elementwise("Gelu", x)


@emitter("softmax")
def softmax(x: Any, dim: int = -1) -> Traced:
    """Softmax over the last axis."""
    x = traced(x)
    name = graph().apply("Softmax", x.plain(), attributes={"axis": -1})
    return Traced(name, x.shape, x.dtype)


@emitter("sum")
def total(x: Any, dim: Any = None, keepdim: bool = False) -> Traced:
    """Sum over axes."""
    x = traced(x)
    axes = [axis % x.ndim for axis in (dim if isinstance(dim, tuple | list) else (dim,))]
    name = graph().apply(
        "ReduceSum", x.plain(), graph().integers(*axes), attributes={"keepdims": int(keepdim)}
    )
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape) if keepdim or axis not in axes]
    return Traced(name, tuple(kept), x.dtype, constant=x.constant)


@emitter("any")
def any_true(x: Any, dim: int, keepdim: bool = False) -> Traced:
    """Whether anything is true along an axis."""
    return total(to(x, torch.float32), dim, keepdim) > 0.0


@emitter("matmul")
def matmul(x: Any, y: Any) -> Traced:
    """Product of matrices in the two last axes."""
    x, y = traced(x), traced(y)
    name = graph().apply("MatMul", x.plain(), y.plain())
    shape = (*broadcast(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
    return Traced(name, shape, x.dtype, constant=x.constant and y.constant)


@emitter("linear")
def linear(x: Any, weight: Any, bias: Any = None) -> Traced:
    """x W' + b."""
    y = matmul(x, traced(weight).mT)
    return y if bias is None else add(y, bias)


@emitter("layer_norm")
def layer_norm(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Traced:
    """Normalization over the last axis."""
    x = traced(x)
    name = graph().apply(
        "LayerNormalization",
        x.plain(),
        traced(weight).name,
        traced(bias).name,
        attributes={"axis": -1, "epsilon": eps},
    )
    return Traced(name, x.shape, x.dtype)


@emitter("group_norm")
def group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Traced:
    """Normalization over time and the channels of a group of `[B, C, T]`."""
    x, own = traced(x), graph()
    channels = x.shape[1]
    rows = own.apply("Reshape", x.plain(), own.integers(0, groups, -1))
    ones = own.constant(np.ones(groups, np.float32))
    zeros = own.constant(np.zeros(groups, np.float32))
    normal = own.apply("InstanceNormalization", rows, ones, zeros, attributes={"epsilon": eps})
    back = own.apply("Reshape", normal, own.integers(1, channels, -1))
    y = Traced(back, x.shape, x.dtype)
    return add(multiply(y, traced(weight)[:, None]), traced(bias)[:, None])


@emitter("scaled_dot_product_attention")
def attention(query: Any, key: Any, value: Any, attn_mask: Any = None) -> Traced:
    """softmax(q k' / sqrt(d)) v, with minus infinity where the mask is false."""
    query = traced(query)
    scores = matmul(query * query.shape[-1] ** -0.5, traced(key).mT)
    if attn_mask is not None:
        scores = where(attn_mask, scores, -torch.inf)
    return matmul(softmax(scores), value)
