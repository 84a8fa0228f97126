"""Attention inside windows: its equation, windows that are not full, pieces, padded batches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from audiotokens.nn.windows import LocalMHA

WINDOW = 5


def attention() -> LocalMHA:
    torch.manual_seed(0)
    return LocalMHA(16, WINDOW, head=8).double()


def noise(batch: int, frames: int) -> Tensor:
    return torch.randn(
        batch, 16, frames, dtype=torch.float64, generator=torch.Generator().manual_seed(frames)
    )


def plain(block: LocalMHA, x: Tensor) -> Tensor:
    """The equation, frame by frame, of one item `[C, T]`."""
    qkv = block.to_qkv.weight @ x
    out = torch.zeros_like(x)
    for start in range(0, x.shape[1], WINDOW):
        for head in range(2):
            q, k, v = (qkv[16 * part + 8 * head :][:8, start : start + WINDOW] for part in range(3))
            q, k = turned(q), turned(k)
            for frame in range(q.shape[1]):
                weights = torch.softmax((q[:, frame] @ k) / math.sqrt(8), 0)
                out[8 * head : 8 * head + 8, start + frame] = v @ weights
    result: Tensor = block.to_out.weight @ out
    return result


def turned(x: Tensor) -> Tensor:
    """Pairs (i, i + 4) of `[8, n]` as complex numbers, turned by position times frequency."""
    angles = torch.outer(10000 ** (-torch.arange(4.0, dtype=torch.float64) / 4), torch.arange(x.shape[1]))
    pairs = torch.complex(x[:4], x[4:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag])


@pytest.mark.parametrize("frames", [1, 4, 5, 12, 20])
@torch.no_grad()
def test_it_is_the_equation(frames: int) -> None:
    block, x = attention(), noise(2, frames)
    torch.testing.assert_close(block(x), torch.stack([plain(block, item) for item in x]))


@torch.no_grad()
def test_pieces_give_the_whole() -> None:
    block, x = attention(), noise(2, 33)
    whole = block(x)
    for sizes in ([33], [1] * 33, [7, 0, 11, 2, 13], [5] * 6 + [3]):
        state, parts = block.initial_state(2, like=x), []
        for index, piece in enumerate(torch.split(x, sizes, 2)):
            part, state = block.step(piece, state, final=index == len(sizes) - 1)
            parts.append(part)
            fed = sum(sizes[: index + 1])
            out = sum(each.shape[2] for each in parts)
            assert out == (33 if fed == 33 and index == len(sizes) - 1 else fed // WINDOW * WINDOW)
            assert block.samples_needed(out) <= max(fed, block.samples_needed(33) if out == 33 else 0)
        torch.testing.assert_close(torch.cat(parts, 2), whole)


@torch.no_grad()
def test_a_padded_item_is_what_it_is_alone() -> None:
    block, x = attention(), noise(3, 23)
    lengths = torch.tensor([23, 7, 5])
    batch = block(x, lengths)
    assert batch.isfinite().all()
    for item, length, found in zip(x, lengths, batch):
        torch.testing.assert_close(found[:, :length], block(item[None, :, :length])[0])


def test_channels_that_no_heads_fit() -> None:
    with pytest.raises(ValueError, match="attention has 24 channels, expected a multiple of 64"):
        LocalMHA(24, 4)
