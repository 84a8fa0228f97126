"""The listening part of the report: players, spectrograms and token heat maps of the example recordings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

import numpy as np

from audiotokens.errors import AudioError, TokensError
from audiotokens.evaluation.report_audio import Coding, embed, match_loudness
from audiotokens.evaluation.report_images import (
    LEVELS,
    RANGE_DB,
    CodeGrid,
    band_powers,
    code_grid,
    code_picture,
    colour_map,
    data_url,
    frequency_axis,
    picture_columns,
    png,
    spectrogram,
)
from audiotokens.evaluation.report_plots import number, ticks
from audiotokens.tokens import Tokens

TRACK_HEIGHT = 120
_UNIT = " kbit/s"
ORIGINAL = "Original"
PLAY_ICON = (
    '<svg viewBox="0 0 20 20" aria-hidden="true"><path class="go" d="M5 2.5v15l13-7.5z"/>'
    '<path class="pause" d="M4 3h4.2v14H4zM11.8 3H16v14h-4.2z"/></svg>'
)
_KEYS = (
    ("1 – 9", "switch the version, position kept"),
    ("Space", "play, pause"),
    ("← →", "other recording"),
    (", .", "one second back, ahead"),
    ("J K", "next, previous version"),
    ("B", "back to the version before"),
)


@dataclass(frozen=True)
class Example:
    """One recording of the page, before and after.

    Args:
        name: shown as given (any text).
        sample_rate: of the original and all versions, in Hz.
        original: float `[N]`, one channel, in [-1, 1].
        versions: label, such as "3 kbit/s", to waveform `[N]`; in the order of the buttons.
        tokens: of exactly this recording, with all books that shall be drawn.
        groups: system of a label, such as "Opus" of "Opus 9 kbit/s"; versions of one system that follow each
            other stand in one row, and its name is left out of them. Without groups all stand in one row.

    Raises:
        AudioError: a waveform is not `[N]` with N > 0 finite samples, or not as long as the original.
        TokensError: the tokens' duration is not the original's.
    """

    name: str
    sample_rate: int
    original: np.ndarray
    versions: dict[str, np.ndarray]
    tokens: Tokens
    groups: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if ORIGINAL in self.versions:
            raise AudioError(f'{self.name}: a version is called "{ORIGINAL}", expected any other label')
        for label, waveform in {"the original": self.original, **self.versions}.items():
            if waveform.ndim != 1 or not len(waveform) or not np.isfinite(waveform).all():
                raise AudioError(
                    f"{self.name}, {label}: shape {waveform.shape}, expected finite samples [N], N > 0"
                )
            if len(waveform) != len(self.original):
                expected = f"expected {len(self.original)} as in the original"
                raise AudioError(f"{self.name}, {label}: {len(waveform)} samples, {expected}")
        if abs(self.tokens.duration - self.seconds) > 0.01:
            found = f"the tokens stand for {self.tokens.duration:.2f} s"
            raise TokensError(f"{self.name}: {found}, expected {self.seconds:.2f} s as the recording has")

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.original) / self.sample_rate

    def beginning(self, seconds: float) -> Example:
        """Return the first `seconds`, rounded up to where the tokens can be cut; shorter ones as they are."""
        if self.seconds <= seconds:
            return self
        end = self.tokens.clip_bounds(0.0, seconds)[1] / self.tokens.sample_rate
        samples = min(round(end * self.sample_rate), len(self.original))
        versions = {label: waveform[:samples] for label, waveform in self.versions.items()}
        tokens = self.tokens.clip(0.0, seconds)
        return replace(self, original=self.original[:samples], versions=versions, tokens=tokens)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the buttons, the original first."""
        return (ORIGINAL, *self.versions)


@dataclass(frozen=True)
class Pictures:
    """Images of one example: data URLs of spectrograms (original first) and codes, and the codes."""

    spectrograms: tuple[str, ...]
    codes: str
    grid: CodeGrid


def draw(example: Example) -> Pictures:
    """Draw an example; all spectrograms share the scale of the original, all pictures the time axis."""
    waveforms = match_loudness([example.original, *example.versions.values()], example.sample_rate)
    columns = picture_columns(example.seconds)
    top = float(band_powers(waveforms[0], example.sample_rate, columns).max())
    images = [spectrogram(w, example.sample_rate, columns=columns, top=top) for w in waveforms]
    fastest = max((float(stream.frame_rate) for stream in example.tokens.streams.values()), default=0.0)
    steps = int(np.clip(round(example.seconds * fastest), 1, 1500))
    grid = code_grid(example.tokens, example.seconds, steps)
    return Pictures(tuple(map(data_url, images)), data_url(code_picture(grid)), grid)


def embed_audio(example: Example, coding: Coding) -> list[str]:
    """Return the base64 audio files of an example at equal loudness, the original first."""
    waveforms = match_loudness([example.original, *example.versions.values()], example.sample_rate)
    return [embed(waveform, example.sample_rate, coding) for waveform in waveforms]


