"""Results of the cells over seeds and files: what tables, pictures and hypotheses are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audiotokens.evaluation.quantizer_study.cells import CellResult, Task
from audiotokens.evaluation.quantizer_study.latents import About, Features
from audiotokens.evaluation.quantizer_study.subjects import SUBJECTS
from audiotokens.evaluation.statistics import Interval, paired_interval

WIDTHS = (512, 1024, 4096)
"""Widths of language models whose tables of embeddings are counted."""


@dataclass(frozen=True)
class Group:
    """The seeds of one cell.

    Args:
        task: of the cells.
        features: of the cells.
        subject: of the cells.
        bits: of the cells.
        results: one for each seed.
    """

    task: Task
    features: Features
    subject: str
    bits: int
    results: tuple[CellResult, ...]

    @property
    def label(self) -> str:
        """Name for tables."""
        return SUBJECTS[self.subject].label if self.subject in SUBJECTS else self.subject

    def values(self, figure: Callable[[CellResult], float]) -> list[float]:
        """One figure of every seed."""
        return [figure(result) for result in self.results]

    def mean(self, figure: Callable[[CellResult], float]) -> float:
        """Mean of a figure over the seeds."""
        return float(np.mean(self.values(figure)))


class Results:
    """All results of a study, by group.

    Args:
        results: of the cells.
        about: of the latents.
    """

    def __init__(self, results: Iterable[CellResult], about: About) -> None:
        self.about = about
        self.frames = np.array(about.test.frames, np.float64)
        found: dict[tuple[Task, Features, str, int], list[CellResult]] = {}
        for result in results:
            cell = result.cell
            found.setdefault((cell.task, cell.features, cell.subject, cell.bits), []).append(result)
        self.groups = {key: Group(*key, tuple(group)) for key, group in found.items()}

    def distortion(self, result: CellResult) -> float:
        """Squared error over the variance, over all test frames."""
        return math.fsum(result.errors) / float(self.frames.sum())

    def group(self, task: Task, subject: str, bits: int, features: Features = "latent") -> Group | None:
        """The seeds of one cell, if there are any."""
        return self.groups.get((task, features, subject, bits))

    def curve(self, subject: str, features: Features = "latent") -> list[Group]:
        """The sizes of one subject in the grid, in their order."""
        found = [
            g for g in self.groups.values() if (g.task, g.features, g.subject) == ("grid", features, subject)
        ]
        return sorted(found, key=lambda group: group.bits)

    def subjects(self, features: Features = "latent") -> Iterator[str]:
        """Subjects of the grid, in the order of `SUBJECTS`."""
        yield from (name for name in SUBJECTS if self.curve(name, features))

    def file_errors(self, group: Group) -> np.ndarray:
        """Squared error per frame of each test file, mean over the seeds."""
        errors = np.mean([result.errors for result in group.results], axis=0)
        per_frame: np.ndarray = errors / self.frames
        return per_frame

    def errors_at(self, subject: str, bits: float) -> dict[str, float]:
        """Distortion of each file in dB at so many measured bits, interpolated between the sizes."""
        groups = self.curve(subject)
        places = [group.mean(measured_bits) for group in groups]
        order = np.argsort(places)
        levels = 10 * np.log10(np.array([self.file_errors(groups[i]) for i in order]))
        sorted_places = np.array(places)[order]
        return {
            file: float(np.interp(bits, sorted_places, levels[:, index]))
            for index, file in enumerate(self.about.test.files)
        }

    def measured_range(self, subject: str) -> tuple[float, float]:
        """Fewest and most measured bits of a subject."""
        places = [group.mean(measured_bits) for group in self.curve(subject)]
        return min(places), max(places)

    def compared(self, first: Mapping[str, float], second: Mapping[str, float]) -> Interval:
        """Mean of `first - second` over test files, weighted by frames, with its interval over speakers."""
        test = self.about.test
        speakers = dict(zip(test.files, test.speakers))
        weights = dict(zip(test.files, map(float, test.frames)))
        return paired_interval(first, second, speakers, weights=weights)


def measured_bits(result: CellResult) -> float:
    """Bits per frame with each book at its entropy."""
    return result.usage.measured_bits


def utilisation(result: CellResult) -> float:
    """Entries that occurred against those of uniform use."""
    return result.usage.utilisation


def embedding_parameters(sizes: Sequence[int], width: int) -> int:
    """Parameters of the tables of a language model, into it and out of it, one of each for every book."""
    return 2 * width * sum(sizes)
