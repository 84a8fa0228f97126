"""What torch's convolutions are in ONNX, and windows that overlap."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from audiotokens.export.arrangement import cat, cut, padded, reshape, squeezed
from audiotokens.export.dims import same, surely
from audiotokens.export.traced import Traced, emitter, graph, traced


@emitter("unfold")
def unfold(x: Any, dimension: int, size: int, step: int) -> Traced:
    """Windows `[B, n, size]` of `[B, T]` every `step` samples."""
    x = traced(x)
    frames = (x.shape[1] - size) // step + 1
    x = cut(x, 1, 0, (frames - 1) * step + size)
    whole = -size % step
    x = padded(x, 1, 0, whole) if whole else x
    rows = reshape(x, x.shape[0], frames - 1 + (size + whole) // step, step)
    parts = [rows[:, start : start + frames] for start in range((size + whole) // step)]
    windows: Traced = cat(parts, 2)
    return windows[..., :size]


@emitter("conv1d")
def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Traced:
    """Convolution without padding; a product of matrices where the kernel is 1 and frames lie in a row."""
    x, weight, own = traced(x), traced(weight), graph()
    (stride,), (dilation,) = _single(stride), _single(dilation)
    outputs, _, kernel = weight.shape
    if kernel == stride == groups == 1 and x.flipped:
        rows: Traced = x.mT @ squeezed(weight, [2]).mT
        return rows.mT if bias is None else (rows + bias).mT
    frames = (x.shape[2] - (kernel - 1) * dilation - 1) // stride + 1
    # Fewer samples than a kernel are no input of the operator: one frame more is made, and cut off.
    extra = int(not surely(frames, 1))
    x = padded(x, 2, 0, stride) if extra else x
    names = [x.plain(), weight.plain(), *([] if bias is None else [traced(bias).name])]
    attributes: dict[str, Any] = {"kernel_shape": [kernel]}
    attributes |= {"strides": [stride]} if stride > 1 else {}
    attributes |= {"dilations": [dilation]} if dilation > 1 else {}
    attributes |= {"group": groups} if groups > 1 else {}
    name = own.apply("Conv", *names, attributes=attributes)
    y = Traced(name, (x.shape[0], outputs, frames + extra), x.dtype)
    return cut(y, 2, 0, frames) if extra else y


@emitter("conv_transpose1d")
def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Traced:
    """Transposed convolution without padding and bias."""
    x, weight = traced(x), traced(weight)
    (stride,) = _single(stride)
    kernel = weight.shape[2]
    frames = x.shape[2]
    extra = int(not surely(frames, 1))
    x = padded(x, 2, 0, 1) if extra else x
    attributes = {"kernel_shape": [kernel], "strides": [stride], "group": groups}
    name = graph().apply("ConvTranspose", x.plain(), weight.plain(), attributes=attributes)
    shape = (x.shape[0], weight.shape[1] * groups, (frames + extra - 1) * stride + kernel)
    y = Traced(name, shape, x.dtype)
    return cut(y, 2, 0, (frames - 1) * stride + kernel) if extra else y


def _single(value: Any) -> tuple[int]:
    return (value,) if isinstance(value, int) else tuple(value)


def overlap_add(frames: Traced, hop: int, tail: Any) -> Traced:
    """Add windows `[B, n, span]` up every `hop` samples to `[B, 1, (n - 1) hop + span]`, on top of a tail."""
    batch, count, span = frames.shape
    parts = -(-span // hop)
    total: Any = None
    for index in range(parts):
        part = cut(frames, 2, index * hop, min((index + 1) * hop, span))
        part = padded(part, 2, 0, hop - part.shape[2]) if part.shape[2] != hop else part
        part = padded(part, 1, index, parts - 1 - index) if parts > 1 else part
        total = part if total is None else total + part
    samples = reshape(total, batch, 1, total.shape[1] * hop)
    samples = cut(samples, 2, 0, (count - 1) * hop + span)
    if same(tail.shape[2], 0) or (isinstance(tail, Tensor) and not bool(tail.any())):
        return samples
    size = tail.shape[2]
    begun: Traced = cat([samples[..., :size] + tail, samples[..., size:]], 2)
    return begun
