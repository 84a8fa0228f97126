"""Blocks are steps: one code for whole recordings and for streams.

A block maps `[B, C, T]` to `[B, C', T']` piece by piece: `step` takes the next piece and the state that the
last one left, and returns what has become final. The state is a flat tuple of tensors, so it can be saved,
forked and moved. Output may come late (a convolution that looks ahead), so `Sequential`, `Residual` and
`Parallel` are the only joins: they queue what waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Reach:
    """What one output frame reads, in samples of the block's input.

    Args:
        past: samples before the first sample of the frame's own hop; `math.inf`: all of them.
        future: samples after the last sample of the frame's own hop; `math.inf`: all of them.
        stride: input samples per output frame (1/2 for an upsampling by 2).
    """

    past: float = 0
    future: float = 0
    stride: Fraction = Fraction(1)

    def then(self, following: Reach) -> Reach:
        """Reach of this block followed by another."""
        # All samples that an upsampler makes of one coarse frame read all that the frame reads.
        coarse = max(int(self.stride * (1 - following.stride)), 0)
        return Reach(
            past=self.past + _scaled(following.past, self.stride) + coarse,
            future=self.future + _scaled(following.future, self.stride) + coarse,
            stride=self.stride * following.stride,
        )


class Block(nn.Module):
    """Base of all blocks; a subclass gives `step`, and `initial_state` and `reach` where it mixes time.

    Attributes:
        draws: whether the block draws fresh noise in training, so that another pass gives another output.
        unbounded: what makes every output frame depend on the whole recording, as in "a bidirectional
            LSTM"; empty: nothing does. Such a block takes whole recordings only.
        same_bits: whether a frame has the same bits in any piece, batch and number of threads, in float32 on
            a CPU without gradients, where `products.rows_agree`.
    """

    draws = False
    unbounded: str = ""
    same_bits = True

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        """State before the first sample of `batch` streams, with the type and device of `like`."""
        return ()

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        """Take the next piece `[B, C, T]`, T may be 0; return what is now final `[B, C', T']`, and the state.

        With `final` the stream ends with this piece and all remaining output is returned.
        """
        raise TypeError(f"{type(self).__name__} has no step")

    @property
    def reach(self) -> Reach:
        """What one output frame reads."""
        return Reach()

    def samples_needed(self, frames: int) -> float:
        """How many samples must be in before the first `frames` output frames are out."""
        reach = self.reach
        return math.ceil(frames * reach.stride) + reach.future

    @cached_property
    def state_size(self) -> int:
        """Number of tensors in the state."""
        return len(self.initial_state(1, like=torch.zeros(0)))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames that inputs of the given lengths `[B]` become."""
        stride = self.reach.stride
        return -(-lengths * stride.denominator // stride.numerator)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map whole recordings `[B, C, T]`; items shorter than T are given by `lengths` `[B]`."""
        if lengths is not None and self.reach != Reach():
            x = mask_time(x, lengths)
        return self.step(x, self.initial_state(x.shape[0], like=x), final=True)[0]


class Pointwise(Block):
    """A block that treats every frame alone, and so has no state."""

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        return self.map(x), state

    def map(self, x: Tensor) -> Tensor:
        """Map frames `[B, C, T]` to `[B, C', T]`."""
        raise TypeError(f"{type(self).__name__} has no map")


class Sequential(Block):
    """Blocks in a row."""

    def __init__(self, *blocks: Block) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)  # type: ignore[arg-type]

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return tuple(tensor for block in self for tensor in block.initial_state(batch, like=like))

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        left: list[Tensor] = []
        for block, own in zip(self, split_state(self, state)):
            x, after = block.step(x, own, final=final)
            left.extend(map(_compact, after))
        return x, tuple(left)

    @property
    def reach(self) -> Reach:
        total = Reach()
        for block in self:
            total = total.then(block.reach)
        return total

    @property
    def unbounded(self) -> str:  # type: ignore[override]
        return _first_reason(self)

    def samples_needed(self, frames: int) -> float:
        needed: float = frames
        for block in reversed(list(self)):
            if math.isinf(needed):
                break
            needed = block.samples_needed(int(needed))
        return needed

    def output_lengths(self, lengths: Tensor) -> Tensor:
        for block in self:
            lengths = block.output_lengths(lengths)
        return lengths

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        for block in self:
            x = block(x, lengths)
            lengths = None if lengths is None else block.output_lengths(lengths)
        return x


