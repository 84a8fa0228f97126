"""The measuring part of the report: rate-distortion plots, tables, book use, and how it was all measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from audiotokens.evaluation.metrics import METRICS
from audiotokens.evaluation.report_plots import (
    SERIES_STYLES,
    Mark,
    Series,
    book_plot,
    line_plot,
    marker,
    rank_profile,
)
from audiotokens.evaluation.report_view import (
    DomainView,
    domain_title,
    format_interval,
    format_value,
    metric_title,
)
from audiotokens.evaluation.results import BookUsage, Comparison, OperatingPoint, Summary

_FIRST = 3
_NONE = '<span class="none">–</span>'
_X_LABEL = "kbit/s, measured on the .tok files (log scale)"


def measures_section(comparison: Comparison) -> str:
    """Return plots and table of every domain."""
    parts = [_domain(DomainView.of(comparison, domain)) for domain in comparison.domains]
    return (
        '<section id="measure" aria-labelledby="measure-title"><h2 id="measure-title">Measure</h2>'
        "<p>Means over recordings. Bands and bars are 95&nbsp;% intervals, bootstrapped over speakers or "
        f"source recordings; without a second speaker there is none.</p>{''.join(parts)}</section>"
    )


def books_section(comparison: Comparison) -> str:
    """Return the use of every book at the operating point with the most books, by domain and tokenizer."""
    groups: dict[tuple[str, str], list[BookUsage]] = {}
    for usage in comparison.usage:
        groups.setdefault((usage.domain, usage.tokenizer), []).append(usage)
    parts = []
    for i, ((domain, tokenizer), usages) in enumerate(groups.items()):
        most = max(usage.num_codebooks for usage in usages)
        cells = _book_cells([usage for usage in usages if usage.num_codebooks == most])
        parts.append(
            f"<details{' open' if i == 0 else ''}><summary>{escape(domain_title(domain))} "
            f"<span>{escape(tokenizer)}, {most} books</span></summary><div>"
            f'<div class="shelf-of-books">{cells}</div></div></details>'
        )
    if not parts:
        return ""
    return (
        '<section id="books" aria-labelledby="books-title"><h2 id="books-title">Book use</h2>'
        "<p>How often each code occurs, commonest first, as a multiple of the uniform rate (dashed). In "
        "brackets how many codes uniform use would reach on as little audio; entropy is Miller–Madow "
        "corrected.</p>"
        f"{''.join(parts)}</section>"
    )


def method_section(comparison: Comparison, sentences: Sequence[str]) -> str:
    """Return notes, definitions of the measures, failures and settings.

    Args:
        comparison: what was measured.
        sentences: about the page itself.
    """
    definitions = (
        f"<li><b>{escape(metric_title(name))}</b> <code>{escape(name)}</code>: "
        f"{escape(METRICS[name].definition)}</li>"
        for name in comparison.metrics
        if name in METRICS
    )
    notes = (f"<li>{escape(note)}</li>" for note in (*comparison.notes, *sentences))
    settings = (
        f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in comparison.settings.items()
    )
    return (
        '<section id="method" class="method" aria-labelledby="method-title">'
        '<h2 id="method-title">How it was measured</h2>'
        f"<ul>{''.join(notes)}</ul>{_failures(comparison)}"
        "<details><summary>Definitions of the measures</summary><div>"
        f"<ul>{''.join(definitions)}</ul></div></details>"
        "<details><summary>Settings and versions</summary><div>"
        f'<dl class="settings">{"".join(settings)}</dl></div></details></section>'
    )


def _domain(view: DomainView) -> str:
    plots = [plot for metric in view.metrics if (plot := _plot(view, metric))]
    more = ""
    if len(plots) > _FIRST:
        more = (
            f'<details class="more"><summary>{len(plots) - _FIRST} more measures</summary>'
            f'<div class="plots">{"".join(plots[_FIRST:])}</div></details>'
        )
    most = max(view.points, key=lambda point: point.seconds)
    return (
        f'<div class="domain"><h3>{escape(domain_title(view.domain))}</h3>'
        f"<p>{most.files} recordings, {_length(most.seconds)}</p>{_legend(view.tokenizers)}"
        f'<div class="plots">{"".join(plots[:_FIRST])}</div>{more}{_table(view)}</div>'
    )


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    items = []
    for i, name in enumerate(names):
        shape = f'<g class="s{i % SERIES_STYLES}">{marker(i, 0, 0)}</g>'
        items.append(f'<li><svg viewBox="-7 -7 14 14" aria-hidden="true">{shape}</svg>{escape(name)}</li>')
    return f'<ul class="names">{"".join(items)}</ul>'


def _plot(view: DomainView, metric: str) -> str:
    series = []
    for style, name in enumerate(view.tokenizers):
        own = [point for point in view.points if point.tokenizer == name]
        marks = [mark for point in own if (mark := _mark(point, view.found.get((point.point, metric))))]
        if marks:
            series.append(Series(name, tuple(sorted(marks, key=lambda mark: mark.x)), style))
    if not series:
        return ""
    title, known = metric_title(metric), METRICS.get(metric)
    better = "" if known is None else "↑ higher is better" if known.larger_is_better else "↓ lower is better"
    label = f"{title} over bit rate; the same numbers are in the table"
    caption = f"<figcaption><h4>{escape(title)}</h4><span>{better}</span></figcaption>"
    return f'<figure class="card">{caption}{line_plot(series, label=label, x_label=_X_LABEL)}</figure>'


def _mark(point: OperatingPoint, summary: Summary | None) -> Mark | None:
    rate = point.measured_bitrate or point.nominal_bitrate or 0.0
    if summary is None or summary.mean is None or not math.isfinite(summary.mean) or rate <= 0:
        return None
    finite = [end if end is not None and math.isfinite(end) else None for end in (summary.low, summary.high)]
    low, high = finite if None not in finite else (None, None)
    interval = "" if low is None or high is None else f" {format_interval(low, high, summary.metric)}"
    text = (
        f"{point.tokenizer}, {point.num_codebooks} books, {rate / 1000:.2f} kbit/s: "
        f"{format_value(summary.mean, summary.metric)}{interval}, N = {summary.count}"
    )
    return Mark(rate / 1000, summary.mean, low, high, text)


def _table(view: DomainView) -> str:
    counts = {summary.count for (_, metric), summary in view.found.items() if metric in view.metrics}
    common = counts.pop() if len(counts) == 1 else None
    heads = ["Books", "Nominal kbit/s", "Measured kbit/s", "Entropy kbit/s", *map(metric_title, view.metrics)]
    heads += ["Encode / decode, × real time"] if common is None else ["N", "Encode / decode, × real time"]
    rows: list[str] = []
    for name in view.tokenizers:
        if len(view.tokenizers) > 1:
            rows.append(_group(name, len(heads)))
        rows += [_row(view, point, heads, common) for point in view.points if point.tokenizer == name]
    title = escape(domain_title(view.domain))
    caption = f"{title}: mean, 95 % interval and number of recordings N. † more than 1 % of them are missing."
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        '<details class="numbers" open><summary>All numbers</summary>'
        f'<div class="table" role="region" tabindex="0" aria-label="{title}, all numbers"><table>'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div></details>"
    )


def _group(name: str, columns: int) -> str:
    return f'<tr class="group"><th scope="rowgroup" colspan="{columns}">{escape(name)}</th></tr>'


def _row(view: DomainView, point: OperatingPoint, heads: Sequence[str], common: int | None) -> str:
    rates = (point.nominal_bitrate, point.measured_bitrate, point.entropy_bitrate)
    cells = [_NONE if rate is None else f"{rate / 1000:.2f}" for rate in rates]
    for metric in view.metrics:
        cells.append(_cell(view.found.get((point.point, metric)), show_count=common is None))
    cells += [] if common is None else [str(common)]
    cells.append(f"{_speed(point.encode_speed)} / {_speed(point.decode_speed)}")
    data = (
        f'<td data-label="{escape(head)}"><span>{cell}</span></td>'
        for head, cell in zip(heads[1:], cells, strict=True)
    )
    return f'<tr><th scope="row">{_books(point)}</th>{"".join(data)}</tr>'


def _books(point: OperatingPoint) -> str:
    unit = "book" if point.num_codebooks == 1 else "books"
    return f'{point.num_codebooks}<span class="unit"> {unit}</span>'


def _cell(summary: Summary | None, *, show_count: bool) -> str:
    if summary is None or summary.mean is None:
        return _NONE
    flag = " †" if summary.flagged else ""
    detail = []
    if summary.low is not None and summary.high is not None:
        detail.append(format_interval(summary.low, summary.high, summary.metric))
    if show_count:
        detail.append(f"N {summary.count}")
    return f"{format_value(summary.mean, summary.metric)}{flag}<small>{', '.join(detail)}</small>"


def _speed(value: float | None) -> str:
    return _NONE if value is None else f"{value:,.0f}"


def _book_cells(usages: Sequence[BookUsage]) -> str:
    top = max(4.0, *(float(rank_profile(usage.counts)[0]) for usage in usages))
    several = len({usage.stream for usage in usages}) > 1
    cells = []
    for usage in usages:
        name = f"{usage.stream}, book {usage.book + 1}" if several else f"Book {usage.book + 1}"
        used = f"{usage.used:,} of {usage.size:,} used (uniform: {usage.expected_used:,.0f})"
        text = f"{used}, {usage.entropy:.2f} of {math.log2(usage.size):.2f} bits"
        plot = book_plot(usage.counts, label=f"{name}: {text}", top=top)
        cells.append(f"<figure><figcaption><b>{escape(name)}</b>{text}</figcaption>{plot}</figure>")
    return "".join(cells)


def _failures(comparison: Comparison) -> str:
    failed = {record.file: record.reason for record in comparison.records if record.status == "failed"}
    if not failed:
        return ""
    items = "".join(f"<li><b>{escape(file)}</b>: {escape(reason)}</li>" for file, reason in failed.items())
    return f'<p class="bad">Could not be measured:</p><ul>{items}</ul>'
