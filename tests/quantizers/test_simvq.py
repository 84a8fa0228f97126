from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import SimVectorQuantizer, SimVQConfig


def quantizer(**changes: Any) -> SimVectorQuantizer:
    torch.manual_seed(0)
    return SimVectorQuantizer(6, SimVQConfig(**{"codebook_size": 32, **changes}))


def sample(items: int = 3, frames: int = 200) -> Tensor:
    return torch.randn(items, 6, frames, generator=torch.Generator().manual_seed(1))


def rows(latents: Tensor) -> Tensor:
    return latents.mT.flatten(0, 1)


@pytest.mark.parametrize("frozen_dim", [None, 3, 9])
def test_codes_are_those_of_the_nearest_mapped_entries(frozen_dim: int | None) -> None:
    sim, latents = quantizer(frozen_dim=frozen_dim), sample()
    book = sim.frozen @ sim.transform.weight.T
    torch.testing.assert_close(sim.book, book)
    expected = torch.cdist(rows(latents).double(), book.double()).argmin(1).view(3, 1, 200)
    out = sim(latents)
    assert torch.equal(out.codes, expected) and torch.equal(sim.encode(latents), expected)
    torch.testing.assert_close(out.latents, book[expected[:, 0]].mT)
    torch.testing.assert_close(sim.decode(expected), out.latents)
    assert torch.equal(sim.encode(latents[1:2, :, :7]), expected[1:2, :, :7])


def test_gradients_are_straight_through_and_move_the_map_only() -> None:
    sim, latents = quantizer(codebook_weight=2.0), sample().requires_grad_()
    out, weight = sim(latents), torch.randn(3, 6, 200)
    (straight,) = torch.autograd.grad((out.latents * weight).sum(), latents, retain_graph=True)
    assert torch.equal(straight, weight)
    error = rows(latents - out.latents).detach()
    (pull,) = torch.autograd.grad(out.losses["commitment"], latents, retain_graph=True)
    torch.testing.assert_close(rows(pull), 0.25 * 2 * error / error.numel())
    (moved,) = torch.autograd.grad(out.losses["codebook"], sim.transform.weight)
    chosen = sim.frozen[out.codes.flatten()]
    torch.testing.assert_close(moved, 2.0 * -2 * error.T @ chosen / error.numel())
    assert [name for name, _ in sim.named_parameters()] == ["transform.weight"]


def test_one_step_moves_entries_that_win_nothing() -> None:
    sim, latents = quantizer(), sample(1, 2)
    before, out = sim.book.detach().clone(), sim(latents)
    out.losses["codebook"].backward()
    torch.optim.SGD(sim.parameters(), lr=0.1).step()
    assert ((sim.book - before).abs().amax(1) > 0).all()
    assert len(out.codes.unique()) <= 2


def test_rotation_gives_the_same_values() -> None:
    latents = sample()
    straight, turned = quantizer()(latents), quantizer(gradient="rotation")(latents.requires_grad_())
    assert torch.equal(straight.latents, turned.latents)
    (gradient,) = torch.autograd.grad(turned.latents.square().sum(), latents)
    entries, vectors = rows(turned.latents).detach(), rows(latents).detach()
    lengths = 2 * entries.norm(dim=1) * entries.norm(dim=1) / vectors.norm(dim=1)
    torch.testing.assert_close(rows(gradient).norm(dim=1), lengths)


def test_padding_autocast_and_ties_change_nothing() -> None:
    sim, latents = quantizer(), sample(1, 50)
    with torch.no_grad():
        sim.frozen[16:] = sim.frozen[:16]
    alone = sim(latents)
    assert int(alone.codes.max()) < 16 and int(sim.encode(latents).max()) < 16
    padded = torch.cat([latents, torch.full((1, 6, 30), 1e3)], 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, encoded = sim(padded, mask=torch.arange(80)[None] < 50), sim.encode(latents)
    assert torch.equal(out.codes[:, :, :50], alone.codes) and torch.equal(encoded, alone.codes)
    for key, value in alone.losses.items():
        torch.testing.assert_close(out.losses[key], value)
    nothing = sim(padded, mask=torch.zeros(1, 80, dtype=torch.bool))
    assert all(value.detach() == 0 for value in nothing.losses.values())


def test_state_is_the_fixed_book_and_the_map() -> None:
    assert list(quantizer().state_dict()) == ["frozen", "transform.weight"]


def test_configuration() -> None:
    config = SimVQConfig(frozen_dim=8, gradient="rotation")
    assert from_dict(SimVQConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="codebook_size is 1"):
        from_dict(SimVQConfig, {"kind": "sim-vq", "codebook_size": 1})
    with pytest.raises(ConfigError, match="frozen_dim is 0"):
        from_dict(SimVQConfig, {"kind": "sim-vq", "frozen_dim": 0})
