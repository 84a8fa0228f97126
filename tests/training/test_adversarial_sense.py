"""Adversarial training can work at all: discriminators find noise, and their gradient takes it away."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiotokens.training.adversarial import discriminator_loss, feature_loss, generator_loss, judged_right
from audiotokens.training.discriminators import (
    BandDiscriminatorConfig,
    DiscriminatorConfig,
    Discriminators,
    PeriodDiscriminatorConfig,
    ScaleDiscriminatorConfig,
    STFTDiscriminatorConfig,
)

SMALL: dict[str, DiscriminatorConfig] = {
    "stft": STFTDiscriminatorConfig(windows=(128,), channels=8),
    "compressed": STFTDiscriminatorConfig(windows=(128,), channels=8, spectrum="compressed"),
    "period": PeriodDiscriminatorConfig(periods=(2, 3), channels=(8, 16, 32)),
    "band": BandDiscriminatorConfig(windows=(128,), channels=8),
    "scale": ScaleDiscriminatorConfig(factors=(1,), channels=4),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def clean(random: torch.Generator, items: int = 8) -> Tensor:
    """Harmonic tones of random pitch, `[B, 1, 1024]`."""
    time = torch.arange(1024)
    pitch, phase = 0.02 + 0.06 * torch.rand(2, items, 1, 1, generator=random)
    return sum(0.3 / k * torch.sin(2 * torch.pi * k * (pitch * time + phase)) for k in range(1, 5))


def modulated(sound: Tensor, amount: Tensor | float, random: torch.Generator) -> Tensor:
    """Noise in proportion to the sound, as coarse quantization makes it."""
    return sound * (1 + amount * torch.randn(sound.shape, generator=random))


def trained(
    config: DiscriminatorConfig, *, noise: float, steps: int
) -> tuple[Discriminators, torch.Generator]:
    torch.manual_seed(0)
    discriminators = Discriminators([config])
    optimizer = torch.optim.AdamW(discriminators.parameters(), lr=4e-3, betas=(0.5, 0.9))
    random = torch.Generator().manual_seed(1)
    for _ in range(steps):
        real, fake = clean(random), modulated(clean(random), noise, random)
        loss = discriminator_loss(discriminators(real), discriminators(fake), "hinge")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return discriminators.requires_grad_(False), random


def share_right(discriminators: Discriminators, real: Tensor, fake: Tensor) -> float:
    shares = judged_right(discriminators(real), discriminators(fake), "hinge")
    return float(shares["real_right"] + shares["fake_right"]) / 2


@pytest.mark.parametrize(
    "name", [name if name == "compressed" else pytest.param(name, marks=pytest.mark.slow) for name in SMALL]
)
def test_noise_is_found_and_both_losses_take_it_away(name: str) -> None:
    discriminators, random = trained(SMALL[name], noise=0.5, steps=60)
    real = clean(random)
    assert share_right(discriminators, real, modulated(real, 0.5, random)) > 0.65
    for kind in ("adversarial", "feature"):
        amount = torch.tensor(0.5, requires_grad=True)
        optimizer = torch.optim.Adam([amount], lr=0.02)
        for _ in range(15):
            verdicts = discriminators(modulated(real, amount, random))
            if kind == "adversarial":
                loss = generator_loss(verdicts, "hinge")
            else:
                loss = feature_loss(discriminators(real), verdicts, "relative")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert abs(float(amount.detach())) < 0.3, kind


def test_nothing_is_found_where_nothing_is() -> None:
    discriminators, random = trained(SMALL["stft"], noise=0.0, steps=60)
    assert share_right(discriminators, clean(random, 32), clean(random, 32)) < 0.6
