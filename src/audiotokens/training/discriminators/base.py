"""What all discriminators share: the verdict they return, weight-normed layers, the last layer, spectra."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from audiotokens.training.spectra import hann


@dataclass(frozen=True)
class Verdict:
    """What one sub-discriminator says about a batch.

    Args:
        logits: `[B, 1, ...]`, one per place it looks at; high where it takes the sound for real.
        features: activations `[B, C, ...]` of all hidden layers, in order.
    """

    logits: Tensor
    features: tuple[Tensor, ...]


class Discriminator(nn.Module):
    """Base of the sub-discriminators: one view of the waveform, one verdict."""

    def forward(self, waveform: Tensor, condition: Tensor | None = None) -> Verdict:
        """Judge waveforms.

        Args:
            waveform: `[B, C, T]`.
            condition: index of what the sound was made under, `[B]`, where the discriminator knows any.
        """
        raise TypeError(f"{type(self).__name__} has no forward")


class Head(nn.Module):
    """Last layer, C channels to 1, with an optional projection of a condition (Miyato and Koyama 2018).

    logits = conv(h) + <e_c, h>, the inner product over channels with a learned embedding of the condition c,
    which starts at zero.

    Args:
        layer: convolution to one channel.
        channels: of its input.
        conditions: number of conditions; 0 for none.
    """

    def __init__(self, layer: nn.Module, channels: int, conditions: int = 0) -> None:
        super().__init__()
        self.layer = layer
        self.embedding = nn.Embedding(conditions, channels) if conditions else None
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)

    def forward(self, hidden: Tensor, condition: Tensor | None) -> Tensor:
        """Map `[B, C, ...]` to logits `[B, 1, ...]`."""
        logits: Tensor = self.layer(hidden)
        if self.embedding is None or condition is None:
            return logits
        chosen = self.embedding(condition.expand(len(hidden)))
        chosen = chosen.view(*chosen.shape, *(1,) * (hidden.ndim - 2))
        conditioned: Tensor = logits + (chosen * hidden).sum(1, keepdim=True)
        return conditioned


def convolution(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> nn.Module:
    """Two-dimensional convolution with weight norm, padded so that stride 1 keeps the shape."""
    same = ((kernel[0] - 1) * dilation[0] // 2, (kernel[1] - 1) * dilation[1] // 2)
    layer: nn.Module = weight_norm(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=same, dilation=dilation)
    )
    return layer


def run_layers(layers: Iterable[nn.Module], x: Tensor, slope: float) -> list[Tensor]:
    """Apply layers in a row, a leaky ReLU after each; return every activation."""
    activations = []
    if x.ndim == 4 and x.device.type == "cuda":
        # The layout that a GPU convolves in; the layers pass it on.
        x = x.contiguous(memory_format=torch.channels_last)
    for layer in layers:
        x = functional.leaky_relu(layer(x), slope)
        activations.append(x)
    return activations


def level(waveform: Tensor) -> Tensor:
    """Take the mean of each channel of `[B, C, T]` out and set its peak to 0.8."""
    centred = waveform - waveform.mean(-1, keepdim=True)
    return 0.8 * centred / (centred.abs().amax(-1, keepdim=True) + 1e-9)


def spectrogram(waveform: Tensor, window: int, *, center: bool) -> Tensor:
    """STFT with a Hann window and hop window/4, always in float32.

    Args:
        waveform: `[B, C, T]`.
        window: samples.
        center: mirror half a window at both ends.

    Returns:
        Complex `[B, C, frames, window/2 + 1]`.
    """
    batch, channels, length = waveform.shape
    with torch.autocast(waveform.device.type, enabled=False):
        spectrum: Tensor = torch.stft(
            waveform.float().reshape(batch * channels, length),
            window,
            hop_length=window // 4,
            window=hann(window, waveform.device),
            center=center,
            return_complex=True,
        )
    return spectrum.mT.reshape(batch, channels, -1, window // 2 + 1)
