"""The optimizer, its learning rate, and the running mean of weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from audiotokens.codec import Codec
from audiotokens.training.config import OptimizerConfig, ScheduleConfig


def make_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Build fused AdamW with weight decay on matrices (two or more axes) only."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, eps=config.epsilon, fused=True
    )


def learning_rate_share(schedule: ScheduleConfig, step: int) -> float:
    """Share of the highest learning rate at a step (0-based).

    The first course rises linearly over `warmup` steps and falls by a half cosine to `final_share` at its
    end; each extension does the same from `final_share` (warm restart: Loshchilov and Hutter 2017, SGDR).
    With a cooldown it stays constant and falls in the last steps as 1 - sqrt(progress) (Haegele et al. 2024,
    "Scaling laws and compute-optimal training beyond fixed training durations").
    """
    start, low = 0, 0.0
    for end in schedule.ends:
        if step < end or end == schedule.last:
            break
        start, low = end, schedule.final_share
    done, length = step - start, end - start
    if done < schedule.warmup:
        return low + (1 - low) * (done + 1) / schedule.warmup
    if schedule.cooldown:
        progress = min(1.0, max(0, done + 1 - (length - schedule.cooldown)) / schedule.cooldown)
        return schedule.final_share + (1 - schedule.final_share) * (1 - math.sqrt(progress))
    progress = min(1.0, (done - schedule.warmup + 1) / max(1, length - schedule.warmup))
    return schedule.final_share + (1 - schedule.final_share) * (1 + math.cos(math.pi * progress)) / 2


class Average:
    """Running mean of a codec's weights and stored buffers (the books among them), as a codec of its own.

    a <- a + (1 - d)(w - a) with d = min(decay, (1 + n) / (10 + n)) at step n, so that the start is forgotten
    early (after Polyak and Juditsky 1992).

    Args:
        codec: the one in training.
        decay: 0 copies the weights.
    """

    def __init__(self, codec: Codec, decay: float) -> None:
        self.codec = copy.deepcopy(codec).eval().requires_grad_(False)
        self._decay = decay
        pairs = list(zip(self.codec.state_dict().values(), codec.state_dict().values(), strict=True))
        self._means = [mean for mean, value in pairs if mean.is_floating_point()]
        self._values = [value for _, value in pairs if value.is_floating_point()]
        self._copies = [(mean, value) for mean, value in pairs if not mean.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the present weights."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._means, self._values, 1 - decay)
        self._copy_rest()

    @torch.no_grad()
    def reset(self) -> None:
        """Start again from the present weights."""
        torch._foreach_copy_(self._means, self._values)
        self._copy_rest()

    def _copy_rest(self) -> None:
        for mean, value in self._copies:
            mean.copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """The means by name."""
        return dict(self.codec.state_dict())
