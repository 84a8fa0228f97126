"""Multi-band multi-resolution STFT discriminator (DAC: Kumar et al. 2023, section 3.3; Vocos)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

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


@dataclass(frozen=True)
class BandDiscriminatorConfig:
    """Complex STFT discriminators whose bands have layers of their own, one per window.

    Args:
        kind: names this discriminator in a recipe.
        windows: samples of each STFT; the hop is a quarter.
        channels: of every layer.
        edges: of the bands, as shares of the bins.
        framing: "centered" mirrors half a window at both ends (Vocos: Siuzdak 2023); "matched" makes one
            frame per hop (DAC).
        level: take out mean and peak level first.
    """

    kind: Literal["band"] = "band"
    windows: tuple[int, ...] = (2048, 1024, 512)
    channels: int = 32
    edges: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
    framing: Literal["centered", "matched"] = "centered"
    level: bool = True

    def build(self, channels: int, *, conditions: int = 0) -> list[Discriminator]:
        """Build the discriminators of audio of so many channels."""
        return [BandDiscriminator(self, window, channels, conditions) for window in self.windows]


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
