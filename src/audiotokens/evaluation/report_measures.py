"""The measuring part of the report: a tab for each table, rate plots, and what stands below them."""

from __future__ import annotations

import math
from html import escape

from audiotokens.evaluation.metrics import METRICS
from audiotokens.evaluation.report_plots import SERIES_STYLES, Level, Mark, Series, marker, rate_plot
from audiotokens.evaluation.report_tables import calibration_table, cost_table, numbers_table, verdict_table
from audiotokens.evaluation.report_view import (
    Family,
    TableView,
    counted,
    format_interval,
    format_rate,
    format_value,
    metric_title,
    system_title,
    table_title,
)
from audiotokens.evaluation.results import Comparison, OperatingPoint, Summary


def measures_section(comparison: Comparison) -> str:
    """Return plots and tables, one panel for each table of the comparison; nothing is ever mixed."""
    views = [TableView.of(comparison, table) for table in comparison.tables]
    return (
        '<section id="measure" aria-labelledby="measure-title"><h2 id="measure-title">Measure</h2>'
        "<p>Means over recordings. Bands and bars are 95&nbsp;% intervals, bootstrapped over speakers or "
        f"source recordings; without a second speaker there is none.</p>{_tabs(views)}"
        f"{''.join(_panel(i, view) for i, view in enumerate(views))}</section>"
    )


def _tabs(views: list[TableView]) -> str:
    if len(views) < 2:
        return ""
    tabs = "".join(
        f'<button type="button" role="tab" id="tab-{i}" aria-controls="panel-{i}" '
        f'aria-selected="{str(i == 0).lower()}">{escape(table_title(view.table))}</button>'
        for i, view in enumerate(views)
    )
    return f'<div class="tabs" role="tablist" aria-label="Recordings">{tabs}</div>'


def _panel(index: int, view: TableView) -> str:
    plots = [plot for metric in view.metrics if (plot := _plot(view, metric))]
    points = view.points or view.calibrations
    most = max(points, key=lambda point: point.seconds)
    return (
        f'<div class="panel" id="panel-{index}" aria-labelledby="title-{index}">'
        f'<h3 id="title-{index}">{escape(table_title(view.table))}</h3>'
        f"<p>{counted(most.files, 'recording')}, {_length(most.seconds)}</p>{_selector(view)}{_legend(view)}"
        f'<div class="plots">{"".join(plots)}</div>'
        f"{verdict_table(view)}{numbers_table(view)}{cost_table(view)}{calibration_table(view)}</div>"
    )


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _selector(view: TableView) -> str:
    if len(view.metrics) < 2:
        return ""
    shown = view.shown_first
    buttons = "".join(
        f'<button type="button" aria-pressed="{str(metric in shown).lower()}" '
        f'data-choose="{escape(metric)}">'
        f"{escape(METRICS[metric].title if metric in METRICS else metric)}</button>"
        for metric in view.metrics
    )
    every = '<button type="button" class="every">all</button>' if len(view.metrics) > len(shown) else ""
    return f'<div class="chooser" role="group" aria-label="Measures">{buttons}{every}</div>'


def _legend(view: TableView) -> str:
    if len(view.tokenizers) + len(view.anchors) < 2:
        return ""
    items = [_key(family, f"mark s{family.style % SERIES_STYLES}") for family in view.tokenizers]
    items += [_key(family, "mark anchor") for family in view.anchors]
    return f'<ul class="names">{"".join(items)}</ul>'


def _key(family: Family, classes: str) -> str:
    shape = f'<g class="{classes}">{marker(family.style, 0, 0)}</g>'
    return f'<li><svg viewBox="-7 -7 14 14" aria-hidden="true">{shape}</svg>{escape(family.name)}</li>'


def _plot(view: TableView, metric: str) -> str:
    series = []
    for families, anchor in ((view.tokenizers, False), (view.anchors, True)):
        for family in families:
            found = (_mark(view, point, view.found.get((point.point, metric))) for point in family.points)
            marks = tuple(mark for mark in found if mark is not None)
            if marks:
                series.append(Series(family.name, marks, family.style, anchor))
    if not series:
        return ""
    levels = [level for point in view.uncoded if (level := _level(view, point, metric)) is not None]
    title, known = metric_title(metric), METRICS.get(metric)
    better = "" if known is None else "↑ higher is better" if known.larger_is_better else "↓ lower is better"
    label = f"{title} over bit rate; the same numbers are in the table"
    what = "of the codes alone" if view.payload else "of the files"
    svg = rate_plot(series, levels, label=label, x_label=f"kbit/s {what} (log scale)")
    return (
        f'<figure class="card" data-metric="{escape(metric)}">'
        f"<figcaption><h4>{escape(title)}</h4><span>{better}</span></figcaption>{svg}"
        '<p class="reading" aria-live="polite"></p></figure>'
    )


def _mark(view: TableView, point: OperatingPoint, summary: Summary | None) -> Mark | None:
    rate = view.rate(point)
    if rate is None or summary is None or summary.mean is None or not math.isfinite(summary.mean):
        return None
    ends = (summary.low, summary.high)
    low, high = ends if all(end is not None and math.isfinite(end) for end in ends) else (None, None)
    return Mark(rate / 1000, summary.mean, low, high, _reading(point, rate, summary))


def _level(view: TableView, point: OperatingPoint, metric: str) -> Level | None:
    summary = view.found.get((point.point, metric))
    if summary is None or summary.mean is None or not math.isfinite(summary.mean):
        return None
    style = view.style(point)
    name = "no quantizer" if point.kind == "unquantized" else system_title(point)
    if point.kind == "unquantized" and len(view.tokenizers) > 1:
        name = f"{point.tokenizer}, no quantizer"
    text = _reading(point, None, summary)
    return Level(name, summary.mean, None if style < 0 else style, text)


def _reading(point: OperatingPoint, rate: float | None, summary: Summary) -> str:
    books = f", {counted(point.num_codebooks, 'book')}" if point.num_codebooks else ""
    at = "" if rate is None else f", {format_rate(rate)} kbit/s"
    interval = ""
    if summary.low is not None and summary.high is not None:
        interval = f" {format_interval(summary.low, summary.high, summary.metric)}"
    value = format_value(summary.mean or 0.0, summary.metric)
    return f"{system_title(point)}{books}{at}: {value}{interval}, N = {summary.count}"
