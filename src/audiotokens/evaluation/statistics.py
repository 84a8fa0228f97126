"""Means with 95 % intervals by bootstrap over speakers, and paired differences on the same files.

Files of one speaker resemble each other, so resampling files gives intervals that are far too narrow:
speakers are what is drawn. The plain percentile interval is still too narrow for few speakers; its levels are
widened as in T. Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 3.3 ("expanded
percentile").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

RESAMPLES = 4000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its interval.

    Args:
        mean: over files; None without any.
        low: None with fewer than two speakers, or where a value is infinite.
        high: likewise.
        count: number of files.
        speakers: number of speakers.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    speakers: int


def mean_interval(
    values: Sequence[float],
    speakers: Sequence[str],
    *,
    weights: Sequence[float] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean over files with its 95 % interval over speakers.

    Args:
        values: one number per file.
        speakers: who speaks in each file.
        weights: of the files in the mean, such as numbers of words for a word error rate; default: equal.
        seed: of the bootstrap; equal input and seed give equal intervals.
        resamples: draws.

    Raises:
        ValueError: not one speaker per value.

    Example:
        >>> mean_interval([1.0, 1.0, 3.0, 3.0], ["a", "a", "b", "b"]).mean
        2.0
    """
    if len(values) != len(speakers):
        raise ValueError(
            f"{len(values)} values with {len(speakers)} speakers, expected one speaker per value"
        )
    share = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    names, index = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    count = len(names)
    if not len(values) or not share.any():
        return Interval(None, None, None, 0, 0)
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean = float(np.average(array, weights=share))
    if math.isnan(mean) or math.isinf(mean) or count < 2:
        return Interval(None if math.isnan(mean) else mean, None, None, len(array), count)
    sums = np.bincount(index, weights=array * share, minlength=count)
    sizes = np.bincount(index, weights=share, minlength=count)
    draws = _draws(count, seed, resamples)
    means = (draws @ sums) / (draws @ sizes)
    tail = _expanded_tail(count)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), len(array), count)


def paired_interval(
    first: Mapping[str, float],
    second: Mapping[str, float],
    speakers: Mapping[str, str],
    *,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean of `first - second` on the files that both have, with its 95 % interval over speakers.

    Args:
        first: value by file.
        second: value by file.
        speakers: speaker by file.
        weights: weight by file; default: equal.
        seed: of the bootstrap.
        resamples: draws.
    """
    files = [file for file in first if file in second]
    differences = [0.0 if first[file] == second[file] else first[file] - second[file] for file in files]
    return mean_interval(
        differences,
        [speakers[file] for file in files],
        weights=None if weights is None else [weights[file] for file in files],
        seed=seed,
        resamples=resamples,
    )


def repeated_interval(values: Sequence[float]) -> Interval:
    """Return the mean of a few repetitions, such as seeds, with its 95 % interval by Student's t.

    Example:
        >>> found = repeated_interval([1.0, 2.0, 3.0])
        >>> found.mean, found.low < 0.0 < 4.0 < found.high
        (2.0, True)
    """
    count = len(values)
    if not count:
        return Interval(None, None, None, 0, 0)
    mean = math.fsum(values) / count
    if count < 2:
        return Interval(mean, None, None, count, count)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    reach = _student_quantile(count - 1) * spread / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, count, count)


@lru_cache(maxsize=8)
def _draws(count: int, seed: int, resamples: int) -> np.ndarray:
    """How often each of `count` units is drawn, `[resamples, count]`."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)


def _expanded_tail(count: int) -> float:
    """Tail level whose percentile of `count` resampled units has the width of a t interval."""
    quantile = _student_quantile(count - 1) * math.sqrt(count / (count - 1))
    return NormalDist().cdf(-quantile)


def _student_quantile(freedom: int) -> float:
    """Upper quantile of Student's t, expanded in 1 / freedom (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
