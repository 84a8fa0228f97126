"""Attention inside disjoint windows of time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.nn.block import Block, Reach, State, concat_time, mask_time
from audiotokens.nn.kernels import apply_linear
from audiotokens.nn.rotary import rotate


class LocalMHA(Block):
    """Multi-head attention (Vaswani et al. 2017) of `[B, C, T]` inside each window of W frames.

    softmax(q k' / sqrt(d)) v in heads of d dimensions, without biases. q and k have rotary positions (pairs
    (i, i + d/2)) that start again at 0 in every window. A last window that is not full is a shorter one.

    Args:
        channels: C, a multiple of `head`.
        window: frames W.
        head: dimensions d of a head.

    Raises:
        ValueError: the channels are no multiple of `head`.
    """

    def __init__(self, channels: int, window: int, *, head: int = 64) -> None:
        super().__init__()
        if channels % head:
            raise ValueError(f"attention has {channels} channels, expected a multiple of {head}")
        self.window, self.head = window, head
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels, bias=False)

    @property
    def reach(self) -> Reach:
        return Reach(self.window - 1, self.window - 1)

    def samples_needed(self, frames: int) -> float:
        return -(-frames // self.window) * self.window

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        # The frames of a window that is not full yet.
        return (like.new_zeros(batch, 0, 0),)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        x = concat_time(state[0], x)
        frames = x.shape[2]
        ready = frames if final else frames // self.window * self.window
        return self._attend(x[..., :ready], None), (x[..., ready:],)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._attend(x, None) if lengths is None else self._attend(mask_time(x, lengths), lengths)

    def _attend(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        batch, channels, frames = x.shape
        missing = -frames % self.window
        if missing and lengths is None:
            lengths = torch.full((batch,), frames, device=x.device)
        windows = functional.pad(x, (0, missing)).mT.reshape(-1, self.window, channels)
        qkv = apply_linear(self.to_qkv, windows).unflatten(2, (3, -1, self.head)).permute(2, 0, 3, 1, 4)
        positions = torch.arange(self.window, device=x.device)
        q, k = rotate(qkv[0], positions, layout="half"), rotate(qkv[1], positions, layout="half")
        seen = None if lengths is None else self._valid(lengths, frames + missing)
        y = functional.scaled_dot_product_attention(q, k, qkv[2], attn_mask=seen)
        y = apply_linear(self.to_out, y.transpose(1, 2).reshape(batch, -1, channels))
        return y.mT[..., :frames]

    def _valid(self, lengths: Tensor, frames: int) -> Tensor:
        """Which frames of each window are looked at, `[B T / W, 1, 1, W]`."""
        valid = torch.arange(frames, device=lengths.device) < lengths[:, None]
        valid = valid.reshape(-1, 1, 1, self.window)
        # A window of padding looks at itself, as a softmax over nothing is no number.
        return valid | ~valid.any(3, keepdim=True)
