"""Multi-band multi-resolution STFT discriminator (DAC: Kumar et al. 2023, section 3.3; Vocos)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.training.discriminator_config import BandDiscriminatorConfig
from audiotokens.training.discriminators.base import (
    Discriminator,
    Head,
    Verdict,
    convolution,
    level,
    run_layers,
    spectrogram,
)

_HALVINGS = 3


class BandDiscriminator(Discriminator):
    """Five layers per band of one complex STFT; the last layer sees all bands side by side."""

    def __init__(self, config: BandDiscriminatorConfig, window: int, channels: int, conditions: int) -> None:
        super().__init__()
        self.config, self.window = config, window
        bins, width = window // 2 + 1, config.channels
        places = [int(edge * bins) for edge in config.edges]
        self.slices = [slice(low, high) for low, high in zip(places, places[1:], strict=False)]
        self.bands = nn.ModuleList(
            nn.ModuleList(
                [
                    convolution(2 * channels, width, (3, 9)),
                    *(convolution(width, width, (3, 9), stride=(1, 2)) for _ in range(_HALVINGS)),
                    convolution(width, width, (3, 3)),
                ]
            )
            for _ in self.slices
        )
        self.head = Head(convolution(width, 1, (3, 3)), width, conditions)

    def forward(self, waveform: Tensor, condition: Tensor | None = None) -> Verdict:
        """Judge `[B, C, T]`; the logits are `[B, 1, frames, about bins / 8]`."""
        spectrum = self._spectrum(level(waveform) if self.config.level else waveform)
        x = torch.cat([spectrum.real, spectrum.imag], 1)
        features: list[Tensor] = []
        ends = []
        for layers, band in zip(self.bands, self.slices, strict=True):
            activations = run_layers(list(layers.children()), x[..., band], 0.1)
            features += activations
            ends.append(activations[-1])
        return Verdict(self.head(torch.cat(ends, -1), condition), tuple(features))

    def _spectrum(self, waveform: Tensor) -> Tensor:
        if self.config.framing == "centered":
            return spectrogram(waveform, self.window, center=True)
        hop = self.window // 4
        side = (self.window - hop) // 2
        padded = functional.pad(waveform, (side, side + -waveform.shape[-1] % hop), mode="reflect")
        # Two frames at each end lie mostly in the second mirroring.
        return spectrogram(padded, self.window, center=True)[:, :, 2:-2]
