from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from audiotokens.errors import MetricError
from audiotokens.evaluation import METRICS, Metric
from audiotokens.evaluation.alignment import aligned_pair
from audiotokens.evaluation.measures.pitch import (
    Track,
    contour_correlation,
    frame_error,
    gross_pitch_error,
    pitch_track,
    voicing_decision_error,
)

Noise = Callable[..., np.ndarray]
Judge = Callable[[str], Metric]
RATE = 16000


def correlation(reference: np.ndarray, output: np.ndarray) -> float | None:
    """None where it is not defined."""
    try:
        return METRICS["f0/correlation"](reference, output)
    except MetricError:
        return None


def test_errors_follow_their_definitions() -> None:
    moving = np.linspace(100, 200, 100)
    voiced = np.arange(100) < 80
    reference = Track(moving, voiced)
    wrong = np.where(np.arange(100) < 8, 1.21, 1.19) * moving
    output = Track(wrong, np.arange(100) < 75)
    assert gross_pitch_error(reference, output) == pytest.approx(100 * 8 / 75)
    assert voicing_decision_error(reference, output) == pytest.approx(5)
    assert frame_error(reference, output) == pytest.approx(13)
    doubled = Track(2 * moving, voiced)
    assert contour_correlation(reference, doubled) == pytest.approx(1)
    assert gross_pitch_error(reference, doubled) == 100
    assert contour_correlation(reference, Track(moving[::-1], np.ones(100, bool))) < -0.9


def test_few_frames_and_flat_contours_are_no_correlation() -> None:
    moving = np.linspace(100, 200, 100)
    few, many = np.arange(100) < 29, np.ones(100, bool)
    for error in (gross_pitch_error, contour_correlation):
        with pytest.raises(MetricError, match="29 frames are voiced in both signals, 30 are needed"):
            error(Track(moving, few), Track(moving, many))
    with pytest.raises(MetricError, match="F0 of the reconstruction does not move"):
        contour_correlation(Track(moving, many), Track(np.full(100, 120.0), many))


def test_a_constant_pitch_does_not_correlate(judge: Judge, utterances: list[np.ndarray]) -> None:
    judge("f0/correlation")
    for clip in utterances[:3]:
        track = pitch_track(clip)
        gate = np.repeat(track.voiced, 256).astype(np.float32)
        time = np.arange(len(gate)) / RATE
        buzz = np.sum([np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 12)], axis=0) * gate * 0.1
        level = np.sqrt(np.convolve(clip[: len(gate)] ** 2, np.ones(400) / 400, "same"))
        constant = (buzz * level / level.max()).astype(np.float32)
        assert METRICS["f0/vde"](clip[: len(gate)], constant) < 35
        assert abs(correlation(clip[: len(gate)], constant) or 0.0) < 0.3


def test_unrelated_speech_does_not_correlate(judge: Judge, utterances: list[np.ndarray]) -> None:
    judge("f0/correlation")
    pairs = [(one, other, min(len(one), len(other))) for one, other in zip(utterances, utterances[2:])]
    tried = [correlation(one[:length], other[:length]) for one, other, length in pairs if length > 5 * RATE]
    found = [value for value in tried if value is not None]
    assert len(found) >= 5
    assert max(found) < 0.3


def test_a_tone_keeps_its_pitch_through_resampling(judge: Judge) -> None:
    judge("f0/gpe")
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(48000) / 24000).astype(np.float32)[None]
    reference, output = aligned_pair(tone, 24000, tone, 24000, shift=0, sample_rate=RATE)
    track = pitch_track(output)
    assert track.voiced.mean() > 0.9
    assert np.median(track.frequency[track.voiced]) == pytest.approx(1000, rel=0.01)
    assert METRICS["f0/gpe"](reference, output) == 0


def test_the_right_pitch_is_found(judge: Judge, voice: np.ndarray) -> None:
    judge("f0/gpe")
    track = pitch_track(voice)
    time = (np.arange(len(track.voiced)) * 256) / RATE
    expected = 120 + 30 * np.sin(2 * np.pi * 0.7 * time)
    assert np.median(np.abs(track.frequency / expected - 1)[track.voiced]) < 0.02


def test_an_octave_is_a_gross_error_and_loses_no_voicing(judge: Judge, noise: Noise) -> None:
    judge("f0/gpe")
    time = np.arange(2 * RATE) / RATE
    low, high = (
        sum(np.sin(2 * np.pi * f * k * time) / k for k in range(1, 10)).astype(np.float32) * 0.1
        for f in (110, 220)
    )
    assert METRICS["f0/gpe"](low, high) > 95
    assert METRICS["f0/vde"](low, high) < 5
    with pytest.raises(MetricError, match="nothing in the reference is voiced"):
        METRICS["f0/vde"](noise(2 * RATE), low)
