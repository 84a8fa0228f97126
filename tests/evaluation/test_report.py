from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotokens.errors import AudioError, AudioTokensError, TokensError
from audiotokens.evaluation import report, report_images
from audiotokens.evaluation.loudness import loudness
from audiotokens.evaluation.report import Example, headline, write_report
from audiotokens.evaluation.report_audio import CODINGS, Coding, embed, match_loudness
from audiotokens.evaluation.report_plots import (
    Level,
    Mark,
    Series,
    number,
    octaves,
    rank_profile,
    rate_plot,
    ticks,
)
from audiotokens.evaluation.results import BookUsage, Comparison, FileRecord, OperatingPoint, Summary
from audiotokens.streams import CodeStream, Segment
from audiotokens.tokens import Tokens

RATE = 16000
EVIL = "<img src=x onerror=alert(1)>&\"'</script>.wav"
VOID = {"meta", "img", "input", "br", "link"}


def tokens_of(codes: np.ndarray, *, samples: int, size: int = 16, rate: int = 50) -> Tokens:
    stream = CodeStream(np.asarray(codes, np.int64), (size,) * len(codes), Fraction(rate))
    return Tokens({"codes": stream}, samples, RATE, 1, "fake", "0" * 64)


def example(name: str = "voice", seconds: float = 2.0, *, versions: int = 3) -> Example:
    generator = np.random.default_rng(1)
    samples = round(seconds * RATE)
    time = np.arange(samples) / RATE
    original = (0.2 * np.sin(2 * np.pi * 440 * time) + 0.01 * generator.standard_normal(samples)).astype(
        np.float32
    )
    coded = {f"{k} kbit/s": original * (0.5 + k) / 4 for k in range(1, versions + 1)}
    codes = generator.integers(0, 16, (4, -(-samples // 320)))
    return Example(name, RATE, original, coded, tokens_of(codes, samples=samples))


def point(domain: str, books: int) -> OperatingPoint:
    cost = OperatingPoint(
        domain, "fake", books, "0" * 64, 50.0 * books, 500.0 * books, None, None, None, None, 1
    )
    return replace(
        cost, measured_bitrate=512.0 * books, encode_speed=300.0, decode_speed=150.0, files=9, seconds=75.0
    )


def comparison() -> Comparison:
    points, summaries, usage = [], [], []
    speech = ("pesq-wb", "estoi", "stoi", "si-sdr", "new/metric")
    for domain, metrics in (("music", ("si-sdr",)), ("speech", speech)):
        for k in (1, 6, 12):
            points.append(point(domain, k))
            for i, metric in enumerate(metrics):
                mean = float("inf") if domain == "music" and k == 12 else k / 10 + i
                low, high = (None, None) if domain == "music" else (mean - 0.125, mean + 0.125)
                summaries.append(Summary(domain, "fake", k, metric, mean, low, high, 9, 4, 9, 9))
        counts = tuple(range(16))
        usage.append(BookUsage(domain, "fake", 12, "codes", 0, counts, 15, 16.0, 3.5, 3.4, 11.3))
    summaries[-1] = replace(summaries[-1], count=7)
    records = (FileRecord(EVIL, "speech", "s", "fake", 1, status="failed", reason="it is <broken>"),)
    return Comparison(
        tuple(points), (), records, tuple(summaries), (), tuple(usage), speech, {"seed": "<0>"}, ("A note.",)
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    examples = [example(EVIL), example("second & last", 3.0)]
    return write_report(path, comparison(), examples, title="A <title>", notes=["Chosen <by> hand."])


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


class Checker(HTMLParser):
    """Collects elements and complains about what is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.words.append(data)


@pytest.fixture(scope="module")
def parsed(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    return checker


def pixels(image: bytes) -> np.ndarray:
    """Read what `report_images.png` writes: palette indices `[height, width]`."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    position, data, size = 8, b"", (0, 0)
    while position < len(image):
        length, kind = struct.unpack(">I4s", image[position : position + 8])
        body = image[position + 8 : position + 8 + length]
        (crc,) = struct.unpack(">I", image[position + 8 + length : position + 12 + length])
        assert crc == zlib.crc32(kind + body)
        size = struct.unpack(">2I", body[:8]) if kind == b"IHDR" else size
        data += body if kind == b"IDAT" else b""
        position += 12 + length
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(size[1], size[0] + 1)
    if (rows[:, 0] == 2).all():
        return np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:]


def from_url(url: str) -> np.ndarray:
    return pixels(base64.b64decode(url.removeprefix("data:image/png;base64,"), validate=True))


@pytest.mark.parametrize("image", [np.arange(240).reshape(12, 20) % 64, np.tile(np.arange(50), (40, 1)).T])
def test_png_holds_the_pixels(image: np.ndarray) -> None:
    np.testing.assert_array_equal(
        pixels(report_images.png(image.astype(np.uint8), report_images.colour_map(64))), image
    )


def test_colour_map_is_uniform_and_gets_lighter() -> None:
    rgb = report_images.colour_map(64) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lms = np.cbrt(linear @ np.linalg.inv(report_images._RGB_FROM_LMS).T)
    lab = lms @ np.linalg.inv(report_images._LMS_FROM_LAB).T
    assert (np.diff(lab[:, 0]) > 0).all()
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert np.abs(steps / steps.mean() - 1).max() < 0.3  # what rounding to eight bits leaves


def test_spectrogram_shows_tone_and_click_where_they_are() -> None:
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 2000 * time)
    powers = report_images.band_powers(tone, RATE, 100)
    expected = float(report_images.frequency_axis(2000.0, RATE)) * report_images.BANDS
    assert abs(powers[:, 50].argmax() + 0.5 - expected) < 1
    click = np.zeros(2 * RATE)
    click[round(0.305 * 2 * RATE)] = 1
    assert report_images.band_powers(click, RATE, 100).sum(axis=0).argmax() == 30
    top = float(powers.max())
    image = pixels(report_images.spectrogram(tone, RATE, columns=100, top=top))
    assert image.shape == (96, 100) and image.max() == 63
    assert image[:, 50].argmax() == 95 - powers[:, 50].argmax()


def test_code_grid_is_aligned_in_time_for_every_kind_of_stream() -> None:
    streams = {
        "slow": CodeStream(np.array([[1, 2]]), (4,), Fraction(1)),
        "fast": CodeStream(np.array([[0, 1, 2, 3]]), (8,), Fraction(2)),
        "held": CodeStream(np.array([[5, 6]]), (8,), Fraction(2), durations=np.array([3, 1])),
        "global": CodeStream(np.array([[7]]), (8,), Fraction(0)),
    }
    tokens = Tokens(streams, 2 * RATE, RATE, 1, "fake", "0" * 64)
    grid = report_images.code_grid(tokens, 2.0, 4)
    assert grid.labels == ("slow 1", "fast 1", "held 1") and grid.sizes == (4, 8, 8)
    assert grid.values.tolist() == [[1, 1, 2, 2], [0, 1, 2, 3], [5, 5, 5, 6]]
    assert report_images.code_grid(tokens, 3.0, 3).values.tolist()[0] == [1, 2, -1]
    windows = (Segment(0, RATE + 800, 4), Segment(RATE, RATE, 3))
    stream = CodeStream(np.array([[0, 1, 2, 9, 4, 5, 6]]), (16,), Fraction(3), segments=windows)
    windowed = Tokens({"codes": stream}, 2 * RATE, RATE, 1, "fake", "0" * 64)
    assert report_images.code_grid(windowed, 2.0, 6).values.tolist() == [[0, 1, 2, 4, 5, 6]]


def test_code_picture_puts_the_first_book_at_the_bottom() -> None:
    grid = report_images.CodeGrid(np.array([[0, 15], [-1, 0]]), ("1", "2"), (16, 16))
    assert pixels(report_images.code_picture(grid)).tolist() == [[64, 0], [0, 63]]


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_loudness_follows_the_standard(rate: int) -> None:
    sine = np.sin(2 * np.pi * 997 * np.arange(3 * rate) / rate)
    assert loudness(sine, rate) == pytest.approx(-3.01, abs=0.05)
    gated = np.concatenate([0.1 * sine, np.zeros(3 * rate)])
    assert loudness(gated, rate) == pytest.approx(-23.01, abs=0.3)
    assert loudness(np.zeros(rate), rate) is None


def test_versions_become_equally_loud_without_clipping() -> None:
    generator = np.random.default_rng(0)
    quiet, silent = 0.01 * generator.standard_normal(RATE), np.zeros(RATE)
    spiky = quiet.copy()
    spiky[500] = 1.0
    matched = match_loudness([quiet, 3 * quiet, spiky, silent], RATE)
    levels = [loudness(waveform, RATE) for waveform in matched[:2]]
    assert levels[0] == pytest.approx(levels[1]) and max(np.abs(w).max() for w in matched) <= 0.981
    assert not matched[3].any()
    assert loudness(match_loudness([quiet], RATE)[0], RATE) == pytest.approx(-23, abs=0.1)


@pytest.mark.parametrize("coding", CODINGS, ids=lambda coding: coding.name)
def test_embedded_audio_decodes_to_the_waveform(coding: Coding) -> None:
    waveform = example().original
    again, rate = soundfile.read(io.BytesIO(base64.b64decode(embed(waveform, RATE, coding), validate=True)))
    assert rate == RATE and len(again) == len(waveform)
    error = np.sqrt(np.mean((again - waveform) ** 2) / np.mean(waveform**2))
    assert error < (1e-3 if coding.container == "FLAC" else 0.1)
    odd = soundfile.info(io.BytesIO(base64.b64decode(embed(waveform, 22050, coding))))
    assert odd.duration == pytest.approx(len(waveform) / 22050, abs=1e-3)


def test_example_refuses_what_does_not_belong_together() -> None:
    good = example()
    with pytest.raises(AudioError, match="voice, 1 kbit/s: 31999 samples, expected 32000"):
        replace(good, versions={"1 kbit/s": good.original[1:]})
    with pytest.raises(AudioError, match="expected finite samples"):
        replace(good, original=np.full(len(good.original), np.nan))
    with pytest.raises(TokensError, match=r"stand for 2.00 s, expected 1.00 s"):
        replace(good, original=good.original[:RATE], versions={})


def test_long_examples_are_cut_with_their_tokens() -> None:
    cut = example(seconds=3.0).beginning(1.01)
    assert len(cut.original) == len(cut.versions["1 kbit/s"]) == 1.02 * RATE == cut.tokens.num_samples
    assert cut.tokens.codes.shape == (4, 51)


def test_page_is_well_formed_and_loads_nothing(parsed: Checker, text: str) -> None:
    assert parsed.open == []
    for tag, attributes in parsed.elements:
        assert tag not in {"link", "iframe", "object", "embed", "audio", "base"}
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert (attributes.get("src") or "data:").startswith("data:image/png;base64,") or tag != "img"
        assert tag == "img" or "src" not in attributes
        assert tag != "a" or (attributes["href"] or "").startswith("#")
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)
    identifiers = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_only_the_own_style_and_script_may_run(parsed: Checker, text: str) -> None:
    policy = next(
        a["content"] for t, a in parsed.elements if t == "meta" and "content" in a and "http-equiv" in a
    )
    assert policy is not None and policy.startswith("default-src 'none'")
    folder = files("audiotokens.evaluation") / "page"
    for name, parts in (
        ("style", ("base.css", "report.css")),
        ("script", ("sound.js", "measures.js", "players.js")),
    ):
        own = "\n".join((folder / part).read_text(encoding="utf-8") for part in parts)
        assert f"<{name}>{own}</{name}>" in text
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    runnable = [a for tag, a in parsed.elements if tag == "script" and "type" not in a]
    assert len(runnable) == 1


def test_names_are_escaped_everywhere(text: str, parsed: Checker) -> None:
    assert "onerror=alert(1)>" not in text and "&lt;img src=x onerror=alert(1)&gt;" in text
    for word in (EVIL, "A <title>", "Chosen <by> hand.", "it is <broken>", "<0>", "second & last"):
        assert any(word in words for words in parsed.words)
    assert not any(attributes.get("src") == "x" for _, attributes in parsed.elements)


def blocks(text: str, prefix: str) -> Iterator[tuple[str, str]]:
    yield from re.findall(rf'<script type="[^"]+" id="({prefix}-[\d-]+)">([^<]*)</script>', text)


def test_audio_and_codes_are_all_there(text: str) -> None:
    audio = dict(blocks(text, "audio"))
    assert list(audio) == [f"audio-{i}-{v}" for i in range(2) for v in range(4)]
    waveforms = [
        soundfile.read(io.BytesIO(base64.b64decode(data, validate=True)))[0] for data in audio.values()
    ]
    assert [len(waveform) for waveform in waveforms] == [2 * RATE] * 4 + [3 * RATE] * 4
    levels = [loudness(waveform, RATE) for waveform in waveforms]
    assert np.ptp(np.array(levels, float)) < 0.1
    codes = {name: json.loads(data) for name, data in blocks(text, "codes")}
    assert codes["codes-1"]["values"] == example("", 3.0).tokens.codes.tolist()
    assert codes["codes-0"]["sizes"] == [16] * 4


def test_versions_of_a_system_stand_together(tmp_path: Path) -> None:
    one = example()
    labels = ["a & b 1 kbit/s", "a & b 2 kbit/s", "Opus 6 kbit/s", "Codec2 700C", "Codec2 3200", "Alone"]
    groups = dict(zip(labels, ["a & b", "a & b", "Opus", "Codec2", "Codec2", "Alone"], strict=True))
    one = replace(one, versions=dict.fromkeys(labels, one.original), groups=groups)
    text = write_report(tmp_path / "r.html", comparison(), [one], title="t").read_text(encoding="utf-8")
    rows = text.split('<div class="system">')[1:]
    names = [re.sub("<[^>]+>", "", row.split("</span>")[0]) for row in rows]
    assert names == ["", "a &amp; b  kbit/s", "Opus  kbit/s", "Codec2", ""]
    buttons = [re.findall(r"(?:</kbd>|>)([^<]+)</button>", row.split("</div>")[0]) for row in rows]
    assert buttons == [["Original"], ["1", "2"], ["6"], ["700C", "3200"], ["Alone"]]
    assert re.findall('data-label="([^"]+)"', text)[1:] == [label.replace("&", "&amp;") for label in labels]
    assert text.count('aria-label="Opus 6 kbit/s"') == 1
    assert 'data-shown="2"' in text


def test_pictures_share_scale_and_time(parsed: Checker) -> None:
    sources = [a["src"] for tag, a in parsed.elements if tag == "img" and a.get("alt")]
    images = [from_url(source or "") for source in sources]
    assert [image.shape for image in images[:5]] == [(96, 160)] * 4 + [(4, 100)]
    np.testing.assert_allclose(images[0].astype(int), images[1].astype(int), atol=1)
    hidden = [tag for tag, attributes in parsed.elements if tag == "img" and "hidden" in attributes]
    assert len(hidden) == 2 * 2


def test_table_has_means_intervals_and_counts(parsed: Checker) -> None:
    cells = [word.strip() for word in parsed.words]
    assert "0.600" in cells and "[0.475, 0.725], N 9" in cells
    assert "∞" in cells and cells.count("150") == 6
    assert any(word.startswith("5.200 †") or word == "5.200 †" for word in cells)
    assert {"PESQ-WB ↑", "SI-SDR, dB ↑", "new/metric", "kbit/s of .tok files"} <= set(cells)


def test_headline_is_the_speech_point_nearest_three_kilobits() -> None:
    assert [str(figure) for figure in headline(comparison())] == [
        "Bit rate: 3.07 kbit/s (6 books, speech; 3.07 on disk)",
        "PESQ-WB: 0.60 (95 % interval [0.47, 0.72], N = 9)",
        "Encode and decode: 100 × real time (on 1 thread of this machine)",
    ]
    found = comparison()
    timed = {"payload_bitrate": 3000.0, "processor": "Some CPU"}
    points = tuple(replace(p, **timed) if p.num_codebooks == 6 else p for p in found.points)
    figures = [str(figure) for figure in headline(replace(found, points=points))]
    assert figures[0] == "Bit rate of the codes: 3.00 kbit/s (6 books, speech; 3.07 on disk)"
    assert figures[2].endswith("(on 1 thread of Some CPU)")
    assert headline(Comparison((), ())) == ()


def test_empty_parts_leave_a_valid_page(tmp_path: Path) -> None:
    text = write_report(tmp_path / "r.html", Comparison((), ()), [], title="nothing").read_text(
        encoding="utf-8"
    )
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and not any(a.get("id") in {"listen", "measure"} for _, a in checker.elements)


def test_page_stays_below_its_limit_and_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    examples = [replace(example(f"take {i}", 1.0, versions=1), original=noise) for i in range(3)]
    sizes, limit, audio = [], 15_000_000, 0
    for share in (1.0, 0.7, 0.1):
        # the second limit leaves room for Opus beside the pictures, the third for one recording
        monkeypatch.setattr(report, "SIZE_LIMIT", limit - round((1 - share) * audio))
        text = write_report(tmp_path / "r.html", comparison(), examples, title="t").read_text(
            encoding="utf-8"
        )
        sizes.append((len(list(blocks(text, "codes"))), "FLAC, lossless" in text, "of 3 recordings" in text))
        if not audio:
            audio = sum(len(data) for _, data in blocks(text, "audio"))
            pictures = sum(map(len, re.findall('data:image/png;base64,[^"]+', text)))
            limit = report._RESERVE + audio + pictures
    assert sizes[:2] == [(3, True, False), (3, False, False)]
    assert 0 < sizes[2][0] < 3 and sizes[2][2]
    monkeypatch.setattr(report, "SIZE_LIMIT", 1000)
    with pytest.raises(AudioTokensError, match="at most 1000 are allowed"):
        write_report(tmp_path / "r.html", comparison(), [], title="t")


def test_unwritable_path_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AudioTokensError, match="cannot write the page: No such file"):
        write_report(tmp_path / "no" / "r.html", comparison(), [], title="t")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.0, 3.5, [1, 1.5, 2, 2.5, 3, 3.5]),
        (-6.0, 7.0, [-5, -2.5, 0, 2.5, 5]),
        (0.0, 0.03, [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)
    assert number(-2.5) == "\N{MINUS SIGN}2.5" and octaves(0.4, 7.0) == [0.5, 1.0, 2.0, 4.0]


def centres(plot: str, kind: str) -> list[tuple[float, float]]:
    found = re.findall(rf'<g class="mark {kind}">.*?translate\(([\d.]+) ([\d.]+)\)', plot)
    return [(float(x), float(y)) for x, y in found]


def test_rate_plot_places_marks_by_value() -> None:
    marks = (Mark(1.0, 2.0, 1.5, 2.5, "a"), Mark(4.0, 3.0, None, None, "b <"))
    anchor = Series("codec", (Mark(2.0, 1.0, 0.9, 1.1, "c"), Mark(8.0, 2.0, 1.9, 2.1, "d")), 1, anchor=True)
    level = Level("uncoded &", 4.0, None, "no rate")
    plot = rate_plot([Series("x", marks, 0), anchor], [level], label="l", x_label="kbit/s")
    own, other = centres(plot, "s0"), centres(plot, "anchor")
    assert own[0][0] < other[0][0] < own[1][0] < other[1][0]
    assert own[1][1] < own[0][1] == other[1][1] < other[0][1]
    assert plot.count('class="interval s0"') == 1 and plot.count('class="interval anchor"') == 2
    assert "band" not in plot and "b &lt;" in plot and "uncoded &amp;</text>" in plot
    assert re.search(r'class="level anchor" d="M44 ([\d.]+)H', plot)
    # tokenizers are drawn last, over the anchors
    assert plot.index('class="line anchor"') < plot.index('class="line s0"')


def test_rank_profile_is_relative_to_uniform_use() -> None:
    assert rank_profile([3] * 90).tolist() == [1.0] * 45
    profile = rank_profile([0] * 89 + [90])
    assert profile[0] == 45.0 and not profile[1:].any()


def luminance(colour: str) -> float:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(
        np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    )


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast(scheme: int) -> None:
    style = (files("audiotokens.evaluation") / "page" / "base.css").read_text(encoding="utf-8")
    colours = dict(
        re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style.split(":root {")[1 + scheme].split("}")[0])
    )
    pairs = [(front, back) for front in ("ink", "soft", "accent", "focus") for back in ("paper", "surface")]
    for front, back in [*pairs, ("on-accent", "accent"), ("ink", "sunk"), ("soft", "sunk")]:
        light, dark = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, browse: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    page = tmp_path_factory.mktemp("browser") / "report.html"
    write_report(page, comparison(), [example(EVIL, 15.0), example("b", 2.0)], title="t")
    return browse("report_browser.js", page)


