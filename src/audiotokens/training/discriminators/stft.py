"""Multi-resolution complex STFT discriminator (EnCodec: Défossez et al. 2022, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from audiotokens.training.discriminators.base import (
    Discriminator,
    Head,
    Verdict,
    convolution,
    run_layers,
    spectrogram,
)


@dataclass(frozen=True)
class STFTDiscriminatorConfig:
    """Complex STFT discriminators, one per window.

    Args:
        kind: names this discriminator in a recipe.
        windows: samples of each STFT; the hop is a quarter.
        channels: of every layer.
        kernel: of the first layers, in frames and bins.
        dilations: in frames, of the layers that halve the bins.
        spectrum: "complex" reads real and imaginary part divided by the root of the window's energy;
            "compressed" reads both times |S|^-0.7 (|S|^2 floored by 1e-7), and 0.15 ln |S|^2 beside them, so
            that weak partials are seen.
    """

    kind: Literal["stft"] = "stft"
    windows: tuple[int, ...] = (1024, 2048, 512)
    channels: int = 32
    kernel: tuple[int, int] = (3, 9)
    dilations: tuple[int, ...] = (1, 2, 4)
    spectrum: Literal["complex", "compressed"] = "complex"

    def build(self, channels: int, *, conditions: int = 0) -> list[Discriminator]:
        """Build the discriminators of audio of so many channels."""
        return [STFTDiscriminator(self, window, channels, conditions) for window in self.windows]


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
