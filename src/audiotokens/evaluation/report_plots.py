"""Line plots and histograms of the report as inline SVG; the style sheet gives the colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 14, 42
SERIES_STYLES = 6
BOOK_WIDTH, BOOK_HEIGHT = 180, 90
BOOK_BINS = 45
_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Mark:
    """One measured value with its interval, at one bit rate.

    Args:
        x: position on the horizontal axis; positive.
        mean: the value.
        low: lower end of the interval, or None.
        high: upper end, or None.
        text: what the mark says on hover and to screen readers.
    """

    x: float
    mean: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Series:
    """Marks of one tokenizer.

    Args:
        name: for the legend.
        marks: in the order of rising `x`.
        style: index of colour and marker shape.
    """

    name: str
    marks: tuple[Mark, ...]
    style: int


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers inside [low, high].

    Example:
        >>> ticks(0.0, 1.0)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / count))
    step = min((s * power for s in _ROUND_STEPS), key=lambda s: abs(span / s - count))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def octaves(low: float, high: float) -> list[float]:
    """Return the powers of two inside [low, high], at most seven of them.

    Example:
        >>> octaves(0.5, 6.0)
        [0.5, 1.0, 2.0, 4.0]
    """
    first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / 7))
    return [2.0**i for i in range(first, last + 1, stride)]


def number(value: float, decimals: int | None = None) -> str:
    """Write a tick with a true minus sign; without `decimals` as short as possible."""
    text = f"{value:g}" if decimals is None else f"{value:.{decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def line_plot(series: Sequence[Series], *, label: str, x_label: str) -> str:
    """Draw means with interval bands over a logarithmic horizontal axis.

    Args:
        series: at least one mark in all.
        label: what screen readers say about the picture.
        x_label: title of the horizontal axis, with unit.

    Returns:
        An `<svg>` element.
    """
    marks = [mark for one in series for mark in one.marks]
    frame = _Frame.around(marks)
    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    parts.append(_axes(frame, x_label))
    parts += [_band(one, frame) for one in series]
    parts += [_line(one, frame) for one in series]
    if len(series) == 1 and len(marks) <= 8:
        parts.append(_values(series[0], frame))
    return "".join(parts) + "</svg>"


def book_plot(counts: Sequence[int], *, label: str, top: float) -> str:
    """Draw how often the codes of one book occur, commonest first, against uniform use (the dashed line).

    Args:
        counts: occurrences of every code.
        label: what screen readers say.
        top: share of the uniform rate at the upper edge; the axis is its square root.

    Returns:
        An `<svg>` element.
    """
    relative = rank_profile(counts)
    left = 26
    width, height = BOOK_WIDTH - left, BOOK_HEIGHT - 14

    def y(value: float) -> float:
        return height - (height - 6) * math.sqrt(min(value / top, 1.0))

    bar = width / len(relative)
    path = "".join(
        f"M{left + i * bar:.2f} {height}V{y(value):.2f}h{bar * 0.82:.2f}V{height}Z"
        for i, value in enumerate(relative)
        if value > 0
    )
    scale = "".join(
        f'<text class="tick" x="{left - 4}" y="{y(tick) + 3:.1f}" text-anchor="end">{number(tick)}×</text>'
        for tick in _book_ticks(top)
    )
    return (
        f'<svg class="book" viewBox="0 0 {BOOK_WIDTH} {BOOK_HEIGHT}" role="img" aria-label="{escape(label)}">'
        f'{scale}<path class="bars" d="{path}"/><path class="axis" d="M{left} {height}H{BOOK_WIDTH}"/>'
        f'<path class="uniform" d="M{left} {y(1.0):.2f}H{BOOK_WIDTH}"/>'
        f'<text class="tick" x="{left}" y="{BOOK_HEIGHT - 3}">commonest</text>'
        f'<text class="tick" x="{BOOK_WIDTH}" y="{BOOK_HEIGHT - 3}" text-anchor="end">rarest</text></svg>'
    )


def rank_profile(counts: Sequence[int]) -> np.ndarray:
    """Return counts in falling order, averaged into at most 45 bins, as multiples of the uniform count."""
    ordered = np.sort(np.asarray(counts, np.float64))[::-1]
    bins = np.array_split(ordered, min(BOOK_BINS, len(ordered)))
    return np.asarray([part.mean() for part in bins]) / max(float(ordered.mean()), 1e-12)


@dataclass(frozen=True)
class _Frame:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @classmethod
    def around(cls, marks: Sequence[Mark]) -> _Frame:
        ends = [value for m in marks for value in (m.mean, m.low, m.high) if value is not None]
        low, high = min(ends), max(ends)
        margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        x_low, x_high = min(mark.x for mark in marks), max(mark.x for mark in marks)
        return cls(x_low / 1.3, x_high * 1.3, low - margin, high + 1.6 * margin)

    def x(self, value: float) -> float:
        share = math.log(value / self.x_low) / math.log(self.x_high / self.x_low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axes(frame: _Frame, x_label: str) -> str:
    base, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    rows = ticks(frame.y_low, frame.y_high)
    decimals = max(len(f"{tick:g}".partition(".")[2]) for tick in rows)
    for tick in rows:
        y, text = frame.y(tick), number(tick, decimals)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick in octaves(frame.x_low, frame.x_high):
        x = frame.x(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {base}v4"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{base + 17}" text-anchor="middle">{number(tick)}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {base}H{right}"/>')
    centre = (LEFT + right) / 2
    parts.append(
        f'<text class="tick" x="{centre}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return "".join(parts)


def _band(series: Series, frame: _Frame) -> str:
    known = [
        (mark.x, mark.low, mark.high)
        for mark in series.marks
        if mark.low is not None and mark.high is not None
    ]
    if len(known) < 2:
        return ""
    upper = [f"{frame.x(x):.1f} {frame.y(high):.1f}" for x, _, high in known]
    lower = [f"{frame.x(x):.1f} {frame.y(low):.1f}" for x, low, _ in reversed(known)]
    return f'<path class="band s{series.style % SERIES_STYLES}" d="M{"L".join(upper + lower)}Z"/>'


def _line(series: Series, frame: _Frame) -> str:
    style = f"s{series.style % SERIES_STYLES}"
    places = [(frame.x(mark.x), frame.y(mark.mean), mark) for mark in series.marks]
    parts = [f'<path class="line {style}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)}"/>']
    for x, y, mark in places:
        if mark.low is not None and mark.high is not None:
            bar = f"M{x:.1f} {frame.y(mark.low):.1f}V{frame.y(mark.high):.1f}"
            parts.append(f'<path class="interval {style}" d="{bar}"/>')
        shape = marker(series.style, x, y)
        parts.append(f'<g class="mark {style}"><title>{escape(mark.text)}</title>{shape}</g>')
    return "".join(parts)


def marker(style: int, x: float, y: float) -> str:
    """Return the marker shape of a series, centred on (x, y); shapes repeat after four series."""
    if style % 4 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2"/>'
    paths = {1: "M-4-4H4V4H-4Z", 2: "M0-5L5 4H-5Z", 3: "M0-5.5L5 0L0 5.5L-5 0Z"}
    return f'<path transform="translate({x:.1f} {y:.1f})" d="{paths[style % 4]}"/>'


def _values(series: Series, frame: _Frame) -> str:
    digits = 2 if frame.y_high - frame.y_low < 20 else 1
    rising = series.marks[-1].mean >= series.marks[0].mean
    anchor, shift = ("end", 9) if rising else ("start", -9)
    parts = []
    for mark in series.marks:
        x, top = frame.x(mark.x) + shift, frame.y(mark.mean if mark.high is None else mark.high) - 8
        text = number(mark.mean, digits)
        parts.append(f'<text class="value" x="{x:.1f}" y="{top:.1f}" text-anchor="{anchor}">{text}</text>')
    return "".join(parts)


def _book_ticks(top: float) -> list[float]:
    return [tick for tick in (1.0, 4.0, 16.0, 64.0) if tick <= top]
