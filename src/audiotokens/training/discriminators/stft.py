"""Multi-resolution complex STFT discriminator (EnCodec: Défossez et al. 2022, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotokens.training.discriminator_config import STFTDiscriminatorConfig
from audiotokens.training.discriminators.base import (
    Discriminator,
    Head,
    Verdict,
    convolution,
    run_layers,
    spectrogram,
)


class STFTDiscriminator(Discriminator):
    """Convolutions over frames and bins of one complex STFT; no padding of the signal.

    The first layer has no weight norm: so it is in the published code.
    """

    def __init__(self, config: STFTDiscriminatorConfig, window: int, channels: int, conditions: int) -> None:
        super().__init__()
        self.window, self.spectrum = window, config.spectrum
        width, kernel, square = config.channels, config.kernel, (config.kernel[0], config.kernel[0])
        inputs = channels * (2 if config.spectrum == "complex" else 3)
        first = nn.Conv2d(inputs, width, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
        self.layers = nn.ModuleList(
            [
                first,
                *(
                    convolution(width, width, kernel, stride=(1, 2), dilation=(dilation, 1))
                    for dilation in config.dilations
                ),
                convolution(width, width, square),
            ]
        )
        self.head = Head(convolution(width, 1, square), width, conditions)

    def forward(self, waveform: Tensor, condition: Tensor | None = None) -> Verdict:
        """Judge `[B, C, T]`; the logits are `[B, 1, frames, bins / 2^len(dilations)]`."""
        features = run_layers(self.layers, self._input(waveform), 0.2)
        return Verdict(self.head(features[-1], condition), tuple(features))

    def _input(self, waveform: Tensor) -> Tensor:
        spectrum = spectrogram(waveform, self.window, center=False)
        if self.spectrum == "complex":
            # The root of the energy of a Hann window, sqrt(3/8 n).
            spectrum = spectrum / (0.375 * self.window) ** 0.5
            return torch.cat([spectrum.real, spectrum.imag], 1)
        power = (spectrum.real.square() + spectrum.imag.square()).clamp(min=1e-7)
        factor = power.pow(-0.35)
        return torch.cat([spectrum.real * factor, spectrum.imag * factor, 0.15 * power.log()], 1)
