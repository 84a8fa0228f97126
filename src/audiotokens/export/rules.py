"""Blocks whose code says in a way of its own to torch what a graph says otherwise.

A rule takes the place of one method of a block while its net is traced.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from audiotokens.errors import NotOfferedError
from audiotokens.export.arrangement import arange, cat
from audiotokens.export.computed import inverse_fourier_basis
from audiotokens.export.convolution import overlap_add
from audiotokens.export.dims import Size
from audiotokens.export.lstm import run_lstm
from audiotokens.export.traced import Traced, traced
from audiotokens.nn import attention, conv, noise_block, recurrent, transforms
from audiotokens.nn.block import at_least

Rule = Callable[..., Any]
_RULES: dict[type, dict[str, Rule]] = {}


@contextlib.contextmanager
def rules(net: nn.Module) -> Iterator[None]:
    """Put the rules in the place of the methods of all blocks of a net."""
    changed = []
    for module in net.modules():
        for kind in type(module).__mro__:
            for method, function in _RULES.get(kind, {}).items():
                if method not in module.__dict__:
                    module.__dict__[method] = functools.partial(function, module)
                    changed.append((module, method))
    try:
        yield
    finally:
        for module, method in changed:
            del module.__dict__[method]


def _rule(kind: type, method: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        _RULES.setdefault(kind, {})[method] = function
        return function

    return register


@_rule(conv.DepthwiseConv1d, "apply_windows")
def _depthwise(block: conv.DepthwiseConv1d, x: Traced) -> Traced:
    """Sums over windows of rows, whose bits do not depend on how many windows there are."""
    taps = traced(block.taps)
    rows = x.mT[0]
    frames = at_least(rows.shape[0] - (taps.shape[0] - 1) * block.dilation, 0)
    places = (arange(taps.shape[0]) * block.dilation)[:, None] + arange(frames)
    y = (rows[places] * taps[:, None]).sum(0)[None]
    found: Traced = y if block.bias is None else y + traced(block.bias)
    return found.mT


@_rule(transforms.IMDCT, "synthesize")
def _inverse_mdct(block: transforms.IMDCT, x: Traced, tail: Any) -> Traced:
    return overlap_add(x.mT @ block.basis, block.hop, tail)


@_rule(transforms.ISTFT, "synthesize")
def _inverse_stft(block: transforms.ISTFT, x: Traced, tail: Any) -> Traced:
    """A product with cosines and sines; the last channel marks the frames that exist."""
    window = traced(block.window)
    frames = x[:, :-1].mT @ (inverse_fourier_basis(block.n_fft) * window)
    squares = x[:, -1:].mT @ window.square()[None]
    tails = tail[:, :1], tail[:, 1:]
    sums = [overlap_add(part, block.hop, begun) for part, begun in zip((frames, squares), tails)]
    found: Traced = cat(sums, 1)
    return found


@_rule(attention.Attention, "_pieces")
def _one_piece(
    block: attention.Attention, steps: Size, total: Size
) -> Iterator[tuple[Size, Size, Size, Size]]:
    window = block.config.window
    yield 0, steps, 0 if window is None else at_least(total - steps - window + 1, 0), total


@_rule(attention.Attention, "_mask")
def _attention_mask(block: attention.Attention, size: Size, keys: Size, absent: Any) -> Any:
    steps = arange(keys)
    distance = steps[keys - size :, None] - steps
    seen = (steps >= absent[:, None, None, None]) & (distance >= 0)
    return seen if block.config.window is None else seen & (distance < block.config.window)


@_rule(recurrent.LSTM, "step")
def _lstm(block: recurrent.LSTM, x: Traced, state: Any, *, final: bool = False) -> Any:
    outputs, after = run_lstm(block.lstm, x.mT, state)
    return outputs.mT + x if block.skip else outputs.mT, after


@_rule(recurrent.BiLSTM, "step")
def _both_directions(block: recurrent.BiLSTM, x: Traced, state: Any, *, final: bool = False) -> Any:
    return block._both(x, run_lstm(block.lstm, x.mT, None)[0]), state  # type: ignore[arg-type]


@_rule(noise_block.NoiseBlock, "step")
def _no_noise(block: noise_block.NoiseBlock, x: Traced, state: Any, *, final: bool = False) -> Any:
    if block.seed is not None:
        raise NotOfferedError("noise that depends on a seed has no form as a graph: set the seed to null")
    return x, state
