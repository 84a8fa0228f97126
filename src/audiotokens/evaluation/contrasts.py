"""Means with intervals, and paired differences with verdicts, from the values of all files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from audiotokens.evaluation.metrics import Metric
from audiotokens.evaluation.results import (
    Difference,
    OperatingPoint,
    Point,
    Reference,
    Row,
    Summary,
    Table,
    Verdict,
)
from audiotokens.evaluation.statistics import Interval, mean_interval, paired_interval


@dataclass
class _Values:
    """The values of one measure in one table."""

    by_point: dict[Point, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    speakers: dict[str, str] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)


Sorted = dict[tuple[Table, str], _Values]


def summarize(
    points: Sequence[OperatingPoint], rows: Sequence[Row], metrics: Sequence[Metric], seed: int
) -> list[Summary]:
    """Return the mean of every measure at every point, over the files that are ok at every compared point.

    A point where nothing is ok does not empty the means of the others, and a calibration, which is meant to
    fail, takes no file away from them.
    """
    return [
        _summary(point, metric.id, values, files, seed)
        for own, metric, values in _measured(points, rows, metrics)
        for point, files in _compared(own, values).items()
    ]


def contrasts(
    points: Sequence[OperatingPoint],
    rows: Sequence[Row],
    metrics: Sequence[Metric],
    seed: int,
    reference: Reference | None,
) -> list[Difference]:
    """Return the paired differences between tokenizers, of those to anchors, and of all to the reference."""
    return [
        _difference(first, second, metric, values, seed)
        for own, metric, values in _measured(points, rows, metrics)
        for first, second in _pairs(own, reference)
    ]


def verdict(interval: Interval, larger_is_better: bool) -> Verdict:
    """Return whether the first of two points is better, from the interval of `first - second`.

    Example:
        >>> verdict(Interval(-0.2, -0.3, -0.1, 20, 10), larger_is_better=False)
        'better'
    """
    low, high = interval.low, interval.high
    if low is None or high is None or low <= 0 <= high:
        return "tie"
    return "better" if (low > 0) == larger_is_better else "worse"


def _measured(
    points: Sequence[OperatingPoint], rows: Sequence[Row], metrics: Sequence[Metric]
) -> Iterator[tuple[list[OperatingPoint], Metric, _Values]]:
    """Give every table's points with every measure that has a value there."""
    found: Sorted = defaultdict(_Values)
    for row in rows:
        values = found[row.point.table, row.metric]
        values.speakers[row.file] = row.speaker
        if row.value is not None:
            values.by_point[row.point][row.file] = row.value
            values.weights[row.file] = row.weight
    for table in dict.fromkeys(point.point.table for point in points):
        own = [point for point in points if point.point.table == table]
        for metric in metrics:
            values = found[table, metric.id]
            if values.by_point:
                yield own, metric, values


def _compared(points: Sequence[OperatingPoint], values: _Values) -> dict[Point, list[str]]:
    """Return the files that count, by point."""
    main = [set(values.by_point[p.point]) for p in points if p.kind != "calibration"]
    alive = [files for files in main if files]
    common = set.intersection(*alive) if alive else set(values.speakers)
    return {p.point: [file for file in values.by_point[p.point] if file in common] for p in points}


def _summary(point: Point, metric: str, values: _Values, files: Sequence[str], seed: int) -> Summary:
    found = values.by_point[point]
    interval = mean_interval(
        [found[file] for file in files],
        [values.speakers[file] for file in files],
        weights=[values.weights[file] for file in files],
        seed=seed,
    )
    return Summary(
        domain=point.domain,
        tokenizer=point.tokenizer,
        num_codebooks=point.num_codebooks,
        group=point.group,
        metric=metric,
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        count=interval.count,
        speakers=interval.speakers,
        ok=len(found),
        total=len(values.speakers),
    )


def _pairs(points: Sequence[OperatingPoint], reference: Reference | None) -> list[tuple[Point, Point]]:
    """Return the pairs to compare, each once; the reference is the second of its pairs."""
    pairs = [
        (first.point, second.point)
        for first, second in combinations(points, 2)
        if first.kind == "tokenizer" and second.kind in ("tokenizer", "anchor")
    ]
    if reference is None:
        return pairs
    name = (reference.tokenizer, reference.num_codebooks)
    itself = [p.point for p in points if (p.tokenizer, p.num_codebooks) == name]
    others = [pair for pair in pairs if not set(itself) & set(pair)]
    return others + [(p.point, second) for second in itself for p in points if p.point != second]


def _difference(first: Point, second: Point, metric: Metric, values: _Values, seed: int) -> Difference:
    found: Mapping[Point, Mapping[str, float]] = values.by_point
    interval = paired_interval(
        found.get(first, {}), found.get(second, {}), values.speakers, weights=values.weights, seed=seed
    )
    return Difference(
        domain=first.domain,
        metric=metric.id,
        first_tokenizer=first.tokenizer,
        first_codebooks=first.num_codebooks,
        second_tokenizer=second.tokenizer,
        second_codebooks=second.num_codebooks,
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        count=interval.count,
        speakers=interval.speakers,
        group=first.group,
        verdict=verdict(interval, metric.larger_is_better),
    )
