"""Delay and polarity of a reconstruction, and the pair of equally long signals that measures see.

Sample-wise measures are worthless when a tokenizer is late or early by a few samples (8 samples turn 20 dB of
SI-SDR into -5), so the delay is estimated, reported, and removed before anything is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiotokens.audio import resample
from audiotokens.errors import MetricError

MAX_DELAY = 0.05
"""Largest delay that is searched for, in seconds, either way."""
MIN_PEAK = 0.3
"""A lower normalized correlation peak says nothing about the delay."""
_SEARCHED = 60.0
_AGREEMENT = 0.75
_MIN_TOLERANCE = 0.02
_RINGING = 0.002


@dataclass(frozen=True)
class Delay:
    """Delay of a reconstruction against its reference.

    Args:
        samples: positive where the reconstruction is late; None where the peak is weak.
        peak: height of the normalized correlation peak, 0 to 1.
        polarity: -1 where the reconstruction is inverted, else 1.
    """

    samples: int | None
    peak: float
    polarity: int


def estimate_delay(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> Delay:
    """Find the lag of the highest cross-correlation within 50 ms.

    The correlation is normalized by the energies of the whole signals, so among equal peaks (a periodic
    sound) the one nearest to lag 0 wins. At most the first minute is looked at.

    Args:
        reference: `[T]`.
        output: `[N]` at the same rate.
        sample_rate: of both, in Hz.
    """
    limit = int(_SEARCHED * sample_rate)
    x = reference[:limit].astype(np.float64)
    y = output[:limit].astype(np.float64)
    scale = math.sqrt(float(x @ x) * float(y @ y))
    if scale == 0.0:
        return Delay(None, 0.0, 1)
    reach = min(int(MAX_DELAY * sample_rate), max(len(x), len(y)) - 1)
    size = _fast_size(max(len(x), len(y)) + reach)
    # c[d] = sum_t x[t] y[t + d], so a late output peaks at d > 0
    spectrum = np.conj(np.fft.rfft(x, size)) * np.fft.rfft(y, size)
    circular = np.fft.irfft(spectrum, size)
    lags = np.arange(-reach, reach + 1)
    values = circular[lags]
    best = int(np.argmax(np.abs(values)))
    peak = min(float(abs(values[best])) / scale, 1.0)
    samples = int(lags[best]) if peak >= MIN_PEAK else None
    return Delay(samples, peak, -1 if values[best] < 0 else 1)


def common_delay(delays: Sequence[Delay]) -> int | None:
    """Return the delay, in samples, that files of one tokenizer share, or None.

    A tokenizer's delay is a constant. Files with a weak peak have no say; at least three quarters of the
    others must lie within one sample of their median, else nothing may be aligned.
    """
    found = sorted(delay.samples for delay in delays if delay.samples is not None)
    if not found:
        return None
    median = found[(len(found) - 1) // 2]
    agreeing = sum(abs(samples - median) <= 1 for samples in found)
    return median if agreeing >= _AGREEMENT * len(found) else None


def to_mono(waveform: np.ndarray) -> np.ndarray:
    """Return the mean over the channels of `[C, T]` as `[1, T]`."""
    return np.asarray(waveform.mean(axis=0, keepdims=True), dtype=np.float32)


def check_lengths(reference_samples: int, output_samples: int, sample_rate: int, hop: float) -> None:
    """Refuse a reconstruction whose length differs by more than one hop or 20 ms, whichever is longer.

    Args:
        reference_samples: at `sample_rate`.
        output_samples: at `sample_rate`.
        sample_rate: in Hz.
        hop: samples per frame at `sample_rate`.

    Raises:
        MetricError: the lengths differ by more.
    """
    allowed = max(hop, _MIN_TOLERANCE * sample_rate)
    if abs(reference_samples - output_samples) > allowed:
        raise MetricError(
            f"the reconstruction has {output_samples} samples, expected {reference_samples} within "
            f"{allowed:.0f}: the tokenizer breaks the length rule"
        )


def aligned_pair(
    reference: np.ndarray,
    reference_rate: int,
    output: np.ndarray,
    output_rate: int,
    *,
    shift: int,
    sample_rate: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Bring both signals to one rate, remove the delay, and cut both to the samples they share.

    Args:
        reference: `[1, T]`.
        reference_rate: in Hz.
        output: `[1, N]`.
        output_rate: in Hz.
        shift: delay of the output in samples at `output_rate` (negative: it is early).
        sample_rate: at which the pair is returned, in Hz.

    Returns:
        Two float32 arrays `[M]` of one length. Nothing is padded.

    Raises:
        MetricError: nothing is left after the cut.
    """
    # an early output is shifted at its own rate, where the delay is a whole number; the zeros are cut off
    moved = output[:, shift:] if shift >= 0 else np.pad(output, ((0, 0), (-shift, 0)))
    # where one signal ends and the other goes on, resampling rings in one of them only
    guard = int(_RINGING * sample_rate) if shift and output_rate != sample_rate else 0
    skipped = math.ceil(max(-shift, 0) * sample_rate / output_rate) + guard
    length = 0
    if moved.shape[1]:
        x = resample(reference, reference_rate, sample_rate)[0, skipped:]
        y = resample(moved, output_rate, sample_rate)[0, skipped:]
        length = min(len(x), len(y)) - guard
    if length <= 0:
        raise MetricError(f"nothing is left of {output.shape[1]} samples after a shift by {shift}: too short")
    return x[:length], y[:length]


def _fast_size(length: int) -> int:
    """Smallest 2^a, 3 * 2^a or 5 * 2^a that is at least `length`."""
    candidates = (factor << max(0, (-(-length // factor) - 1).bit_length()) for factor in (1, 3, 5))
    return min(candidates)
