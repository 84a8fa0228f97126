"""Discriminators: networks that tell real sound from a codec's, one file per kind.

A kind has a frozen configuration whose `build` makes its sub-discriminators; `Discriminators` runs them all.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from audiotokens.training.discriminators.band import BandDiscriminatorConfig
from audiotokens.training.discriminators.base import Discriminator, Verdict
from audiotokens.training.discriminators.period import PeriodDiscriminatorConfig
from audiotokens.training.discriminators.scale import ScaleDiscriminatorConfig
from audiotokens.training.discriminators.stft import STFTDiscriminatorConfig

DiscriminatorConfig = (
    STFTDiscriminatorConfig | PeriodDiscriminatorConfig | BandDiscriminatorConfig | ScaleDiscriminatorConfig
)

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
            member for config in configs for member in config.build(channels, conditions=conditions)
        )

    def forward(self, waveform: Tensor, condition: Tensor | None = None) -> list[Verdict]:
        """Judge waveforms `[B, C, T]` made under conditions `[B]`."""
        return [member(waveform, condition) for member in self.members]
