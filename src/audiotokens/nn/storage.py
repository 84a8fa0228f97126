"""How weights are stored: float16, or matrices and books in 8 bits with a scale for each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

WeightBits = Literal[8, 16, 32]
SCALE = ".scale"
_SMALLEST = 4096


def pack_tensors(tensors: Mapping[str, Tensor], bits: WeightBits) -> dict[str, Tensor]:
    """Return tensors as they are stored; packing what `unpack_tensors` gives changes nothing.

    Args:
        tensors: by name; what is not floating point stays as it is.
        bits: 32 stores float32, as for imported weights. 16 stores float16, and float32 where that cannot
            hold a value. 8 stores tensors of two or more axes with 4096 or more values as int8, and beside
            each, named with ".scale" behind it, what its rows (all but the last axis) are multiplied by; the
            others are stored as with 16.

    Raises:
        ValueError: a value is infinite or no number.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name} has values that are infinite or no numbers, expected finite weights")
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            packed[name] = tensor
        elif bits == 32:
            packed[name] = tensor.float()
        elif bits == 8 and tensor.ndim >= 2 and tensor.numel() >= _SMALLEST:
            packed[name], packed[name + SCALE] = _rounded_rows(tensor.float())
        else:
            half = tensor.half()
            packed[name] = half if half.isfinite().all() else tensor.float()
    return packed


def stored_bits(stored: Mapping[str, Tensor]) -> WeightBits:
    """Return the `bits` that gave the stored tensors."""
    if any(name + SCALE in stored for name in stored):
        return 8
    return 16 if any(tensor.dtype == torch.float16 for tensor in stored.values()) else 32


def unpack_tensors(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `pack_tensors` stored, in float32."""
    tensors = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in stored:
            continue
        scale = stored.get(name + SCALE)
        if scale is not None:
            tensor = tensor.float() * scale[..., None]
        tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors


def _rounded_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    # With the 8 bits of bfloat16 in the scale every product is exact in float32, so that packing again gives
    # the same numbers.
    largest = rows.abs().amax(-1).clamp(min=1e-30)
    scale = (largest / 127).bfloat16().float()
    values = (rows / scale[..., None]).round().clamp(-127, 127)
    return values.to(torch.int8), scale
