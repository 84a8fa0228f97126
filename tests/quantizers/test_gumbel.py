from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import GumbelConfig, GumbelQuantizer, Temperature

both = pytest.mark.parametrize("logits", ["learned", "distance"])


def quantizer(dim: int = 6, **changes: Any) -> GumbelQuantizer:
    torch.manual_seed(0)
    return GumbelQuantizer(dim, GumbelConfig(**{"codebook_size": 8, **changes}))


def sample(items: int = 3, frames: int = 100) -> Tensor:
    return torch.randn(items, 6, frames, generator=torch.Generator().manual_seed(1))


def rows(latents: Tensor) -> Tensor:
    return latents.mT.flatten(0, 1)


def logits_of(gumbel: GumbelQuantizer, latents: Tensor) -> Tensor:
    if gumbel.head is None:
        return -torch.cdist(rows(latents), gumbel.book).square()
    return rows(latents) @ gumbel.head.weight.T + gumbel.head.bias


@both
@pytest.mark.parametrize("start", [0.5, 4.0])
def test_codes_are_drawn_by_the_softmax_of_the_logits_at_any_temperature(logits: str, start: float) -> None:
    gumbel = quantizer(logits=logits, temperature=Temperature(start=start)).train()
    latents = sample(1, 1) * 0.5
    torch.manual_seed(5)
    codes = gumbel(latents.expand(1, 6, 40000)).codes.flatten()
    expected = torch.softmax(logits_of(gumbel, latents)[0].detach(), 0) * 40000
    found = torch.bincount(codes, minlength=8)
    # Chi squared of 7 degrees of freedom: above 29.9 with probability 1e-4.
    assert float(((found - expected).square() / expected).sum()) < 29.9


@both
def test_values_are_entries_and_gradients_those_of_the_soft_sample(logits: str) -> None:
    gumbel, latents = quantizer(logits=logits).train(), sample().requires_grad_()
    torch.manual_seed(7)
    out = gumbel(latents)
    assert torch.equal(out.latents, gumbel.book[out.codes[:, 0]].mT)
    weight = torch.randn_like(latents)
    inputs = [latents, *gumbel.parameters()]
    found = torch.autograd.grad((out.latents * weight).sum(), inputs)
    torch.manual_seed(7)
    noise = -torch.empty(300, 8).exponential_().log()
    soft = torch.softmax((logits_of(gumbel, latents) + noise) / 2.0, 1)
    assert torch.equal(soft.argmax(1), out.codes.flatten())
    # To the latents and the logits by the soft sample, to the entries by the hard one.
    through = (rows(weight) * (soft @ gumbel.book.detach())).sum()
    direct = (rows(weight) * gumbel.book[out.codes.flatten()]).sum()
    expected = torch.autograd.grad(through + direct, inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@both
def test_inference_takes_the_likeliest_code(logits: str) -> None:
    gumbel, latents = quantizer(logits=logits).eval(), sample()
    expected = logits_of(gumbel, latents).argmax(1).view(3, 1, 100)
    out = gumbel(latents)
    assert torch.equal(out.codes, expected) and out.statistics == {}
    assert torch.equal(out.latents, gumbel.decode(expected))
    assert torch.equal(gumbel.encode(latents), expected)
    assert torch.equal(gumbel.encode(latents[1:2, :, :7]), expected[1:2, :, :7])
    torch.testing.assert_close(gumbel.scores(rows(latents)), -logits_of(gumbel, latents))


def test_temperature_falls_with_every_update_to_its_end() -> None:
    gumbel = quantizer(temperature=Temperature(start=2.0, end=0.5, decay=0.9)).train()
    for step in range(30):
        assert math.isclose(gumbel.temperature, max(0.5, 2.0 * 0.9**step), rel_tol=1e-5)
        gumbel.update(gumbel(sample()).statistics)
    assert float(gumbel.temperature) == 0.5
    assert gumbel.head is not None and "updates" not in gumbel.state_dict()


def test_the_default_temperature_falls_in_steps_that_float32_tells_apart() -> None:
    gumbel = quantizer()
    gumbel.updates.fill_(200_000)
    assert math.isclose(gumbel.temperature, 2.0 * 0.999995**200_000, rel_tol=1e-5)


def test_diversity_is_the_negative_entropy_of_the_mean_per_entry() -> None:
    gumbel, latents = quantizer(diversity=0.3).train(), sample()
    mean = torch.softmax(logits_of(gumbel, latents), 1).mean(0)
    expected = 0.3 * (mean * mean.log()).sum() / 8
    torch.testing.assert_close(gumbel(latents).losses["diversity"], expected)
    assert quantizer(diversity=0.0)(latents).losses == {}


@both
def test_padding_changes_no_loss_and_no_count(logits: str) -> None:
    gumbel, latents = quantizer(logits=logits).train(), sample(1, 50)
    padded = torch.cat([latents, torch.full((1, 6, 30), 9.0)], 2)
    torch.manual_seed(3)
    alone = gumbel(latents)
    torch.manual_seed(3)
    out = gumbel(padded, mask=torch.arange(80)[None] < 50)
    torch.testing.assert_close(out.losses["diversity"], alone.losses["diversity"])
    counts = torch.bincount(out.codes[0, 0, :50], minlength=8)
    assert torch.equal(out.statistics["sum_counts"], counts)
    nothing = gumbel(padded, mask=torch.zeros(1, 80, dtype=torch.bool))
    assert float(nothing.losses["diversity"]) == 0


@both
def test_autocast_and_ties_change_nothing(logits: str) -> None:
    gumbel, latents = quantizer(logits=logits).eval(), sample()
    with torch.no_grad():
        gumbel.book[4:] = gumbel.book[:4]
        if gumbel.head is not None:
            gumbel.head.weight[4:] = gumbel.head.weight[:4]
            gumbel.head.bias[4:] = gumbel.head.bias[:4]
    codes = gumbel(latents).codes
    assert int(codes.max()) < 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gumbel(latents).codes, codes)
        assert torch.equal(gumbel.encode(latents), codes)


