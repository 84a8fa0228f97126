"""Residual blocks with group normalization over time, and attention over all frames.

    r(x) = x + conv(silu(norm(conv(silu(norm(x))))))
    a(x) = x + O V softmax(K^T Q / sqrt(C)),  Q, K, V = maps of norm(x)

(He et al. 2016; Wang et al. 2018, Non-local neural networks; together as in the autoencoders of Esser et al.
2021.) There are no positions, one head, and every frame depends on the whole recording.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.errors import NotOfferedError
from audiotokens.nn.block import Block, Reach, Residual, Sequential, State
from audiotokens.nn.conv import Conv1d, centered
from audiotokens.nn.layers import SiLU
from audiotokens.nn.norm import GroupNorm

_GROUPS = 32
_EPS = 1e-6


class FullAttention(Block):
    """Attention of every frame to all frames of a recording, one head, `[B, C, T]` to `[B, C, T]`."""

    unbounded = "attention over all frames"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)

    @property
    def reach(self) -> Reach:
        return Reach(past=math.inf, future=math.inf)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        if not final:
            raise NotOfferedError(f"{self.unbounded} reads whole recordings: give them in one piece")
        return self._attended(x, None), state

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return super().forward(x)
        inside = torch.arange(x.shape[2], device=x.device) < lengths.to(x.device)[:, None]
        # An empty item attends to its first frame, and to nothing that counts.
        inside[:, :1] = True
        return self._attended(x, inside[:, None, None])

    def _attended(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if not x.shape[2]:
            return x
        rows = x.mT
        query, key, value = (layer(rows)[:, None] for layer in (self.query, self.key, self.value))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        result: Tensor = self.output(attended[:, 0])
        return result.mT


def group_norm(channels: int) -> GroupNorm:
    """Normalization over time and the channels of one of 32 groups."""
    return GroupNorm(channels, groups=_GROUPS, eps=_EPS)


def resnet_block(channels: int, *, kernel: int = 3) -> Residual:
    """r(x) of the module's text, with centered kernels and zeros beyond the ends."""
    layers: list[Block] = []
    for _ in range(2):
        convolution = Conv1d(channels, channels, kernel, lookahead=centered(kernel))
        layers += [group_norm(channels), SiLU(), convolution]
    return Residual(Sequential(*layers))


def attention_block(channels: int) -> Residual:
    """a(x) of the module's text."""
    return Residual(Sequential(group_norm(channels), FullAttention(channels)))
