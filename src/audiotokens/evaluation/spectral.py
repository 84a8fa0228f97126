"""Distances between spectrograms, each by a published definition, whose name goes with every number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from audiotokens.errors import MetricError


@dataclass(frozen=True)
class MelScale:
    """One mel spectrogram.

    Args:
        bands: number of mel bands, from 0 Hz to half the rate.
        window: length of the periodic Hann window and of the FFT, in samples.
        hop: in samples.
        htk: HTK mel scale with triangles of height 1; else Slaney's with triangles of equal area (librosa's
            default).
    """

    bands: int
    window: int
    hop: int
    htk: bool = False


@dataclass(frozen=True)
class MelDistance:
    """A distance between mel spectrograms of magnitude; all terms are means of absolute differences.

    Args:
        scales: their distances are added.
        base: of the logarithm, 10 or e.
        power: exponent on the clamped mel magnitudes inside the logarithm.
        floor: clamp of the mel magnitudes before the power.
        linear: weight of the distance without a logarithm.
    """

    scales: tuple[MelScale, ...]
    base: float
    power: float
    floor: float
    linear: float

    def __call__(self, reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
        """Return the distance of `[T]` from `[T]`; 0 for equal signals.

        Raises:
            MetricError: the signals are too short for the largest window.
        """
        return sum(self._at(scale, reference, output, sample_rate) for scale in self.scales)

    def _at(self, scale: MelScale, reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
        bank = mel_filters(scale, sample_rate)
        x, y = (bank @ _magnitudes(s, scale.window, scale.hop, scale.window) for s in (reference, output))
        factor = self.power / math.log(self.base)
        logarithmic = (
            factor * np.abs(np.log(np.maximum(x, self.floor)) - np.log(np.maximum(y, self.floor))).mean()
        )
        return float(logarithmic + self.linear * np.abs(x - y).mean())


@dataclass(frozen=True)
class StftDistance:
    """Spectral convergence plus L1 of log magnitudes, averaged over resolutions.

    R. Yamamoto et al., "Parallel WaveGAN", 2020, equations 4 to 6.

    Args:
        resolutions: (FFT size, hop, window length) in samples.
        floor: clamp of the power before root and logarithm.
    """

    resolutions: tuple[tuple[int, int, int], ...]
    floor: float

    def __call__(self, reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
        """Return the distance of `[T]` from `[T]`; 0 for equal signals.

        Raises:
            MetricError: the signals are too short for the largest window.
        """
        return sum(self._at(resolution, reference, output) for resolution in self.resolutions) / len(
            self.resolutions
        )

    def _at(self, resolution: tuple[int, int, int], reference: np.ndarray, output: np.ndarray) -> float:
        size, hop, window = resolution
        lowest = math.sqrt(self.floor)
        x, y = (np.maximum(_magnitudes(s, size, hop, window), lowest) for s in (reference, output))
        convergence = np.linalg.norm(x - y) / np.linalg.norm(x)
        return float(convergence + np.abs(np.log(x) - np.log(y)).mean())


@cache
def mel_filters(scale: MelScale, sample_rate: int) -> np.ndarray:
    """Return the triangular mel filters, float32 `[bands, window // 2 + 1]`."""
    to_mel, to_hertz = (_htk_mel, _htk_hertz) if scale.htk else (_slaney_mel, _slaney_hertz)
    top = to_mel(np.array(sample_rate / 2))
    edges = to_hertz(np.linspace(0.0, float(top), scale.bands + 2))
    bins = np.fft.rfftfreq(scale.window, 1 / sample_rate)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if not scale.htk:
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return np.asarray(filters, dtype=np.float32)


def _magnitudes(signal: np.ndarray, size: int, hop: int, window: int) -> np.ndarray:
    """Magnitude STFT `[size // 2 + 1, frames]`, centred frames over reflected edges, periodic Hann window."""
    margin = size // 2
    if len(signal) <= margin:
        raise MetricError(
            f"the signals have {len(signal)} samples, a window of {size} needs more than {margin}"
        )
    padded = np.pad(signal.astype(np.float32, copy=False), margin, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    spectrum = np.fft.rfft(frames * _hann(size, window), axis=1)
    return np.abs(spectrum).T


@cache
def _hann(size: int, window: int) -> np.ndarray:
    """Periodic Hann window of `window` samples in the middle of `size`."""
    before = (size - window) // 2
    weights = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    return np.pad(weights, (before, size - window - before)).astype(np.float32)


def _htk_mel(hertz: np.ndarray) -> np.ndarray:
    return np.asarray(2595.0 * np.log10(1.0 + hertz / 700.0))


def _htk_hertz(mel: np.ndarray) -> np.ndarray:
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))


# Slaney's Auditory Toolbox: linear up to 1 kHz (mel 15), then 27 mel for every factor of 6.4.
_LINEAR, _KNEE, _STEP = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0


def _slaney_mel(hertz: np.ndarray) -> np.ndarray:
    high = _KNEE / _LINEAR + np.log(np.maximum(hertz, _KNEE) / _KNEE) / _STEP
    return np.where(hertz < _KNEE, hertz / _LINEAR, high)


def _slaney_hertz(mel: np.ndarray) -> np.ndarray:
    high = _KNEE * np.exp(_STEP * np.maximum(mel - _KNEE / _LINEAR, 0.0))
    return np.where(mel * _LINEAR < _KNEE, mel * _LINEAR, high)
