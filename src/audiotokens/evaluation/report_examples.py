"""What the players let one hear: systems at chosen points, without their delay, at the original's rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiotokens.audio import read_audio, resample
from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.alignment import to_mono
from audiotokens.evaluation.report_players import Example
from audiotokens.evaluation.report_view import Family, TableView, system_title
from audiotokens.evaluation.results import Comparison, OperatingPoint
from audiotokens.evaluation.systems import Made, System
from audiotokens.tokens import Tokens

MOST_HEARD = 14
"""So many versions of a recording are on a page where nobody chooses."""
USUAL_BITRATE = 3000.0
_MOST_PAGE_RATE = 48000


@dataclass(frozen=True)
class Heard:
    """One version of every recording: a system at one setting.

    Args:
        label: of its button, such as "Opus 9 kbit/s".
        group: what the label begins with and the page writes once, such as "Opus"; empty: nothing.
        system: what makes it.
        num_codebooks: its setting; 0 for anchors.
        delay_milliseconds: that is removed.
    """

    label: str
    group: str
    system: System
    num_codebooks: int
    delay_milliseconds: float


def choose_heard(
    comparison: Comparison,
    systems: Sequence[System],
    *,
    names: Sequence[str] = (),
    most: int = MOST_HEARD,
) -> list[Heard]:
    """Choose the points of a comparison that are worth hearing.

    Args:
        comparison: what was measured; its delays are removed.
        systems: those of the comparison.
        names: "name" (all its points) or "name:books", in this order. Without any, as many points of every
            tokenizer and every family of anchors as `most` allows, spread over their bit rates, and the
            reference in any case.
        most: see `names`.

    Raises:
        AudioTokensError: a name is not in the comparison.
    """
    if not comparison.points:
        return []
    view = TableView.of(comparison, comparison.tables[0])
    alone = [Family(system_title(point), (point,), 0) for point in view.uncoded if point.kind == "anchor"]
    families = [family for family in (*view.tokenizers, *view.anchors, *alone) if family.points]
    if names:
        points = [point for name in names for point in _named(view, name)]
    else:
        points = _spread(view, families, most)
    groups = {point.point: family.name for family in families for point in family.points}
    by_name = {system.name: system for system in systems}
    plain = len(families) == 1 and not names
    heard: dict[str, Heard] = {}
    for point in points:
        group = "" if plain else groups.get(point.point, "")
        label = _label(point, group)
        if label in heard:
            label += f", {point.num_codebooks} books"
        delay = point.delay_milliseconds or 0.0
        heard[label] = Heard(label, group, by_name[point.tokenizer], point.num_codebooks, delay)
    return list(heard.values())


def choose_rivals(comparison: Comparison, heard: Sequence[Heard]) -> list[str]:
    """Choose what a blind test compares: the reference, and of each tokenizer the point nearest to its rate.

    Without a reference it is the anchor nearest to 3 kbit/s, and the points nearest to that rate. Where this
    leaves fewer than two, everything that is heard is compared.

    Returns:
        Labels of `heard`.
    """
    view = TableView.of(comparison, comparison.tables[0])
    every = (*view.points, *view.calibrations)
    points = {(point.tokenizer, point.num_codebooks): point for point in every}
    labels = {points[one.system.name, one.num_codebooks]: one.label for one in heard}
    target = (view.rate(view.reference) if view.reference else None) or USUAL_BITRATE
    anchors = [point for family in view.anchors for point in family.points]
    kinds = [family.points for family in view.tokenizers]
    kinds.append((view.reference,) if view.reference in anchors else tuple(anchors))
    chosen = []
    for kind in kinds:
        known = [point for point in kind if point in labels]
        if known:
            chosen.append(labels[_nearest(view, known, target)])
    return chosen if len(chosen) > 1 else [one.label for one in heard]


def make_examples(files: Sequence[str | Path], heard: Sequence[Heard]) -> list[Example]:
    """Take recordings through every version.

    Args:
        files: recordings; stereo ones are heard as the mean of their channels.
        heard: at least one of a tokenizer. The pictures show the codes of the first, at its most books.

    Raises:
        AudioTokensError: no tokenizer is among `heard`, or a file cannot be read or coded.
    """
    return [_example(Path(file), heard) for file in files]


def _example(file: Path, heard: Sequence[Heard]) -> Example:
    waveform, sample_rate = read_audio(file)
    page_rate = min(sample_rate, _MOST_PAGE_RATE)
    original = resample(to_mono(waveform), sample_rate, page_rate)[0]
    versions: dict[str, np.ndarray] = {}
    codes: dict[str, list[Tokens]] = {}
    for one in heard:
        made = one.system.start(waveform, sample_rate, nested=False)(one.num_codebooks)
        versions[one.label] = _fitted(made, one.delay_milliseconds, page_rate, len(original))
        if made.tokens is not None:
            codes.setdefault(one.system.name, []).append(made.tokens)
    if not codes:
        raise AudioTokensError("the players show the codes of a tokenizer: let them play at least one")
    shown = max(next(iter(codes.values())), key=lambda tokens: tokens.bits)
    groups = {one.label: one.group for one in heard if one.group}
    return Example(file.name, page_rate, original, versions, shown, groups)


def _fitted(made: Made, delay_milliseconds: float, page_rate: int, length: int) -> np.ndarray:
    """Return `[length]` at the page's rate, without the delay; what is missing at the end is silence."""
    shift = round(delay_milliseconds * made.sample_rate / 1000)
    output = to_mono(made.waveform)
    moved = output[:, shift:] if shift >= 0 else np.pad(output, ((0, 0), (-shift, 0)))
    if not moved.shape[1]:
        return np.zeros(length, np.float32)
    version = resample(moved, made.sample_rate, page_rate)[0, :length]
    return np.pad(version, (0, length - len(version)))


