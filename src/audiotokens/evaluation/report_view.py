"""What the tables and plots of the report show: the numbers of one table, and how they are written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audiotokens.evaluation.metrics import METRICS
from audiotokens.evaluation.results import Comparison, Difference, OperatingPoint, Point, Summary, Table

MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
SHOWN = 4
"""Measures that are shown before the reader chooses others."""
_FIRST = (
    "pesq-wb",
    "estoi",
    "visqol/speech",
    "dwer/pocketsphinx",
    "speaker/resemblyzer",
    "si-sdr",
    "mel/dac-eval",
)


@dataclass(frozen=True)
class Family:
    """Systems that are one line of a plot: a tokenizer at several rates, or one codec at several settings.

    Args:
        name: for readers.
        points: by rising bit rate.
        style: index of colour and marker among the tokenizers, or of the marker among the anchors.
    """

    name: str
    points: tuple[OperatingPoint, ...]
    style: int


@dataclass(frozen=True)
class TableView:
    """The part of a comparison that belongs to one table.

    Args:
        table: domain and corpus.
        points: operating points, calibrations left out, by rising bit rate; those that code nothing last.
        calibrations: treatments with known effect.
        tokenizers: families of tokenizers, in the order of the comparison.
        anchors: families of anchors that have a bit rate.
        uncoded: points without bit rate: tokenizers without quantizer, and anchors that code nothing.
        found: means by point and measure.
        metrics: measures with at least one mean, in the order of the comparison.
        against: differences to the reference, by first point and measure.
        reference: the point that all are compared with, or None.
        payload: whether bit rates are those of the codes alone; else those of whole `.tok` files.
    """

    table: Table
    points: tuple[OperatingPoint, ...]
    calibrations: tuple[OperatingPoint, ...]
    tokenizers: tuple[Family, ...]
    anchors: tuple[Family, ...]
    uncoded: tuple[OperatingPoint, ...]
    found: dict[tuple[Point, str], Summary]
    metrics: tuple[str, ...]
    against: dict[tuple[Point, str], Difference]
    reference: OperatingPoint | None
    payload: bool

    @classmethod
    def of(cls, comparison: Comparison, table: Table) -> TableView:
        """Return the view of one table of a comparison."""
        given = [point for point in comparison.points if point.point.table == table]
        shown = [point for point in given if point.kind != "calibration"]
        payload = all(p.payload_bitrate for p in shown if p.nominal_bitrate or p.measured_bitrate)
        ordered = sorted(shown, key=lambda point: rate_of(point, payload) or math.inf)
        coded = [point for point in ordered if rate_of(point, payload)]
        found = {(s.point, s.metric): s for s in comparison.summaries if s.point.table == table}
        measured = {metric for (_, metric), summary in found.items() if summary.mean is not None}
        order = dict.fromkeys((*comparison.metrics, *(summary.metric for summary in comparison.summaries)))
        against = {(d.first, d.metric): d for d in comparison.against if d.first.table == table}
        names = dict.fromkeys(p.tokenizer for p in given if p.kind in ("tokenizer", "unquantized"))
        tokenizers = (
            (name, [p for p in coded if p.tokenizer == name and p.kind == "tokenizer"]) for name in names
        )
        reference = comparison.reference
        return cls(
            table=table,
            points=tuple(ordered),
            calibrations=tuple(point for point in given if point.kind == "calibration"),
            tokenizers=tuple(Family(name, tuple(own), i) for i, (name, own) in enumerate(tokenizers)),
            anchors=_anchor_families([point for point in coded if point.kind == "anchor"]),
            uncoded=tuple(point for point in ordered if not rate_of(point, payload)),
            found=found,
            metrics=tuple(metric for metric in order if metric in measured),
            against=against,
            reference=next(
                (
                    point
                    for point in given
                    if reference
                    and (point.tokenizer, point.num_codebooks)
                    == (reference.tokenizer, reference.num_codebooks)
                ),
                None,
            ),
            payload=payload,
        )

    @property
    def shown_first(self) -> tuple[str, ...]:
        """The measures of the compact view."""
        known = [metric for metric in _FIRST if metric in self.metrics]
        rest = [metric for metric in self.metrics if metric not in known]
        chosen = [*known, *rest][:SHOWN]
        return tuple(metric for metric in self.metrics if metric in chosen)

    def rate(self, point: OperatingPoint) -> float | None:
        """Return the bit rate, in bits per second, at which a point stands; None where nothing is coded."""
        return rate_of(point, self.payload)

    def family(self, point: OperatingPoint) -> str:
        """Return what several points of one system have in common: "opus" for "opus-9k"."""
        return _family_key(point.tokenizer) if point.kind == "anchor" else point.tokenizer

    def style(self, point: OperatingPoint) -> int:
        """Return the index of the tokenizer that a point belongs to, or -1 for an anchor."""
        if point.kind not in ("tokenizer", "unquantized"):
            return -1
        return next(i for i, family in enumerate(self.tokenizers) if family.name == point.tokenizer)


def rate_of(point: OperatingPoint, payload: bool) -> float | None:
    """Return the bit rate of the codes, or else of the files, in bits per second."""
    measured = point.payload_bitrate if payload else point.measured_bitrate
    return measured or point.nominal_bitrate or None


def system_title(point: OperatingPoint) -> str:
    """Return the name of a system for readers, without its number of books."""
    if point.kind == "unquantized":
        return f"{point.tokenizer} without quantizer"
    return point.title or point.tokenizer


def metric_title(metric: str) -> str:
    """Return the name of a measure for readers, with its unit; unknown ids as they are."""
    known = METRICS.get(metric)
    if known is None:
        return metric
    return f"{known.title}, {known.unit}" if known.unit else known.title


def table_title(table: Table) -> str:
    """Return the heading of a table."""
    return table.title[:1].upper() + table.title[1:] if table.domain else "All recordings"


def format_value(value: float, metric: str, *, decimals: int = 3) -> str:
    """Write a value with its measure's decimals (at most `decimals`), true minus and infinity signs."""
    known = METRICS.get(metric)
    digits = min(known.decimals, decimals) if known else decimals
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    return (MINUS if value < 0 else "") + text