def listen_section(examples: Sequence[Example], pictures: Sequence[Pictures]) -> str:
    """Return the section with all players.

    Args:
        examples: at least one.
        pictures: of each example.
    """
    keys = "".join(f"<li><kbd>{escape(key)}</kbd> {escape(what)}</li>" for key, what in _KEYS)
    shelf = "".join(
        f'<li><button type="button"><span title="{escape(e.name)}">{escape(e.name)}</span>'
        f"<span>{e.seconds:.1f} s</span></button></li>"
        for e in examples
    )
    options = "".join(f"<option>{escape(e.name)}</option>" for e in examples)
    cards = "".join(_card(i, e, p) for i, (e, p) in enumerate(zip(examples, pictures, strict=True)))
    single = " single" if len(examples) == 1 else ""
    return (
        '<section id="listen" aria-labelledby="listen-title"><h2 id="listen-title">Listen</h2>'
        "<p>The original beside what became of it, at equal loudness. Click a picture to jump there; "
        "point at it to read time, frequency and code.</p>"
        f'<ul class="keys" aria-label="Keyboard">{keys}</ul>'
        f'<div class="player{single}"><nav class="shelf" aria-label="Recordings"><ol>{shelf}</ol>'
        '<div class="choose">'
        '<button type="button" class="previous" aria-label="Previous recording">‹</button>'
        f'<select aria-label="Recording">{options}</select>'
        '<button type="button" class="next" aria-label="Next recording">›</button></div></nav>'
        f"<div>{cards}</div></div>"
        "<noscript><p>The players need JavaScript; the rest of this page does not.</p></noscript>"
        "</section>"
    )


def data_blocks(audio: Sequence[Sequence[str]], coding: Coding, pictures: Sequence[Pictures]) -> str:
    """Return the script elements that hold audio and codes; none of them is executable."""
    parts = [
        f'<script type="{coding.media_type};base64" id="audio-{i}-{v}">{text}</script>'
        for i, versions in enumerate(audio)
        for v, text in enumerate(versions)
    ]
    for i, one in enumerate(pictures):
        values = {"labels": one.grid.labels, "sizes": one.grid.sizes, "values": one.grid.values.tolist()}
        text = json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")
        parts.append(f'<script type="application/json" id="codes-{i}">{text}</script>')
    return "\n".join(parts)


def _card(index: int, example: Example, pictures: Pictures) -> str:
    books = len(pictures.grid.labels)
    rate = f"{example.sample_rate / 1000:g} kHz"
    facts = f"{example.seconds:.1f} s · {rate} · {books} books · {example.tokens.bits:,.0f} bits in all"
    shown = _shown_first(example)
    current = " current" if index == 0 else ""
    seconds = f"{example.seconds:.4f}"
    return (
        f'<article class="example{current}" data-seconds="{seconds}" data-rate="{example.sample_rate}" '
        f'data-shown="{shown}" aria-labelledby="example-{index}">'
        f'<h3 id="example-{index}">{escape(example.name)}</h3><p class="facts">{escape(facts)}</p>'
        '<div class="transport">'
        f'<button type="button" class="play" aria-label="Play">{PLAY_ICON}</button>'
        f"{_version_buttons(example)}"
        f'<p class="clock"><b>0:00.0</b> / {_clock(example.seconds)}</p></div>'
        f"{_tracks(example, pictures, shown)}"
        '<input class="seek" type="range" aria-label="Position" '
        f'min="0" max="{seconds}" step="0.01" value="0">'
        f"{_time_axis(example.seconds)}{_legend()}</article>"
    )


def _shown_first(example: Example) -> int:
    """Return the version in the middle of the first system, or 0 without any."""
    groups = [example.groups.get(label, "") for label in example.versions]
    first = next((i for i, group in enumerate(groups) if group != groups[0]), len(groups))
    return (first + 2) // 2 if first else 0


def _version_buttons(example: Example) -> str:
    """Return a row of buttons, or a row for each system; the order of the buttons is that of the labels."""
    rows: list[tuple[str, list[int]]] = []
    for v, label in enumerate(example.labels):
        group = example.groups.get(label, "")
        if not rows or rows[-1][0] != group:
            rows.append((group, []))
        rows[-1][1].append(v)
    if not example.groups:
        buttons = "".join(_version_button(v, label, label) for v, label in enumerate(example.labels))
        return f'<div class="versions" role="group" aria-label="Version">{buttons}</div>'
    lines = "".join(_system_row(example, group, versions) for group, versions in rows)
    return f'<div class="versions grouped" role="group" aria-label="Version">{lines}</div>'


