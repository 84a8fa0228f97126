"""Normalization over the time of whole recordings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from audiotokens.errors import NotOfferedError
from audiotokens.nn.block import Block, Reach, State, mask_time
from audiotokens.nn.products import applies


class GroupNorm(Block):
    """Normalization over time and the channels of a group (Wu and He 2018), `[B, C, T]` to `[B, C, T]`.

    y = (x - mean) / sqrt(variance + eps) * weight + bias, with the moments of one recording.

    Args:
        channels: C.
        groups: of equally many channels.
        eps: added to the variance.
    """

    unbounded = "group normalization over time"

    def __init__(self, channels: int, *, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels do not make {groups} equal groups")
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    @property
    def reach(self) -> Reach:
        return Reach(past=math.inf, future=math.inf)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        if not final:
            raise NotOfferedError(f"{self.unbounded} reads whole recordings: give them in one piece")
        if not x.shape[2]:
            return x, state
        # Not `functional.group_norm`, which refuses a single value: normalized, that is zero.
        return torch.group_norm(x, self.groups, self.weight, self.bias, self.eps), state

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return super().forward(x)
        if applies(x):
            # Item by item, as sums over more frames would have other last bits.
            y = torch.zeros_like(x)
            for item, out, length in zip(x, y, lengths.tolist()):
                out[:, :length] = super().forward(item[None, :, :length])[0]
            return y
        batch, channels, frames = x.shape
        lengths = lengths.to(x.device)
        values = (lengths * (channels // self.groups)).clamp(min=1).to(x.dtype)[:, None, None, None]

        def mean(of: Tensor) -> Tensor:
            inside = mask_time(of.reshape(batch, channels, frames), lengths)
            return inside.view(batch, self.groups, -1, frames).sum((2, 3), keepdim=True) / values

        grouped = x.reshape(batch, self.groups, -1, frames)
        centered = grouped - mean(grouped)
        normalized = centered * torch.rsqrt(mean(centered.square()) + self.eps)
        return normalized.view(x.shape) * self.weight[:, None] + self.bias[:, None]
