"""Convolutions that continue a recording at both ends, as in SEANet (Tagliasacchi et al. 2020; EnCodec).

Samples x[0] .. x[T-1] become ceil(T / s) frames; frame f reads x[f s - left .. (f + 1) s + right - 1]. At the
right end the last frame is filled up: right grows by the e samples to the next multiple of s. What lies
outside is x[-p] and x[2 (T - 1) - p] for reflection, the outermost sample for replication, or zero. A
recording of T <= m = max(left, right + e) samples is reflected as if zeros followed up to m + 1 samples.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.nn.block import Block, Reach, State, at_least, at_most, concat_time, mask_time
from audiotokens.nn.kernels import convolve
from audiotokens.nn.products import applies

PadMode: TypeAlias = Literal["reflect", "replicate", "constant"]
"""What stands beyond the ends: "reflect" mirrors at the outermost sample, "constant" is zero."""


class PaddedConv1d(Block):
    """Convolution `[B, inputs, T]` to `[B, outputs, ceil(T / stride)]`.

    The state is the samples from those on that windows to come and the padding at the end may read, and a
    tensor `[B, n]` as long as the part of them that no window to come reads.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: taps.
        stride: s.
        dilation: samples from tap to tap.
        groups: of channels that do not mix.
        causal: all padding is on the left, else half of it, an odd sample on the left.
        mode: what stands beyond the ends.
        bias: whether a bias is added.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        causal: bool,
        mode: PadMode,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.span, self.stride, self.mode = (kernel - 1) * dilation + 1, stride, mode
        if self.span < stride:
            raise ValueError(f"the kernel spans {self.span} samples, expected at least the stride, {stride}")
        padding = self.span - stride
        self.right = 0 if causal else padding // 2
        self.left = padding - self.right
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, dilation=dilation, groups=groups, bias=bias)

    @property
    def reach(self) -> Reach:
        # At the end, reflection reads further back than a window does.
        filling = self.right + self.stride - 1 if self.mode == "reflect" else 0
        return Reach(max(self.left, filling), self.right, Fraction(self.stride))

    def samples_needed(self, frames: int) -> float:
        return max(frames * self.stride + self.right, self._waiting + 1) if frames else 0

    @property
    def _waiting(self) -> int:
        """Samples that do not yet tell what stands before them."""
        return self.left if self.mode == "reflect" else 0

    @property
    def _kept(self) -> int:
        return self.left + max(self.left + 1, self.right + self.stride)

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return like.new_zeros(batch, self.conv.in_channels, 0), like.new_zeros(batch, 0)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        held, done = state
        x, read = concat_time(held, x), done.shape[1]
        started = held.shape[2] > self._waiting
        if not started and ((final and x.shape[2]) or x.shape[2] > self._waiting):
            x, started = self._with_beginning(x), True
        if not started:
            return self._convolve(x[..., :0]), (x, done)
        left = x.shape[2] - read
        if final:
            frames = -(-(left - self.left) // self.stride)
            x = self._with_end(x, self.right + frames * self.stride - (left - self.left))
        else:
            frames = at_least((left - self.span) // self.stride + 1, 0)
        following = read + frames * self.stride
        y = self._convolve(x[..., read : following - self.stride + self.span] if frames else x[..., :0])
        start = at_most(at_least(x.shape[2] - self._kept, 0), following)
        return y, (x[..., start:], x.new_zeros(x.shape[0], following - start))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None or self.span == 1:
            return super().forward(x)
        return self._convolve(self._padded_items(x, lengths))

    def _convolve(self, x: Tensor) -> Tensor:
        if not x.shape[2]:
            return x.new_zeros(x.shape[0], self.conv.out_channels, 0)
        if applies(x):
            return convolve(self.conv, x)
        result: Tensor = self.conv(x)
        return result

    def _with_beginning(self, x: Tensor) -> Tensor:
        if not self.left:
            return x
        if self.mode == "reflect":
            missing = at_least(self.left + 1 - x.shape[2], 0)
            before = functional.pad(x[..., 1 : self.left + 1], (0, missing))[..., : self.left].flip(2)
        elif self.mode == "replicate":
            before = x[..., :1].expand(-1, -1, self.left)
        else:
            before = x.new_zeros(*x.shape[:2], self.left)
        return concat_time(before, x)

    def _with_end(self, x: Tensor, right: int) -> Tensor:
        """Add `right` samples to samples that begin with the padding on the left, or later."""
        if not right or right < 0:
            return x
        if self.mode == "replicate":
            return torch.cat([x, x[..., -1:].expand(-1, -1, right)], 2)
        if self.mode == "constant":
            return functional.pad(x, (0, right))
        samples = x.shape[2] - self.left
        zeros = at_least(at_least(right, self.left) + 1 - samples, 0)
        extended = functional.pad(x, (0, zeros)) if zeros else x
        after = extended[..., extended.shape[2] - 1 - right : extended.shape[2] - 1].flip(2)
        return torch.cat([extended, after], 2)[..., : x.shape[2] + right]

    def _padded_items(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Continue every item at its own ends; the result has the windows of the longest."""
        x = mask_time(x, lengths)
        filling = self.right + self.stride - 1
        far = filling + max(self.left, filling) + 1
        extended = functional.pad(x, (0, max(far, self.left + 1)))
        before = self._with_beginning(extended)[..., : self.left] if self.left else x[..., :0]
        padded = torch.cat([before, extended[..., : x.shape[2] + filling]], 2)
        if self.mode == "constant" or not filling:
            return padded
        offsets = torch.arange(filling, device=x.device)[None]
        size = lengths.to(x.device)[:, None]
        right = self.right + (-size) % self.stride
        if self.mode == "reflect":
            mirror = torch.maximum(size, right.clamp(min=self.left) + 1)
            source = torch.where(size + offsets < mirror, size + offsets, 2 * (mirror - 1) - size - offsets)
        else:
            source = (size - 1).clamp(min=0).expand(-1, filling)
        # Behind the padding of an item stands zero, as the last sample of `extended` is.
        source = torch.where(offsets < right, source, extended.shape[2] - 1)
        channels = x.shape[1]
        after = extended.gather(2, source[:, None].expand(-1, channels, -1))
        places = (self.left + size + offsets)[:, None].expand(-1, channels, -1)
        return padded.scatter(2, places, after)