def _system_row(example: Example, group: str, versions: Sequence[int]) -> str:
    """Return the buttons of one system, which leave out what its name says, and the unit that all share."""
    texts = [example.labels[v].removeprefix(group).strip() or example.labels[v] for v in versions]
    rates = bool(group) and all(text.endswith(_UNIT) for text in texts)
    buttons = "".join(
        _version_button(v, example.labels[v], text.removesuffix(_UNIT) if rates else text)
        for v, text in zip(versions, texts, strict=True)
    )
    unit = f" <small>{_UNIT}</small>" if rates else ""
    name = "" if group in texts else f"{escape(group)}{unit}"
    return f'<div class="system"><span>{name}</span><div>{buttons}</div></div>'


def _version_button(version: int, label: str, text: str) -> str:
    key = f"<kbd>{version + 1}</kbd>" if version < 9 else ""
    shortcut = f' aria-keyshortcuts="{version + 1}"' if version < 9 else ""
    name = f' aria-label="{escape(label)}"' if text != label else ""
    return (
        f'<button type="button" data-label="{escape(label)}" '
        f'aria-pressed="{str(version == 0).lower()}"{shortcut}{name}>{key}{escape(text)}</button>'
    )


def _tracks(example: Example, pictures: Pictures, shown: int) -> str:
    axis = _frequency_labels(example.sample_rate)
    original = f'<img src="{pictures.spectrograms[0]}" alt="Spectrogram of the original" draggable="false">'
    rows = [_track(axis, "original", original, "Original")]
    if example.versions:
        others = "".join(
            f'<img src="{url}" alt="Spectrogram at {escape(label)}" draggable="false"'
            f"{'' if v == shown else ' hidden'}>"
            for v, (label, url) in enumerate(
                zip(example.versions, pictures.spectrograms[1:], strict=True), start=1
            )
        )
        rows.append(_track(axis, "chosen", others, example.labels[shown]))
    names = pictures.grid.labels
    codes = f'<img src="{pictures.codes}" alt="Codes of {len(names)} books over time" draggable="false">'
    rows.append(_track(_book_labels(names), "codes", codes + _row_lines(len(names)), ""))
    return f'<div class="tracks">{"".join(rows)}<div class="head"></div></div>'


def _track(axis: str, kind: str, images: str, chip: str) -> str:
    label = f'<span class="chip">{escape(chip)}</span>' if chip else ""
    return f'<div class="track">{axis}<div class="stage {kind}">{images}{label}</div></div>'


def _row_lines(rows: int) -> str:
    if rows > 16:
        return ""
    lines = "".join(f'<path d="M0 {TRACK_HEIGHT * k / rows:.2f}h9999"/>' for k in range(1, rows))
    return f'<svg class="rows" aria-hidden="true">{lines}</svg>'


def _axis_svg(labels: Sequence[tuple[float, str]], unit: str) -> str:
    texts = "".join(
        f'<text class="tick" x="100%" dx="-7" y="{y:.1f}" text-anchor="end">{escape(text)}</text>'
        for y, text in labels
    )
    return f'<svg aria-hidden="true">{texts}<text class="tick" x="0" y="11">{unit}</text></svg>'


def _frequency_labels(sample_rate: int) -> str:
    labels = []
    for hertz in (250, 1000, 2000, 4000, 8000, 16000):
        if hertz < 0.8 * sample_rate / 2:
            share = float(frequency_axis(hertz, sample_rate))
            labels.append((TRACK_HEIGHT * (1 - share) + 4, number(hertz / 1000)))
    # the unit stands at the top
    return _axis_svg([label for label in labels if label[0] > 20], "kHz")


def _book_labels(names: Sequence[str]) -> str:
    row = TRACK_HEIGHT / len(names)
    chosen = sorted({0, len(names) // 2, len(names) - 1}) if len(names) > 2 else range(len(names))
    labels = [(TRACK_HEIGHT - (k + 0.5) * row + 4, names[k].split()[-1]) for k in chosen]
    return _axis_svg(labels, "")


def _time_axis(seconds: float) -> str:
    marks = "".join(
        f'<text class="tick" x="{100 * tick / seconds:.2f}%" y="14" text-anchor="{_anchor(tick / seconds)}">'
        f"{number(tick)}{' s' if i == 0 else ''}</text>"
        for i, tick in enumerate(ticks(0.0, seconds, 4))
    )
    return f'<svg class="times" aria-hidden="true">{marks}</svg>'


def _anchor(share: float) -> str:
    return "start" if share < 0.01 else "end" if share > 0.97 else "middle"


def _legend() -> str:
    return (
        f'<div class="legend"><span class="scale">\N{MINUS SIGN}{RANGE_DB:g} dB '
        f'<img src="{_ramp()}" alt=""> 0 dB</span>'
        "<span>Codes: one row per book, coloured by code number</span>"
        '<span class="readout"></span></div>'
    )


def _ramp() -> str:
    return data_url(png(np.arange(LEVELS, dtype=np.uint8)[None], colour_map(LEVELS)))


def _clock(seconds: float) -> str:
    tenths = round(10 * seconds)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
