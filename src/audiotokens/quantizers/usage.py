"""How the books of a quantizer are used: utilisation, entropy, dead entries, redundancy, effective bit rate.

Utilisation means little without the number of codes: even uniform use of V entries touches only
V (1 - (1 - 1/V)^N) of them with N codes, so this number stands beside it. Redundancy of two books is their
adjusted mutual information (Vinh, Epps and Bailey 2010) against the smaller entropy: 0 for independent books,
1 where one tells the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor

from audiotokens.entropy import (
    chance_information,
    corrected_entropy,
    coverage,
    expected_used,
    mutual_information,
    plugin_entropy,
)
from audiotokens.quantizers.base import Quantizer
from audiotokens.quantizers.multiscale import MultiscaleQuantizer

JOINT_COVERAGE = 0.9
"""The joint entropy is given where tuples of codes that occurred make up at least this share of all."""
_LARGEST_KEY = 2**62
_PENDING = 1 << 18


@dataclass(frozen=True)
class BookReport:
    """Use of one book.

    Args:
        book: index from 0.
        size: entries.
        codes: how many were counted.
        used: entries that occurred.
        expected_used: entries that uniform use would have touched with as many codes.
        entropy: in bits, with the correction of Miller and Madow.
        plugin_entropy: in bits, without it.
        perplexity: 2^entropy, entries in even use.
        coverage: estimated share of future codes that occurred already; where it is low the sample is too
            small, and the entropy too.
        dead: entries that did not occur.
        stride: frames per code.
    """

    book: int
    size: int
    codes: int
    used: int
    expected_used: float
    entropy: float
    plugin_entropy: float
    perplexity: float
    coverage: float
    dead: tuple[int, ...]
    stride: int = 1

    @property
    def utilisation(self) -> float:
        """Share of the entries that occurred."""
        return self.used / self.size

    @property
    def relative_utilisation(self) -> float:
        """Entries that occurred against those of uniform use; 1 means no sign of a dead entry."""
        return self.used / self.expected_used if self.codes else 0.0


@dataclass(frozen=True)
class PairReport:
    """What two books tell about each other.

    Args:
        first: index of a book.
        second: of another one.
        information: bits per frame beyond what chance shows in as many codes; may be slightly negative.
        redundancy: adjusted mutual information, 0 for independent books, 1 where one tells the other; None
            where the sample cannot tell.
    """

    first: int
    second: int
    information: float
    redundancy: float | None


@dataclass(frozen=True)
class UsageReport:
    """Use of all books of a quantizer.

    Args:
        books: in the order of the codes.
        pairs: of books of equal strides, where they were asked for.
        frames: that were counted.
        joint_entropy: bits per frame of all books together; None where the sample is too small to tell, or
            books have strides.
        frame_rate: frames per second; None: not known, and no bit rates.
    """

    books: tuple[BookReport, ...]
    pairs: tuple[PairReport, ...]
    frames: int
    joint_entropy: float | None
    frame_rate: float | None = None

    @property
    def nominal_bits(self) -> float:
        """Bits per frame that the sizes of the books take."""
        return math.fsum(math.log2(book.size) / book.stride for book in self.books)

    @property
    def entropy_bits(self) -> float:
        """Bits per frame with every book at its own entropy."""
        return math.fsum(book.entropy / book.stride for book in self.books)

    def bitrate(self, bits: float | None) -> float | None:
        """Bits per second of bits per frame; None where either is not known."""
        return None if bits is None or self.frame_rate is None else bits * self.frame_rate

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values that JSON can hold."""
        return {
            **asdict(self),
            "nominal_bits": self.nominal_bits,
            "entropy_bits": self.entropy_bits,
            "nominal_bitrate": self.bitrate(self.nominal_bits),
            "effective_bitrate": self.bitrate(self.entropy_bits),
            "joint_bitrate": self.bitrate(self.joint_entropy),
        }

    def __str__(self) -> str:
        lines = ["book   size   used  uniform   dead  entropy  perplexity  coverage"]
        lines += [
            f"{b.book:4} {b.size:6} {b.used:6} {b.expected_used:8.0f} {len(b.dead):6} "
            f"{b.entropy:8.3f} {b.perplexity:11.1f} {b.coverage:9.1%}"
            for b in self.books
        ]
        lines.append(f"frames: {self.frames}")
        joint = "not known from so few frames" if self.joint_entropy is None else f"{self.joint_entropy:.3f}"
        lines.append(
            f"bits per frame: {self.nominal_bits:.3f} nominal, {self.entropy_bits:.3f} book by book, "
            f"joint {joint}"
        )
        rate = self.bitrate(self.entropy_bits)
        if rate is not None:
            lines.append(f"effective bit rate: {rate:.0f} bit/s of {self.bitrate(self.nominal_bits):.0f}")
        known = [pair for pair in self.pairs if pair.redundancy is not None]
        if known:
            worst = max(known, key=lambda pair: pair.redundancy or 0.0)
            lines.append(
                f"most redundant books: {worst.first} and {worst.second}, {worst.redundancy:.1%}, "
                f"{worst.information:.3f} bits"
            )
        return "\n".join(lines)


