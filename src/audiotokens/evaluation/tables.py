"""A comparison as text: one table for each domain or corpus, with intervals, N, ties and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audiotokens.evaluation.metrics import METRICS
from audiotokens.evaluation.results import (
    BookUsage,
    Comparison,
    Difference,
    OperatingPoint,
    Point,
    Reference,
    Summary,
    Table,
)

_FLAG = "!"
_OWN = "> "
_SHOWN = ("evaluation rate", "resampler", "threads", "speed", "intervals")


@dataclass(frozen=True)
class _Block:
    """One table: what stands above it, its cells, a second group of rows, and what stands below it."""

    title: str
    header: Sequence[str]
    units: Sequence[str]
    rows: Sequence[Sequence[str]]
    apart: Sequence[Sequence[str]] = ()
    lines: Sequence[str] = ()


def format_table(comparison: Comparison, *, markdown: bool = False) -> str:
    """Return the comparison as plain text, or as Markdown.

    Means stand with half the width of their 95 % interval. Below each table stand the pairs of points that
    the files cannot tell apart. A row is marked with "!" where more than 1 % of the files are missing. Beside
    anchors all rows stand by bit rate, those of the tokenizers are marked, and calibrations stand below. With
    a reference, a second table holds the paired differences to it.
    """
    blocks: list[_Block] = []
    for table in comparison.tables:
        blocks.append(_measures(comparison, table))
        if comparison.reference is not None and blocks[-1].rows:
            blocks.append(_against(comparison, table, comparison.reference))
    footer = [f"{name}: {comparison.settings[name]}" for name in _SHOWN if name in comparison.settings]
    footer += [f"note: {note}" for note in comparison.notes]
    if markdown:
        return "\n\n".join([*map(_markdown, blocks), "\n".join(f"- {line}" for line in footer)])
    return "\n\n".join([*map(_text, blocks), "\n".join(footer)])


def _measures(comparison: Comparison, table: Table) -> _Block:
    points = [point for point in comparison.points if point.point.table == table]
    speakers = {record.speaker for record in comparison.records if record.point.table == table}
    title = f"{table.title}: {points[0].files} files, {len(speakers)} speakers or sources"
    if all(point.failed == point.files for point in points):
        return _Block(f"{title}, all failed", (), (), ())
    found = {(s.point, s.metric): s for s in comparison.summaries if s.point.table == table}
    metrics = [metric for metric in comparison.metrics if any(metric == known for _, known in found)]
    anchored = any(point.kind == "anchor" for point in points)
    rows: dict[bool, list[list[str]]] = {True: [], False: []}
    for point in _by_rate(points) if anchored else points:
        own = [found.get((point.point, metric)) for metric in metrics]
        cells = [*_cost(point), *map(_mean, own), _count(point, own)]
        cells[0] = _name(point, marked=anchored)
        rows[point.kind == "calibration"].append(cells)
    header = ["system" if anchored or rows[True] else "tokenizer", "books"]
    header += ["nominal", "written", "payload", "entropy", "delay", "encode", "decode"]
    units = ["", "", *["kbit/s"] * 4, "ms", "x real", "x real", *map(_unit, metrics), ""]
    seconds = max(point.seconds for point in points)
    return _Block(
        f"{title}, {seconds:.0f} s",
        [*header, *map(_title, metrics), "N"],
        units,
        rows[False],
        rows[True],
        [*_ties(comparison, table, metrics), *_book_use(comparison.usage, table)],
    )


def _against(comparison: Comparison, table: Table, reference: Reference) -> _Block:
    points = [point for point in comparison.points if point.point.table == table]
    found = {(d.first, d.metric): d for d in comparison.against if d.first.table == table}
    metrics = [metric for metric in comparison.metrics if any(metric == known for _, known in found)]
    second = (reference.tokenizer, reference.num_codebooks)
    name = next((_name(p) for p in points if (p.tokenizer, p.num_codebooks) == second), reference.tokenizer)
    rows: dict[bool, list[list[str]]] = {True: [], False: []}
    anchored = any(point.kind == "anchor" for point in points)
    for point in _by_rate(points) if anchored else points:
        differences = [found.get((point.point, metric)) for metric in metrics]
        if any(differences):
            rate = _number(point.payload_bitrate, 3, 1000)
            cells = [_name(point, marked=anchored), _books(point), rate, *map(_difference, differences)]
            rows[point.kind == "calibration"].append([*cells, _counts([d.count for d in differences if d])])
    books = f" with {reference.num_codebooks} books" if reference.num_codebooks else ""
    return _Block(
        f"{table.title}: difference to {name}{books}, file by file",
        ["system", "books", "payload", *map(_title, metrics), "N"],
        ["", "", "kbit/s", *map(_unit, metrics), ""],
        rows[False],
        rows[True],
    )


def _by_rate(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    return sorted(points, key=lambda point: point.payload_bitrate or float("inf"))


def _name(point: OperatingPoint, *, marked: bool = False) -> str:
    name = point.title or point.tokenizer
    return f"{_OWN}{name}" if marked and point.kind in ("tokenizer", "unquantized") else name


def _books(point: OperatingPoint) -> str:
    return str(point.num_codebooks) if point.num_codebooks else "-"


def _cost(point: OperatingPoint) -> list[str]:
    return [
        point.tokenizer,
        _books(point),
        _number(point.nominal_bitrate, 3, 1000),
        _number(point.measured_bitrate, 3, 1000),
        _number(point.payload_bitrate, 3, 1000),
        _number(point.entropy_bitrate, 3, 1000),
        _number(point.delay_milliseconds, 2),
        _number(point.encode_speed, 0),
        _number(point.decode_speed, 0),
    ]


def _mean(summary: Summary | None) -> str:
    if summary is None or summary.mean is None:
        return "-"
    decimals = _decimals(summary.metric)
    return f"{summary.mean:.{decimals}f}{_half_width(summary.low, summary.high, decimals)}"


def _difference(difference: Difference | None) -> str:
    if difference is None or difference.mean is None:
        return "-"
    decimals = _decimals(difference.metric)
    width = _half_width(difference.low, difference.high, decimals)
    # without an interval there is nothing to judge
    return f"{difference.mean:+.{decimals}f}{width} {(width and difference.verdict) or ''}".rstrip()


def _half_width(low: float | None, high: float | None, decimals: int) -> str:
    return "" if low is None or high is None else f" ±{(high - low) / 2:.{decimals}f}"


def _decimals(metric: str) -> int:
    return METRICS[metric].decimals if metric in METRICS else 3


def _count(point: OperatingPoint, summaries: Sequence[Summary | None]) -> str:
    found = [summary for summary in summaries if summary is not None]
    flag = _FLAG if point.flagged or any(summary.flagged for summary in found) else ""
    return f"{_counts([s.count for s in found] or [point.files - point.failed])}/{point.files}{flag}"


def _counts(counts: Sequence[int]) -> str:
    low, high = min(counts, default=0), max(counts, default=0)
    return str(low) if low == high else f"{low}-{high}"


def _ties(comparison: Comparison, table: Table, metrics: Sequence[str]) -> list[str]:
    several = len({point.tokenizer for point in comparison.points}) > 1
    kinds = {point.point: point.kind for point in comparison.points}
    own = [
        d
        for d in comparison.differences
        if d.count and d.first.table == table and kinds[d.first] == "tokenizer"
    ]
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
        return f"{_short(tie.first)} = {_short(tie.second)}"
    return f"{tie.first_codebooks} = {tie.second_codebooks} books"


def _short(point: Point) -> str:
    return f"{point.tokenizer}:{point.num_codebooks}" if point.num_codebooks else point.tokenizer


def _book_use(usage: Sequence[BookUsage], table: Table) -> list[str]:
    """Return one line for each tokenizer: how much of every book the active frames use."""
    shares: dict[Point, list[str]] = {}
    for book in usage:
        if book.point.table == table and book.active_share is not None:
            shares.setdefault(book.point, []).append(f"{book.active_share:.3f}")
    return [
        f"entropy of each book in active frames, share of log2 of its size, {_short(point)}: {' '.join(own)}"
        for point, own in shares.items()
    ]


def _title(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else metric


def _unit(metric: str) -> str:
    if metric not in METRICS:
        return ""
    arrow = "up" if METRICS[metric].larger_is_better else "down"
    return f"{METRICS[metric].unit} {arrow}".strip()


def _number(value: float | None, decimals: int, divisor: float = 1) -> str:
    return "-" if value is None else f"{value / divisor:.{decimals}f}"


def _text(block: _Block) -> str:
    if not block.header:
        return block.title
    head = [list(block.header), list(block.units), *block.rows]
    columns = _columns([*head, *block.apart])
    apart = ["calibration", *columns[len(head) :]] if block.apart else []
    return "\n".join([block.title, *columns[: len(head)], *apart, *block.lines])


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _markdown(block: _Block) -> str:
    if not block.header:
        return f"**{block.title}**"
    heads = [
        f"{name} ({unit})" if unit else name for name, unit in zip(block.header, block.units, strict=True)
    ]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for row in block.rows:
        own = row[0].startswith(_OWN)
        rows.append([f"**{row[0].removeprefix(_OWN)}**" if own else row[0], *row[1:]])
    rows += [[f"*{row[0]}*", *row[1:]] for row in block.apart]
    table = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines = [f"- {line}" for line in block.lines]
    return "\n".join([f"**{block.title}**", "", *table, *([""] if lines else []), *lines])
