"""Which cells the study has, and how long each learns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from audiotokens.evaluation.quantizer_study.autoencoder import Budget
from audiotokens.evaluation.quantizer_study.cells import Cell
from audiotokens.evaluation.quantizer_study.references import SHIPPED, UNQUANTIZED
from audiotokens.evaluation.quantizer_study.subjects import SUBJECTS

HIGH_DIMENSION = ("vq-plain", "vq-cosine", "vq-expiry", "simvq", "fsq")
"""Subjects of hypothesis H1."""
DROPPED = ("rvq", "gvq", "gvq-nested")
"""Subjects of hypothesis H2."""


@dataclass(frozen=True)
class Plan:
    """Extent of a study.

    Args:
        sizes: bits per frame of the grid.
        high_sizes: bits per frame of the vectors of high dimension.
        seeds: of every cell.
        steps: of learning, by bits; the largest number of bits not above those asked for counts.
        rows_per_step: vectors of one step.
        max_frames: of each split.
        clips: test recordings that are listened to.
        opinions: whether models give opinions on the sound.
        subjects: of the grid.
        dropped_bits: bits per frame where single books are left out (H2).
        prefix_bits: bits per frame where the first books alone are decoded (H5).
        sounds: subjects that are listened to, with bits per frame (H3 and H4).
    """

    sizes: tuple[int, ...] = (8, 10, 12, 14, 16)
    high_sizes: tuple[int, ...] = (10, 13)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: tuple[tuple[int, int], ...] = ((0, 500), (14, 360), (16, 192), (17, 500))
    rows_per_step: int = 1024
    max_frames: int = 400_000
    clips: int = 48
    opinions: bool = True
    subjects: tuple[str, ...] = tuple(SUBJECTS)
    dropped_bits: int = 60
    prefix_bits: int = 80
    sounds: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("vq-expiry", (16,)),
        ("rvq", (16, 40, 80)),
        ("fsq", (16, 40, 80)),
    )

    def budget(self, cell: Cell) -> Budget:
        """How long a cell learns: as long as any other of its size."""
        steps = max(pair for pair in self.steps if pair[0] <= cell.bits)[1]
        return Budget(rows_per_step=self.rows_per_step, steps=steps)

    def cells(self) -> Iterator[Cell]:
        """All cells, one seed after the other, so that a study that was stopped has whole seeds."""
        yield Cell("prefix", SHIPPED, 0, 0)
        yield Cell("audio", UNQUANTIZED, 0, 0)
        for seed in self.seeds:
            for bits in self.sizes:
                yield from (
                    Cell("grid", name, bits, seed) for name in self.subjects if bits <= SUBJECTS[name].bits
                )
            for bits in self.high_sizes:
                yield from (Cell("grid", name, bits, seed, "trunk") for name in HIGH_DIMENSION)
            yield from (Cell("drop", name, self.dropped_bits, seed) for name in DROPPED)
            yield Cell("prefix", "rvq", self.prefix_bits, seed)
            yield from (Cell("audio", name, bits, seed) for name, sizes in self.sounds for bits in sizes)


FULL = Plan()
QUICK = Plan(
    sizes=(8, 10),
    high_sizes=(8,),
    seeds=(0,),
    steps=((0, 24),),
    rows_per_step=256,
    max_frames=4000,
    clips=2,
    opinions=False,
    dropped_bits=16,
    prefix_bits=20,
    sounds=(("vq-expiry", (8,)), ("rvq", (8, 20)), ("fsq", (8, 20))),
)
"""For a look at the whole within a minute; its numbers mean nothing."""