def test_draws_repeat_under_a_seed() -> None:
    gumbel = quantizer().train()
    codes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        codes.append(gumbel(sample()).codes)
    assert torch.equal(codes[0], codes[1]) and not torch.equal(codes[0], codes[2])


def test_entries_may_have_dimensions_of_their_own() -> None:
    gumbel = quantizer(codebook_dim=3)
    assert sorted(gumbel.state_dict()) == [
        "book",
        "head.bias",
        "head.weight",
        "project_out.bias",
        "project_out.weight",
    ]
    assert gumbel.train()(sample()).latents.shape == (3, 6, 100)
    near = quantizer(codebook_dim=3, logits="distance").eval()
    assert "project_in.weight" in near.state_dict() and "head.weight" not in near.state_dict()
    assert torch.equal(near(sample()).codes, near.encode(sample()))


def test_distances_start_from_k_means() -> None:
    gumbel, latents = quantizer(logits="distance").eval(), sample()
    before = (gumbel(latents).latents - latents).square().mean()
    gumbel.initialize(rows(latents), generator=torch.Generator().manual_seed(0))
    assert (gumbel(latents).latents - latents).square().mean() < before


def test_configuration() -> None:
    config = GumbelConfig(logits="distance", temperature=Temperature(1.0, 0.1, 0.5))
    assert from_dict(GumbelConfig, to_dict(config)) == config
    for values, message in (
        ({"codebook_size": 1}, "codebook_size is 1"),
        ({"codebook_dim": 0}, "codebook_dim is 0"),
        ({"temperature": {"start": 0.1}}, "expected 0 < end <= start"),
        ({"temperature": {"decay": 1.1}}, "0 < decay <= 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            from_dict(GumbelConfig, {"kind": "gumbel", **values})
