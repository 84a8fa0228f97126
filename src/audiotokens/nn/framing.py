"""Blocks that fill up and group: whole frames in, whole groups out."""

from __future__ import annotations

import math

from torch import Tensor

from audiotokens.nn.block import Block, Reach, State, concat_time, mask_time


class WholeFrames(Block):
    """Zeros on the right of `[B, C, T]` up to the next multiple of `hop` samples, and `beyond` more."""

    def __init__(self, hop: int, *, beyond: int = 0) -> None:
        super().__init__()
        self.hop, self.beyond = hop, beyond

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        # As long as the samples beyond the last whole frame.
        return (like.new_zeros(batch, 0),)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        over = (state[0].shape[1] + x.shape[2]) % self.hop
        missing = -over % self.hop + self.beyond
        if final and missing:
            x = concat_time(x, x.new_zeros(*x.shape[:2], missing))
        return x, (x.new_zeros(x.shape[0], over),)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return -(-lengths // self.hop) * self.hop + self.beyond

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(x if lengths is None else mask_time(x, lengths))


class WholeGroups(Block):
    """Passes `[B, C, T]` on in whole groups of `size` frames; what is left over leaves at the end."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return (like.new_zeros(batch, 0, 0),)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        x = concat_time(state[0], x)
        ready = x.shape[2] if final else x.shape[2] // self.size * self.size
        return x[..., :ready], (x[..., ready:],)

    @property
    def reach(self) -> Reach:
        return Reach(future=self.size - 1)

    def samples_needed(self, frames: int) -> float:
        return math.ceil(frames / self.size) * self.size

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return x
