"""Long short-term memory over time, with a shortcut (Hochreiter and Schmidhuber 1997)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from audiotokens.errors import NotOfferedError
from audiotokens.nn.block import Block, Reach, State
from audiotokens.nn.kernels import run_both_ways, run_lstm
from audiotokens.nn.products import applies

_LONG = 48


class LSTM(Block):
    """Layers of LSTM from left to right, y = LSTM(x) + x, `[B, C, T]` to `[B, C, T]`.

    The state is the outputs h and the cells c of all layers, `[B, layers, C]`, zero at the beginning.

    Args:
        channels: C.
        layers: number of layers.
        skip: whether the input is added to the output.

    Attributes:
        same_bits: False lets long pieces go through the library's LSTM, which is faster.
    """

    def __init__(self, channels: int, layers: int, *, skip: bool = True) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True)
        self.skip = skip

    @property
    def reach(self) -> Reach:
        return Reach(past=math.inf)

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        zeros = like.new_zeros(batch, self.lstm.num_layers, self.lstm.hidden_size)
        return zeros, zeros

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        if not x.shape[2]:
            return x, state
        before = tuple(part.transpose(0, 1).contiguous() for part in state)
        # The library packs its weights in every call, which pays for long pieces only.
        if applies(x) and (self.same_bits or x.shape[2] < _LONG or x.dtype != torch.float32):
            y, *after = run_lstm(self.lstm, x.mT, *before)
        else:
            y, after = self.lstm(x.mT, before)
        result = y.mT + x if self.skip else y.mT
        return result, tuple(part.transpose(0, 1) for part in after)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        # What stands behind the end of an item does not reach back into it.
        return super().forward(x)


class BiLSTM(Block):
    """Layers of LSTM in both directions, y = LSTM(x) + [x, x], `[B, C, T]` to `[B, 2 C, T]`.

    Args:
        channels: C, of the input and of each direction.
        layers: number of layers; from the second on, they read both directions.
        skip: whether the input is added to the output of each direction.

    Attributes:
        same_bits: False lets the library's LSTM work, which is faster, also for batches.
    """

    unbounded = "a bidirectional LSTM"

    def __init__(self, channels: int, layers: int, *, skip: bool = True) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True, bidirectional=True)
        self.skip = skip

    @property
    def reach(self) -> Reach:
        return Reach(past=math.inf, future=math.inf)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        if not final:
            raise NotOfferedError(f"{self.unbounded} reads whole recordings: give them in one piece")
        if not x.shape[2]:
            return self._both(x, x.mT.repeat(1, 1, 2)), state
        own = self.same_bits and applies(x)
        return self._both(x, run_both_ways(self.lstm, x.mT) if own else self.lstm(x.mT)[0]), state

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return super().forward(x)
        if self.same_bits and applies(x):
            y = x.new_zeros(x.shape[0], 2 * x.shape[1], x.shape[2])
            for item, out, length in zip(x, y, lengths.tolist()):
                out[:, :length] = super().forward(item[None, :, :length])[0]
            return y
        sizes = lengths.clamp(min=1).cpu()
        packed = pack_padded_sequence(x.mT, sizes, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[2])
        return self._both(x, y)

    def _both(self, x: Tensor, y: Tensor) -> Tensor:
        return y.mT + torch.cat([x, x], 1) if self.skip else y.mT
