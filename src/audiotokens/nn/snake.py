"""Snake (Ziyin et al. 2020): an activation with a period, for signals that have one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotokens.nn.block import Pointwise

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
