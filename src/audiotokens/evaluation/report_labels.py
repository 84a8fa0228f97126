"""Where the names of lines stand in a plot: near their line, inside the frame, and never on each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

FONT = 12.0
_ADVANCE = 0.6
_OFFSETS = tuple(
    (dx * reach, dy * reach)
    for reach in (1.0, 1.9, 3.0)
    for dx, dy in ((1, 0), (0, -1), (0, 1), (1, -0.8), (1, 0.8), (-1, 0), (-1, -0.8), (-1, 0.8))
)
_LONGEST = 30


@dataclass(frozen=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share an area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def encloses(self, other: Box) -> bool:
        """Whether another box lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


@dataclass(frozen=True)
class Wanted:
    """A name that wants a place.

    Args:
        text: the name.
        spots: points (x, y) of its line, the best one first.
    """

    text: str
    spots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Placed:
    """A name in its place; `box` is what it covers."""

    text: str
    box: Box

    @property
    def x(self) -> float:
        """Left end of the text."""
        return self.box.left

    @property
    def baseline(self) -> float:
        """Where the letters stand."""
        return self.box.bottom - 0.27 * FONT


def place_labels(
    wanted: Sequence[Wanted], frame: Box, obstacles: Iterable[tuple[float, float, float]]
) -> list[Placed | None]:
    """Find a place for each name, the first ones first.

    Args:
        wanted: names with the points that they may stand at.
        frame: in which every name lies wholly.
        obstacles: points (x, y, weight) that names would better not cover.

    Returns:
        A place for each name, or None where there is none that keeps clear of the other names.
    """
    x, y, weight = np.array([*obstacles] or [(0.0, 0.0, 0.0)]).T
    taken: list[Box] = []
    placed: list[Placed | None] = []
    for each in wanted:
        text = each.text if len(each.text) <= _LONGEST else each.text[: _LONGEST - 1] + "…"
        best: tuple[float, Box] | None = None
        for penalty, box in _candidates(text, each.spots):
            if not frame.encloses(box) or any(box.overlaps(other) for other in taken):
                continue
            inside = (box.left < x) & (x < box.right) & (box.top < y) & (y < box.bottom)
            cost = penalty + float(weight[inside].sum())
            if best is None or cost < best[0]:
                best = (cost, box)
        placed.append(None if best is None else Placed(text, best[1]))
        if best is not None:
            taken.append(best[1])
    return placed


def _candidates(text: str, spots: Sequence[tuple[float, float]]) -> Iterable[tuple[float, Box]]:
    width, height = _ADVANCE * FONT * len(text), 1.15 * FONT
    for i, (x, y) in enumerate(spots):
        for j, (dx, dy) in enumerate(_OFFSETS):
            centre_x = x + dx * 10 + (width / 2 if dx > 0 else -width / 2 if dx < 0 else 0)
            centre_y = y + dy * (5 + height / 2)
            half = width / 2, height / 2
            box = Box(centre_x - half[0], centre_y - half[1], centre_x + half[0], centre_y + half[1])
            yield 0.4 * i + 0.15 * j, box
