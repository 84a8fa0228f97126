"""Adversarial losses and the balancer, against recorded values and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from audiotokens.training.adversarial import (
    Balancer,
    discriminator_loss,
    feature_loss,
    generator_loss,
    judged_right,
)
from audiotokens.training.discriminators import Verdict
from audiotokens.training.discriminators.base import convolution, run_layers


def verdict(logits: list[float], *features: list[float]) -> Verdict:
    return Verdict(torch.tensor(logits)[None, None], tuple(torch.tensor(f)[None] for f in features))


def test_hinge_and_least_squares_by_hand() -> None:
    real, fake = [verdict([2.0, 0.5])], [verdict([-3.0, 0.0])]
    assert float(discriminator_loss(real, fake, "hinge")) == pytest.approx(0.25 + 0.5)
    assert float(discriminator_loss(real, fake, "least-squares")) == pytest.approx(0.625 + 4.5)
    assert float(generator_loss(fake, "hinge")) == pytest.approx(2.5)
    assert float(generator_loss(fake, "least-squares")) == pytest.approx(8.5)
    assert float(generator_loss([*fake, verdict([9.0])], "hinge")) == pytest.approx(1.25)


def test_feature_matching_by_hand_has_no_gradient_to_the_real() -> None:
    real = [verdict([0.0], [1.0, -3.0], [10.0])]
    fake = [verdict([0.0], [2.0, -3.0], [5.0])]
    for features in (*real[0].features, *fake[0].features):
        features.requires_grad_()
    assert float(feature_loss(real, fake, "absolute").detach()) == pytest.approx((0.5 + 5) / 2)
    loss = feature_loss(real, fake, "relative")
    assert float(loss.detach()) == pytest.approx((0.5 / 2 + 0.5) / 2)
    loss.backward()
    assert real[0].features[0].grad is None
    assert fake[0].features[0].grad is not None


def test_feature_matching_of_half_precision_is_summed_in_float32() -> None:
    features = [torch.rand(1, 8, 40000, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    half = [Verdict(torch.zeros(1, 1, 1), (feature.bfloat16(),)) for feature in features]
    whole = [Verdict(torch.zeros(1, 1, 1), (feature,)) for feature in features]
    for kind in ("absolute", "relative"):
        found = feature_loss(half[:1], half[1:], kind)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, feature_loss(whole[:1], whole[1:], kind), rtol=1e-3, atol=0)


def test_layers_pass_on_the_layout_that_gpus_convolve_in() -> None:
    torch.manual_seed(0)
    layers = [convolution(2, 4, (3, 9), dilation=(1, 2)), convolution(4, 4, (3, 3), stride=(1, 2))]
    x = torch.randn(2, 2, 12, 33)
    last = x.contiguous(memory_format=torch.channels_last)
    for plain, found in zip(run_layers(layers, x, 0.1), run_layers(layers, last, 0.1), strict=True):
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, plain)


def test_shares_judged_right() -> None:
    real, fake = [verdict([0.2, -1.0, 0.7, 0.9])], [verdict([0.2, -1.0])]
    shares = judged_right(real, fake, "hinge")
    assert (float(shares["real_right"]), float(shares["fake_right"])) == (0.75, 0.5)
    shares = judged_right(real, fake, "least-squares")
    assert (float(shares["real_right"]), float(shares["fake_right"])) == (0.5, 1.0)


CASES = {
    "rescale_per_item": {},
    "rescale_whole": {"per_item": False, "decay": 0.9},
    "no_rescale": {"rescale": False},
    "total_norm2": {"norm": 2.0, "decay": 0.5},
}


def recorded_losses(step: int, tensors: np.ndarray) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Input and losses of a step of the recorded run."""
    a, b, c = (torch.from_numpy(tensors[3 * step + i]) for i in range(3))
    a.requires_grad_()
    losses = {
        "l1": (a - b).abs().mean(),
        "l2": (a - c).square().sum(),
        "cos": -functional.cosine_similarity(a, b, dim=-1).mean(),
    }
    return a, losses


@pytest.mark.parametrize("name", CASES)
def test_the_balancer_follows_the_recorded_run(shared: Path, name: str) -> None:
    folder = shared / "parity" / "losses"
    tensors = np.load(folder / "balancer_tensors.npy")
    recorded = json.loads((folder / "balancer.json").read_text())
    expected = np.load(folder / f"balancer_{name}.grad.npy")
    balancer = Balancer(**CASES[name])
    for step in range(3):
        output, losses = recorded_losses(step, tensors)
        gradient, _ = balancer.gradient(losses, output, recorded["weights"])
        # What the recorded run left on the input is the balanced gradient plus the plain sum of gradients.
        (plain,) = torch.autograd.grad(sum(losses.values()), [output])
        left = gradient + plain
        assert np.abs(left.numpy() - expected[step]).max() <= 1e-5 * np.abs(expected[step]).max()
        means = {key: float(pair[0] / pair[1]) for key, pair in balancer.tensors().items()}
        for key, ratio in recorded["cases"][name]["ratios"][step].items():
            assert means[key.removeprefix("ratio_")] / sum(means.values()) == pytest.approx(ratio, rel=1e-4)


def test_the_balancer_goes_on_from_its_stored_means(shared: Path) -> None:
    folder = shared / "parity" / "losses"
    tensors = np.load(folder / "balancer_tensors.npy")
    weights = json.loads((folder / "balancer.json").read_text())["weights"]
    whole, first, second = (Balancer(decay=0.5) for _ in range(3))
    for step, balancer in enumerate((first, first, second)):
        if balancer is second and not second.tensors():
            second.restore(first.tensors(), torch.device("cpu"))
        output, losses = recorded_losses(step, tensors)
        parts, _ = balancer.gradient(losses, output, weights)
        full, _ = whole.gradient(losses, output, weights)
        assert torch.equal(parts, full)


def test_balanced_shares_do_not_depend_on_units() -> None:
    output = torch.randn(4, 1, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = {"a": output.square().sum(), "b": output.abs().sum()}
    scaled = {"a": 1e4 * losses["a"], "b": losses["b"]}
    weights = {"a": 3.0, "b": 1.0, "absent": 5.0}
    plain, _ = Balancer().gradient(losses, output, weights)
    same, _ = Balancer().gradient(scaled, output, weights)
    assert torch.allclose(plain, same, rtol=1e-4)
