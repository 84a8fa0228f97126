"""ConvNeXt blocks over time, and layer normalization under a condition.

    y = x + s W2 gelu(W1 norm(depthwise(x)))

(Liu et al. 2022, as in Siuzdak 2023, Vocos). Where the norm is adaptive, its weight and bias are rows of two
tables, chosen by the condition: for one condition the net is one with plain layer normalization.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.nn.block import Block, Pointwise, Residual, Sequential
from audiotokens.nn.conv import DepthwiseConv1d, centered
from audiotokens.nn.layers import GELU, ChannelScale, LayerNorm, Linear


class AdaLayerNorm(Pointwise):
    """Normalization over the channels of each frame; row c of two tables is its weight and its bias.

    Args:
        channels: C.
        conditions: number of rows of the tables.
        condition: row c that is used.
        eps: added to the variance.
    """

    def __init__(self, channels: int, conditions: int, *, condition: int = 0, eps: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(conditions, channels))
        self.shift = nn.Parameter(torch.zeros(conditions, channels))
        self.condition, self.eps = condition, eps

    def map(self, x: Tensor) -> Tensor:
        weight, bias = self.scale[self.condition], self.shift[self.condition]
        return functional.layer_norm(x.mT, weight.shape, weight, bias, self.eps).mT


def under_condition(block: Block, condition: int) -> Block:
    """The same net with every `AdaLayerNorm` at another condition; it shares all tensors with the given one.

    Args:
        block: such norms may stand in it, and in joins by `Sequential` and `Residual`.
        condition: row of their tables.
    """
    if isinstance(block, Sequential):
        return Sequential(*(under_condition(each, condition) for each in block))
    if isinstance(block, Residual):
        return Residual(under_condition(block.block, condition))
    if isinstance(block, AdaLayerNorm):
        twin = copy.copy(block)
        twin.condition = condition
        return twin
    return block


def norm(channels: int, conditions: int = 0, condition: int = 0) -> LayerNorm | AdaLayerNorm:
    """Normalization over channels; without conditions a plain one."""
    if conditions:
        return AdaLayerNorm(channels, conditions, condition=condition)
    return LayerNorm(channels, eps=1e-6)


def convnext_block(
    channels: int, hidden: int, *, scale: float, conditions: int = 0, condition: int = 0, kernel: int = 7
) -> Residual:
    """A ConvNeXt block with centered kernels; see the module's text.

    Args:
        channels: C of input and output.
        hidden: inner width.
        scale: start of s; not positive: there is none.
        conditions: rows of the tables of an adaptive norm; 0: the norm is plain.
        condition: row that is used.
        kernel: taps of the depthwise convolution.
    """
    return Residual(
        Sequential(
            DepthwiseConv1d(channels, kernel, lookahead=centered(kernel), bias=True),
            norm(channels, conditions, condition),
            Linear(channels, hidden),
            GELU(),
            Linear(hidden, channels),
            *([ChannelScale(channels, start=scale)] if scale > 0 else []),
        )
    )
