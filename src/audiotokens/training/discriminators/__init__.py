"""Discriminators: networks that tell real sound from a codec's, one file per kind.

A configuration stands for several sub-discriminators of one kind; `Discriminators` runs those of all kinds.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from audiotokens.training.discriminator_config import (
    BandDiscriminatorConfig,
    DiscriminatorConfig,
    PeriodDiscriminatorConfig,
    ScaleDiscriminatorConfig,
    STFTDiscriminatorConfig,
)
from audiotokens.training.discriminators.band import BandDiscriminator
from audiotokens.training.discriminators.base import Discriminator, Verdict
from audiotokens.training.discriminators.period import PeriodDiscriminator
from audiotokens.training.discriminators.scale import ScaleDiscriminator
from audiotokens.training.discriminators.stft import STFTDiscriminator

__all__ = [
    "BandDiscriminatorConfig",
    "Discriminator",
    "DiscriminatorConfig",
    "Discriminators",
    "PeriodDiscriminatorConfig",
    "STFTDiscriminatorConfig",
    "ScaleDiscriminatorConfig",
    "Verdict",
]


class Discriminators(nn.Module):
    """All sub-discriminators of some configurations.

    Args:
        configs: of any kinds.
        channels: of the audio.
        conditions: number of conditions that the logits may depend on; 0 for none.
    """

    def __init__(
        self, configs: Sequence[DiscriminatorConfig], *, channels: int = 1, conditions: int = 0
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            member for config in configs for member in _build(config, channels, conditions)
        )

    def forward(self, waveform: Tensor, condition: Tensor | None = None) -> list[Verdict]:
        """Judge waveforms `[B, C, T]` made under conditions `[B]`."""
        return [member(waveform, condition) for member in self.members]


def _build(config: DiscriminatorConfig, channels: int, conditions: int) -> list[Discriminator]:
    if isinstance(config, STFTDiscriminatorConfig):
        return [STFTDiscriminator(config, window, channels, conditions) for window in config.windows]
    if isinstance(config, PeriodDiscriminatorConfig):
        return [PeriodDiscriminator(config, period, channels, conditions) for period in config.periods]
    if isinstance(config, BandDiscriminatorConfig):
        return [BandDiscriminator(config, window, channels, conditions) for window in config.windows]
    return [ScaleDiscriminator(config, factor, channels, conditions) for factor in config.factors]
