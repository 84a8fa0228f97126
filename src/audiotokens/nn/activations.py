"""Activations whose values do not depend on where in memory they stand, to the last bit.

The library's own take their last numbers of a piece, and of each thread's share, by other instructions than
the rest. Its exponential, error function and elementary arithmetic do not, so without gradients activations
are put together from those.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def sigmoid_(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), in the memory of x."""
    return x.neg_().exp_().add_(1).reciprocal_()


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x)."""
    if torch.is_grad_enabled():
        return functional.silu(x)
    y = x.neg().exp_().add_(1)
    return torch.div(x, y, out=y)


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function of x."""
    if torch.is_grad_enabled():
        return functional.gelu(x)
    return x.mul(math.sqrt(0.5)).erf_().add_(1).mul_(x).mul_(0.5)
