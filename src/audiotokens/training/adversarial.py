"""Adversarial losses, and the balancer that weighs losses by their gradients.

Notation: x real, y from the codec; D_k(x) logits of sub-discriminator k, F_kl(x) activations of its layer l.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.training.discriminators import Verdict

AdversarialKind = Literal["hinge", "least-squares"]
FeatureKind = Literal["absolute", "relative"]


def discriminator_loss(real: Sequence[Verdict], fake: Sequence[Verdict], kind: AdversarialKind) -> Tensor:
    """Loss of the discriminators, mean over k.

    hinge: mean max(1 - D_k(x), 0) + mean max(1 + D_k(y), 0) (Lim and Ye 2017);
    least-squares: mean (1 - D_k(x))^2 + mean D_k(y)^2 (Mao et al. 2017).

    Args:
        real: verdicts about real sound.
        fake: verdicts about the codec's sound, from which no gradient should reach the codec.
        kind: of the loss.
    """
    losses = []
    for x, y in zip(real, fake, strict=True):
        true, false = x.logits.float(), y.logits.float()
        if kind == "hinge":
            losses.append(functional.relu(1 - true).mean() + functional.relu(1 + false).mean())
        else:
            losses.append((1 - true).square().mean() + false.square().mean())
    return torch.stack(losses).mean()


def generator_loss(fake: Sequence[Verdict], kind: AdversarialKind) -> Tensor:
    """Adversarial loss of the codec, mean over k.

    hinge: mean max(1 - D_k(y), 0) (Zeghidour et al. 2021, equation 6); least-squares: mean (1 - D_k(y))^2.
    """
    losses = []
    for verdict in fake:
        distance = 1 - verdict.logits.float()
        losses.append((functional.relu(distance) if kind == "hinge" else distance.square()).mean())
    return torch.stack(losses).mean()


def feature_loss(real: Sequence[Verdict], fake: Sequence[Verdict], kind: FeatureKind) -> Tensor:
    """Feature matching, mean over k and l.

    absolute: mean |F_kl(x) - F_kl(y)| (Kumar et al. 2019, equation 3); relative: that divided by
    mean |F_kl(x)| (Défossez et al. 2022, equation 2), so that every layer counts alike.
    """
    losses = []
    for x, y in zip(real, fake, strict=True):
        for true, false in zip(x.features, y.features, strict=True):
            true = true.detach()
            # Sums are float32 also over bfloat16 features, without copies of them.
            distance = (true - false).abs().mean(dtype=torch.float32)
            if kind == "relative":
                distance = distance / true.abs().mean(dtype=torch.float32).clamp(min=1e-8)
            losses.append(distance)
    return torch.stack(losses).mean()


@torch.no_grad()
def judged_right(
    real: Sequence[Verdict], fake: Sequence[Verdict], kind: AdversarialKind
) -> dict[str, Tensor]:
    """Shares of the logits on the right side of the middle: "real_right" and "fake_right", means over k."""
    middle = 0.0 if kind == "hinge" else 0.5
    true = torch.stack([(verdict.logits > middle).float().mean() for verdict in real])
    false = torch.stack([(verdict.logits < middle).float().mean() for verdict in fake])
    return {"real_right": true.mean(), "fake_right": false.mean()}


class Balancer:
    """Weighs losses by their gradients g_i at the output (Défossez et al. 2022, section 3.4).

        n_i = mean over items of ||g_i||,  m_i = sum_j beta^j n_i(t - j) / sum_j beta^j
        g = sum_i g_i (w_i / sum w) norm / (epsilon + m_i)

    where the sum of w runs over the losses of this step. Weights so are shares of the gradient, and do not
    depend on the units of the losses.

    Args:
        decay: beta.
        norm: of the summed gradient of one item, if all point the same way.
        per_item: False takes n_i = ||g_i|| of the whole batch.
        rescale: False only adds w_i g_i, for comparison.
        epsilon: added to the norms.
    """

    def __init__(
        self,
        decay: float = 0.999,
        *,
        norm: float = 1.0,
        per_item: bool = True,
        rescale: bool = True,
        epsilon: float = 1e-12,
    ) -> None:
        self._decay, self._norm, self._per_item = decay, norm, per_item
        self._rescale, self._epsilon = rescale, epsilon
        self._means: dict[str, Tensor] = {}

    def gradient(
        self, losses: Mapping[str, Tensor], output: Tensor, weights: Mapping[str, float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the balanced gradient at `output`, like it, and each loss's own gradient norm n_i.

        Args:
            losses: scalars that depend on `output`; their graphs are kept.
            output: what the codec made, `[B, ...]`.
            weights: of each loss.
        """
        total_weight = sum(weights[name] for name in losses)
        total, norms = torch.zeros_like(output), {}
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, [output], retain_graph=True)
            norms[name] = gradient.flatten(1).norm(dim=1).mean() if self._per_item else gradient.norm()
            if self._rescale:
                share = weights[name] / total_weight * self._norm
                total = total + gradient * (share / (self._epsilon + self._mean(name, norms[name])))
            else:
                total = total + weights[name] * gradient
        return total, norms

    def _mean(self, name: str, norm: Tensor) -> Tensor:
        """Bias-corrected moving mean; the pair is the decayed sum and its weight."""
        present = torch.stack([norm, torch.ones_like(norm)])
        if name in self._means:
            present = present + self._decay * self._means[name]
        self._means[name] = present
        return present[0] / present[1]

    def tensors(self) -> dict[str, Tensor]:
        """The moving means, to be stored."""
        return dict(self._means)

    def restore(self, stored: Mapping[str, Tensor], device: torch.device) -> None:
        """Put back what `tensors` returned."""
        self._means = {name: tensor.to(device) for name, tensor in stored.items()}