class UsageCounter:
    """Counts codes batch by batch.

    Args:
        codebook_sizes: entries of each book.
        pairs: whether to count pairs of books, whose number grows with the square of the books.
        strides: frames per code of each book; None: 1.

    Example:
        >>> counter = UsageCounter((4, 4))
        >>> counter.add(np.array([[0, 1, 2, 3], [3, 3, 3, 3]]))
        >>> [book.used for book in counter.report().books]
        [4, 1]
    """

    def __init__(
        self, codebook_sizes: Sequence[int], *, pairs: bool = True, strides: Sequence[int] | None = None
    ) -> None:
        self._sizes = tuple(codebook_sizes)
        self._strides = tuple(strides or [1] * len(self._sizes))
        self._frames = 0
        self._counts = [np.zeros(size, np.int64) for size in self._sizes]
        several = len(self._sizes) > 1
        groups = combinations(range(len(self._sizes)), 2) if pairs else ()
        self._tables = {(a, b): _Table() for a, b in groups if self._strides[a] == self._strides[b]}
        countable = math.prod(self._sizes) <= _LARGEST_KEY and max(self._strides, default=1) == 1
        self._joint = _Table() if several and countable else None

    def add(
        self, codes: Tensor | np.ndarray | Sequence[Tensor], *, mask: Tensor | np.ndarray | None = None
    ) -> None:
        """Count codes.

        Args:
            codes: integers `[B, K, T]`, or `[K, T]`; where books have strides, a tensor for those of each.
            mask: bool `[B, T]`, or `[T]`; False for frames to leave out. A code counts for a part of its
                frames too.

        Raises:
            ValueError: another number of books, or a code outside its book.
        """
        parts = [codes] if isinstance(codes, Tensor | np.ndarray) else codes
        arrays = [array[None] if array.ndim == 2 else array for array in map(_array, parts)]
        kept = None if mask is None else np.atleast_2d(_array(mask).astype(bool))
        if {array.ndim for array in arrays} != {3} or sum(len(array[0]) for array in arrays) != len(
            self._sizes
        ):
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise ValueError(f"codes have the shape {shapes}, expected [B, {len(self._sizes)}, T]")
        rows: list[np.ndarray] = []
        for array in arrays:
            stride = self._strides[len(rows)]
            part = array.transpose(1, 0, 2).reshape(array.shape[1], -1).astype(np.int64)
            rows += list(part if kept is None else part[:, _windows(kept, stride).reshape(-1)])
        self._add_rows(rows)

    def _add_rows(self, rows: Sequence[np.ndarray]) -> None:
        for book, (row, size) in enumerate(zip(rows, self._sizes)):
            if row.size and (row.min() < 0 or row.max() >= size):
                raise ValueError(
                    f"book {book} has codes {row.min()} to {row.max()}, expected 0 to {size - 1}"
                )
            self._counts[book] += np.bincount(row, minlength=size)
        for group, table in self._tables.items():
            table.add(self._keys(rows, group))
        if self._joint is not None:
            self._joint.add(self._keys(rows, range(len(rows))))
        finest = min(range(len(rows)), key=self._strides.__getitem__)
        self._frames += len(rows[finest]) * self._strides[finest]

    def report(self, *, frame_rate: float | None = None) -> UsageReport:
        """Report what was counted so far.

        Args:
            frame_rate: frames per second, for bit rates.
        """
        books = tuple(
            _book_report(book, counts, stride)
            for book, (counts, stride) in enumerate(zip(self._counts, self._strides))
        )
        pairs = tuple(self._pair_report(*group, table) for group, table in self._tables.items())
        joint = books[0].entropy if len(books) == 1 else None
        if self._joint is not None:
            joint = _joint_entropy(self._joint.counts(), math.fsum(book.entropy for book in books))
        return UsageReport(books, pairs, self._frames, joint, frame_rate)

    def _keys(self, rows: Sequence[np.ndarray], group: Sequence[int]) -> np.ndarray:
        """One integer per frame for the codes of several books."""
        keys: np.ndarray = rows[group[0]]
        for book in group[1:]:
            keys = keys * self._sizes[book] + rows[book]
        return keys

    def _pair_report(self, first: int, second: int, table: _Table) -> PairReport:
        one, other = self._counts[first], self._counts[second]
        chance = chance_information(one, other)
        information = mutual_information(one, other, table.counts()) - chance
        room = min(plugin_entropy(one), plugin_entropy(other)) - chance
        return PairReport(first, second, information, information / room if room > 0.1 else None)


