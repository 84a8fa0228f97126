"""A comparison as text: one table for each domain, with intervals, N and ties."""

from __future__ import annotations

from collections.abc import Sequence

from audiotokens.evaluation.metrics import METRICS
from audiotokens.evaluation.results import Comparison, Difference, OperatingPoint, Summary

_FLAG = "!"
_SHOWN = ("evaluation rate", "resampler", "threads", "intervals")


def format_table(comparison: Comparison) -> str:
    """Return the comparison as plain text.

    Means stand with half the width of their 95 % interval. Below each table stand the pairs of points that
    the files cannot tell apart. A row is marked with "!" where more than 1 % of the files are missing.
    """
    parts = [_domain_table(comparison, domain) for domain in comparison.domains]
    return "\n\n".join([*parts, "\n".join(_footer(comparison))])


def _domain_table(comparison: Comparison, domain: str) -> str:
    points = [point for point in comparison.points if point.domain == domain]
    speakers = {record.speaker for record in comparison.records if record.domain == domain}
    title = f"{domain}: {points[0].files} files, {len(speakers)} speakers or sources"
    if all(point.failed == point.files for point in points):
        return f"{title}, all failed"
    metrics = [
        metric
        for metric in comparison.metrics
        if any(s.metric == metric and s.domain == domain for s in comparison.summaries)
    ]
    header = ["tokenizer", "books", "nominal", "written", "entropy", "delay", "encode", "decode"]
    header += [*map(_title, metrics), "N"]
    units = ["", "", "kbit/s", "kbit/s", "kbit/s", "ms", "x real", "x real", *map(_unit, metrics), ""]
    rows = []
    for point in points:
        found = [comparison.summary(point.point, metric) for metric in metrics]
        rows.append([*_cost(point), *map(_mean, found), _count(point, found)])
    seconds = max(point.seconds for point in points)
    return "\n".join(
        [f"{title}, {seconds:.0f} s", *_columns([header, units, *rows]), *_ties(comparison, domain, metrics)]
    )


def _cost(point: OperatingPoint) -> list[str]:
    return [
        point.tokenizer,
        str(point.num_codebooks),
        _number(point.nominal_bitrate, 3, 1000),
        _number(point.measured_bitrate, 3, 1000),
        _number(point.entropy_bitrate, 3, 1000),
        _number(point.delay_milliseconds, 2),
        _number(point.encode_speed, 0),
        _number(point.decode_speed, 0),
    ]


def _mean(summary: Summary | None) -> str:
    if summary is None or summary.mean is None:
        return "-"
    decimals = METRICS[summary.metric].decimals if summary.metric in METRICS else 3
    text = f"{summary.mean:.{decimals}f}"
    if summary.low is None or summary.high is None:
        return text
    return f"{text} ±{(summary.high - summary.low) / 2:.{decimals}f}"


def _count(point: OperatingPoint, summaries: Sequence[Summary | None]) -> str:
    found = [summary for summary in summaries if summary is not None]
    counts = sorted({summary.count for summary in found}) or [point.files - point.failed]
    flag = _FLAG if point.flagged or any(summary.flagged for summary in found) else ""
    return f"{'-'.join(str(count) for count in {counts[0]: 0, counts[-1]: 0})}/{point.files}{flag}"


def _ties(comparison: Comparison, domain: str, metrics: Sequence[str]) -> list[str]:
    several = len({point.tokenizer for point in comparison.points}) > 1
    own = [d for d in comparison.differences if d.domain == domain and d.count]
    lines = []
    for metric in metrics:
        ties = [d for d in own if d.metric == metric and d.tie and d.low is not None]
        if ties:
            lines.append(f"ties in {_title(metric)}: {', '.join(_pair(tie, several) for tie in ties)}")
    if any(difference.speakers == 1 for difference in own):
        lines.append("a single speaker or source: there are no intervals, and nothing can be ranked")
    return lines


def _pair(tie: Difference, several: bool) -> str:
    if several:
        return f"{tie.first_tokenizer}:{tie.first_codebooks} = {tie.second_tokenizer}:{tie.second_codebooks}"
    return f"{tie.first_codebooks} = {tie.second_codebooks} books"


def _footer(comparison: Comparison) -> list[str]:
    lines = [f"{name}: {comparison.settings[name]}" for name in _SHOWN if name in comparison.settings]
    return [*lines, *(f"note: {note}" for note in comparison.notes)]


def _title(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else metric


def _unit(metric: str) -> str:
    if metric not in METRICS:
        return ""
    arrow = "up" if METRICS[metric].larger_is_better else "down"
    return f"{METRICS[metric].unit} {arrow}".strip()


def _number(value: float | None, decimals: int, divisor: float = 1) -> str:
    return "-" if value is None else f"{value / divisor:.{decimals}f}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
