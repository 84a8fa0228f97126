"""Multi-scale waveform discriminator (MelGAN: Kumar et al. 2019, section 2.2), in DAC's form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from audiotokens.training.discriminator_config import ScaleDiscriminatorConfig
from audiotokens.training.discriminators.base import Discriminator, Head, Verdict, level, run_layers

_ZEROS, _ROLLOFF = 24, 0.945


class ScaleDiscriminator(Discriminator):
    """Grouped convolutions over the samples of the slowed-down waveform."""

    def __init__(self, config: ScaleDiscriminatorConfig, factor: int, channels: int, conditions: int) -> None:
        super().__init__()
        self.config, self.factor = config, factor
        width = config.channels
        wide = 64 * width
        self.layers = nn.ModuleList(
            [
                _convolution(channels, width, 15),
                _convolution(width, 4 * width, 41, stride=4, groups=width // 4),
                _convolution(4 * width, 16 * width, 41, stride=4, groups=width),
                _convolution(16 * width, wide, 41, stride=4, groups=4 * width),
                _convolution(wide, wide, 41, stride=4, groups=16 * width),
                _convolution(wide, wide, 5),
            ]
        )
        self.head = Head(_convolution(wide, 1, 3), wide, conditions)
        self.register_buffer("taps", low_pass(factor), persistent=False)

    taps: Tensor

    def forward(self, waveform: Tensor, condition: Tensor | None = None) -> Verdict:
        """Judge `[B, C, T]`; the logits are `[B, 1, about T / (256 factor)]`."""
        if self.config.level:
            waveform = level(waveform)
        if self.factor > 1:
            waveform = slower(waveform, self.taps, self.factor)
        features = run_layers(self.layers, waveform, 0.1)
        return Verdict(self.head(features[-1], condition), tuple(features))


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Module:
    layer: nn.Module = weight_norm(
        nn.Conv1d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups)
    )
    return layer


def low_pass(factor: int) -> Tensor:
    """Windowed sinc that ends at 0.945 of the lower band: 24 zeros a side, squared cosine window."""
    side = math.ceil(_ZEROS * factor / _ROLLOFF)
    place = torch.arange(-side, side + factor, dtype=torch.float32) / factor * _ROLLOFF
    place = place.clamp(-_ZEROS, _ZEROS)
    taps = torch.sinc(place) * torch.cos(place * math.pi / _ZEROS / 2).square()
    return taps / taps.sum()


def slower(waveform: Tensor, taps: Tensor, factor: int) -> Tensor:
    """Resample `[B, C, T]` to `[B, C, T // factor]`; the first and last sample stand for what lies beyond."""
    batch, channels, length = waveform.shape
    side = (len(taps) - factor) // 2
    padded = functional.pad(waveform.flatten(0, 1)[:, None], (side, side + factor), mode="replicate")
    low = functional.conv1d(padded, taps[None, None], stride=factor)[..., : length // factor]
    return low.view(batch, channels, -1)
