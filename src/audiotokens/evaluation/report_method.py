"""The last part of the report: how the books are used, and how it was all measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from audiotokens.evaluation.metrics import METRICS
from audiotokens.evaluation.report_plots import book_plot, rank_profile
from audiotokens.evaluation.report_view import NARROW, counted, metric_title, system_title, table_title
from audiotokens.evaluation.results import BookUsage, Comparison, Table


def books_section(comparison: Comparison) -> str:
    """Return the use of every book at the operating point with the most books, by table and tokenizer."""
    groups: dict[tuple[Table, str], list[BookUsage]] = {}
    for usage in comparison.usage:
        groups.setdefault((usage.point.table, usage.tokenizer), []).append(usage)
    parts = []
    for i, ((table, tokenizer), usages) in enumerate(groups.items()):
        most = max(usage.num_codebooks for usage in usages)
        shown = [usage for usage in usages if usage.num_codebooks == most]
        parts.append(
            f"<details{' open' if i == 0 else ''}><summary>{escape(tokenizer)}, {counted(most, 'book')} "
            f"<span>{escape(table_title(table))}: {escape(_entropy(shown))}</span></summary><div>"
            f'<div class="shelf-of-books">{_book_cells(shown)}</div></div></details>'
        )
    if not parts:
        return ""
    return (
        '<section id="books" aria-labelledby="books-title"><h2 id="books-title">Book use</h2>'
        "<p>How often each code occurs, commonest first, as a multiple of the uniform rate (dashed). In "
        "brackets how many codes uniform use would reach on as little audio; entropy is Miller–Madow "
        "corrected. Active frames lie within 40 dB of the loudest 20 ms of their recording.</p>"
        f"{''.join(parts)}</section>"
    )


def _entropy(usages: Sequence[BookUsage]) -> str:
    """Say which share of what its books could carry they do carry, in active frames where those are known."""
    active = [share for usage in usages if (share := usage.active_share) is not None]
    plain = [usage.entropy / math.log2(usage.size) for usage in usages if usage.size > 1]
    shares, where = (active, " in active frames") if len(active) == len(usages) else (plain, "")
    if not shares:
        return "no entropy"
    mean = sum(shares) / len(shares)
    spread = f", {min(shares):.0%} to {max(shares):.0%}" if len(shares) > 1 else ""
    return f"entropy {mean:.0%} of log2 K{where}{spread}".replace("%", NARROW + "%")


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
    systems = {
        point.tokenizer: f"<li><b>{escape(system_title(point))}</b>: {escape(point.definition)}</li>"
        for point in comparison.points
        if point.definition
    }
    settings = (
        f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in comparison.settings.items()
    )
    return (
        '<section id="method" class="method" aria-labelledby="method-title">'
        '<h2 id="method-title">How it was measured</h2>'
        f"<ul>{''.join(notes)}</ul>{_failures(comparison)}"
        f"{_folded('Definitions of the measures', ''.join(definitions))}"
        f"{_folded('Definitions of the systems', ''.join(systems.values()))}"
        "<details><summary>Settings and versions</summary><div>"
        f'<dl class="settings">{"".join(settings)}</dl></div></details></section>'
    )


def _folded(title: str, items: str) -> str:
    return f"<details><summary>{title}</summary><div><ul>{items}</ul></div></details>" if items else ""


def _book_cells(usages: Sequence[BookUsage]) -> str:
    top = max(4.0, *(float(rank_profile(usage.counts)[0]) for usage in usages))
    several = len({usage.stream for usage in usages}) > 1
    cells = []
    for usage in usages:
        name = f"{usage.stream}, book {usage.book + 1}" if several else f"Book {usage.book + 1}"
        used = f"{usage.used:,} of {usage.size:,} used (uniform: {usage.expected_used:,.0f})"
        text = f"{used}, {usage.entropy:.2f} of {math.log2(usage.size):.2f} bits"
        if usage.active_share is not None:
            text += f", active {100 * usage.active_share:.0f}{NARROW}%"
        plot = book_plot(usage.counts, label=f"{name}: {text}", top=top)
        cells.append(f"<figure><figcaption><b>{escape(name)}</b>{text}</figcaption>{plot}</figure>")
    return "".join(cells)


def _failures(comparison: Comparison) -> str:
    failed = {record.file: record.reason for record in comparison.records if record.status == "failed"}
    if not failed:
        return ""
    items = "".join(f"<li><b>{escape(file)}</b>: {escape(reason)}</li>" for file, reason in failed.items())
    return f'<p class="bad">Could not be measured:</p><ul>{items}</ul>'
