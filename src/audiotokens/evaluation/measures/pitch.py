"""Whether the melody of the voice is kept: fundamental frequency by SwiftF0, and the errors in it.

Gross pitch error, voicing decision error and F0 frame error: W. Chu and A. Alwan, "Reducing F0 Frame Error of
F0 Tracking Algorithms Under Noisy Conditions with an Unvoiced/Voiced Classification Frontend", 2009. Frames
are compared where they stand: warping the time would let unrelated contours agree.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation.measures.packages import RATE, remembered, require_rate
from audiotokens.evaluation.metrics import Metric, require_pair

LOWEST, HIGHEST = 50.0, 1100.0
"""Range of the tracker, in Hz."""
LEAST_FRAMES = 30
"""Frames (16 ms) voiced in both signals, below which no frequencies are compared."""
_SECONDS = 0.5
_GROSS = 0.2
_LEAST_SPREAD = 0.005


class Track(NamedTuple):
    """Fundamental frequency, one value for each 256 samples.

    Args:
        frequency: in Hz, `[T]`; without meaning where nothing is voiced.
        voiced: bool `[T]`, where the tracker's confidence is at least 0.5.
    """

    frequency: np.ndarray
    voiced: np.ndarray


@remembered
def pitch_track(signal: np.ndarray) -> Track:
    """Return the F0 of `[N]` at 16 kHz by SwiftF0.

    Raises:
        MissingExtraError: the extra "pitch" is not installed.
    """
    found = _tracker().detect(signal, RATE, fmin=LOWEST, fmax=HIGHEST)
    return Track(found.pitch_hz, found.confidence >= 0.5)


def voicing_decision_error(reference: Track, output: Track) -> float:
    """Return the share of all frames that are voiced in one track alone, in percent."""
    return float(100 * np.mean(reference.voiced != output.voiced))


def gross_pitch_error(reference: Track, output: Track) -> float:
    """Return the share, in percent, of frames voiced in both whose F0 is off by more than 20 %.

    Raises:
        MetricError: too few frames are voiced in both.
    """
    both = _voiced_in_both(reference, output)
    return float(100 * np.mean(_gross(reference, output)[both]))


def frame_error(reference: Track, output: Track) -> float:
    """Return the share of all frames, in percent, with a wrong voicing or a gross pitch error."""
    gross = _gross(reference, output) & reference.voiced & output.voiced
    return float(100 * np.mean((reference.voiced != output.voiced) | gross))


def contour_correlation(reference: Track, output: Track) -> float:
    """Return Pearson's correlation of log F0 over the frames voiced in both.

    Raises:
        MetricError: too few frames are voiced in both, or a contour is flat there.
    """
    both = _voiced_in_both(reference, output)
    contours = np.log(np.stack([reference.frequency[both], output.frequency[both]]))
    for name, contour in zip(("reference", "reconstruction"), contours, strict=True):
        if contour.std() < _LEAST_SPREAD:
            raise MetricError(f"the F0 of the {name} does not move: its correlation is not defined")
    return float(np.corrcoef(contours)[0, 1])


_ERRORS = {
    "gpe": gross_pitch_error,
    "vde": voicing_decision_error,
    "ffe": frame_error,
    "correlation": contour_correlation,
}


def pitch_measure(reference: np.ndarray, output: np.ndarray, sample_rate: int, *, error: str) -> float:
    """Track both signals `[T]` and return one of the errors.

    Args:
        reference: `[T]`.
        output: `[T]`.
        sample_rate: 16000.
        error: "gpe", "vde", "ffe" or "correlation".

    Raises:
        MetricError: a signal is shorter than 0.5 s or silent, or nothing in the reference is voiced.
        MissingExtraError: the extra "pitch" is not installed.
    """
    require_rate(sample_rate)
    _tracker()
    require_pair(reference, output, sample_rate, _SECONDS)
    tracks = pitch_track(reference), pitch_track(output)
    if not tracks[0].voiced.any():
        raise MetricError("nothing in the reference is voiced")
    return _ERRORS[error](*tracks)


def _gross(reference: Track, output: Track) -> np.ndarray:
    return np.asarray(np.abs(output.frequency - reference.frequency) > _GROSS * reference.frequency)


def _voiced_in_both(reference: Track, output: Track) -> np.ndarray:
    both = np.asarray(reference.voiced & output.voiced)
    if both.sum() < LEAST_FRAMES:
        raise MetricError(f"{both.sum()} frames are voiced in both signals, {LEAST_FRAMES} are needed")
    return both


@cache
def _tracker() -> Any:
    try:
        from swift_f0 import SwiftF0
    except ImportError:
        raise MissingExtraError("F0", "pitch") from None
    return SwiftF0(threads=1)


def _metric(error: str, title: str, definition: str, *, best: float) -> Metric:
    correlation = error == "correlation"
    return Metric(
        id=f"f0/{error}",
        title=title,
        definition=f"{definition}; SwiftF0, 16 kHz, 50 to 1100 Hz, frames of 16 ms, no warping of time",
        function=partial(pitch_measure, error=error),
        larger_is_better=correlation,
        unit="" if correlation else "%",
        domains=("speech",),
        extra="pitch",
        best=best,
        decimals=3 if correlation else 2,
        packages=("swift-f0", "onnxruntime"),
        group="judges",
    )


METRICS = (
    _metric(
        "gpe",
        "F0 GPE",
        "share of frames voiced in both (at least 30) with F0 off by more than 20 %",
        best=0.0,
    ),
    _metric("vde", "F0 VDE", "share of all frames voiced in one signal alone", best=0.0),
    _metric("ffe", "F0 FFE", "share of all frames with a voicing or gross pitch error", best=0.0),
    _metric(
        "correlation",
        "F0 correlation",
        "Pearson of log F0 over frames voiced in both (at least 30)",
        best=1.0,
    ),
)
"""The measures of this file."""
