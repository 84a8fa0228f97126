"""Long short-term memory as the operator of ONNX."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from audiotokens.export.arrangement import cat, cut, padded, reshape
from audiotokens.export.dims import surely
from audiotokens.export.traced import Traced, graph, traced


def run_lstm(lstm: nn.LSTM, x: Traced, state: Any) -> tuple[Traced, tuple[Any, ...]]:
    """Layers of an LSTM over `[1, T, C]`.

    Args:
        lstm: in one direction or both, batch first.
        x: inputs.
        state: outputs h and cells c of the last frame, `[1, layers, C]` each; None: zeros.

    Returns:
        Outputs `[1, T, C]` of all directions, and h and c after the last frame.
    """
    frames = x.shape[1]
    # The operator takes no empty sequence: one frame more is made, and cut off.
    extra = int(not surely(frames, 1))
    rows = reshape(padded(x, 1, 0, extra) if extra else x, frames + extra, 1, x.shape[2])
    states: list[list[Any]] = [[], []]
    for layer in range(lstm.num_layers):
        begun = None if state is None else [part[:, layer : layer + 1] for part in state]
        rows, *after = _layer(lstm, layer, rows, begun)
        for parts, part in zip(states, after):
            parts.append(part)
    y = reshape(rows, 1, frames + extra, rows.shape[2])
    return cut(y, 1, 0, frames) if extra else y, tuple(cat(parts, 1) for parts in states)


def _layer(lstm: nn.LSTM, layer: int, x: Traced, begun: Any) -> tuple[Traced, Traced, Traced]:
    """One layer over `[T, 1, C]`: outputs, and h and c after the last frame `[1, directions, H]`."""
    directions = 2 if lstm.bidirectional else 1
    suffixes = ["", "_reverse"][:directions]
    width = lstm.hidden_size

    def gathered(name: str) -> Any:
        parts = [_ordered(getattr(lstm, f"{name}_l{layer}{suffix}"), width)[None] for suffix in suffixes]
        return cat(parts, 0)

    bias = cat([gathered("bias_ih"), gathered("bias_hh")], 1)
    names = [x.plain(), gathered("weight_ih").plain(), gathered("weight_hh").plain(), bias.plain()]
    if begun is not None and any(isinstance(part, Traced) or bool(part.any()) for part in begun):
        names += ["", *(traced(part).plain() for part in begun)]
    outputs = graph().add(
        "LSTM",
        names,
        {"hidden_size": width, "direction": "bidirectional" if directions == 2 else "forward"},
        outputs=3,
    )
    y = Traced(outputs[0], (x.shape[0], directions, 1, width))
    if directions == 2:
        y = y.transpose(1, 2)
    last = [Traced(name, (1, directions, width), torch.float32) for name in outputs[1:]]
    return reshape(y, x.shape[0], 1, directions * width), last[0], last[1]


def _ordered(weight: Any, width: int) -> Any:
    """Gates i f g o, as torch has them, in the order i o f g."""
    rows = traced(weight)
    parts = [rows[index * width : (index + 1) * width] for index in (0, 3, 1, 2)]
    return cat(parts, 0)
