"""Convolutions over time, with zero padding, as steps.

T samples become ceil(T / stride) frames. `lookahead` is the number of samples after a frame's own hop that
the frame
reads: 0 is causal, `centered(...)` is symmetric; the rest of the kernel reads the past.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from audiotokens.nn.block import Block, Reach, State, concat_time
from audiotokens.nn.kernels import convolve, convolve_transposed, shifted_products
from audiotokens.nn.products import applies


def centered(kernel: int, *, stride: int = 1, dilation: int = 1) -> int:
    """Look-ahead of a symmetric kernel; an odd sample of padding goes to the past."""
    return ((kernel - 1) * dilation + 1 - stride) // 2


class Windowed(Block):
    """Base of blocks that read a window of `span` samples every `stride` samples.

    A subclass maps a piece that holds whole windows in `apply_windows`. The state is the samples that
    windows still to come will read; it starts as the zero padding on the left.
    """

    def __init__(self, channels: int, *, span: int, stride: int, lookahead: int) -> None:
        super().__init__()
        if not 0 <= lookahead <= span - stride:
            raise ValueError(f"lookahead is {lookahead}, expected 0 to span - stride = {span - stride}")
        self.channels, self.span, self.stride = channels, span, stride
        self.past = span - stride - lookahead
        self.lookahead = lookahead

    @property
    def reach(self) -> Reach:
        return Reach(self.past, self.lookahead, Fraction(self.stride))

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return (like.new_zeros(batch, self.past, self.channels).mT,)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        x = concat_time(state[0], x)
        if final:
            frames = -(-(x.shape[2] - self.past) // self.stride)
            missing = max((frames - 1) * self.stride + self.span - x.shape[2], 0) if frames else 0
            x = concat_time(x, x.new_zeros(x.shape[0], missing, x.shape[1]).mT)
        else:
            frames = max((x.shape[2] - self.span) // self.stride + 1, 0)
        if frames:
            y = self.apply_windows(x[..., : (frames - 1) * self.stride + self.span])
        else:
            y = x.new_zeros(x.shape[0], self.outputs, 0)
        return y, (x[..., frames * self.stride :],)

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return self.channels

    def apply_windows(self, x: Tensor) -> Tensor:
        """Map `[B, C, (n - 1) * stride + span]` to n frames `[B, C', n]`."""
        raise TypeError(f"{type(self).__name__} has no apply_windows")


class Conv1d(Windowed):
    """Convolution `[B, inputs, T]` to `[B, outputs, ceil(T / stride)]`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        lookahead: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, span=(kernel - 1) * dilation + 1, stride=stride, lookahead=lookahead)
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, dilation=dilation, groups=groups, bias=bias)

    @property
    def outputs(self) -> int:
        return self.conv.out_channels

    def apply_windows(self, x: Tensor) -> Tensor:
        if applies(x):
            return convolve(self.conv, x)
        result: Tensor = self.conv(x)
        return result


