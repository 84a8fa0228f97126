"""Loudness of a recording (ITU-R BS.1770-4), and bringing one to a fixed loudness."""

from __future__ import annotations

import numpy as np


def loudness(waveform: np.ndarray, sample_rate: int) -> float | None:
    """Return the integrated loudness of `[N]` in LUFS, or None for silence (ITU-R BS.1770-4, one channel).

    K-weighted mean squares of 400 ms blocks every 100 ms, gated at -70 LUFS and then 10 LU below their mean;
    a shorter recording is one block.
    """
    spectrum = np.fft.rfft(waveform.astype(np.float64))
    weighted = np.fft.irfft(spectrum * _k_weighting(len(waveform), sample_rate), len(waveform))
    energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
    block, step = min(round(0.4 * sample_rate), len(waveform)), max(round(0.1 * sample_rate), 1)
    starts = np.arange(0, len(waveform) - block + 1, step)
    powers = (energy[starts + block] - energy[starts]) / block
    powers = powers[powers > 10 ** ((-70 + 0.691) / 10)]
    if not len(powers):
        return None
    powers = powers[powers > 0.1 * powers.mean()]
    return float(-0.691 + 10 * np.log10(powers.mean()))


def at_loudness(waveform: np.ndarray, sample_rate: int, target: float) -> np.ndarray | None:
    """Return `[N]` scaled to `target` LUFS, or None for silence, which has no loudness.

    Nothing is clipped: peaks may pass full scale.
    """
    level = loudness(waveform, sample_rate)
    return None if level is None else waveform * 10 ** ((target - level) / 20)


def _k_weighting(length: int, sample_rate: int) -> np.ndarray:
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(length))
    return np.asarray(_shelf(z, sample_rate) * _high_pass(z, sample_rate))


def _shelf(z: np.ndarray, sample_rate: int) -> np.ndarray:
    # Parameters of the standard's filters for any rate: B. De Man, "Evaluation of implementations of the
    # EBU R128 loudness measurement" (2018).
    k, q, gain = (
        np.tan(np.pi * 1681.974450955533 / sample_rate),
        0.7071752369554196,
        10 ** (3.999843853973347 / 20),
    )
    root = gain**0.4996667741545416
    numerator = (gain + root * k / q + k * k) + 2 * (k * k - gain) * z + (gain - root * k / q + k * k) * z**2
    return np.asarray(numerator / _denominator(z, k, q))


def _high_pass(z: np.ndarray, sample_rate: int) -> np.ndarray:
    k, q = np.tan(np.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    return np.asarray((1 - z) ** 2 * (1 + k / q + k * k) / _denominator(z, k, q))


def _denominator(z: np.ndarray, k: float, q: float) -> np.ndarray:
    return np.asarray((1 + k / q + k * k) + 2 * (k * k - 1) * z + (1 - k / q + k * k) * z**2)
