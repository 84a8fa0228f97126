"""What the tables and plots of the report show: the numbers of one domain, and how they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audiotokens.evaluation.metrics import METRICS
from audiotokens.evaluation.results import Comparison, OperatingPoint, Point, Summary

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class DomainView:
    """The part of a comparison that belongs to one domain.

    Args:
        domain: name.
        points: operating points.
        found: means by point and measure.
        metrics: measures with at least one mean, in the order of the comparison.
        tokenizers: names in the order of the points.
    """

    domain: str
    points: tuple[OperatingPoint, ...]
    found: dict[tuple[Point, str], Summary]
    metrics: tuple[str, ...]
    tokenizers: tuple[str, ...]

    @classmethod
    def of(cls, comparison: Comparison, domain: str) -> DomainView:
        """Return the view of one domain of a comparison."""
        points = tuple(point for point in comparison.points if point.domain == domain)
        found = {(s.point, s.metric): s for s in comparison.summaries if s.domain == domain}
        measured = {metric for (_, metric), summary in found.items() if summary.mean is not None}
        order = dict.fromkeys((*comparison.metrics, *(summary.metric for summary in comparison.summaries)))
        names = tuple(dict.fromkeys(point.tokenizer for point in points))
        return cls(domain, points, found, tuple(metric for metric in order if metric in measured), names)


def metric_title(metric: str) -> str:
    """Return the name of a measure for readers, with its unit; unknown ids as they are."""
    known = METRICS.get(metric)
    if known is None:
        return metric
    return f"{known.title}, {known.unit}" if known.unit else known.title


def domain_title(domain: str) -> str:
    """Return the heading of a domain."""
    return domain.capitalize() if domain else "All recordings"


def format_value(value: float, metric: str, *, decimals: int = 3) -> str:
    """Write a value with its measure's decimals (at most `decimals`), true minus and infinity signs."""
    known = METRICS.get(metric)
    digits = min(known.decimals, decimals) if known else decimals
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    return (MINUS if value < 0 else "") + text


def format_interval(low: float, high: float, metric: str, *, decimals: int = 3) -> str:
    """Write an interval in brackets."""
    return (
        f"[{format_value(low, metric, decimals=decimals)}, {format_value(high, metric, decimals=decimals)}]"
    )