class Parallel(Block):
    """Several blocks of one stride over the same input, joined frame by frame.

    Args:
        blocks: the branches.
        join: "sum", "concat" (over channels) or "difference" (the first branch minus the others).
    """

    def __init__(self, *blocks: Block, join: Literal["sum", "concat", "difference"] = "sum") -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.join = join

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)  # type: ignore[arg-type]

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        states = [tensor for block in self for tensor in block.initial_state(batch, like=like)]
        # A queue's channels are known only when the first output comes: zero channels stand for an empty
        # queue.
        return (*states, *(like.new_zeros(batch, 0, 0) for _ in self.blocks))

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        queues = state[len(state) - len(self.blocks) :]
        left: list[Tensor] = []
        waiting: list[Tensor] = []
        for block, own, queue in zip(self, split_state(self, state), queues):
            y, after = block.step(x, own, final=final)
            left.extend(after)
            waiting.append(concat_time(queue, y))
        ready = min(queue.shape[2] for queue in waiting)
        y = self._joined([queue[..., :ready] for queue in waiting])
        return y, (*left, *(queue[..., ready:] for queue in waiting))

    @property
    def reach(self) -> Reach:
        return widest([block.reach for block in self])

    @property
    def unbounded(self) -> str:  # type: ignore[override]
        return _first_reason(self)

    def samples_needed(self, frames: int) -> float:
        return max(block.samples_needed(frames) for block in self)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._joined([block(x, lengths) for block in self])

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        if self.join == "concat":
            return torch.cat(list(parts), 1)
        total = parts[0]
        for part in parts[1:]:
            total = _added(total, part) if self.join == "sum" else total - part
        return total


class Residual(Block):
    """x + f(x), where f has stride 1 and may be late: the shortcut waits in a queue."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return (*self.block.initial_state(batch, like=like), like.new_zeros(batch, 0, 0))

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        y, after = self.block.step(x, state[:-1], final=final)
        queue = concat_time(state[-1], x)
        ready = y.shape[2]
        return _added(queue[..., :ready], y), (*after, queue[..., ready:])

    @property
    def reach(self) -> Reach:
        return widest([Reach(), self.block.reach])

    @property
    def unbounded(self) -> str:  # type: ignore[override]
        return self.block.unbounded

    def samples_needed(self, frames: int) -> float:
        return max(frames, self.block.samples_needed(frames))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return _added(x, self.block(x, lengths))


def _added(x: Tensor, y: Tensor) -> Tensor:
    """x + y; in the memory of y, a block's output, where no gradient is asked for."""
    if torch.is_grad_enabled() or x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr():
        return x + y
    return y.add_(x)


def _compact(state: Tensor) -> Tensor:
    """A state without the memory of the whole piece that it is the end of."""
    if torch.is_grad_enabled() or state.untyped_storage().nbytes() <= 2 * state.nbytes:
        return state
    return state.clone()


def _first_reason(blocks: Sequential | Parallel) -> str:
    return next((block.unbounded for block in blocks if block.unbounded), "")


def _scaled(samples: float, factor: Fraction) -> float:
    return samples if math.isinf(samples) else math.ceil(int(samples) * factor)


def split_state(blocks: Sequential | Parallel, state: State) -> Iterator[State]:
    """Cut the flat state of a join into the states of its members."""
    start = 0
    for block in blocks:
        size = block.state_size
        yield state[start : start + size]
        start += size


def widest(reaches: Sequence[Reach]) -> Reach:
    """Reach of branches side by side.

    Raises:
        ValueError: the strides differ.
    """
    strides = {reach.stride for reach in reaches}
    if len(strides) > 1:
        raise ValueError(f"branches have strides {sorted(strides)}, expected one")
    return Reach(max(r.past for r in reaches), max(r.future for r in reaches), strides.pop())


def concat_time(held: Tensor, x: Tensor) -> Tensor:
    """Join two pieces `[B, C, T]` in time and keep the memory order of `x`; an empty piece costs nothing."""
    if not held.shape[2]:
        return x
    if not x.shape[2]:
        return held
    if x.stride(1) == 1 and x.shape[1] > 1:
        return torch.cat([held.mT, x.mT], 1).mT
    return torch.cat([held, x], 2)


def at_least(size: int, smallest: int) -> int:
    """The larger one of two sizes; the first may be one that an exported graph finds out."""
    return max(size, smallest) if isinstance(size, int) else size.at_least(smallest)


def at_most(size: int, largest: int) -> int:
    """The smaller one of two sizes; see `at_least`."""
    return size - at_least(size - largest, 0)


def in_pieces(block: Block, x: Tensor, size: int) -> Tensor:
    """Map a whole recording `[B, C, T]` in pieces of `size` frames: flat memory, and faster on a CPU.

    A block that reads whole recordings takes it in one.
    """
    size = x.shape[2] if block.unbounded else min(size, x.shape[2])
    state = block.initial_state(len(x), like=x)
    pieces = torch.split(x, max(size, 1), 2)
    parts = []
    for index, piece in enumerate(pieces):
        part, state = block.step(piece, state, final=index == len(pieces) - 1)
        parts.append(part)
    return torch.cat(parts, 2)


def mask_time(x: Tensor, lengths: Tensor) -> Tensor:
    """Set the frames of `[B, C, T]` beyond each item's length to zero."""
    inside = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
    return torch.where(inside[:, None], x, torch.zeros((), dtype=x.dtype, device=x.device))
