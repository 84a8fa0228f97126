"""Noise blocks: off unless told, equal for any chunks, fresh in training; the generator behind them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiotokens.nn.noise import gaussian_noise
from audiotokens.nn.noise_block import NoiseBlock

X = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0))


def block(layer: int = 0, seed: int | None = None) -> NoiseBlock:
    torch.manual_seed(0)
    return NoiseBlock(3, layer=layer, seed=seed).eval()


def in_pieces(noisy: NoiseBlock, sizes: list[int]) -> Tensor:
    state, parts = noisy.initial_state(2, like=X), []
    for piece in torch.split(X, sizes, 2):
        part, state = noisy.step(piece, state)
        parts.append(part)
    return torch.cat(parts, 2)


@torch.no_grad()
def test_it_is_off_without_a_seed() -> None:
    assert torch.equal(block()(X), X)


@torch.no_grad()
def test_it_is_the_equation() -> None:
    noisy = block(layer=2, seed=5)
    n = gaussian_noise(0, 40, seed=5, stream=2)
    torch.testing.assert_close(noisy(X), X + n * (noisy.linear.weight[..., 0] @ X))


@torch.no_grad()
def test_pieces_and_neighbours_change_nothing() -> None:
    noisy = block(seed=1)
    whole = noisy(X)
    for sizes in ([40], [1] * 40, [13, 0, 27]):
        torch.testing.assert_close(in_pieces(noisy, sizes), whole)
    torch.testing.assert_close(noisy(X[1:]), whole[1:])


@torch.no_grad()
def test_seeds_and_layers_differ() -> None:
    found = [block(layer, seed)(X) for layer, seed in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
    assert torch.equal(block(1, 1)(X), found[3])


def test_training_draws_afresh_for_each_item() -> None:
    noisy = block(seed=1).train()
    assert noisy.draws
    first, second = noisy(X), noisy(X)
    assert not torch.equal(first, second)
    same = noisy(X[:1].expand(2, -1, -1))
    assert not torch.equal(same[0], same[1])
    first.sum().backward()
    assert noisy.linear.weight.grad is not None


def test_gaussian_noise_is_gaussian_and_counted() -> None:
    n = gaussian_noise(0, 200_000, seed=3).double()
    assert abs(float(n.mean())) < 0.01 and abs(float(n.std()) - 1) < 0.01
    assert abs(float((n**4).mean()) - 3) < 0.1
    assert abs(float((n[1:] * n[:-1]).mean())) < 0.01
    other = gaussian_noise(0, 200_000, seed=3, stream=1).double()
    assert abs(float((n * other).mean())) < 0.01
    assert torch.equal(gaussian_noise(1234, 50, seed=3), gaussian_noise(0, 2000, seed=3)[1234:1284])
    # By counter, so that it is the same everywhere and for ever.
    assert gaussian_noise(0, 3, seed=0).tolist() == pytest.approx(
        [-0.4945788, -0.8771413, -2.6955926], abs=1e-6
    )
