"""The adversarial phase of a run: discriminators that learn beside the codec, and what they ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiotokens.codec import Codec
from audiotokens.training.adversarial import (
    Balancer,
    discriminator_loss,
    feature_loss,
    generator_loss,
    judged_right,
)
from audiotokens.training.checkpoint import (
    module_tensors,
    optimizer_tensors,
    restore_optimizer,
    restore_tensors,
)
from audiotokens.training.config import AdversarialConfig
from audiotokens.training.discriminators import Discriminators, Verdict
from audiotokens.training.optimize import Average, make_optimizer


@dataclass(frozen=True)
class Part:
    """One term of the loss: `weight` times the scalar `value`."""

    weight: float
    value: Tensor


def total(parts: Mapping[str, Part]) -> Tensor:
    """Weighted sum of parts, in their order."""
    first, *others = (part.weight * part.value for part in parts.values())
    for other in others:
        first = first + other
    return first


class Adversary:
    """Discriminators, their optimizer and the balancer of one run.

    Args:
        config: of the phase.
        codec: in training.
        seed: of the discriminators' first weights.
        bfloat16: whether they run under autocast; spectra and losses are float32 in any case.
    """

    def __init__(self, config: AdversarialConfig, codec: Codec, *, seed: int, bfloat16: bool) -> None:
        self.config, self._codec, self._bfloat16 = config, codec, bfloat16
        self._device = codec.device
        self._prefixes = torch.tensor(codec.spec.legal_prefixes, device=self._device)
        conditions = len(self._prefixes) if config.conditional else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = Discriminators(config.discriminators, channels=codec.spec.channels, conditions=conditions)
        self.discriminators = made.to(self._device).train()
        self.optimizer = make_optimizer(self.discriminators, config.optimizer)
        balancer = config.balancer
        self.balancer = (
            Balancer(balancer.decay, norm=balancer.norm, per_item=balancer.per_item) if balancer else None
        )

    def prepare(self, step: int, average: Average) -> bool:
        """Freeze what the phase does not train; return whether the books may learn at this step.

        Where only the decoder is trained, the phase begins from the running mean, whose encoder and books are
        those that are exported: so codes stay what they were.
        """
        if step < self.config.start or self.config.train == "all":
            return True
        if step == self.config.start:
            self._codec.load_state_dict(average.codec.state_dict())
        self._codec.encoder_net.requires_grad_(False)
        self._codec.quantizer.requires_grad_(False)
        for parameter in self._codec.quantizer.decoding_parameters():
            parameter.requires_grad_(True)
        return False

    def backward(
        self, step: int, real: Tensor, output: Tensor, books: Tensor, parts: Mapping[str, Part], share: float
    ) -> dict[str, Tensor]:
        """Train the discriminators, then compute the codec's gradients; return figures for the log.

        Args:
            step: of the run.
            real: what went in, `[B, 1, T]`.
            output: what the codec made of it, like it.
            books: in use, `[B]`.
            parts: all other terms of the codec's loss.
            share: of the discriminators' learning rate.
        """
        condition = torch.searchsorted(self._prefixes, books) if self.config.conditional else None
        figures = self._learn(real, output.detach(), condition, share)
        weight = self.config.ramp_at(step)
        if weight > 0:
            asked = self._asked(real, output, condition, weight)
            figures |= {name: part.value.detach() for name, part in asked.items()}
            parts = {**parts, **asked}
        if self.balancer is None or weight == 0:
            total(parts).backward()
            return figures
        return figures | self._backward_balanced(self.balancer, output, parts)

    def _learn(self, real: Tensor, fake: Tensor, condition: Tensor | None, share: float) -> dict[str, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.optimizer.learning_rate * share
        self.discriminators.requires_grad_(True)
        both = torch.cat([real, fake.to(real.dtype)])
        verdicts = self._judge(both, None if condition is None else condition.repeat(2))
        true = [_half(verdict, slice(0, len(real))) for verdict in verdicts]
        false = [_half(verdict, slice(len(real), None)) for verdict in verdicts]
        loss = discriminator_loss(true, false, self.config.loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self.discriminators.parameters(), self.config.optimizer.clip_norm
        )
        self.optimizer.step()
        shares = judged_right(true, false, self.config.loss)
        return {"discriminator_loss": loss.detach(), "discriminator_gradient_norm": norm, **shares}

    def _asked(
        self, real: Tensor, output: Tensor, condition: Tensor | None, weight: float
    ) -> dict[str, Part]:
        config = self.config
        self.discriminators.requires_grad_(False)
        with torch.no_grad():
            true = self._judge(real, condition)
        false = self._judge(output, condition)
        return {
            "adversarial": Part(weight * config.adversarial_weight, generator_loss(false, config.loss)),
            "feature_matching": Part(
                weight * config.feature_weight, feature_loss(true, false, config.features)
            ),
        }

    def _backward_balanced(
        self, balancer: Balancer, output: Tensor, parts: Mapping[str, Part]
    ) -> dict[str, Tensor]:
        """Balance what depends on the output; the commitment, which does not, is added as it is."""
        audible = {name: part for name, part in parts.items() if name != "commitment"}
        gradient, norms = balancer.gradient(
            {name: part.value for name, part in audible.items()},
            output,
            {name: part.weight for name, part in audible.items()},
        )
        roots: list[Tensor] = [output]
        gradients: list[Tensor | None] = [gradient]
        if "commitment" in parts and parts["commitment"].value.requires_grad:
            roots.append(parts["commitment"].weight * parts["commitment"].value)
            gradients.append(None)
        torch.autograd.backward(roots, gradients)
        return {f"gradient_{name}": norm for name, norm in norms.items()}

    def _judge(self, waveform: Tensor, condition: Tensor | None) -> list[Verdict]:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            verdicts: list[Verdict] = self.discriminators(waveform.float(), condition)
        return verdicts

    def tensors(self, step: int) -> dict[str, Tensor]:
        """State for a checkpoint after so many steps; none before the phase."""
        if step <= self.config.start:
            return {}
        means = self.balancer.tensors() if self.balancer else {}
        return {
            **{f"discriminators.{name}": t for name, t in module_tensors(self.discriminators).items()},
            **{f"discriminator_optimizer.{name}": t for name, t in optimizer_tensors(self.optimizer).items()},
            **{f"balancer.{name}": tensor for name, tensor in means.items()},
        }

    def restore(self, stored: dict[str, Tensor], step: int, path: Path) -> None:
        """Put back what `tensors` returned, from all tensors of the checkpoint `path`.

        Raises:
            CheckpointError: the stored discriminators are others.
        """
        if step <= self.config.start:
            return
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in stored.items():
            kind, _, rest = name.partition(".")
            parts.setdefault(kind, {})[rest] = tensor
        restore_tensors(module_tensors(self.discriminators), parts.get("discriminators", {}), path)
        restore_optimizer(self.optimizer, parts.get("discriminator_optimizer", {}))
        if self.balancer:
            self.balancer.restore(parts.get("balancer", {}), self._device)


def _half(verdict: Verdict, items: slice) -> Verdict:
    return Verdict(verdict.logits[items], tuple(features[items] for features in verdict.features))