def format_interval(low: float, high: float, metric: str, *, decimals: int = 3) -> str:
    """Write an interval in brackets."""
    ends = (format_value(end, metric, decimals=decimals) for end in (low, high))
    return f"[{', '.join(ends)}]"


def format_rate(bits_per_second: float) -> str:
    """Write a bit rate in kbit/s without the unit, with three digits that mean something."""
    value = bits_per_second / 1000
    return f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def counted(number: int, name: str) -> str:
    """Write a number with its noun, in the plural where it is not one."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def enumerate_names(names: Sequence[str]) -> str:
    """Join names with commas and a final "and"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _anchor_families(points: Iterable[OperatingPoint]) -> tuple[Family, ...]:
    groups: dict[str, list[OperatingPoint]] = {}
    for point in points:
        groups.setdefault(_family_key(point.tokenizer), []).append(point)
    return tuple(Family(_family_title(own), tuple(own), i) for i, own in enumerate(groups.values()))


def _family_key(name: str) -> str:
    """Return "opus" for "opus-9k": what stands before a last part that begins with a digit."""
    head, _, tail = name.rpartition("-")
    return head if head and tail[:1].isdecimal() else name


def _family_title(points: Sequence[OperatingPoint]) -> str:
    titles = [system_title(point) for point in points]
    if len(titles) == 1:
        return titles[0]
    columns = zip(*(title.split() for title in titles))
    common = itertools.takewhile(lambda words: len(set(words)) == 1, columns)
    return " ".join(words[0] for words in common) or _family_key(points[0].tokenizer)
