"""What torch's functions are in ONNX: cutting, joining and reordering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiotokens.export.dims import Dim, Size, bounds, same, surely
from audiotokens.export.traced import Traced, constant, emitter, graph, traced

_END = np.iinfo(np.int64).max


@emitter("new_zeros")
def new_zeros(x: Traced, *shape: Any, dtype: torch.dtype | None = None) -> Any:
    """Zeros; a plain tensor where all sizes are numbers."""
    sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int | Dim) else shape
    kind = dtype or traced(x).dtype
    if all(isinstance(size, int) for size in sizes):
        return torch.zeros(sizes, dtype=kind)
    value = np.zeros(1, str(kind).removeprefix("torch."))
    from onnx import numpy_helper

    name = graph().apply(
        "ConstantOfShape", graph().sizes(*sizes), attributes={"value": numpy_helper.from_array(value)}
    )
    return Traced(name, sizes, kind)


@emitter("zeros_like")
def zeros_like(x: Traced) -> Any:
    """Zeros of the same shape."""
    return new_zeros(x, *traced(x).shape)


@emitter("ones_like")
def ones_like(x: Traced) -> Any:
    """Ones of the same shape."""
    zeros = zeros_like(x)
    return zeros + 1.0 if isinstance(zeros, Traced) else torch.ones_like(zeros)


@emitter("cat", "concat")
def cat(parts: Sequence[Any], dim: int = 0) -> Any:
    """Join along an axis; zeros at an end are padding."""
    axis = dim % traced(parts[0]).ndim
    left = [part for part in parts if not same(part.shape[axis], 0)]
    if len(left) == 1:
        return left[0]
    if len(left) == 2:
        for own, other, at_end in ((left[0], left[1], True), (left[1], left[0], False)):
            if isinstance(other, Tensor) and isinstance(own, Traced) and not bool(other.any()):
                size = int(other.shape[axis])
                return padded(own, axis, *((0, size) if at_end else (size, 0)))
    values = [traced(part) for part in left]
    varying = [value for value in values if not value.constant]
    flipped = bool(varying) and all(value.flipped for value in varying)
    names = [value.laid(flipped=flipped) for value in values]
    first = values[0]
    name = graph().apply("Concat", *names, attributes={"axis": place(axis, first.ndim, flipped)})
    shape = list(first.shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    return Traced(name, tuple(shape), first.dtype, flipped=flipped, constant=not varying)


def place(axis: int, axes: int, flipped: bool) -> int:
    """Where an axis lies in the graph."""
    axis %= axes
    return 2 * axes - 3 - axis if flipped and axis >= axes - 2 else axis


def padded(x: Traced, axis: int, before: Size, after: Size) -> Traced:
    """Put zeros before and after along an axis."""
    own = graph()
    at = place(axis, x.ndim, x.flipped)
    name = own.apply("Pad", x.name, own.sizes(before, after), "", own.integers(at))
    shape = list(x.shape)
    shape[axis] = shape[axis] + before + after
    return Traced(name, tuple(shape), x.dtype, flipped=x.flipped, constant=x.constant)


@emitter("pad")
def pad(x: Any, pad: Sequence[Size], mode: str = "constant", value: Any = None) -> Traced:
    """Zeros at the ends of the last axes, as torch orders them."""
    made = traced(x)
    for index, (before, after) in enumerate(zip(pad[::2], pad[1::2])):
        if not (same(before, 0) and same(after, 0)):
            made = padded(made, made.ndim - 1 - index, before, after)
    return made


@emitter("getitem")
def getitem(x: Any, index: Any) -> Traced:
    """Slices, single indices and new axes."""
    x = traced(x)
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(item, Traced | Tensor) for item in index):
        return gather(x, index)
    given = sum(item is not None and item is not Ellipsis for item in index)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (x.ndim - given), *index[at + 1 :])
    axis = 0
    dropped: list[int] = []
    added: list[int] = []
    for item in index:
        if item is None:
            added.append(axis - len(dropped) + len(added))
            continue
        if isinstance(item, int):
            x = cut(x, axis, item, item + 1 if item != -1 else None)
            dropped.append(axis)
        elif item != slice(None):
            x = cut(x, axis, item.start, item.stop, item.step or 1)
        axis += 1
    return unsqueezed(squeezed(x, dropped), added)


def gather(x: Traced, index: tuple[Any, ...]) -> Traced:
    """Rows by their numbers."""
    numbers = traced(index[0])
    name = graph().apply("Gather", x.plain(), numbers.plain(), attributes={"axis": 0})
    return Traced(name, (*numbers.shape, *x.shape[1:]), x.dtype, constant=x.constant and numbers.constant)


def cut(x: Traced, axis: int, start: Any, stop: Any, step: int = 1) -> Traced:
    """x[start:stop:step] along an axis, for positions counted from either end."""
    size = x.shape[axis]
    first, first_name = _position(start, size, 0)
    last, last_name = _position(stop, size, size)
    if same(first, 0) and same(last, size) and step == 1:
        return x
    length = last - first
    if isinstance(length, int):
        length = max(length, 0)
    own = graph()
    at = own.integers(place(axis, x.ndim, x.flipped))
    names = [own.sizes(first_name), own.sizes(last_name), at]
    name = own.apply("Slice", x.name, *names, *([own.integers(step)] if step != 1 else []))
    shape = list(x.shape)
    shape[axis] = -(-length // step)
    return Traced(name, tuple(shape), x.dtype, flipped=x.flipped, constant=x.constant)


def _position(given: Any, size: Size, default: Size) -> tuple[Size, Size]:
    """A position from the beginning, and how the graph says it: by a number where there is one."""
    if given is None:
        return default, (0 if same(default, 0) else _END)
    at: Any = size + given if isinstance(given, int) and given < 0 else given
    if not surely(at, 0):
        at = at.at_least(0) if isinstance(at, Dim) else 0
    beyond = at - size
    if isinstance(beyond, int):
        return (size, _END) if beyond >= 0 else (at, at if isinstance(at, int) else beyond)
    if bounds(beyond)[0] >= 0:
        return size, _END
    # The operator holds positions within the axis by itself.
    return (at if bounds(beyond)[1] <= 0 else size - (size - at).at_least(0)), at


def squeezed(x: Traced, axes: Sequence[int]) -> Traced:
    """Drop axes of size 1."""
    if not axes:
        return x
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    kept = max(axes) < x.ndim - 2
    places = [place(axis, x.ndim, x.flipped and kept) for axis in axes]
    name = graph().apply("Squeeze", x.name if kept else x.plain(), graph().integers(*places))
    return Traced(name, shape, x.dtype, flipped=x.flipped and kept, constant=x.constant)


def unsqueezed(x: Traced, axes: Sequence[int]) -> Traced:
    """Insert axes of size 1, at places of the result."""
    if not axes:
        return x
    shape = list(x.shape)
    for axis in axes:
        shape.insert(axis, 1)
    kept = max(axes) < len(shape) - 2
    name = graph().apply("Unsqueeze", x.name if kept else x.plain(), graph().integers(*axes))
    return Traced(name, tuple(shape), x.dtype, flipped=x.flipped and kept, constant=x.constant)


@emitter("unsqueeze")
def unsqueeze(x: Any, dim: int) -> Traced:
    """Insert an axis of size 1."""
    x = traced(x)
    return unsqueezed(x, [dim % (x.ndim + 1)])


@emitter("squeeze")
def squeeze(x: Any, dim: int) -> Traced:
    """Drop an axis of size 1."""
    x = traced(x)
    return squeezed(x, [dim % x.ndim])


@emitter("transpose")
def transpose(x: Any, first: int, second: int) -> Traced:
    """Swap two axes."""
    value = traced(x)
    order = list(range(value.ndim))
    first, second = first % value.ndim, second % value.ndim
    order[first], order[second] = order[second], order[first]
    return value.mT if first + second == 2 * value.ndim - 3 else permute(value, *order)


@emitter("permute")
def permute(x: Any, *order: Any) -> Traced:
    """Reorder axes."""
    x = traced(x)
    order = tuple(order[0]) if len(order) == 1 else order
    name = graph().apply("Transpose", x.plain(), attributes={"perm": list(order)})
    return Traced(name, tuple(x.shape[axis] for axis in order), x.dtype, constant=x.constant)


@emitter("reshape", "view")
def reshape(x: Any, *shape: Any) -> Traced:
    """Other axes over the same values in their order; -1 stands for what is left."""
    x = traced(x)
    sizes = list(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int | Dim) else list(shape)
    asked: list[Size] = list(sizes)
    if any(isinstance(size, int) and size == -1 for size in sizes):
        at = next(i for i, size in enumerate(sizes) if isinstance(size, int) and size == -1)
        sizes[at] = _left(x.shape, [size for i, size in enumerate(sizes) if i != at])
    elif sum(isinstance(size, Dim) for size in sizes) == 1:
        asked = [-1 if isinstance(size, Dim) else size for size in sizes]
    name = graph().apply("Reshape", x.plain(), graph().sizes(*asked))
    return Traced(name, tuple(sizes), x.dtype, constant=x.constant)


def _left(shape: Sequence[Size], known: Sequence[Size]) -> Size:
    """The size that makes a shape of as many values."""
    numbers = [size for size in shape if isinstance(size, int)]
    unknown = [size for size in shape if not isinstance(size, int)]
    divisor = 1
    for size in known:
        if isinstance(size, int):
            divisor *= size
        else:
            unknown = [other for other in unknown if not same(other, size)]
    total = 1
    for number in numbers:
        total *= number
    if not unknown:
        return total // divisor
    found: Size = unknown[0] * total // divisor
    return found


@emitter("flatten")
def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Traced:
    """Make one axis of several."""
    x = traced(x)
    end = end_dim % x.ndim
    start_dim %= x.ndim
    return reshape(x, *x.shape[:start_dim], _product(x.shape[start_dim : end + 1]), *x.shape[end + 1 :])


@emitter("unflatten")
def unflatten(x: Any, dim: int, sizes: Sequence[Size]) -> Traced:
    """Make several axes of one."""
    x = traced(x)
    dim %= x.ndim
    known = 1
    for size in sizes:
        known *= size if isinstance(size, int) and size > 0 else 1
    given = [x.shape[dim] // known if same(size, -1) else size for size in sizes]
    return reshape(x, *x.shape[:dim], *given, *x.shape[dim + 1 :])


def _product(sizes: Sequence[Size]) -> Size:
    total: Size = 1
    for size in sizes:
        total = size * total if isinstance(total, int) else total * size  # type: ignore[operator]
    return total


@emitter("split")
def split(x: Any, sizes: Any, dim: int = 0) -> tuple[Traced, ...]:
    """Cut into parts of the given sizes."""
    x = traced(x)
    dim %= x.ndim
    own = graph()
    attributes = {"axis": place(dim, x.ndim, x.flipped)}
    names = own.add("Split", [x.name, own.integers(*sizes)], attributes, outputs=len(sizes))
    shapes = [(*x.shape[:dim], size, *x.shape[dim + 1 :]) for size in sizes]
    return tuple(
        Traced(name, shape, x.dtype, flipped=x.flipped, constant=x.constant)
        for name, shape in zip(names, shapes)
    )


@emitter("chunk")
def chunk(x: Any, chunks: int, dim: int = 0) -> tuple[Traced, ...]:
    """Cut into equal parts."""
    x = traced(x)
    return split(x, [x.shape[dim] // chunks] * chunks, dim)


@emitter("flip")
def flip(x: Any, *dims: Any) -> Traced:
    """Reverse one axis."""
    x = traced(x)
    (axis,) = dims[0] if not isinstance(dims[0], int) else dims
    own = graph()
    at = own.integers(place(axis, x.ndim, x.flipped))
    name = own.apply("Slice", x.name, own.integers(-1), own.integers(-_END), at, own.integers(-1))
    return Traced(name, x.shape, x.dtype, flipped=x.flipped, constant=x.constant)


@emitter("expand")
def expand(x: Any, *shape: Any) -> Traced:
    """Repeat axes of size 1; -1 keeps an axis."""
    x = traced(x)
    sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int | Dim) else shape
    new = len(sizes) - x.ndim
    full = [1] * new + list(x.shape)
    kept = [own if same(size, -1) else size for size, own in zip(sizes, full)]
    asked = [1 if same(size, -1) or same(size, own) else size for size, own in zip(sizes, full)]
    return Traced(
        graph().apply("Expand", x.plain(), graph().sizes(*asked)), tuple(kept), x.dtype, constant=x.constant
    )


@emitter("repeat_interleave")
def repeat_interleave(x: Any, repeats: int, dim: int) -> Traced:
    """Repeat every entry of an axis."""
    x = traced(x)
    dim %= x.ndim
    wide = unsqueezed(x, [dim + 1])
    sizes = [-1] * wide.ndim
    sizes[dim + 1] = repeats
    return reshape(expand(wide, *sizes), *x.shape[:dim], x.shape[dim] * repeats, *x.shape[dim + 1 :])


@emitter("stack")
def stack(parts: Sequence[Any], dim: int = 0) -> Any:
    """Join along a new axis."""
    first = traced(parts[0])
    axis = dim % (first.ndim + 1)
    return cat([unsqueezed(traced(part), [axis]) for part in parts], axis)


@emitter("arange")
def arange(count: Size, *, device: Any = None) -> Traced:
    """0 .. count - 1, int64 `[count]`."""
    own = graph()
    zero, one = constant(torch.tensor(0)).name, constant(torch.tensor(1)).name
    known = isinstance(count, int)
    end = traced(count, dtype=torch.int64).name
    return Traced(own.apply("Range", zero, end, one), (count,), torch.int64, constant=known)


@emitter("full")
def full(shape: Any, value: Any, *, device: Any = None, dtype: Any = None) -> Traced:
    """One value everywhere."""
    value = traced(value)
    return expand(reshape(value, *[1] * len(shape)), *shape)