def _named(view: TableView, name: str) -> list[OperatingPoint]:
    points = (*view.points, *view.calibrations)
    whole = [point for point in points if point.tokenizer == name and point.kind != "unquantized"]
    if whole:
        return whole
    head, _, number = name.rpartition(":")
    for point in points:
        if point.tokenizer == head and number == str(point.num_codebooks):
            return [point]
    known = ", ".join(dict.fromkeys(point.tokenizer for point in points))
    raise AudioTokensError(f'"{name}" cannot be heard, expected NAME or NAME:BOOKS of {known}')


def _spread(view: TableView, families: Sequence[Family], most: int) -> list[OperatingPoint]:
    """Take equally many points of every family, at most `most` in all, and the reference in any case."""
    longest = max((len(family.points) for family in families), default=0)
    each = max((n for n in range(1, longest + 1) if _total(families, n) <= most), default=1)
    chosen = []
    for family in families:
        last = len(family.points) - 1
        if last < each:
            taken = list(family.points)
        elif each == 1:
            taken = [_nearest(view, family.points, USUAL_BITRATE)]
        else:
            taken = [family.points[round(i * last / (each - 1))] for i in range(each)]
        if view.reference in family.points and view.reference not in taken:
            taken = [point for point in family.points if point in taken or point == view.reference]
        chosen += taken
    return chosen


def _total(families: Sequence[Family], each: int) -> int:
    return sum(min(each, len(family.points)) for family in families)


def _nearest(view: TableView, points: Sequence[OperatingPoint], target: float) -> OperatingPoint:
    return min(points, key=lambda point: abs(math.log((view.rate(point) or target) / target)))


def _label(point: OperatingPoint, group: str) -> str:
    if point.kind != "tokenizer":
        return system_title(point)
    rate = f"{(point.nominal_bitrate or 0.0) / 1000:.3g} kbit/s"
    return f"{group} {rate}".strip()
