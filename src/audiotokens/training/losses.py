"""Reconstruction losses on spectra: compressed complex STFT, log mel, loudness with asymmetry.

Notation: x reference, y output, both `[B, T]`; S the STFT with a Hann window of n samples and hop n/4, not
normalised; P = |S|^2. Every loss is one number per crop `[B]`, and only y has a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.training.spectra import Spectra, inner_product

POWER_FLOOR = 1e-7


class ComplexLoss(nn.Module):
    """Mean squared difference of magnitude-compressed complex spectra, `[B]`.

    C(S) = S |S|^-0.7 with |S|^2 floored by 1e-7; loss = mean over frames and bins of |C(S_y) - C(S_x)|^2.
    Compression by a power with the phase kept: Braun and Tashev 2021, "A consolidated view of loss functions
    for supervised deep learning-based speech enhancement".

    Args:
        window: samples n.
        exponent: of the compressed magnitude.
    """

    def __init__(self, window: int = 512, exponent: float = 0.3) -> None:
        super().__init__()
        self.window = window
        self.exponent = exponent

    def forward(self, reference: Spectra, output: Spectra) -> Tensor:
        """Return the loss of each crop."""
        # |C_y - C_x|^2 = P_y m_y^2 - 2 m_y Re(conj(C_x) S_y) + P_x m_x^2 with C = m S: real numbers only.
        factor_x, factor_y = self._factor(reference), self._factor(output)
        target = reference.complex(self.window) * factor_x
        inner = inner_product(target, output.complex(self.window))
        own = output.power(self.window) * factor_y - 2 * inner
        fixed = (reference.power(self.window) * factor_x.square()).mean((1, 2))
        return (own * factor_y).mean((1, 2)) + fixed

    def _factor(self, spectra: Spectra) -> Tensor:
        return _power_law(spectra.power(self.window).clamp(min=POWER_FLOOR), (self.exponent - 1) / 2)


class MagnitudeLoss(nn.Module):
    """L1 distance of magnitude-compressed spectra, without their phase, `[B]`.

    Mean over frames and bins of | |S_y|^0.3 - |S_x|^0.3 |, with |S|^2 raised by 1e-7. A long window resolves
    the harmonics of a voice, and sees them blur where the phases of successive frames do not fit together.

    Args:
        window: samples n.
        exponent: of the magnitude.
    """

    def __init__(self, window: int, exponent: float = 0.3) -> None:
        super().__init__()
        self.window = window
        self.exponent = exponent

    def forward(self, reference: Spectra, output: Spectra) -> Tensor:
        """Return the loss of each crop."""
        return (self._compressed(output) - self._compressed(reference)).abs().mean((1, 2))

    def _compressed(self, spectra: Spectra) -> Tensor:
        return _power_law(spectra.power(self.window) + POWER_FLOOR, self.exponent / 2)


class LogMelLoss(nn.Module):
    """L1 distance of log mel spectra, `[B]`.

    Mean over frames and bands of |ln(M|S_y| + 1e-4) - ln(M|S_x| + 1e-4)|, where M averages over triangular
    bands (weights sum to 1). Every second frame of the STFT is used: hop n/2.

    Args:
        sample_rate: in Hz.
        window: samples n.
        bands: number of mel bands between 0 Hz and half the sample rate.
    """

    def __init__(self, sample_rate: int, window: int, bands: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("weights", mel_weights(sample_rate, window, bands), persistent=False)

    weights: Tensor

    def forward(self, reference: Spectra, output: Spectra) -> Tensor:
        """Return the loss of each crop."""
        return (self._bands(output) - self._bands(reference)).abs().mean((1, 2))

    def _bands(self, spectra: Spectra) -> Tensor:
        magnitude = (spectra.power(self.window)[:, ::2] + POWER_FLOOR * 1e-3).sqrt()
        return (magnitude @ self.weights + 1e-4).log()


class LoudnessLoss(nn.Module):
    """Disturbance of specific loudness with masking and asymmetry at one window, `[B]`.

    Modelled on the disturbance of PESQ (ITU-T P.862, 10.2.7 to 10.2.11), made smooth:

        P = band mean of |S|^2 * 512 / n,  l = (P + 3e-4)^0.23,  d = l_y - l_x
        D = sign(d) max(|d| - 0.25 min(l_x, l_y), 0) + 0.1 d
        h = ((P_y + 9e-3) / (P_x + 9e-3))^1.2, 0 below 3, at most 12
        per frame sqrt(mean_b D^2 + 1e-6) + 0.3 mean_b |D| h, then the mean over frames.

    The caller divides both signals by the RMS of the reference.

    Args:
        sample_rate: in Hz.
        window: samples n.
        bands: number of bands, equally wide on the axis 6 asinh(f / 600).
    """

    def __init__(self, sample_rate: int, window: int, bands: int) -> None:
        super().__init__()
        self.window = window
        weights = loudness_weights(sample_rate, window, bands) * (512 / window)
        self.register_buffer("weights", weights, persistent=False)

    weights: Tensor

    def forward(self, reference: Spectra, output: Spectra, scale: Tensor) -> Tensor:
        """Return the loss of each crop; `scale` `[B]` multiplies the power of both signals (1 / RMS^2)."""
        power_x, power_y = self._bands(reference, scale), self._bands(output, scale)
        loud_x, loud_y = _power_law(power_x + 3e-4, 0.23), _power_law(power_y + 3e-4, 0.23)
        difference = loud_y - loud_x
        masked = functional.relu(difference.abs() - 0.25 * torch.minimum(loud_x, loud_y))
        disturbance = difference.sign() * masked + 0.1 * difference
        ratio = _power_law(((power_y + 9e-3) / (power_x + 9e-3)).clamp(max=12.0), 1.2).clamp(max=12.0)
        asymmetry = ratio * (ratio >= 3)
        symmetric = (disturbance.square().mean(-1) + 1e-6).sqrt()
        return (symmetric + 0.3 * (disturbance.abs() * asymmetry).mean(-1)).mean(-1)

    def _bands(self, spectra: Spectra, scale: Tensor) -> Tensor:
        return (spectra.power(self.window) @ self.weights) * scale[:, None, None]


class ReconstructionLoss(nn.Module):
    """All reconstruction terms of a batch of crops.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.complex_stft = ComplexLoss()
        self.magnitude = nn.ModuleList(MagnitudeLoss(n) for n in (1024, 2048))
        self.log_mel = nn.ModuleList(
            LogMelLoss(sample_rate, n, bands) for n, bands in ((1024, 80), (256, 40))
        )
        sizes = ((256, 24), (512, 42), (1024, 64))
        self.loudness = nn.ModuleList(LoudnessLoss(sample_rate, n, bands) for n, bands in sizes)

    def forward(
        self,
        reference: Tensor,
        output: Tensor,
        second: Tensor | None = None,
        *,
        loudness: bool = True,
        magnitude: bool = True,
    ) -> dict[str, Tensor]:
        """Return the terms, each `[B]`.

        They are "complex_stft", "log_mel" and "magnitude" (sums over windows), and "loudness" (mean).

        Args:
            reference: `[B, T]`.
            output: `[B, T]`.
            second: another draw of a noisy output, `[B, T]`. The L1 distances d then become energy distances
                (d(x, y) + d(x, y') - d(y, y')) / 2: smallest where noise is distributed like what it stands
                for, instead of absent (Gritsenko et al. 2020, "A spectral energy distance for parallel speech
                synthesis", equation 4).
            loudness: whether to compute that term (its weight is 0 at the start of a run).
            magnitude: whether to compute that term.
        """
        with torch.no_grad():
            x = Spectra(reference)
            scale = reference.float().square().mean(-1).sqrt().clamp(min=1e-3).pow(-2)
        y = Spectra(output)
        other = None if second is None else Spectra(second)
        terms = {
            "complex_stft": self.complex_stft(x, y),
            "log_mel": _total([_distance(loss, x, y, other) for loss in self.log_mel]),
        }
        if magnitude:
            terms["magnitude"] = _total([_distance(loss, x, y, other) for loss in self.magnitude])
        if loudness:
            terms["loudness"] = _total([loss(x, y, scale) for loss in self.loudness]) / len(self.loudness)
        return terms


