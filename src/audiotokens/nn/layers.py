"""Pointwise layers: linear maps, norms, activations and scales over the channels of `[B, C, T]`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.nn.activations import gelu, silu
from audiotokens.nn.block import Pointwise
from audiotokens.nn.kernels import apply_linear


class Linear(Pointwise):
    """y = W x + b for every frame."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)

    def map(self, x: Tensor) -> Tensor:
        return apply_linear(self.linear, x.mT).mT


class LayerNorm(Pointwise):
    """Normalization over the channels of each frame (Ba et al. 2016), in float32 or better."""

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def map(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x.mT, self.weight.shape, self.weight, self.bias, self.eps).mT


class SiLU(Pointwise):
    """x sigmoid(x) (Elfwing et al. 2017)."""

    def map(self, x: Tensor) -> Tensor:
        return silu(x)


class ELU(Pointwise):
    """x for x > 0, else exp(x) - 1 (Clevert et al. 2015)."""

    def map(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return functional.elu(x)
        # Passes over memory that is near cost less than the accuracy of expm1.
        y = x.clamp(max=0).exp_().sub_(1)
        return torch.maximum(x, y, out=y)


class LeakyReLU(Pointwise):
    """x for x > 0, else slope x."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def map(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x, self.slope)


class GELU(Pointwise):
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016), without approximation."""

    def map(self, x: Tensor) -> Tensor:
        return gelu(x)


class Tanh(Pointwise):
    """Hyperbolic tangent."""

    def map(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


class ChannelScale(Pointwise):
    """A learned factor per channel (LayerScale, Touvron et al. 2021)."""

    def __init__(self, channels: int, *, start: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), start))

    def map(self, x: Tensor) -> Tensor:
        return (x.mT * self.scale).mT
