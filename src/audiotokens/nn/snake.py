"""Snake (Ziyin et al. 2020): an activation with a period, for signals that have one; residual units of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotokens.nn.block import Pointwise, Residual, Sequential
from audiotokens.nn.conv import Conv1d, centered

_SMALL = 1e-9


class Snake(Pointwise):
    """x + sin^2(alpha x) / (alpha + 1e-9), with a learned alpha for each channel, `[1, C, 1]`.

    Args:
        channels: C; every alpha starts at 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def map(self, x: Tensor) -> Tensor:
        scale = 1 / (self.alpha + _SMALL)
        if torch.is_grad_enabled():
            return torch.addcmul(x, torch.sin(x * self.alpha).square(), scale)
        # One new tensor: reading and writing memory takes most of the time here.
        y = torch.mul(x, self.alpha).sin_().square_()
        return torch.addcmul(x, y, scale, out=y)


def snake_unit(channels: int, *, kernel: int = 7, dilation: int = 1, depthwise: bool = False) -> Residual:
    """x + W Snake(K Snake(x)) over `[B, C, T]`, with a centered convolution K (Kumar et al. 2023, DAC).

    Args:
        channels: C.
        kernel: taps of K.
        dilation: frames between them.
        depthwise: whether K has one kernel for each channel, instead of one for each pair of them.
    """
    lookahead = centered(kernel, dilation=dilation)
    groups = channels if depthwise else 1
    return Residual(
        Sequential(
            Snake(channels),
            Conv1d(channels, channels, kernel, dilation=dilation, groups=groups, lookahead=lookahead),
            Snake(channels),
            Conv1d(channels, channels, 1),
        )
    )
