"""The measuring part of the report: every system where it belongs, labels clear of each other."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from html import unescape
from typing import Any

import numpy as np
import pytest

from audiotokens.evaluation.report import Example, write_report
from audiotokens.evaluation.report_labels import Box, Wanted, place_labels
from audiotokens.evaluation.report_measures import measures_section
from audiotokens.evaluation.report_method import books_section
from audiotokens.evaluation.report_view import TableView, table_title
from audiotokens.evaluation.results import (
    BookUsage,
    Comparison,
    Difference,
    OperatingPoint,
    Reference,
    Summary,
    Table,
)
from audiotokens.streams import CodeStream
from audiotokens.tokens import Tokens

CLEAN, OTHER = Table("speech", "clean <set>"), Table("speech", "other")
METRICS = ("pesq-wb", "stoi", "estoi", "si-sdr", "mel/vocos", "new/metric")
SYSTEMS = (
    ("tok <a>", 2, 1000.0, "tokenizer", "", 2.0),
    ("tok <a>", 6, 3000.0, "tokenizer", "", 3.0),
    ("tok <a>", 0, None, "unquantized", "", 4.2),
    ("tok-b", 1, 1500.0, "tokenizer", "", 2.5),
    ("opus-6k", 0, 6000.0, "anchor", "Opus 6 kbit/s", 2.2),
    ("opus-9k", 0, 9000.0, "anchor", "Opus 9 kbit/s", 3.0),
    ("codec2-700c", 0, 700.0, "anchor", "Codec2 700C", 1.2),
    ("lowpass-4k", 0, None, "anchor", "Original below 4 kHz", 3.8),
    ("silence", 0, None, "calibration", "Silence & nothing", 1.0),
)


def point(table: Table, name: str, books: int, rate: float | None, kind: str, title: str) -> OperatingPoint:
    cost = OperatingPoint(
        table.domain, name, books, "0" * 64, 50.0 * books, rate, rate and rate * 1.1, None, None, None, 2
    )
    shown = replace(cost, group=table.group, kind=kind, title=title, payload_bitrate=rate, files=9)
    if kind != "tokenizer":
        return shown
    return replace(shown, encode_speed=250.0, decode_speed=4.0, processor="CPU <x>", timed=3, seconds=75.0)


def comparison() -> Comparison:
    points, summaries, differences = [], [], []
    for table in (CLEAN, OTHER):
        for name, books, rate, kind, title, mean in SYSTEMS:
            points.append(point(table, name, books, rate, kind, title))
            for metric in METRICS:
                ends = (mean - 0.1, mean + 0.1)
                key = (table.domain, name, books, metric)
                summaries.append(Summary(*key, mean, *ends, 9, 4, 9, 9, table.group))
            if kind != "calibration" and name != "opus-9k":
                gap = mean - 3.0
                verdict = "tie" if gap == 0 else "better" if gap > 0 else "worse"
                second = ("opus-9k", 0, gap, gap - 0.1, gap + 0.1, 9, 4, table.group, verdict)
                differences.append(Difference(table.domain, "pesq-wb", name, books, *second))
    return Comparison(
        tuple(points),
        (),
        summaries=tuple(summaries),
        differences=tuple(differences),
        metrics=METRICS,
        reference=Reference("opus-9k"),
    )


@pytest.fixture(scope="module")
def section() -> str:
    return measures_section(comparison())


def panels(section: str) -> list[str]:
    return section.split('<div class="panel"')[1:]


def rows(text: str, kind: str) -> list[str]:
    body = text.split(f'<details class="{kind}"')[1].split("<tbody>")[1].split("</tbody>")[0]
    return [unescape(re.sub("<[^>]+>", " ", row)).strip() for row in body.split("</tr>") if row]


def test_every_table_has_a_tab_and_a_panel_of_its_own(section: str) -> None:
    assert re.findall('role="tab" id="tab-(.)" aria-controls="panel-(.)"', section) == [
        ("0", "0"),
        ("1", "1"),
    ]
    assert len(panels(section)) == 2
    assert table_title(CLEAN) == "Speech, clean <set>"
    assert "clean &lt;set&gt;" in panels(section)[0] and "other" not in panels(section)[0].split("</h3>")[0]
    single = replace(comparison(), points=tuple(p for p in comparison().points if p.group == "other"))
    assert "role=" + '"tab"' not in measures_section(single)


def test_numbers_hold_every_system_by_rising_rate_in_bands(section: str) -> None:
    found = [" ".join(row.split()[:4]) for row in rows(panels(section)[0], "numbers")]
    assert found == [
        "Below 1 kbit/s",
        "Codec2 700C 0.70 1.200",
        "1 to 2 kbit/s",
        "tok <a> 2 books",
        "tok-b 1 book 1.50",
        "2 to 4 kbit/s",
        "tok <a> 6 books",
        "4 to 8 kbit/s",
        "Opus 6 kbit/s 6.00",
        "8 to 16 kbit/s",
        "Opus 9 kbit/s 9.00",
        "Without bit rate",
        "tok <a> without quantizer",
        "Original below 4 kHz",
    ]


def test_the_best_of_a_band_is_bold_in_the_direction_of_the_measure(section: str) -> None:
    numbers = panels(section)[0].split('<details class="numbers"')[1].split("</details>")[0]
    best = re.findall(r'<td class="measure best" data-metric="([^"]+)">([\d.]+)', numbers)
    assert best.count(("pesq-wb", "2.500")) == 1 and ("pesq-wb", "2.000") not in best
    assert ("mel/vocos", "2.000") in best and ("mel/vocos", "2.500") not in best
    # one system alone is not the best, and nobody knows which way an unknown measure goes
    assert ("pesq-wb", "1.200") not in best and not any(metric == "new/metric" for metric, _ in best)
    assert ("pesq-wb", "4.200") not in best


def test_a_tokenizer_alone_has_no_bands_and_values_instead_of_its_name() -> None:
    found = comparison()
    own = tuple(
        p for p in found.points if p.tokenizer == "tok <a>" and p.num_codebooks and p.group == "other"
    )
    text = measures_section(replace(found, points=own, reference=None))
    assert " best" not in text and 'class="group"' not in text and "†" not in text
    plot = text.split("<svg class=")[1]
    assert re.findall('<text class="name s0" [^>]+>([^<]+)', plot) == ["2.00", "3.00"]


def test_calibrations_stand_apart_and_folded(section: str) -> None:
    for panel in panels(section):
        before, block = panel.split('<details class="calibration"')
        assert "Silence" not in before and block.startswith("><summary>Calibration")
        assert rows(panel, "calibration")[0].split()[:4] == ["Silence", "&", "nothing", "1.000"]


def test_verdicts_are_words_with_signs_and_sentences(section: str) -> None:
    verdicts = panels(section)[0].split('<div class="verdicts">')[1].split('<details class="numbers"')[0]
    assert "Against Opus 9 kbit/s" in verdicts and "Opus 9 kbit/s</span>" not in verdicts
    words = re.findall(r'<b class="(\w+)"><span aria-hidden="true">(.)</span> (\w+)</b> ([^<]+)', verdicts)
    assert ("worse", "▼", "worse", "−1.000") in words and ("better", "▲", "better", "+1.200") in words
    assert ("tie", "=", "tie", "0.000") in words and len(words) == 7
    sentences = [re.sub("<[^>]+>", "", item) for item in re.findall("<li>(.*?)</li>", verdicts)]
    assert sentences == [
        "tok &lt;a&gt; at 3.00 kbit/s: no difference shown in PESQ-WB.",
        "tok-b at 1.50 kbit/s: worse in PESQ-WB.",
    ]
    assert "verdicts" not in measures_section(replace(comparison(), reference=None))


def test_cost_names_rates_speed_threads_and_processor(section: str) -> None:
    block = panels(section)[0].split('<details class="costs"')[1].split("</details>")[0]
    assert "with 2 threads of CPU &lt;x&gt;, on 3 recordings." in block
    found = rows(panels(section)[0], "costs")
    assert found[1].split() == [
        "tok",
        "<a>",
        "2",
        "books",
        *["1.00", "1.10", "1.00", "–", "100", "–", "250", "4", "9"],
    ]
    assert found[0].split() == ["Codec2", "700C", "0.70", "–", "0.70", "–", "–", "–", "–", "–", "9"]


def test_measures_can_be_chosen_and_few_are_shown_first(section: str) -> None:
    for panel in panels(section):
        chosen = re.findall(r'aria-pressed="(\w+)" data-choose="([^"]+)"', panel)
        assert [metric for _, metric in chosen] == list(METRICS)
        assert [metric for on, metric in chosen if on == "true"] == ["pesq-wb", "stoi", "estoi", "si-sdr"]
        assert re.findall(r'<figure class="card" data-metric="([^"]+)"', panel) == list(METRICS)


def test_plots_hold_every_system_with_a_mark_or_a_level(section: str) -> None:
    plot = panels(section)[0].split("<svg class=")[1]
    said = [unescape(title) for title in re.findall("<title>([^<]+)</title>", plot)]
    assert len(said) == 8 and not any("Silence" in title for title in said)
    assert "tok <a>, 6 books, 3.00 kbit/s: 3.000 [2.900, 3.100], N = 9" in said
    assert "tok <a> without quantizer: 4.200 [4.100, 4.300], N = 9" in said
    names = [unescape(name) for name in re.findall('<text class="name [^>]+>([^<]+)', plot)]
    everything = ["tok <a>", "tok-b", "Opus", "Codec2 700C", "tok <a>, no quantizer", "Original below 4 kHz"]
    assert sorted(names) == sorted(everything)


def test_rates_fall_back_to_files_where_payload_is_unknown() -> None:
    found = comparison()
    points = tuple(replace(p, payload_bitrate=None) if p.tokenizer == "tok-b" else p for p in found.points)
    view = TableView.of(replace(found, points=points), CLEAN)
    assert not view.payload and [view.rate(p) for p in view.points][:2] == pytest.approx([770.0, 1100.0])
    assert "kbit/s of the files" in measures_section(replace(found, points=points))


def test_books_say_which_share_of_their_size_they_carry() -> None:
    counts = (4, 4, 4, 4)
    full = BookUsage("speech", "t", 2, "codes", 0, counts, 4, 4.0, 2.0, 2.0, 4.0, "other", 9, 1.5)
    text = books_section(Comparison((), (), usage=(full, replace(full, book=1, active_entropy=1.9))))
    text = text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "Speech, other: entropy 85 % of log2 K in active frames, 75 % to 95 %" in text
    assert "2.00 of 2.00 bits, active 75 %" in text
    older = books_section(Comparison((), (), usage=(replace(full, active_entropy=None, entropy=1.0),)))
    assert "entropy 50 % of log2 K<" in older.replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_labels_keep_clear_of_each_other_and_of_the_frame() -> None:
    frame = Box(40, 0, 400, 280)
    for seed in range(12):
        generator = np.random.default_rng(seed)
        spots = generator.uniform((40, 0), (400, 280), (12, 5, 2))
        wanted = [Wanted("x" * int(generator.integers(3, 40)), tuple(map(tuple, each))) for each in spots]
        placed = place_labels(wanted, frame, [(x, y, 1.0) for x, y in spots.reshape(-1, 2)])
        boxes = [each.box for each in placed if each is not None]
        assert placed[0] is not None and len(boxes) >= 10
        assert all(frame.encloses(box) for box in boxes)
        assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))


def test_a_label_prefers_free_space_and_is_cut_where_it_is_long() -> None:
    frame = Box(0, 0, 300, 200)
    [alone] = place_labels([Wanted("name", ((100, 100),))], frame, [])
    assert alone is not None and alone.x == pytest.approx(110) and alone.box.top < 100 < alone.box.bottom
    blocked = [(x, 100.0, 1.0) for x in range(100, 300, 4)]
    [moved] = place_labels([Wanted("name", ((100, 100),))], frame, blocked)
    assert moved is not None and not moved.box.top < 100 < moved.box.bottom
    [long] = place_labels([Wanted("n" * 99, ((20, 100),))], frame, [])
    assert long is not None and long.text == "n" * 29 + "…"
    assert place_labels([Wanted("nowhere", ((5, 5),))], Box(0, 0, 20, 20), []) == [None]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, browse: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    page = tmp_path_factory.mktemp("browser") / "report.html"
    original = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    groups = {f"{group} {k} kbit/s": group for group in ("tok", "x" * 40) for k in range(6)}
    stream = CodeStream(np.zeros((1, 50), np.int64), (16,), Fraction(50))
    tokens = Tokens({"codes": stream}, 8000, 8000, 1, "f", "0" * 64)
    example = Example("n" * 60, 8000, original, dict.fromkeys(groups, original), tokens, groups)
    return browse("measures_browser.js", write_report(page, comparison(), [example], title="t" * 60))


@pytest.mark.slow
@pytest.mark.browser
def test_tabs_and_measures_are_chosen_for_every_table(seen: dict[str, Any]) -> None:
    assert seen["log"] == []
    assert all(layout["page"] <= layout["window"] and not layout["nameless"] for layout in seen["layouts"])
    steps = seen["measures"]
    assert steps["start"]["panels"] == ["Speech, clean <set>"]
    assert steps["start"]["cards"] == ["PESQ-WB", "STOI", "ESTOI", "SI-SDR, dB"]
    columns = ["System", "kbit/s", "PESQ-WB ↑", "STOI ↑", "SI-SDR, dB ↑", "mel (Vocos) ↓"]
    assert steps["chosen"]["heads"] == columns
    assert steps["second"]["panels"] == ["Speech, other"] and steps["second"]["heads"] == columns
    assert len(steps["every"]["cards"]) == 6 and steps["every"]["every"] == "fewer"
    assert steps["fewer"]["cards"] == steps["start"]["cards"] and steps["fewer"]["every"] == "all"
    assert steps["start"]["reading"] == "Point at a mark to read it."
    assert re.match(r"tok <a>, \d books, [\d.]+ kbit/s: [\d.]+ \[", steps["pointed"]["reading"])
    assert seen["scrolls"] == []
