"""Rate plots and histograms of the report as inline SVG; the style sheet gives the colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from audiotokens.evaluation.report_labels import Box, Placed, Wanted, place_labels

WIDTH, HEIGHT = 400, 320
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 12, 40
SERIES_STYLES = 6
ANCHOR = "anchor"
BOOK_WIDTH, BOOK_HEIGHT = 180, 90
BOOK_BINS = 45
_MOST_VALUES = 8
_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_SHAPES = (
    "M-4.2 0A4.2 4.2 0 1 1 4.2 0A4.2 4.2 0 1 1 -4.2 0Z",
    "M-3.9-3.9H3.9V3.9H-3.9Z",
    "M0-5L4.8 3.8H-4.8Z",
    "M0-5.4L5 0L0 5.4L-5 0Z",
    "M-4.8-3.8H4.8L0 5Z",
    "M-1.6-5H1.6V-1.6H5V1.6H1.6V5H-1.6V1.6H-5V-1.6H-1.6Z",
)


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
    """Marks that one line joins.

    Args:
        name: stands beside the line.
        marks: in the order of rising `x`.
        style: index of colour and marker shape.
        anchor: whether it is a codec to compare with; such lines are thin and hollow, and tokenizers stand
            before them.
    """

    name: str
    marks: tuple[Mark, ...]
    style: int
    anchor: bool = False

    @property
    def classes(self) -> str:
        """Names for the style sheet."""
        return ANCHOR if self.anchor else f"s{self.style % SERIES_STYLES}"


@dataclass(frozen=True)
class Level:
    """A value without bit rate: a dashed line through the whole plot.

    Args:
        name: stands beside the line.
        mean: the value.
        style: index of the tokenizer that it belongs to, or None.
        text: what the line says on hover.
    """

    name: str
    mean: float
    style: int | None
    text: str


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


def rate_plot(series: Sequence[Series], levels: Sequence[Level] = (), *, label: str, x_label: str) -> str:
    """Draw means with intervals over a logarithmic horizontal axis, each line with its name beside it.

    Args:
        series: at least one mark in all; tokenizers are drawn over anchors.
        levels: values without bit rate.
        label: what screen readers say about the picture.
        x_label: title of the horizontal axis, with unit.

    Returns:
        An `<svg>` element.
    """
    frame = _Frame.around([mark for one in series for mark in one.marks], levels)
    ordered = sorted(series, key=lambda one: one.anchor)
    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    parts.append(_axes(frame, x_label))
    parts += [_level(level, frame) for level in levels]
    parts += [_band(one, frame) for one in ordered if not one.anchor]
    parts += [_line(one, frame) for one in reversed(ordered)]
    parts += _names(ordered, levels, frame)
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
    def around(cls, marks: Sequence[Mark], levels: Sequence[Level]) -> _Frame:
        ends = [value for m in marks for value in (m.mean, m.low, m.high) if value is not None]
        ends += [level.mean for level in levels]
        low, high = min(ends), max(ends)
        margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        x_low, x_high = min(mark.x for mark in marks), max(mark.x for mark in marks)
        return cls(x_low / 1.25, x_high * 1.25, low - margin, high + margin)

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
    known = [(m.x, m.low, m.high) for m in series.marks if m.low is not None and m.high is not None]
    if len(known) < 2:
        return ""
    upper = [f"{frame.x(x):.1f} {frame.y(high):.1f}" for x, _, high in known]
    lower = [f"{frame.x(x):.1f} {frame.y(low):.1f}" for x, low, _ in reversed(known)]
    return f'<path class="band {series.classes}" d="M{"L".join(upper + lower)}Z"/>'


def _line(series: Series, frame: _Frame) -> str:
    style = series.classes
    places = [(frame.x(mark.x), frame.y(mark.mean), mark) for mark in series.marks]
    parts = [f'<path class="line {style}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)}"/>']
    for x, y, mark in places:
        if mark.low is not None and mark.high is not None:
            bar = f"M{x:.1f} {frame.y(mark.low):.1f}V{frame.y(mark.high):.1f}"
            parts.append(f'<path class="interval {style}" d="{bar}"/>')
        shape = marker(series.style, x, y)
        parts.append(f'<g class="mark {style}"><title>{escape(mark.text)}</title>{shape}</g>')
    return "".join(parts)


def _level(level: Level, frame: _Frame) -> str:
    style = ANCHOR if level.style is None else f"s{level.style % SERIES_STYLES}"
    path = f'<path class="level {style}" d="M{LEFT} {frame.y(level.mean):.1f}H{WIDTH - RIGHT}"/>'
    return f'<g class="mark uncoded"><title>{escape(level.text)}</title>{path}</g>'


def marker(style: int, x: float, y: float) -> str:
    """Return the marker shape of a series, centred on (x, y); shapes repeat after six series."""
    return f'<path transform="translate({x:.1f} {y:.1f})" d="{_SHAPES[style % len(_SHAPES)]}"/>'


def _names(series: Sequence[Series], levels: Sequence[Level], frame: _Frame) -> list[str]:
    """Write every name where it hides as little as possible; tokenizers choose first.

    A line that is alone needs no name: its values stand there instead.
    """
    wanted = []
    alone = len(series) == 1 and not levels and len(series[0].marks) <= _MOST_VALUES
    for one in series:
        spots = [(frame.x(mark.x), frame.y(mark.mean)) for mark in one.marks]
        if alone:
            digits = 2 if frame.y_high - frame.y_low < 20 else 1
            texts = [number(mark.mean, digits) for mark in one.marks]
            wanted += [Wanted(text, (spot,)) for text, spot in zip(texts, spots, strict=True)]
        else:
            wanted.append(Wanted(one.name, tuple(reversed(spots))))
    for level in levels:
        across = (LEFT + (WIDTH - LEFT - RIGHT) * share for share in (0.02, 0.25, 0.5, 0.75, 0.98))
        wanted.append(Wanted(level.name, tuple((x, frame.y(level.mean)) for x in across)))
    inside = Box(LEFT + 2, TOP - 8, WIDTH, HEIGHT - BOTTOM - 1)
    placed = place_labels(wanted, inside, _obstacles(series, levels, frame))
    styles = [series[0].classes] * len(wanted) if alone else [one.classes for one in series]
    styles += [ANCHOR if level.style is None else f"s{level.style % SERIES_STYLES}" for level in levels]
    return [_name(one, style) for one, style in zip(placed, styles, strict=True) if one is not None]


def _name(placed: Placed, style: str) -> str:
    x = (placed.box.left + placed.box.right) / 2
    place = f'x="{x:.1f}" y="{placed.baseline:.1f}" text-anchor="middle"'
    return f'<text class="name {style}" {place}>{escape(placed.text)}</text>'


def _obstacles(
    series: Sequence[Series], levels: Sequence[Level], frame: _Frame
) -> Iterator[tuple[float, float, float]]:
    for one in series:
        spots = [(frame.x(mark.x), frame.y(mark.mean)) for mark in one.marks]
        for x, y in spots:
            yield from ((x + dx, y + dy, 1.5) for dx in (-4, 0, 4) for dy in (-4, 0, 4))
        for (x0, y0), (x1, y1) in zip(spots, spots[1:]):
            steps = max(1, round(math.hypot(x1 - x0, y1 - y0) / 5))
            yield from ((x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps, 0.5) for k in range(steps))
        for mark in one.marks:
            if mark.low is not None and mark.high is not None:
                top, bottom = frame.y(mark.high), frame.y(mark.low)
                count = max(1, round((bottom - top) / 5))
                x = frame.x(mark.x)
                yield from ((x, top + (bottom - top) * k / count, 0.4) for k in range(count + 1))
    for level in levels:
        yield from ((x, frame.y(level.mean), 0.4) for x in range(LEFT, WIDTH - RIGHT, 6))


def _book_ticks(top: float) -> list[float]:
    return [tick for tick in (1.0, 4.0, 16.0, 64.0) if tick <= top]