def usage_report(
    quantizer: Quantizer,
    latents: Tensor,
    *,
    mask: Tensor | None = None,
    frame_rate: float | None = None,
    pairs: bool = True,
) -> UsageReport:
    """Encode latents and report how the books are used; for more than one batch there is `UsageCounter`.

    Args:
        quantizer: any one.
        latents: `[B, D, T]`.
        mask: bool `[B, T]`; False for padded frames, which are not counted.
        frame_rate: frames per second, for bit rates.
        pairs: whether to look for redundancy between books.
    """
    if isinstance(quantizer, MultiscaleQuantizer):
        counter = UsageCounter(quantizer.codebook_sizes, pairs=pairs, strides=quantizer.book_strides)
        counter.add(quantizer.encode(latents, mask=mask), mask=mask)
    else:
        counter = UsageCounter(quantizer.codebook_sizes, pairs=pairs)
        counter.add(quantizer.encode(latents), mask=mask)
    return counter.report(frame_rate=frame_rate)


class _Table:
    """Counts of the keys that occur, in memory for no more than these."""

    def __init__(self) -> None:
        self._keys, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._pending: list[np.ndarray] = []

    def add(self, keys: np.ndarray) -> None:
        self._pending.append(keys)
        if sum(map(len, self._pending)) > max(_PENDING, len(self._keys)):
            self.counts()

    def counts(self) -> np.ndarray:
        """Merge what is pending, and return the counts."""
        keys, found = np.unique(np.concatenate([self._keys, *self._pending]), return_inverse=True)
        new = len(found) - len(self._keys)
        weights = np.concatenate([self._counts, np.ones(new, np.int64)])
        self._keys, self._pending = keys, []
        self._counts = np.bincount(found, weights=weights, minlength=len(keys)).astype(np.int64)
        return self._counts


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _windows(mask: np.ndarray, stride: int) -> np.ndarray:
    """Which windows of `stride` frames hold any frame of a mask `[B, T]`, `[B, ceil(T / stride)]`."""
    starts = np.arange(0, mask.shape[1], stride)
    found: np.ndarray = np.logical_or.reduceat(mask, starts, axis=1)
    return found


def _book_report(book: int, counts: np.ndarray, stride: int) -> BookReport:
    codes, entropy = int(counts.sum()), corrected_entropy(counts)
    return BookReport(
        book=book,
        size=len(counts),
        codes=codes,
        used=int((counts > 0).sum()),
        expected_used=expected_used(len(counts), codes),
        entropy=entropy,
        plugin_entropy=plugin_entropy(counts),
        perplexity=2.0**entropy,
        coverage=coverage(counts),
        dead=tuple(int(entry) for entry in np.flatnonzero(counts == 0)),
        stride=stride,
    )


def _joint_entropy(counts: np.ndarray, most: float) -> float | None:
    if coverage(counts) < JOINT_COVERAGE:
        return None
    total = int(counts.sum())
    corrected = plugin_entropy(counts) + (len(counts) - 1) / (2 * total * math.log(2))
    return min(corrected, most)
