"""Attention over a window of the past: against a full matrix, in pieces, in batches, in memory."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.nn import attention, products
from audiotokens.nn.attention import Attention, TransformerConfig, transformer
from audiotokens.nn.block import Reach, Sequential
from audiotokens.nn.rotary import rotate

BASE = TransformerConfig(layers=2, width=16, heads=2, hidden=24, window=5, layer_scale=0.7)
CONFIGS = {
    "interleaved": BASE,
    "half": replace(BASE, rotary="half", rotary_base=500.0),
    "no positions": replace(BASE, rotary=None),
    "all of the past": replace(BASE, window=None),
    "one step": replace(BASE, window=1),
    "shared keys": replace(BASE, heads=4, key_heads=2),
    "wide heads": replace(BASE, head_width=6, output_norm=True),
    "no scale": replace(BASE, layer_scale=None, norm_eps=1e-3),
}


def make(name: str) -> Sequential:
    torch.manual_seed(0)
    return transformer(CONFIGS[name]).double().eval()


def in_pieces(block: Sequential, x: Tensor, cuts: list[int]) -> Tensor:
    state = block.initial_state(len(x), like=x)
    edges = [0, *sorted(cuts), x.shape[2]]
    parts = []
    for index, (start, end) in enumerate(zip(edges, edges[1:])):
        y, state = block.step(x[..., start:end], state, final=index == len(edges) - 2)
        parts.append(y)
    return torch.cat(parts, 2)


def by_the_formula(block: Attention, x: Tensor) -> Tensor:
    """The module's text with positions counted from the start, and a matrix of all steps by all steps."""
    config = block.config
    heads, shared = config.heads, config.heads // (config.key_heads or config.heads)
    rows = block.input(x.mT).unflatten(2, (-1, config.channels_of_head)).transpose(1, 2)
    query = rows[:, :heads]
    key, value = (part.repeat_interleave(shared, 1) for part in rows[:, heads:].chunk(2, 1))
    if config.rotary:
        where = torch.arange(x.shape[2])
        query, key = (
            rotate(part, where, base=config.rotary_base, layout=config.rotary) for part in (query, key)
        )
    scores = query @ key.mT / math.sqrt(config.channels_of_head)
    distance = torch.arange(x.shape[2])[:, None] - torch.arange(x.shape[2])
    seen = (distance >= 0) & (distance < (config.window or x.shape[2]))
    weights = scores.masked_fill(~seen, -math.inf).softmax(3)
    return block.output((weights @ value).transpose(1, 2).flatten(2)).mT


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_attention_is_the_formula(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    block = Attention(CONFIGS[name]).double()
    x = torch.randn(2, 16, 23, dtype=torch.float64)
    expected = by_the_formula(block, x)
    for queries in (128, 7, 1):
        monkeypatch.setattr(attention, "_QUERIES", queries)
        torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_layer_is_the_formula() -> None:
    block = transformer(replace(BASE, layers=1)).double()
    x = torch.randn(2, 16, 9, dtype=torch.float64)
    (layer,) = list(block)[1]
    attend, feed = (branch.block for branch in layer)
    norm, heads, scale = attend
    inner = functional.layer_norm(x.mT, (16,), norm.weight, norm.bias, 1e-5).mT
    y = x + scale.scale[:, None] * by_the_formula(heads, inner)
    norm, first, _, second, scale = feed
    hidden = first.linear.weight @ functional.layer_norm(y.mT, (16,), norm.weight, norm.bias, 1e-5).mT
    y = y + scale.scale[:, None] * (second.linear.weight @ functional.gelu(hidden))
    torch.testing.assert_close(block(x), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_any_chunking_gives_one_pass(name: str) -> None:
    block, draw = make(name), random.Random(name)
    for _ in range(12):
        length = draw.randint(1, 40)
        x = torch.randn(draw.randint(1, 3), 16, length, dtype=torch.float64)
        whole = block(x)
        for cuts in ([draw.randint(0, length) for _ in range(draw.randint(0, 8))], list(range(length))):
            torch.testing.assert_close(in_pieces(block, x, cuts), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_padding_does_not_leak(name: str) -> None:
    block = make(name)
    lengths = torch.tensor([17, 30, 1])
    x = torch.randn(3, 16, 30, dtype=torch.float64)
    batch = block(x, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone = block(x[item : item + 1, :, :length])
        torch.testing.assert_close(batch[item : item + 1, :, :length], alone, rtol=0, atol=1e-12)


def test_reach_is_what_a_step_reads() -> None:
    block = make("half")
    assert block.reach == Reach(past=8, future=0, stride=Fraction(1))
    x = torch.randn(1, 16, 30, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x)[0, :, 20].square().sum(), x)
    assert torch.nonzero(gradient[0].abs().sum(0))[:, 0].tolist() == list(range(12, 21))
    assert make("all of the past").reach.past == math.inf


@torch.no_grad()
def test_the_state_has_one_size() -> None:
    block = Attention(BASE)
    state = block.initial_state(1, like=torch.zeros(0))
    for steps in (2, 0, 1, 7, 1, 30, 2):
        _, state = block.step(torch.zeros(1, 16, steps), state)
        assert state[0].shape[3] == state[1].shape[2] == 4


@torch.no_grad()
def test_streams_of_other_ages_share_a_call() -> None:
    block = Attention(BASE)
    x = torch.randn(2, 16, 9)
    _, old = block.step(x[:1, :, :3], block.initial_state(1, like=x))
    young = block.initial_state(1, like=x)
    state = tuple(torch.cat(pair) for pair in zip(old, young))
    y, _ = block.step(torch.cat([x[:1, :, 3:], x[1:, :, :6]]), state)
    expected = torch.cat([block(x[:1])[..., 3:], block(x[1:, :, :6])])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_long_streams_lose_no_digits() -> None:
    block = Attention(BASE)
    keys, values, count = block.initial_state(2, like=torch.zeros(0))
    x = torch.randn(2, 16, 9)
    # Two streams of a batch, which may have begun at different times.
    _, late = block.step(x[..., :4], (keys, values, count + torch.tensor([10**8, 0])))
    torch.testing.assert_close(block.step(x[..., 4:], late)[0], block(x)[..., 4:], rtol=0, atol=1e-6)


@torch.no_grad()
def test_no_matrix_of_all_steps_by_all_steps() -> None:
    block = Attention(replace(BASE, window=50))
    sizes = []

    def watched(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        sizes.append(query.shape[2] * key.shape[3])
        return products.attention(query, key, value, mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "attention", watched)
        block(torch.randn(1, 16, 5000))
    assert len(sizes) == 40
    assert max(sizes) <= 128 * (128 + 49)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "width is 16, expected a multiple of heads, 3"),
        ({"window": 0}, "window is 0, expected at least 1 or null"),
        ({"layers": 0}, "layers is 0, expected at least 1"),
        ({"heads": 2, "key_heads": 4}, "heads is 2, expected a multiple of key_heads, 4"),
        ({"head_width": 5}, "a head has 5 channels, expected an even number"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BASE, **changes)


def test_rotation_turns_pairs_and_depends_on_distance_alone() -> None:
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    where = torch.arange(7)
    pairs = torch.view_as_complex(x.unflatten(2, (3, 2)).contiguous())
    angles = where[:, None] * 100.0 ** (-torch.arange(3, dtype=torch.float64) / 3)
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(2)
    torch.testing.assert_close(rotate(x, where, base=100.0), expected)
    halves = x.unflatten(2, (3, 2)).mT.flatten(2)
    found = rotate(halves, where, base=100.0, layout="half").unflatten(2, (2, 3)).mT.flatten(2)
    torch.testing.assert_close(found, expected)
    near, far = rotate(x, where), rotate(x, where + 12345)
    torch.testing.assert_close(near @ near.mT, far @ far.mT, rtol=0, atol=1e-9)
