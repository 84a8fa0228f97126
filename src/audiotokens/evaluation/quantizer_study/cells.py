"""One cell of the study: a quantizer, a size, a seed; learned, measured, and kept as a JSON file."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from audiotokens.config import from_dict, to_dict
from audiotokens.entropy import coverage_entropy
from audiotokens.evaluation.quantizer_study.autoencoder import Autoencoder, Budget, Glimpse, train
from audiotokens.evaluation.quantizer_study.latents import Features, LatentSet
from audiotokens.evaluation.quantizer_study.listening import Heard, Listener
from audiotokens.evaluation.quantizer_study.subjects import SUBJECTS, Subject
from audiotokens.quantizers import Quantizer, UsageCounter, build_quantizer
from audiotokens.quantizers.vector import VectorQuantizer

Task: TypeAlias = Literal["grid", "drop", "prefix", "audio"]

_START_ROWS_PER_ENTRY = 8
LARGEST_START = 4096
"""Entries up to which books start from k-means; larger ones start from single vectors."""
_MOST_PAIRED = 4


@dataclass(frozen=True)
class Cell:
    """What is learned and measured.

    Args:
        task: "grid": usage and distortion; "drop": also with each book left out; "prefix": also with the
            first books only; "audio": also decoded to sound and judged.
        subject: key in `SUBJECTS`.
        bits: nominal bits per frame, about; sizes of books are those nearest.
        seed: of everything random.
        features: what is quantized.
    """

    task: Task
    subject: str
    bits: int
    seed: int
    features: Features = "latent"

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.task}-{self.features}-{self.subject}-{self.bits}-{self.seed}"


@dataclass(frozen=True)
class BookFigures:
    """Use of one book on the test split; see `BookReport`.

    Args:
        size: entries.
        used: entries that occurred.
        expected_used: entries that uniform use touches.
        entropy: in bits, with the correction of Miller and Madow.
        coverage_entropy: in bits, after Chao and Shen; better where coverage is low.
        coverage: share of future codes that occurred already.
    """

    size: int
    used: int
    expected_used: float
    entropy: float
    coverage_entropy: float
    coverage: float


@dataclass(frozen=True)
class Usage:
    """Use of all books on the test split.

    Args:
        books: use of each.
        joint_entropy: bits per frame of all books; None where the sample is too small.
        redundancy: largest adjusted mutual information of two books; None for one book, or more than four.
    """

    books: tuple[BookFigures, ...]
    joint_entropy: float | None
    redundancy: float | None

    @property
    def nominal_bits(self) -> float:
        """Bits per frame that the sizes take."""
        return math.fsum(math.log2(book.size) for book in self.books)

    @property
    def measured_bits(self) -> float:
        """Bits per frame with each book at its entropy."""
        return math.fsum(book.coverage_entropy for book in self.books)

    @property
    def utilisation(self) -> float:
        """Entries that occurred against those of uniform use, over all books."""
        return sum(book.used for book in self.books) / math.fsum(book.expected_used for book in self.books)


@dataclass(frozen=True)
class CellResult:
    """What was found.

    Args:
        cell: what was measured.
        usage: of the books.
        errors: squared error of each test file, sum over its frames and mean over dimensions, in units of
            the variance.
        training: the state along the way.
        rows: vectors that were learned from.
        seconds: of training.
        reduced: distortion over the test split, by book left out or by number of books.
        heard: by the same keys and "all", what listeners' models say.
    """

    cell: Cell
    usage: Usage
    errors: tuple[float, ...]
    training: tuple[Glimpse, ...] = ()
    rows: int = 0
    seconds: float = 0.0
    reduced: dict[str, float] = field(default_factory=dict)
    heard: dict[str, Heard] = field(default_factory=dict)


def write_result(result: CellResult, folder: Path) -> None:
    """Write the file of a cell; it appears only when complete."""
    path = folder / f"{result.cell.name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(to_dict(result)) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_result(path: Path) -> CellResult:
    """Read the file of a cell."""
    return from_dict(CellResult, json.loads(path.read_text(encoding="utf-8")), where=path.name)


def run_cell(cell: Cell, latents: LatentSet, budget: Budget, listener: Listener | None) -> CellResult:
    """Learn and measure one cell, on the threads that torch has.

    Args:
        cell: what to do.
        latents: of the cell's kind.
        budget: of learning.
        listener: for tasks that decode to sound.
    """
    subject = SUBJECTS[cell.subject]
    torch.manual_seed(cell.seed)
    if subject.make is None:
        raise ValueError(f"{cell.subject} is learned offline, expected a quantizer that learns step by step")
    quantizer = build_quantizer(subject.make(cell.bits, budget.rows_per_step), latents.dim)
    model = Autoencoder(quantizer, latents.dim)
    started = time.perf_counter()
    _start(quantizer, subject, latents, cell)
    dropout = cell.task == "prefix" or subject.nested
    training = train(model, latents.train, budget, seed=cell.seed, dropout=dropout)
    seconds = time.perf_counter() - started
    test = np.asarray(latents.test)
    codes = model.encode(test)
    restored = model.decode(codes)
    variants = _variants(cell, model, codes)
    return CellResult(
        cell=cell,
        usage=usage_figures(quantizer.codebook_sizes, codes),
        errors=file_errors(latents, test, restored),
        training=tuple(training),
        rows=budget.rows,
        seconds=seconds,
        reduced={name: float(np.square(rows - test).mean()) for name, rows in variants.items()},
        heard=_heard(cell, latents, {"all": restored, **variants}, listener),
    )


def usage_figures(sizes: tuple[int, ...], codes: Tensor) -> Usage:
    """Count the codes `[K, M]` of books with these sizes."""
    counter = UsageCounter(sizes, pairs=1 < len(sizes) <= _MOST_PAIRED)
    counter.add(codes)
    report = counter.report()
    counts = [np.bincount(row.numpy(), minlength=size) for row, size in zip(codes, sizes)]
    known = [pair.redundancy for pair in report.pairs if pair.redundancy is not None]
    books = tuple(
        BookFigures(b.size, b.used, b.expected_used, b.entropy, coverage_entropy(counts[b.book]), b.coverage)
        for b in report.books
    )
    return Usage(books, report.joint_entropy, max(known, default=None))


def file_errors(latents: LatentSet, test: np.ndarray, restored: np.ndarray) -> tuple[float, ...]:
    """Squared error of every test file, sum over frames, mean over dimensions."""
    errors = np.square(restored - test).mean(1)
    return tuple(float(errors[part].sum()) for part in latents.about.test.slices())


def _start(quantizer: Quantizer, subject: Subject, latents: LatentSet, cell: Cell) -> None:
    """Start books from data: k-means where that is affordable, single vectors for the largest books."""
    if not subject.data_start:
        return
    largest = max(quantizer.codebook_sizes)
    generator = torch.Generator().manual_seed(cell.seed)
    count = min(len(latents.train), _START_ROWS_PER_ENTRY * min(largest, LARGEST_START))
    count = max(count, min(largest, len(latents.train)))
    rows = np.random.default_rng(cell.seed).choice(len(latents.train), count, replace=False)
    sample = torch.from_numpy(latents.train[np.sort(rows)])
    if largest > LARGEST_START and isinstance(quantizer, VectorQuantizer):
        order = torch.randperm(len(sample), generator=generator)
        quantizer.set_book(quantizer.project(sample[order[torch.arange(largest) % len(order)]]))
    else:
        quantizer.initialize(sample, generator=generator)


def _variants(cell: Cell, model: Autoencoder, codes: Tensor) -> dict[str, np.ndarray]:
    """Reconstructions of the test split with books left out, or with the first books only."""
    if cell.task == "prefix":
        prefixes = model.quantizer.legal_prefixes
        return {
            "0": np.zeros_like(model.decode(codes)),
            **{str(k): model.decode(codes[:k]) for k in prefixes},
        }
    if cell.task == "drop":
        return {str(book): without_book(model, codes, book) for book in range(len(codes))}
    return {}


@torch.inference_mode()
def without_book(model: Autoencoder, codes: Tensor, book: int) -> np.ndarray:
    """Rows of codes `[K, M]` where the part of one book is replaced by its mean.

    The quantizer must add or join the parts of its books, so that decode(c) = sum_k g_k(c_k) + constant.
    """
    size = model.quantizer.codebook_sizes[book]
    base = torch.zeros(len(codes), size, dtype=torch.int64)
    base[book] = torch.arange(size)
    table = model.quantizer.decode(base[None])[0].T
    part = table[codes[book]]
    whole = model.quantizer.decode(codes[None])[0].T
    rows: np.ndarray = model.after(whole - part + part.mean(0)).numpy()
    return rows


def _heard(
    cell: Cell, latents: LatentSet, variants: dict[str, np.ndarray], listener: Listener | None
) -> dict[str, Heard]:
    if listener is None or cell.task == "grid":
        return {}
    measures = {"audio": listener.all, "drop": ("mel/vocos",), "prefix": ("pesq-wb",)}[cell.task]
    return {name: listener.hear(latents, rows, measures) for name, rows in variants.items()}
