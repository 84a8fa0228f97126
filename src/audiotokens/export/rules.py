"""Blocks whose code says in a way of its own to torch what a graph says otherwise.

A rule takes the place of one method of a block while its net is traced.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from audiotokens.export.arrangement import conv1d, overlap_add
from audiotokens.export.traced import Traced, traced
from audiotokens.nn import conv, transforms

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
    kernels = traced(block.taps).T[:, None]
    return conv1d(x, kernels, block.bias, dilation=block.dilation, groups=block.channels)


@_rule(transforms.IMDCT, "synthesize")
def _inverse_mdct(block: transforms.IMDCT, x: Traced, tail: Any = None) -> Traced:
    return overlap_add(x.mT @ block.basis, block.hop, tail)
