"""STFTs that several losses share, with gradients written for the CPU.

The generic gradients of torch for a real FFT and for |S|^2 cost more than the rest of the losses together:
the first runs a full complex FFT, the second sums over an axis of two. Both are given here in closed form.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

HOPS_PER_WINDOW = 4


class Spectra:
    """STFTs of a batch of waveforms, each computed when it is first asked for.

    Args:
        waveform: `[B, T]`.
    """

    def __init__(self, waveform: Tensor) -> None:
        self.waveform = waveform.float()
        self._complex: dict[int, Tensor] = {}
        self._powers: dict[int, Tensor] = {}

    def complex(self, window: int) -> Tensor:
        """Complex spectrum S `[B, F, n/2 + 1]`, see `short_time_spectrum`."""
        if window not in self._complex:
            self._complex[window] = short_time_spectrum(self.waveform, window)
        return self._complex[window]

    def power(self, window: int) -> Tensor:
        """Power |S|^2 `[B, F, n/2 + 1]`."""
        if window not in self._powers:
            self._powers[window] = _Power.apply(self.complex(window))  # type: ignore[no-untyped-call]
        return self._powers[window]


def short_time_spectrum(waveform: Tensor, window: int) -> Tensor:
    """Return the STFT, complex `[B, F, window/2 + 1]`, of `[B, T]` with a Hann window and hop window/4.

    Frame f is centred on sample f * hop, with zeros outside the signal; F = T // hop + 1.
    """
    hop = window // HOPS_PER_WINDOW
    frames = waveform.shape[-1] // hop + 1
    total = (frames + HOPS_PER_WINDOW - 1) * hop
    padded = functional.pad(waveform, (window // 2, total - window // 2 - waveform.shape[-1]))
    hops = padded.unflatten(-1, (-1, hop))
    # Overlapping frames as shifted hops side by side: the gradient is a sum of slices instead of a scatter.
    framed = torch.cat([hops[:, i : i + frames] for i in range(HOPS_PER_WINDOW)], dim=-1)
    spectrum: Tensor = _RealFFT.apply(framed * hann(window, waveform.device))  # type: ignore[no-untyped-call]
    return spectrum


@lru_cache(maxsize=64)
def hann(window: int, device: torch.device) -> Tensor:
    """A Hann window `[window]`, made once; not to be changed."""
    with torch.inference_mode(False):
        return torch.hann_window(window, device=device)


@lru_cache(maxsize=64)
def _bin_weights(size: int, device: torch.device) -> Tensor:
    """n / 2 for each bin of an FFT of n samples, and n for the first and the last, made once."""
    with torch.inference_mode(False):
        return torch.tensor([float(size), *[0.5 * size] * (size // 2 - 1), float(size)], device=device)


def inner_product(constant: Tensor, spectrum: Tensor) -> Tensor:
    """Re(conj(constant) spectrum), where only `spectrum` has a gradient."""
    product: Tensor = _InnerProduct.apply(constant, spectrum)  # type: ignore[no-untyped-call]
    return product


class _RealFFT(Function):
    """S_k = sum_t x_t exp(-2 pi i k t / n); dL/dx_t = Re sum_{k=0}^{n/2} G_k exp(2 pi i k t / n).

    The inverse real FFT counts every bin but the first and the last twice, so those are halved.
    """

    @staticmethod
    def forward(context: Any, frames: Tensor) -> Tensor:
        context.size = frames.shape[-1]
        spectrum: Tensor = torch.fft.rfft(frames)
        return spectrum

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        weights = _bin_weights(context.size, gradient.device)
        frames: Tensor = torch.fft.irfft(gradient * weights, context.size)
        return frames


class _Power(Function):
    """P = |S|^2; dL/dS = 2 S dL/dP."""

    @staticmethod
    def forward(context: Any, spectrum: Tensor) -> Tensor:
        context.save_for_backward(spectrum)
        parts = torch.view_as_real(spectrum)
        return torch.addcmul(parts[..., 0].square(), parts[..., 1], parts[..., 1])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (spectrum,) = context.saved_tensors
        scaled: Tensor = spectrum * (2 * gradient)
        return scaled


class _InnerProduct(Function):
    """q = Re(conj(A) S); dL/dS = A dL/dq."""

    @staticmethod
    def forward(context: Any, constant: Tensor, spectrum: Tensor) -> Tensor:
        context.save_for_backward(constant)
        left, right = torch.view_as_real(constant), torch.view_as_real(spectrum)
        return torch.addcmul(left[..., 0] * right[..., 0], left[..., 1], right[..., 1])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (constant,) = context.saved_tensors
        return None, constant * gradient
