"""Learning rate, groups of the optimizer, running mean."""

from __future__ import annotations

import pytest
import torch

from audiotokens.training.build import build_codec
from audiotokens.training.config import OptimizerConfig, Recipe, ScheduleConfig
from audiotokens.training.optimize import Average, learning_rate_share, make_optimizer


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = ScheduleConfig(steps=1000, warmup=100, final_share=0.03)
    shares = [learning_rate_share(schedule, step) for step in range(1000)]
    assert shares[0] == pytest.approx(0.01)
    assert shares[99] == 1
    assert shares[549] == pytest.approx(0.515, abs=0.01)
    assert shares[-1] == pytest.approx(0.03)
    assert all(later < former for former, later in zip(shares[99:], shares[100:], strict=False))


def test_an_extension_is_a_warm_restart() -> None:
    schedule = ScheduleConfig(steps=1000, warmup=100, final_share=0.03, extensions=(2000,))
    plain = ScheduleConfig(steps=1000, warmup=100, final_share=0.03)
    assert learning_rate_share(schedule, 500) == learning_rate_share(plain, 500)
    assert learning_rate_share(schedule, 1000) == pytest.approx(0.03 + 0.97 / 100)
    assert learning_rate_share(schedule, 1099) == 1
    assert learning_rate_share(schedule, 1999) == pytest.approx(0.03)


def test_the_learning_rate_is_constant_until_the_cooldown() -> None:
    schedule = ScheduleConfig(steps=1000, warmup=10, final_share=0.0, cooldown=400)
    shares = [learning_rate_share(schedule, step) for step in range(1000)]
    assert set(shares[9:600]) == {1.0}
    assert shares[699] == pytest.approx(1 - 0.25**0.5)
    assert shares[-1] == 0.0
    assert learning_rate_share(ScheduleConfig(steps=5000, warmup=10, cooldown=400), 500) == shares[500]


def test_only_matrices_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    optimizer = make_optimizer(module, OptimizerConfig(weight_decay=0.5))
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.5, 1: 0.0}


def test_the_running_mean_follows(recipe: Recipe) -> None:
    codec = build_codec(recipe)
    average = Average(codec, decay=0.9)
    name = "quantizer.levels.0.book"
    books = dict(codec.named_buffers())[name]
    with torch.no_grad():
        before = average.tensors()[name].clone()
        books += 1
    average.update(0)
    assert torch.allclose(average.tensors()[name], before + 0.9, atol=1e-5)
    average.update(10000)
    assert torch.allclose(average.tensors()[name], before + 0.91, atol=1e-5)
    average.reset()
    assert torch.equal(average.tensors()[name], books)
    assert not any(parameter.requires_grad for parameter in average.codec.parameters())