def _distance(loss: nn.Module, x: Spectra, y: Spectra, second: Spectra | None) -> Tensor:
    distance: Tensor = loss(x, y)
    if second is not None:
        distance = (distance + loss(x, second) - loss(y, second)) / 2
    return distance


def _total(items: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(items)).sum(0)


def complex_weight(num_codebooks: Tensor, books: int) -> Tensor:
    """Weight of the complex term of each crop, min(1.5, 2 num_codebooks / books): few books, little phase."""
    return (2.0 * num_codebooks.float() / books).clamp(max=1.5)


def mel_weights(sample_rate: int, window: int, bands: int) -> Tensor:
    """Triangular mel averages `[n/2 + 1, bands]`, columns sum to 1.

    mel = 1127 ln(1 + f/700) (O'Shaughnessy 1987). A triangle narrower than the spacing of the bins is widened
    to it, so that no band is empty.
    """
    frequency = _bin_frequencies(sample_rate, window)
    mel = torch.linspace(0, 1127 * math.log1p(sample_rate / 2 / 700), bands + 2, dtype=torch.float64)
    knots = 700 * torch.expm1(mel / 1127)
    spacing = sample_rate / window
    rise = (frequency[:, None] - knots[1:-1]) / (knots[1:-1] - knots[:-2]).clamp(min=spacing)
    fall = (frequency[:, None] - knots[1:-1]) / (knots[2:] - knots[1:-1]).clamp(min=spacing)
    weights = torch.minimum(1 + rise, 1 - fall).clamp(min=0)
    return (weights / weights.sum(0)).float()


def loudness_weights(sample_rate: int, window: int, bands: int, lowest: float = 60.0) -> Tensor:
    """Averages `[n/2 + 1, bands]` over bands equally wide on z = 6 asinh(f / 600); columns sum to 1.

    Each band is flat and has linear skirts of half a band on both sides. The axis is the Bark scale of Wang,
    Sekey and Gersho 1992.
    """
    position = 6 * torch.asinh(_bin_frequencies(sample_rate, window) / 600)
    low, high = 6 * math.asinh(lowest / 600), 6 * math.asinh(sample_rate / 1200)
    width = (high - low) / bands
    centres = low + width * (torch.arange(bands, dtype=torch.float64) + 0.5)
    distance = (position[:, None] - centres).abs() / width
    weights = (2 * (1 - distance)).clamp(0, 1)
    return (weights / weights.sum(0)).float()


def _power_law(positive: Tensor, exponent: float) -> Tensor:
    """x^exponent of positive numbers, three times faster on a CPU than the general power."""
    return torch.exp2(exponent * positive.log2())


def _bin_frequencies(sample_rate: int, window: int) -> Tensor:
    return torch.arange(window // 2 + 1, dtype=torch.float64) * sample_rate / window
