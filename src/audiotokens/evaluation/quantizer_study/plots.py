"""Pictures of the study: panels of lines with the range of the seeds, as SVG files that stand alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from audiotokens.evaluation.quantizer_study.figures import (
    Group,
    Results,
    embedding_parameters,
    measured_bits,
)
from audiotokens.evaluation.quantizer_study.hypotheses import training_points
from audiotokens.evaluation.quantizer_study.plan import HIGH_DIMENSION
from audiotokens.evaluation.report_plots import marker, number, ticks

_COLOURS = ("#14708c", "#b4540a", "#6a4fa8", "#39783a", "#a8336b", "#6a6a1c")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP = 430, 330, 54, 14, 30
_LEGEND_ROW, _LEGEND_COLUMNS = 16, 2
_PANELS = (
    (
        "one book: gradients, averages, clustering",
        ("vq-plain", "vq-rotation", "vq-ema", "vq-expiry", "kmeans"),
    ),
    ("one book: other ways", ("vq-plain", "vq-cosine", "simvq", "vq-balanced", "gumbel")),
    ("scalars", ("fsq", "lfq", "bsq", "latent", "scalar", "vq-expiry")),
    ("several books", ("rvq", "qinco", "residual-fsq", "residual-lfq", "gvq", "gvq-nested")),
)
"""Subjects of the four panels; the line of one of them returns in another for comparison."""


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Args:
        name: for the legend.
        points: x, y, least and largest y.
        style: of colour and marker.
    """

    name: str
    points: tuple[tuple[float, float, float, float], ...]
    style: int


@dataclass(frozen=True)
class Panel:
    """Lines over one pair of axes.

    Args:
        title: above it.
        lines: at most six.
        x_label: below it.
        logarithmic: whether x is.
    """

    title: str
    lines: tuple[Line, ...]
    x_label: str
    logarithmic: bool = False


