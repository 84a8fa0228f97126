"""The report: one HTML file, complete in itself, to hear, see and read what a tokenizer does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from audiotokens.evaluation.metrics import METRICS
from audiotokens.evaluation.report_audio import CODINGS, Coding
from audiotokens.evaluation.report_measures import measures_section
from audiotokens.evaluation.report_method import books_section, method_section
from audiotokens.evaluation.report_players import (
    Example,
    Pictures,
    data_blocks,
    draw,
    embed_audio,
    listen_section,
)
from audiotokens.evaluation.report_promises import promises_section
from audiotokens.evaluation.report_shell import MAX_EXAMPLES, MAX_SECONDS, SIZE_LIMIT, assemble, write_page
from audiotokens.evaluation.report_view import (
    counted,
    enumerate_names,
    format_interval,
    format_rate,
    format_value,
    metric_title,
)
from audiotokens.evaluation.results import Comparison, OperatingPoint
from audiotokens.verify import Verification

__all__ = ["MAX_EXAMPLES", "MAX_SECONDS", "SIZE_LIMIT", "Example", "Figure", "headline", "write_report"]

REFERENCE_BITRATE = 3000.0
_RESERVE = 1_500_000


@dataclass(frozen=True)
class Figure:
    """One of the figures that matter.

    Args:
        value: number as text.
        unit: behind the number; may be empty.
        name: what it is.
        note: its conditions: interval, N, operating point.
    """

    value: str
    unit: str
    name: str
    note: str

    def __str__(self) -> str:
        return f"{self.name}: {f'{self.value} {self.unit}'.rstrip()} ({self.note})"


def headline(comparison: Comparison) -> tuple[Figure, ...]:
    """Return bit rate, quality and speed of the first tokenizer at its operating point nearest to 3 kbit/s.

    Taken from the first table of speech where there is one, else from the first table. The quality is the
    first measure that was defined there.
    """
    point = _headline_point(comparison)
    if point is None:
        return ()
    rate = point.payload_bitrate or point.measured_bitrate or point.nominal_bitrate or 0.0
    disk = f"; {format_rate(point.measured_bitrate)} on disk" if point.measured_bitrate else ""
    figures = [
        Figure(
            format_rate(rate),
            "kbit/s",
            "Bit rate of the codes" if point.payload_bitrate else "Bit rate",
            f"{counted(point.num_codebooks, 'book')}, {point.point.table.title or 'all recordings'}{disk}",
        )
    ]
    found = [s for m in comparison.metrics if (s := comparison.summary(point.point, m)) is not None]
    best = next((s for s in found if s.mean is not None), None)
    if best is not None and best.mean is not None:
        interval = ""
        if best.low is not None and best.high is not None:
            interval = f"95 % interval {format_interval(best.low, best.high, best.metric, decimals=2)}, "
        known = METRICS.get(best.metric)
        title = known.title if known else metric_title(best.metric)
        unit = known.unit if known else ""
        figures.append(
            Figure(
                format_value(best.mean, best.metric, decimals=2), unit, title, f"{interval}N = {best.count}"
            )
        )
    if point.encode_speed and point.decode_speed:
        speed = 1 / (1 / point.encode_speed + 1 / point.decode_speed)
        machine = point.processor or "this machine"
        note = f"on {counted(point.threads, 'thread')} of {machine}"
        figures.append(Figure(f"{speed:,.0f}", "× real time", "Encode and decode", note))
    return tuple(figures)


def write_report(
    path: str | Path,
    comparison: Comparison,
    examples: Sequence[Example],
    *,
    title: str,
    notes: Sequence[str] = (),
    verifications: Sequence[Verification] = (),
) -> Path:
    """Write the report as one HTML file of at most 15 MB.

    At most the first 12 examples and the first 20 s of each are shown. Audio is stored as FLAC; where that
    would pass the limit as Opus at about 110, then 60 kbit/s; where that would pass it too, the last examples
    are left out. The page says which.

    Args:
        path: file to write; its folder must exist.
        comparison: what `compare` found.
        examples: recordings to hear and see; may be empty.
        title: heading of the page.
        notes: sentences about the choice of the recordings.
        verifications: what `audiotokens.verify` found about the tokenizers.

    Returns:
        The path written.

    Raises:
        AudioTokensError: the file cannot be written, or the page is too large without any audio.

    Example:
        >>> write_report("report.html", comparison, examples, title="speech-16k")  # doctest: +SKIP
    """
    given, examples = examples, [example.beginning(MAX_SECONDS) for example in examples[:MAX_EXAMPLES]]
    pictures = [draw(example) for example in examples]
    coding, audio = _fitting_audio(examples, pictures)
    kept = len(audio)
    about = _about(given, kept, coding) if kept else []
    data = data_blocks(audio, coding, pictures[:kept])
    text = _page(
        comparison, examples[:kept], pictures[:kept], title, (*notes, *about), data, promises=verifications
    )
    return write_page(path, text, advice="compare fewer points", limit=SIZE_LIMIT)


def _about(given: Sequence[Example], kept: int, coding: Coding) -> list[str]:
    loud = "\N{MINUS SIGN}23\N{NO-BREAK SPACE}LUFS"
    sentences = [f"Audio on this page is {coding.name}; every version is brought to {loud}."]
    if kept < len(given):
        sentences.append(f"The page holds the first {kept} of {len(given)} recordings.")
    cut = sum(example.seconds > MAX_SECONDS for example in given[:kept])
    if cut:
        sentences.append(
            f"The page holds the first {MAX_SECONDS:g} s of the {cut} recordings that are longer."
        )
    return sentences


def _fitting_audio(
    examples: Sequence[Example], pictures: Sequence[Pictures]
) -> tuple[Coding, list[list[str]]]:
    drawn = [sum(map(len, one.spectrograms)) + len(one.codes) + 6 * one.grid.values.size for one in pictures]
    budget = SIZE_LIMIT - _RESERVE
    for coding in CODINGS:
        audio = [embed_audio(example, coding) for example in examples]
        sizes = [sum(map(len, versions)) + extra for versions, extra in zip(audio, drawn, strict=True)]
        if sum(sizes) <= budget:
            break
    while audio and sum(sizes) > budget:
        audio.pop()
        sizes.pop()
    return coding, audio


def _page(
    comparison: Comparison,
    examples: Sequence[Example],
    pictures: Sequence[Pictures],
    title: str,
    sentences: Sequence[str],
    data: str,
    *,
    promises: Sequence[Verification],
) -> str:
    sections = {
        "listen": ("Listen", listen_section(examples, pictures) if examples else ""),
        "measures": ("Measure", measures_section(comparison) if comparison.points else ""),
        "books": ("Book use", books_section(comparison)),
        "promises": ("Promises", promises_section(promises)),
        "method": ("How it was measured", method_section(comparison, sentences)),
    }
    anchors = {"measures": "measure"}
    links = [
        f'<a href="#{anchors.get(key, key)}">{name}</a>' for key, (name, text) in sections.items() if text
    ]
    parts = {key: text for key, (_, text) in sections.items()}
    parts |= {
        "title": escape(title),
        "skip": '<a class="skip" href="#listen">Skip to the players</a>' if examples else "",
        "lede": escape(_lede(comparison, promises)),
        "figures": _figures(headline(comparison)),
        "navigation": "".join(links),
        "data": data,
    }
    scripts = ("sound.js", "measures.js", "players.js")
    return assemble("report.html", ("base.css", "report.css"), scripts, parts)


def _lede(comparison: Comparison, promises: Sequence[Verification]) -> str:
    names = list(dict.fromkeys(p.tokenizer for p in comparison.points if p.kind == "tokenizer"))
    if promises and not names:
        verified = enumerate_names([each.tokenizer for each in promises])
        return f"{verified}: ten promises about tokens, and what was found where they were tried."
    if not names:
        return "Original recordings beside what their tokens became."
    anchors = {point.tokenizer for point in comparison.points if point.kind == "anchor"}
    largest = {t: max(p.files for p in comparison.points if p.point.table == t) for t in comparison.tables}
    books = len({(p.tokenizer, p.num_codebooks) for p in comparison.points if p.kind == "tokenizer"})
    beside = f", beside {counted(len(anchors), 'anchor')}" if anchors else ""
    return (
        f"{enumerate_names(names)}: {counted(sum(largest.values()), 'recording')} turned into discrete "
        f"tokens and back at {counted(books, 'operating point')}{beside}."
    )


def _figures(figures: Sequence[Figure]) -> str:
    cells = "".join(
        f"<div><dt>{escape(f.name)}</dt>"
        f'<dd class="big">{escape(f.value)}<small>{escape(f.unit)}</small></dd>'
        f'<dd class="note">{escape(f.note)}</dd></div>'
        for f in figures
    )
    return f'<dl class="figures">{cells}</dl>' if cells else ""


def _headline_point(comparison: Comparison) -> OperatingPoint | None:
    if not comparison.points:
        return None
    table = next((table for table in comparison.tables if table.domain == "speech"), comparison.tables[0])
    points = [p for p in comparison.points if p.point.table == table and p.kind == "tokenizer"]
    own = [p for p in points if p.tokenizer == points[0].tokenizer and p.nominal_bitrate]
    return min(own, key=lambda p: abs(math.log((p.nominal_bitrate or 1) / REFERENCE_BITRATE)), default=None)
