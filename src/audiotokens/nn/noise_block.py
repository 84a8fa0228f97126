"""Noise whose loudness follows the signal, for decoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotokens.nn.block import Block, State
from audiotokens.nn.noise import gaussian_noise


class NoiseBlock(Block):
    """x + n W x with Gaussian noise n of variance 1, one number a frame for all channels (SNAC).

    In training the noise is fresh. Else it is off without a `seed`, and with one it depends on the seed, the
    layer and the frame's number alone: equal for any batch and any chunks.

    Args:
        channels: C of `[B, C, T]`.
        layer: tells the noise of the blocks of one decoder apart.
        seed: of the noise outside of training; None: there is none.
    """

    draws = True

    def __init__(self, channels: int, *, layer: int = 0, seed: int | None = None) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, channels, 1, bias=False)
        self.layer, self.seed = layer, seed

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return (torch.zeros(batch, dtype=torch.long, device=like.device),)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        (count,) = state
        frames = x.shape[2]
        if not frames or not (self.training or self.seed is not None):
            return x, state
        if self.training:
            noise = torch.randn(x.shape[0], 1, frames, dtype=x.dtype, device=x.device)
        else:
            noise = torch.stack([self.noise(start, frames) for start in count.tolist()])[:, None].to(x)
        return torch.addcmul(x, noise, self.linear(x)), (count + frames,)

    def noise(self, start: int, count: int) -> Tensor:
        """Noise `[count]` of the frames from number `start` on."""
        return gaussian_noise(start, count, seed=self.seed or 0, stream=self.layer)