@pytest.mark.slow
@pytest.mark.browser
def test_browser_finds_no_errors_and_no_overflow(seen: dict[str, list[dict[str, int]]]) -> None:
    assert seen["log"] == []
    for layout in seen["layouts"]:
        assert layout["page"] <= layout["window"]
        assert layout["nameless"] == 0 and layout["images"] == 0


@pytest.mark.slow
@pytest.mark.browser
def test_keyboard_switches_the_version_and_keeps_the_position(
    seen: dict[str, dict[str, dict[str, float]]],
) -> None:
    keys = seen["keys"]
    assert keys["play"]["playing"] and 0.1 < keys["play"]["position"] < 6
    assert keys["third"]["playing"] and keys["third"]["version"] == 2 and keys["third"]["shown"] == 2
    assert 0 < keys["third"]["position"] - keys["play"]["position"] < 4
    assert keys["third"]["gains"] == pytest.approx([0, 0, 1, 0], abs=0.01)
    assert keys["clicked"]["version"] == 1 and keys["clicked"]["playing"]
    assert keys["original"]["gains"] == pytest.approx([1, 0, 0, 0], abs=0.01)
    assert not keys["pause"]["playing"] and keys["pause"]["version"] == 0
    assert keys["second"]["version"] == 1 and keys["second"]["position"] == keys["pause"]["position"]
    assert keys["ahead"]["position"] == pytest.approx(keys["second"]["position"] + 1, abs=0.02)
    assert keys["back"]["position"] == pytest.approx(keys["second"]["position"], abs=0.02)


@pytest.mark.slow
@pytest.mark.browser
def test_arrows_pictures_and_the_phone_change_the_recording(seen: dict[str, dict[str, Any]]) -> None:
    keys = seen["keys"]
    assert (keys["next"]["example"], keys["next"]["position"]) == (1, 0)
    assert keys["previous"]["example"] == 0 and keys["previous"]["version"] == 1
    assert [keys[name]["version"] for name in ("below", "above", "before")] == [2, 1, 1]
    first = int(example(EVIL, 15.0).tokens.codes[0, 0])
    assert str(keys["code"]["readout"]).endswith(f"book 1 · code {first} of 16")
    assert 2 < keys["seek"]["position"] < 6
    assert seen["phone"]["example"] == 1