class DepthwiseConv1d(Windowed):
    """One kernel per channel, stride 1; the taps start near the identity.

    Runs as shifted multiply-adds on channels-last memory, several times faster on a CPU than a grouped
    convolution.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        kernel: int,
        *,
        dilation: int = 1,
        lookahead: int = 0,
        noise: float = 0.1,
        bias: bool = False,
    ) -> None:
        super().__init__(channels, span=(kernel - 1) * dilation + 1, stride=1, lookahead=lookahead)
        taps = noise * torch.randn(kernel, channels)
        taps[kernel - 1 - lookahead // dilation] += 1.0
        self.taps = nn.Parameter(taps)
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.dilation = dilation

    def apply_windows(self, x: Tensor) -> Tensor:
        y = _shifted_taps(x.mT, self.taps, self.dilation)
        return y.mT if self.bias is None else (y + self.bias).mT


class _ShiftedTaps(torch.autograd.Function):
    """y[b, t, c] = sum_j taps[j, c] x[b, t + d j, c], with both gradients as the same shifted products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, dilation: int) -> Tensor:
        taps = taps.to(x.dtype)
        ctx.save_for_backward(x, taps)
        ctx.dilation = dilation
        frames = x.shape[1] - (taps.shape[0] - 1) * dilation
        return shifted_products(x, taps, frames, dilation=dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, taps = ctx.saved_tensors
        (dy,) = gradients
        frames = dy.shape[1]
        dx, dtaps = torch.zeros_like(x), torch.empty_like(taps)
        for tap in range(taps.shape[0]):
            read = slice(tap * ctx.dilation, tap * ctx.dilation + frames)
            dx[:, read].addcmul_(dy, taps[tap])
            dtaps[tap] = (dy * x[:, read]).sum((0, 1))
        return dx, dtaps, None


_shifted_taps: Callable[[Tensor, Tensor, int], Tensor] = _ShiftedTaps.apply


class OverlapAdd(Block):
    """Base of blocks that turn each frame into `span` samples and add them up every `hop` samples.

    T frames become T hop - trim samples: the first `lookahead` samples of the sum are dropped, and the
    surplus at the end, of which a negative trim keeps something. A subclass makes the samples in
    `synthesize`. The state is the tail that frames still to come add to, and a tensor `[B, n]` as long as the
    samples still to be dropped.
    """

    def __init__(self, outputs: int, *, span: int, hop: int, lookahead: int = 0, trim: int = 0) -> None:
        super().__init__()
        if not 0 <= lookahead <= span - hop:
            raise ValueError(f"lookahead is {lookahead}, expected 0 to span - hop = {span - hop}")
        if not lookahead - (span - hop) <= trim <= lookahead:
            raise ValueError(
                f"trim is {trim}, expected {lookahead - (span - hop)} to lookahead = {lookahead}"
            )
        self.outputs, self.span, self.hop = outputs, span, hop
        self.lookahead, self.trim = lookahead, trim

    @property
    def reach(self) -> Reach:
        past = -(-(self.span - self.lookahead) // self.hop) - 1
        return Reach(past, -(-self.lookahead // self.hop), Fraction(1, self.hop))

    def samples_needed(self, frames: int) -> float:
        return -(-(frames + self.lookahead) // self.hop)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return (lengths * self.hop - self.trim).clamp(min=0)

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        tail = like.new_zeros(batch, self.outputs, self.span - self.hop)
        return tail, like.new_zeros(batch, self.lookahead)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        tail, to_drop = state
        frames = x.shape[2]
        y = self.synthesize(x, tail) if frames else tail
        ready, tail = y[..., : frames * self.hop], y[..., frames * self.hop :]
        if final:
            ready = concat_time(ready, tail[..., : self.lookahead - self.trim])
        dropped = min(to_drop.shape[1], ready.shape[2])
        return ready[..., dropped:], (tail, to_drop[:, dropped:])

    def synthesize(self, x: Tensor, tail: Tensor) -> Tensor:
        """Map n frames `[B, C, n]` to their sum `[B, outputs, (n - 1) * hop + span]`, on top of a tail.

        Each sample is summed from the oldest frame on, so that its bits do not depend on where pieces end.
        """
        raise TypeError(f"{type(self).__name__} has no synthesize")


class ConvTranspose1d(OverlapAdd):
    """Transposed convolution `[B, inputs, T]` to `[B, outputs, T stride - trim]`.

    The kernel is at least as long as the stride.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int,
        groups: int = 1,
        lookahead: int = 0,
        trim: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(outputs, span=kernel, hop=stride, lookahead=lookahead, trim=trim)
        self.conv = nn.ConvTranspose1d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        y, state = super().step(x, state, final=final)
        return y if self.bias is None else y + self.bias[:, None], state

    def synthesize(self, x: Tensor, tail: Tensor) -> Tensor:
        if applies(x):
            return convolve_transposed(self.conv, x, tail)
        y = self.conv(x)
        return torch.cat([y[..., : tail.shape[2]] + tail, y[..., tail.shape[2] :]], 2)


def overlap_add(frames: Tensor, hop: int, tail: Tensor) -> Tensor:
    """Add windows `[B, span, n]` up every `hop` samples to `[B, 1, (n - 1) hop + span]`.

    Args:
        frames: the windows.
        hop: samples from window to window.
        tail: what earlier windows have summed up to, `[B, 1, span - hop]`.
    """
    # One addition for each hop of a window, over all windows: many times faster than `functional.fold`.
    rows = frames.mT
    batch, count, span = rows.shape
    total = rows.new_zeros(batch, count - 1 + -(-span // hop), hop)
    samples = total.view(batch, -1)
    samples[:, : tail.shape[2]] = tail[:, 0]
    for index in reversed(range(-(-span // hop))):
        part = rows[..., index * hop : (index + 1) * hop]
        total[:, index : index + count, : part.shape[2]] += part
    return samples[:, None, : (count - 1) * hop + span]