def draw(panels: Sequence[Panel], *, label: str, y_label: str, y_range: tuple[float, float]) -> str:
    """Draw panels, two in a row, over the same axes.

    Args:
        panels: at least one, each with at least one point.
        label: what screen readers say.
        y_label: for all panels.
        y_range: least and largest y.

    Returns:
        A whole SVG document.
    """
    columns = min(2, len(panels))
    places = [point[0] for panel in panels for line in panel.lines for point in line.points]
    x_range = (min(places), max(places))
    rows = -(-len(panels) // columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * _WIDTH} {rows * _HEIGHT}" '
        f'width="{columns * _WIDTH}" height="{rows * _HEIGHT}" role="img" aria-label="{escape(label)}" '
        'font-family="system-ui, sans-serif" font-size="11.5" fill="#545b66">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for index, panel in enumerate(panels):
        x, y = index % columns * _WIDTH, index // columns * _HEIGHT
        parts.append(
            f'<g transform="translate({x} {y})">{_Axes.of(panel, x_range, y_range).panel(panel, y_label)}</g>'
        )
    return "\n".join([*parts, "</svg>\n"])


@dataclass(frozen=True)
class _Axes:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    bottom: int
    logarithmic: bool

    @classmethod
    def of(cls, panel: Panel, x_range: tuple[float, float], y_range: tuple[float, float]) -> _Axes:
        low, high = x_range
        if panel.logarithmic:
            low, high = low / 1.3, high * 1.3
        else:
            margin = 0.04 * (high - low) or 1.0
            low, high = low - margin, high + margin
        rows = -(-len(panel.lines) // _LEGEND_COLUMNS)
        return cls(low, high, *y_range, _HEIGHT - 44 - rows * _LEGEND_ROW, panel.logarithmic)

    def x(self, value: float) -> float:
        low, high = self.x_low, self.x_high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.bottom - share * (self.bottom - _TOP)

    def panel(self, panel: Panel, y_label: str) -> str:
        parts = [f'<text x="{_LEFT}" y="16" fill="#14171c" font-weight="600">{escape(panel.title)}</text>']
        right = _WIDTH - _RIGHT
        rows = ticks(self.y_low, self.y_high)
        decimals = max(len(f"{tick:g}".partition(".")[2]) for tick in rows)
        for tick in rows:
            y = self.y(tick)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#e2e2dc"/>')
            text = number(tick, decimals)
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        for value, text in self._columns():
            x = self.x(value)
            parts.append(f'<path d="M{x:.1f} {self.bottom}v4" stroke="#545b66"/>')
            parts.append(f'<text x="{x:.1f}" y="{self.bottom + 16}" text-anchor="middle">{text}</text>')
        parts.append(f'<path d="M{_LEFT} {self.bottom}H{right}" stroke="#545b66"/>')
        middle, centre = (_LEFT + right) / 2, (_TOP + self.bottom) / 2
        x_label = escape(panel.x_label)
        parts.append(f'<text x="{middle}" y="{self.bottom + 32}" text-anchor="middle">{x_label}</text>')
        turned = f'transform="translate(12 {centre}) rotate(-90)"'
        parts.append(f'<text {turned} text-anchor="middle">{escape(y_label)}</text>')
        parts += [self._line(line) for line in panel.lines]
        parts += [self._legend(index, line) for index, line in enumerate(panel.lines)]
        return "".join(parts)

    def _columns(self) -> list[tuple[float, str]]:
        if not self.logarithmic:
            return [(tick, number(tick)) for tick in ticks(self.x_low, self.x_high)]
        first, last = math.ceil(math.log10(self.x_low)), math.floor(math.log10(self.x_high))
        units = ((10**9, "G"), (10**6, "M"), (10**3, "k"), (1, ""))
        found = []
        for power in range(first, last + 1):
            size, unit = next(pair for pair in units if 10**power >= pair[0])
            found.append((10.0**power, f"{10**power // size}{unit}"))
        return found

    def _line(self, line: Line) -> str:
        colour = _COLOURS[line.style % len(_COLOURS)]
        places = [(self.x(x), self.y(y)) for x, y, _, _ in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts = [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>']
        for (x, _), (_, _, low, high) in zip(places, line.points):
            parts.append(
                f'<path d="M{x:.1f} {self.y(low):.1f}V{self.y(high):.1f}" stroke="{colour}" stroke-width="3" '
                'stroke-opacity="0.35"/>'
            )
        marks = "".join(marker(line.style, x, y) for x, y in places)
        return "".join(parts) + f'<g fill="{colour}" stroke="#ffffff" stroke-width="0.8">{marks}</g>'

    def _legend(self, index: int, line: Line) -> str:
        colour = _COLOURS[line.style % len(_COLOURS)]
        x = _LEFT + index % _LEGEND_COLUMNS * (_WIDTH - _LEFT - _RIGHT) / _LEGEND_COLUMNS
        y = self.bottom + 48 + index // _LEGEND_COLUMNS * _LEGEND_ROW
        mark = f'<g fill="{colour}">{marker(line.style, x + 6, y - 4)}</g>'
        return mark + f'<text x="{x + 16}" y="{y}" fill="#14171c">{escape(line.name)}</text>'


def all_pictures(results: Results) -> dict[str, str]:
    """The pictures by the stem of their file."""
    pictures = {
        "quantizer-usage": _by_size(results, "entropy"),
        "quantizer-distortion": _by_size(results, "distortion"),
        "quantizer-vocabulary": _vocabulary(results),
    }
    if any(results.curve(name, "trunk") for name in HIGH_DIMENSION):
        pictures["quantizer-training"] = _training(results)
    return pictures


def _by_size(results: Results, what: str) -> str:
    """Share of the nominal bits, or distortion, over bits."""
    panels = []
    for title, names in _PANELS:
        lines = []
        for style, name in enumerate(names):
            groups = results.curve(name)
            points = tuple(_size_point(results, group, what) for group in groups)
            if points:
                lines.append(Line(groups[0].label, points, style))
        if lines:
            x_label = "nominal bits per frame" if what == "entropy" else "measured bits per frame"
            panels.append(Panel(title, tuple(lines), x_label))
    if what == "entropy":
        return draw(
            panels, label="Entropy of the codes", y_label="entropy / nominal bits", y_range=(0.0, 1.04)
        )
    return draw(panels, label="Distortion over bits", y_label="distortion, dB", y_range=_fitting(panels))


def _size_point(results: Results, group: Group, what: str) -> tuple[float, float, float, float]:
    nominal = group.results[0].usage.nominal_bits
    if what == "entropy":
        values = [value / nominal for value in group.values(measured_bits)]
        return nominal, float(np.mean(values)), min(values), max(values)
    decibels = [10 * math.log10(value) for value in group.values(results.distortion)]
    return group.mean(measured_bits), float(np.mean(decibels)), min(decibels), max(decibels)


def _vocabulary(results: Results) -> str:
    """Distortion over the parameters of embeddings of a language model that is 1,024 wide."""
    panels = []
    for title, names in _PANELS:
        lines = []
        for style, name in enumerate(names):
            groups = results.curve(name)
            points = []
            for group in groups:
                _, *heights = _size_point(results, group, "distortion")
                sizes = [book.size for book in group.results[0].usage.books]
                points.append((float(embedding_parameters(sizes, 1024)), *heights))
            if points:
                lines.append(Line(groups[0].label, tuple(points), style))  # type: ignore[arg-type]
        if lines:
            panels.append(Panel(title, tuple(lines), "parameters of embeddings, width 1,024", True))
    return draw(
        panels,
        label="Distortion over the embeddings of a language model",
        y_label="distortion, dB",
        y_range=_fitting(panels),
    )


def _training(results: Results) -> str:
    """Entropy over the steps of training in high dimension, a panel for each size."""
    panels = []
    sizes = sorted({g.bits for name in HIGH_DIMENSION for g in results.curve(name, "trunk")})
    for bits in sizes:
        lines = []
        for style, name in enumerate(HIGH_DIMENSION):
            group = results.group("grid", name, bits, "trunk")
            if group is not None:
                points = tuple((float(step), value, value, value) for step, value in training_points(group))
                lines.append(Line(group.label, points, style))
        panels.append(Panel(f"{2**bits:,} entries, 128 dimensions", tuple(lines), "step"))
    return draw(
        panels,
        label="Entropy of the codes over training",
        y_label="entropy of recent codes, bits",
        y_range=(0.0, max(sizes) + 0.4),
    )


def _fitting(panels: Sequence[Panel]) -> tuple[float, float]:
    ends = [end for panel in panels for line in panel.lines for point in line.points for end in point[2:]]
    margin = 0.05 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin
