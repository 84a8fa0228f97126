"""Multi-period discriminator (HiFi-GAN: Kong et al. 2020, section 2.3), as Vocos and DAC use it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from audiotokens.training.discriminator_config import PeriodDiscriminatorConfig
from audiotokens.training.discriminators.base import (
    Discriminator,
    Head,
    Verdict,
    convolution,
    level,
    run_layers,
)

_KERNEL, _STRIDE = 5, 3


class PeriodDiscriminator(Discriminator):
    """Convolutions along the columns of the waveform folded to rows of `period` samples."""

    def __init__(
        self, config: PeriodDiscriminatorConfig, period: int, channels: int, conditions: int
    ) -> None:
        super().__init__()
        self.period, self.config = period, config
        sizes = (channels, *config.channels)
        self.layers = nn.ModuleList(
            convolution(
                inputs,
                outputs,
                (_KERNEL, 1),
                stride=(_STRIDE if index < len(config.channels) - 1 else 1, 1),
            )
            for index, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False))
        )
        self.head = Head(convolution(sizes[-1], 1, (3, 1)), sizes[-1], conditions)

    def forward(self, waveform: Tensor, condition: Tensor | None = None) -> Verdict:
        """Judge `[B, C, T]`; the logits are `[B, 1, rows, period]`."""
        if self.config.level:
            waveform = level(waveform)
        missing = -waveform.shape[-1] % self.period
        if self.config.whole_period:
            missing = missing or self.period
        rows = functional.pad(waveform, (0, missing), mode="reflect").unflatten(-1, (-1, self.period))
        features = run_layers(self.layers, rows, 0.1)
        return Verdict(self.head(features[-1], condition), tuple(features))
