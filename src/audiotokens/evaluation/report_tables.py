"""The tables of the report: quality at equal rates, verdicts against the reference, cost, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from audiotokens.evaluation.metrics import METRICS
from audiotokens.evaluation.report_plots import SERIES_STYLES, marker
from audiotokens.evaluation.report_view import (
    MINUS,
    TableView,
    counted,
    enumerate_names,
    format_interval,
    format_rate,
    format_value,
    metric_title,
    system_title,
    table_title,
)
from audiotokens.evaluation.results import Difference, OperatingPoint, Summary

NONE = '<span class="none">–</span>'
_BANDS = (1.0, 2.0, 4.0, 8.0, 16.0)
_SIGNS = {"better": "▲", "worse": "▼", "tie": "="}


def numbers_table(view: TableView) -> str:
    """Return means with intervals of all points but calibrations, by bands of bit rate."""
    counts = {summary.count for (_, metric), summary in view.found.items() if metric in view.metrics}
    common = counts.pop() if len(counts) == 1 else None
    rows: list[str] = []
    bands: dict[str, list[OperatingPoint]] = {}
    for point in view.points:
        bands.setdefault(_band(view.rate(point)), []).append(point)
    several = len({view.family(point) for point in view.points}) > 1
    for title, points in bands.items():
        rows += [_group(title, 2 + len(view.metrics))] if several else []
        rows += [_row(view, point, points, show_count=common is None) for point in points]
    number = "" if common is None else f" of {counted(common, 'recording')}"
    best = "; bold: best mean of a band that holds several systems" if several else ""
    caption = f"Mean{number} with 95 % interval, by bit rate{best}."
    if any(summary.flagged for summary in view.found.values()):
        caption += " † more than 1 % of the recordings are missing."
    heads = [_head("System"), _head("kbit/s"), *_metric_heads(view)]
    return _folded(
        "All numbers", table_html(view, "all numbers", caption, heads, rows), "numbers", opened=True
    )


def verdict_table(view: TableView) -> str:
    """Return how every point does against the reference, or nothing where there is no reference."""
    if view.reference is None or not view.against:
        return ""
    metrics = [m for m in view.metrics if any(metric == m for _, metric in view.against)]
    rows = []
    for point in view.points:
        found = [view.against.get((point.point, metric)) for metric in metrics]
        if any(found) and point.point != view.reference.point:
            cells = "".join(
                f'<td data-metric="{escape(metric)}">{_verdict(difference)}</td>'
                for metric, difference in zip(metrics, found, strict=True)
            )
            rows.append(
                f"<tr{_row_class(view, point)}>{_system(view, point)}{_rate(view, point)}{cells}</tr>"
            )
    if not rows:
        return ""
    name, rate = system_title(view.reference), view.rate(view.reference)
    heads = [_head("System"), _head("kbit/s"), *_metric_heads(view, metrics)]
    at = f" ({format_rate(rate)} kbit/s)" if rate and "kbit/s" not in name else ""
    caption = (
        f"Paired difference to {name}, recording by recording, with 95 % interval. Better and worse are in "
        "the direction of each measure; a tie is an interval that includes 0."
    )
    body = table_html(view, f"differences to {name}", caption, heads, rows)
    folded = f"<details><summary>All differences to {escape(name)}</summary>{body}</details>"
    return f'<div class="verdicts"><h4>Against {escape(name + at)}</h4>{_sentences(view)}{folded}</div>'


def cost_table(view: TableView) -> str:
    """Return bit rates, delay and speed of all points but calibrations."""
    heads = ["System", "kbit/s of the codes", "kbit/s of .tok files", "Nominal kbit/s", "Entropy kbit/s"]
    heads += ["Codes per s", "Delay, ms", "Encode, × real time", "Decode, × real time", "Recordings"]
    rows = []
    for point in view.points:
        file_rate = point.measured_bitrate if point.kind == "tokenizer" else None
        rates = (point.payload_bitrate, file_rate, point.nominal_bitrate, point.entropy_bitrate)
        cells = [NONE if not rate else format_rate(rate) for rate in rates]
        cells += [f"{point.codes_per_second:,.0f}" if point.codes_per_second else NONE]
        cells += [
            _signed(point.delay_milliseconds, 1),
            _speed(point.encode_speed),
            _speed(point.decode_speed),
        ]
        failed = f" ({point.failed} failed)" if point.failed else ""
        cells += [f"{point.files}{failed}"]
        line = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f"<tr{_row_class(view, point)}>{_system(view, point)}{line}</tr>")
    body = table_html(view, "cost", _cost_caption(view.points), [_head(head) for head in heads], rows)
    return _folded("Bit rates and speed", body, "costs")


def calibration_table(view: TableView) -> str:
    """Return what each measure says of treatments with known effect, folded; nothing where there are none."""
    if not view.calibrations:
        return ""
    rows = []
    for point in view.calibrations:
        cells = "".join(
            f'<td data-metric="{escape(m)}">{_value(view.found.get((point.point, m)), show_count=False)}</td>'
            for m in view.metrics
        )
        rows.append(f"<tr>{_system(view, point)}{cells}</tr>")
    caption = (
        "Treatments whose effect is known. These rows check the measures and are no systems to compare with: "
        "a measure that does not give the original its best value, or gives silence a good one, is wrong."
    )
    body = table_html(view, "calibration", caption, [_head("Treatment"), *_metric_heads(view)], rows)
    return _folded("Calibration of the measures", body, "calibration")


def table_html(view: TableView, name: str, caption: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    """Return a table that scrolls sideways in its own box.

    Args:
        view: where its numbers are from.
        name: for screen readers.
        caption: one or two sentences.
        heads: `<th>` elements.
        rows: `<tr>` elements.
    """
    label = escape(f"{table_title(view.table)}, {name}")
    return (
        f'<p class="caption">{escape(caption)}</p>'
        f'<div class="table" role="region" tabindex="0" aria-label="{label}"><table>'
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _folded(title: str, body: str, kind: str, *, opened: bool = False) -> str:
    start = " open" if opened else ""
    return f'<details class="{kind}"{start}><summary>{title}</summary>{body}</details>'


def _head(text: str) -> str:
    return f'<th scope="col">{escape(text)}</th>'


def _metric_heads(view: TableView, metrics: Sequence[str] | None = None) -> list[str]:
    heads = []
    for metric in view.metrics if metrics is None else metrics:
        known = METRICS.get(metric)
        arrow = "" if known is None else " ↑" if known.larger_is_better else " ↓"
        text = f"{escape(metric_title(metric))}{arrow}"
        heads.append(f'<th scope="col" data-metric="{escape(metric)}">{text}</th>')
    return heads


def _band(bits_per_second: float | None) -> str:
    if bits_per_second is None:
        return "Without bit rate"
    rate = bits_per_second / 1000
    above = [edge for edge in _BANDS if rate < edge]
    if not above:
        return f"From {_BANDS[-1]:g} kbit/s"
    return (
        f"{above[0] / 2:g} to {above[0]:g} kbit/s" if above[0] > _BANDS[0] else f"Below {above[0]:g} kbit/s"
    )


def _group(title: str, columns: int) -> str:
    return f'<tr class="group"><th scope="rowgroup" colspan="{columns}">{escape(title)}</th></tr>'


def _row(view: TableView, point: OperatingPoint, band: Sequence[OperatingPoint], *, show_count: bool) -> str:
    cells = []
    for metric in view.metrics:
        summary = view.found.get((point.point, metric))
        text = _value(summary, show_count=show_count)
        best = " best" if _is_best(view, summary, metric, band) else ""
        cells.append(f'<td class="measure{best}" data-metric="{escape(metric)}">{text}</td>')
    return f"<tr{_row_class(view, point)}>{_system(view, point)}{_rate(view, point)}{''.join(cells)}</tr>"


def _is_best(view: TableView, summary: Summary | None, metric: str, band: Sequence[OperatingPoint]) -> bool:
    known = METRICS.get(metric)
    alone = len({view.family(point) for point in band}) < 2 or view.rate(band[0]) is None
    if alone or known is None or summary is None or summary.mean is None:
        return False
    found = (view.found.get((point.point, metric)) for point in band)
    means = [each.mean for each in found if each is not None and each.mean is not None]
    return summary.mean == (max(means) if known.larger_is_better else min(means))


def _row_class(view: TableView, point: OperatingPoint) -> str:
    return ' class="own"' if view.style(point) >= 0 else ""


def _system(view: TableView, point: OperatingPoint) -> str:
    detail = f"<small>{counted(point.num_codebooks, 'book')}</small>" if point.num_codebooks else ""
    return f'<th scope="row">{_marker(view, point)}<span>{escape(system_title(point))}{detail}</span></th>'


def _marker(view: TableView, point: OperatingPoint) -> str:
    style = view.style(point)
    if point.kind == "calibration":
        return ""
    if point.kind == "tokenizer":
        shape = f'<g class="mark s{style % SERIES_STYLES}">{marker(style, 0, 0)}</g>'
    else:
        family = next((family for family in view.anchors if point in family.points), None)
        shape = "" if family is None else f'<g class="mark anchor">{marker(family.style, 0, 0)}</g>'
    return f'<svg class="key" viewBox="-7 -7 14 14" aria-hidden="true">{shape}</svg>'


def _rate(view: TableView, point: OperatingPoint) -> str:
    rate = view.rate(point)
    return f"<td>{NONE if rate is None else format_rate(rate)}</td>"


def _value(summary: Summary | None, *, show_count: bool) -> str:
    if summary is None or summary.mean is None:
        return NONE
    flag = " †" if summary.flagged else ""
    detail = []
    if summary.low is not None and summary.high is not None:
        detail.append(format_interval(summary.low, summary.high, summary.metric))
    if show_count:
        detail.append(f"N {summary.count}")
    return f"{format_value(summary.mean, summary.metric)}{flag}<small>{', '.join(detail)}</small>"


def _verdict(difference: Difference | None) -> str:
    if difference is None or difference.mean is None or difference.verdict is None:
        return NONE
    verdict = difference.verdict
    value = ("+" if difference.mean > 0 else "") + format_value(difference.mean, difference.metric)
    interval = ""
    if difference.low is not None and difference.high is not None:
        interval = f"<small>{format_interval(difference.low, difference.high, difference.metric)}</small>"
    word = f'<b class="{verdict}"><span aria-hidden="true">{_SIGNS[verdict]}</span> {verdict}</b>'
    return f"{word} {value}{interval}"


def _sentences(view: TableView) -> str:
    """Say of each tokenizer, at its point nearest to the rate of the reference, where it stands."""
    reference = view.reference
    rate = None if reference is None else view.rate(reference)
    if reference is None or rate is None:
        return ""
    items = []
    for family in view.tokenizers:
        points = [p for p in family.points if p.point != reference.point and view.rate(p)]
        if not points:
            continue
        near = min(points, key=lambda point: abs(math.log((view.rate(point) or rate) / rate)))
        words = [words for verdict in _SIGNS if (words := _verdict_words(view, near, verdict))]
        if words:
            at = f"{format_rate(view.rate(near) or 0)} kbit/s"
            items.append(f"<li><b>{escape(near.tokenizer)}</b> at {at}: {escape('; '.join(words))}.</li>")
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _verdict_words(view: TableView, point: OperatingPoint, verdict: str) -> str:
    verdicts = {
        metric: difference.verdict
        for metric in view.metrics
        if (difference := view.against.get((point.point, metric))) is not None and difference.verdict
    }
    names = [
        METRICS[metric].title if metric in METRICS else metric
        for metric, found in verdicts.items()
        if found == verdict
    ]
    if not names:
        return ""
    lead = "no difference shown in" if verdict == "tie" else f"{verdict} in"
    every = len(names) == len(verdicts) > 2
    return f"{lead} {f'all {len(names)} measures' if every else enumerate_names(names)}"


def _cost_caption(points: Sequence[OperatingPoint]) -> str:
    timed = [point for point in points if point.encode_speed or point.decode_speed]
    text = "Codes: without the header of about 300 bytes that a .tok file has. "
    if not timed:
        return text + "Nothing was timed."
    threads = enumerate_names(sorted({counted(point.threads, "thread") for point in timed}))
    processors = sorted({point.processor for point in timed if point.processor})
    on = f" of {enumerate_names(processors)}" if processors else ""
    counts = {point.timed for point in timed if point.timed}
    some = f", on {counted(max(counts), 'recording')}" if counts else ""
    return f"{text}Speed is audio seconds per second of wall time, with {threads}{on}{some}."


def _speed(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _signed(value: float | None, decimals: int) -> str:
    if value is None:
        return NONE
    return f"{MINUS if value < 0 else ''}{abs(value):.{decimals}f}"
