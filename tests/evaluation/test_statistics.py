from __future__ import annotations

import math

import numpy as np
import pytest

from audiotokens.evaluation.statistics import mean_interval, paired_interval

SPEAKERS = [f"s{speaker}" for speaker in range(20) for _ in range(10)]


def speaker_effect(seed: int) -> np.ndarray:
    """Values around 0: a speaker's own level (deviation .3) plus noise of the clip (deviation .2)."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.normal(0, 0.3, 20), 10) + rng.normal(0, 0.2, 200)


def coverage(speakers: list[str]) -> float:
    intervals = [
        mean_interval(speaker_effect(seed).tolist(), speakers, resamples=1000) for seed in range(300)
    ]
    return float(
        np.mean([i.low is not None and i.high is not None and i.low <= 0 <= i.high for i in intervals])
    )


def test_intervals_cover_the_truth_where_speakers_differ() -> None:
    assert 0.92 <= coverage(SPEAKERS) <= 0.98


def test_treating_every_clip_as_a_speaker_would_not_cover() -> None:
    assert coverage([str(clip) for clip in range(200)]) < 0.75


def test_equal_seeds_give_equal_intervals() -> None:
    values = speaker_effect(1).tolist()
    assert mean_interval(values, SPEAKERS, seed=3) == mean_interval(values, SPEAKERS, seed=3)
    assert mean_interval(values, SPEAKERS, seed=3) != mean_interval(values, SPEAKERS, seed=4)


def test_the_mean_is_over_files_and_order_does_not_matter() -> None:
    interval = mean_interval([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"])
    assert (interval.mean, interval.count, interval.speakers) == (2.0, 4, 2)
    assert mean_interval([5.0, 1.0, 1.0, 1.0], ["b", "a", "a", "a"]) == interval
    assert (interval.low, interval.high) == (1.0, 5.0)


def test_no_interval_without_a_second_speaker_or_with_infinity() -> None:
    one = mean_interval([1.0, 2.0], ["a", "a"])
    assert (one.mean, one.low, one.high, one.speakers) == (1.5, None, None, 1)
    infinite = mean_interval([1.0, math.inf], ["a", "b"])
    assert (infinite.mean, infinite.low, infinite.high) == (math.inf, None, None)
    assert mean_interval([math.inf, -math.inf], ["a", "b"]).mean is None
    assert mean_interval([], []).mean is None
    with pytest.raises(ValueError, match="one speaker per value"):
        mean_interval([1.0], [])


def test_paired_differences_see_what_two_intervals_cannot() -> None:
    speakers = {str(i): name for i, name in enumerate(SPEAKERS)}
    first = {str(i): float(value) for i, value in enumerate(speaker_effect(5))}
    second = {file: value - 0.05 for file, value in first.items()} | {"other": 9.0}
    difference = paired_interval(first, second, speakers)
    assert difference.count == 200
    assert difference.low is not None
    assert difference.low == pytest.approx(0.05)
    whole = mean_interval(list(first.values()), SPEAKERS)
    assert whole.low is not None
    assert whole.mean is not None
    assert whole.mean - whole.low > 0.1


def test_two_infinities_are_no_difference() -> None:
    interval = paired_interval({"x": math.inf, "y": 1.0}, {"x": math.inf, "y": 1.0}, {"x": "a", "y": "b"})
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)
