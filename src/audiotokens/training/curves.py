"""The log of a run (JSON lines) and a picture of its curves (SVG)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

PANELS = (
    ("loss", ("loss",)),
    ("complex STFT", ("complex_stft",)),
    ("log mel", ("log_mel",)),
    ("magnitude", ("magnitude",)),
    ("loudness", ("loudness",)),
    ("commitment", ("commitment", "relative_error")),
    ("SI-SDR of all books, dB", ("si_sdr",)),
    ("perplexity, first and last book", ("perplexity_first", "perplexity_last")),
    ("validation loss", ("validation_loss",)),
    ("losses of codec and discriminators", ("adversarial", "discriminator_loss")),
    ("feature matching", ("feature_matching",)),
    ("share judged right", ("real_right", "fake_right")),
)
_COLORS = ("#2a6fbb", "#d1603d")
_WIDTH, _HEIGHT, _MARGIN = 420, 170, 46
_MAX_POINTS = 600


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line to a log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the complete records of a log; a line that was cut off is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def truncate_log(path: Path, step: int) -> None:
    """Drop the records after `step`, which a resumed run writes again."""
    kept = [record for record in read_records(path) if record.get("step", 0) <= step]
    fresh = path.with_name(path.name + ".partial")
    fresh.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    os.replace(fresh, path)


def write_curves(records: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw small panels of the figures in `records` against the step, as one SVG file."""
    panels = []
    for name, keys in PANELS:
        series = [[(r["step"], r[key]) for r in records if _is_number(r.get(key))] for key in keys]
        if any(len(points) > 1 for points in series):
            panels.append((name, keys, series))
    rows = -(-len(panels) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * _WIDTH} {30 + rows * _HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="#555">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="12" y="20" font-size="14" fill="#222">{escape(title)}</text>',
    ]
    for index, (name, keys, series) in enumerate(panels):
        x, y = index % 2 * _WIDTH, 30 + index // 2 * _HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_panel(name, keys, series)}</g>')
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _panel(name: str, keys: Sequence[str], series: Sequence[Sequence[tuple[float, float]]]) -> str:
    values = sorted(value for points in series for _, value in points)
    # The first steps are far off: without the top percent the rest of the curve can be read.
    low, high = values[0], values[max(0, math.ceil(0.98 * len(values)) - 1)]
    span = high - low or 1.0
    last = max(step for points in series for step, _ in points) or 1
    width, height = _WIDTH - _MARGIN - 14, _HEIGHT - 50
    parts = [f'<text x="{_MARGIN}" y="14" fill="#222">{escape(name)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = 22 + height * (1 - share)
        parts.append(f'<path d="M{_MARGIN} {y:.1f}h{width}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{_MARGIN - 5}" y="{y + 4:.1f}" text-anchor="end">{low + span * share:.3g}</text>'
        )
    parts.append(f'<text x="{_MARGIN + width}" y="{height + 38}" text-anchor="end">step {last:,}</text>')
    for key, points, color in zip(keys, series, _COLORS, strict=False):
        if len(points) > 1:
            places = [
                (_MARGIN + width * step / last, 22 + height * (1 - (min(value, high) - low) / span))
                for step, value in _thinned(points)
            ]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.3"/>')
        if len(keys) > 1:
            place = _MARGIN + 110 * keys.index(key)
            label = escape(key.replace("_", " "))
            parts.append(f'<text x="{place}" y="{height + 38}" fill="{color}">{label}</text>')
    return "".join(parts)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbours, at most `_MAX_POINTS` of them."""
    group = -(-len(points) // _MAX_POINTS)
    groups = [points[i : i + group] for i in range(0, len(points), group)]
    return [(g[-1][0], sum(value for _, value in g) / len(g)) for g in groups]
