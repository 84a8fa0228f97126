"""Rotary position embeddings (Su et al. 2021, RoFormer)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

RotaryLayout: TypeAlias = Literal["interleaved", "half"]
"""Which dimensions of a head turn together: neighbours (0, 1), (2, 3) ..., or (0, d/2), (1, d/2 + 1) ..."""


def rotate(
    x: Tensor, positions: Tensor, *, base: float = 10000.0, layout: RotaryLayout = "interleaved"
) -> Tensor:
    """Turn pair i of every vector by the angle p base^(-2 i / d), with its position p.

    The product of two rotated vectors depends on the difference of their positions alone, so positions may
    start anywhere, as long as both sides agree.

    Args:
        x: `[..., T, d]`, d even; the angles are computed in float64.
        positions: `[T]`, or `[..., T]` that broadcasts with the vectors.
        base: of the geometric series of frequencies, theta in the paper.
        layout: which dimensions are a pair.

    Returns:
        `[..., T, d]` of the type of `x`.
    """
    pairs = torch.arange(x.shape[-1] // 2, dtype=torch.float64, device=x.device)
    angles = positions.double()[..., None] * base ** (-2 * pairs / x.shape[-1])
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    if layout == "half":
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)
