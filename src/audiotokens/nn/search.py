"""Nearest entries of a book by Euclidean distance: exact, for about the price of one matrix product.

argmin_n ||x - e_n||^2 is searched in two steps. A product gives scores of all entries with errors of a
proven bound; the entries that the bound cannot rule out are compared by sum_j (x_j - e_nj)^2 in float64. So
an index depends on its vector and the book alone: not on the batch, the thread count, the processor or the
arithmetic of the product.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiotokens.nn.equal import first_equal
from audiotokens.nn.scores import (
    FEW,
    FloatScores,
    Int8Scores,
    float_table,
    grouped_product,
    has_int8_products,
    take,
    with_ones,
)

# Scores of one tile: as many as a processor keeps close to it.
_TILE = {"cpu": 1 << 21, "cuda": 1 << 25}
_CPU_COLUMNS = 2048
_COLUMNS = {"cpu": _CPU_COLUMNS, "cuda": 1 << 16}
_MOST_PAIRS = 1 << 19
_DIFFERENCES = 1 << 20
# Below this a product in 8 bits saves less than what goes with it costs.
_LARGE = 1 << 17
# With so many candidates a vector, scores in 8 bits are not worth their price.
_CROWD = 16
# Up to so many differences all entries are compared, as for one frame of a stream.
_FRAME = 1 << 14
# So few scores are compared at once.
_SMALL = 1 << 16


class Searcher:
    """A book prepared for many searches; indices are int64 `[M]`.

    Args:
        book: float32 or float64 `[N, D]`, not to be changed afterwards.
        eight_bits: whether a product in 8 bits may rule out entries first; default: where the processor has
            instructions for it and the book is large enough. The indices are the same.
    """

    def __init__(self, book: Tensor, *, eight_bits: bool | None = None) -> None:
        first = first_equal(book)
        index = torch.arange(len(book), device=book.device)
        # Of equal entries all would be candidates whenever one is.
        self._names = index[first == index]
        self.book = book.detach()[self._names]
        entries = self.book.double()
        mean = entries.mean(0).float()
        far = mean.square().sum() > 0.5 * entries.square().sum(1).mean()
        self._center = mean if far else None
        self._float = FloatScores(entries if self._center is None else entries - self._center)
        if eight_bits is None:
            large = self.book.numel() >= _LARGE and book.shape[1] >= 48
            eight_bits = large and has_int8_products(book.device)
        # torch's product of 8 bits over one dimension is wrong, and sums of more than 768 may not fit.
        self._eight_bits = eight_bits and 1 < book.shape[1] <= 768
        self._coarse: Int8Scores | None = None
        self._wide: Tensor | None = None

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Index of the nearest entry of each vector `[M, D]`; of equally near ones the lowest."""
        if not len(vectors):
            return torch.zeros(0, dtype=torch.long, device=vectors.device)
        if vectors.device.type == "cpu" and len(vectors) * self.book.numel() <= _FRAME:
            if self._wide is None:
                self._wide = self.book.double()
            return self._names[_by_differences(vectors.detach().double(), self._wide)]
        rows = _rows(vectors.device, self._float.size)
        with torch.autocast(vectors.device.type, enabled=False):
            parts = [self._tile(part) for part in vectors.detach().split(rows)]
        return self._names[torch.cat(parts)]

    def nearest_one(self, vector: np.ndarray) -> int:
        """`nearest` of one float64 vector `[D]` on a CPU, without what a call of the library costs."""
        if self._center is not None:
            scores, margin = self._float.of_one(vector - self._center.numpy())
        else:
            scores, margin = self._float.of_one(vector)
        best = int(scores.argmin())
        if margin < self._float.largest_margin and (scores <= scores[best] + margin).sum() == 1:
            return self._list[best]
        return int(self.nearest(torch.from_numpy(vector)[None]))

    @cached_property
    def _list(self) -> list[int]:
        names: list[int] = self._names.tolist()
        return names

    def _tile(self, vectors: Tensor) -> Tensor:
        centered = vectors if self._center is None else vectors - self._center
        left, length, margin = self._float.prepare(centered)
        if not float(margin.amax()) < self._float.largest_margin:
            return self._overflowing(vectors, margin < self._float.largest_margin)
        pairs = self._coarse_pairs(left, length, margin)
        if pairs is None:
            pairs = self._pairs(vectors, left, margin)
        return self._decide(vectors, pairs, margin)

    def _coarse_pairs(self, left: Tensor, length: Tensor, margin: Tensor) -> _Pairs | None:
        """What scores in 8 bits leave, with float32 scores; None where that is not worth its price."""
        if not self._eight_bits or len(left) < FEW:
            return None
        if self._coarse is None:
            entries = self.book.double()
            self._coarse = Int8Scores(entries if self._center is None else entries - self._center)
        coarse = self._coarse
        whole, offsets, unit, error = coarse.prepare(left[:, :-1], length)
        row = torch.arange(len(left))
        limit: Tensor | None = None
        pairs: _Pairs | None = None
        for start in range(0, coarse.size, _CPU_COLUMNS):
            groups, minima = coarse.product(whole, offsets, start, start + _CPU_COLUMNS)
            first = coarse.first(minima)
            score = self._float.score(left, first + start)
            bound = coarse.packed(torch.add(error, score + margin, alpha=0.5 / unit))
            limit = bound if limit is None else torch.minimum(limit, bound)
            others, entry = coarse.up_to(groups, minima, limit)
            if len(others) > _CROWD * len(left):
                self._eight_bits, self._coarse = False, None
                return None
            others, entry = take((entry != first[others]).nonzero()[:, 0], others, entry)
            score = torch.cat([score, self._float.score(left.index_select(0, others), entry + start)])
            found = _Pairs(torch.cat([row, others]), torch.cat([first, entry]) + start, score)
            pairs = found if pairs is None else pairs.joined(found)
        return pairs

    def _pairs(self, vectors: Tensor, left: Tensor, margin: Tensor) -> _Pairs:
        """Entries whose score exceeds the smallest one by at most the margin, and perhaps some more."""
        step = _COLUMNS[_kind(vectors.device)]
        groups, minima = self._float.product(left, 0, step)
        best = minima.amin(1)
        pairs = _Pairs(*_up_to(groups, minima, best + margin))
        for start in range(step, self._float.size, step):
            groups, minima = self._float.product(left, start, start + step)
            best = torch.minimum(best, minima.amin(1))
            more = _Pairs(*_up_to(groups, minima, best + margin))
            pairs = pairs.joined(more._replace(entry=more.entry + start))
            if len(pairs.row) > _MOST_PAIRS:
                pairs = pairs.kept(pairs.score <= (best + margin)[pairs.row])
            if len(pairs.row) > _MOST_PAIRS:
                pairs = pairs.kept(pairs.entry == self._nearest_of(vectors, pairs)[pairs.row])
        return pairs

    def _decide(self, vectors: Tensor, pairs: _Pairs, margin: Tensor) -> Tensor:
        """Index of the nearest of the candidates of each vector."""
        rows = len(vectors)
        if len(pairs.row) > rows:
            best = pairs.score.new_full((rows,), torch.inf).scatter_reduce_(0, pairs.row, pairs.score, "amin")
            pairs = pairs.kept(pairs.score <= (best + margin)[pairs.row])
        index = pairs.entry.new_zeros(rows).scatter_(0, pairs.row, pairs.entry)
        if len(pairs.row) > rows:
            unsure = torch.zeros_like(index, dtype=torch.bool)
            unsure[pairs.row[pairs.entry != index[pairs.row]]] = True
            pairs = pairs.kept(unsure[pairs.row])
            index[pairs.row] = self._nearest_of(vectors, pairs)[pairs.row]
        return index

    def _nearest_of(self, vectors: Tensor, pairs: _Pairs) -> Tensor:
        """For each vector the lowest of its nearest candidates, by float64 differences; N if it has none."""
        size = max(1, _DIFFERENCES // vectors.shape[1])
        distances = torch.cat(
            [
                (vectors[row].double() - self.book[entry].double()).square_().sum(1)
                for row, entry in zip(pairs.row.split(size), pairs.entry.split(size))
            ]
        )
        least = distances.new_full((len(vectors),), torch.inf).scatter_reduce_(
            0, pairs.row, distances, "amin"
        )
        near = pairs.kept(distances == least[pairs.row])
        index = near.row.new_full((len(vectors),), len(self.book))
        return index.scatter_reduce_(0, near.row, near.entry, "amin")

    def _overflowing(self, vectors: Tensor, safe: Tensor) -> Tensor:
        """`_tile` where the scores of some vectors are too large for float32."""
        index = safe.new_zeros(len(vectors), dtype=torch.long)
        if safe.any():
            index[safe] = self._tile(vectors[safe])
        book = self.book.double()
        rows = max(1, _DIFFERENCES // book.numel())
        wild = [_by_differences(part.double(), book) for part in vectors[~safe].split(rows)]
        index[~safe] = torch.cat(wild)
        return index


@torch.no_grad()
def nearest(vectors: Tensor, book: Tensor) -> Tensor:
    """Index of the entry with the smallest score for each vector; of equal scores the lowest.

    For books that change with every step of a training: nothing is prepared, and rounding may decide near
    ties, in float64 for float64 vectors and else in float32. Scores of equal entries may differ in their last
    bits: `exact.first_equal` makes one of them.

    Args:
        vectors: `[M, D]`.
        book: `[N, D]`.

    Returns:
        int64 `[M]`.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        dtype = torch.float64 if vectors.dtype == torch.float64 else torch.float32
        entries = book.to(dtype)
        squares = entries.square().sum(1)
        if len(vectors) * len(book) <= _SMALL:
            table = torch.cat([-2.0 * entries, squares[:, None]], 1)
            return (with_ones(vectors, dtype) @ table.T).min(1).indices
        table = float_table(entries, squares, dtype)
        step = _COLUMNS[_kind(vectors.device)]
        parts = []
        for part in vectors.split(_rows(vectors.device, len(table))):
            left = with_ones(part, dtype)
            for start in range(0, len(table), step):
                groups, minima = grouped_product(left, table[start : start + step], None)
                row, entry = _smallest(groups, minima)
                score = groups.flatten(1)[row, entry]
                if start == 0:
                    best, index = score, entry
                else:
                    nearer = score < best
                    best, index = torch.where(nearer, score, best), torch.where(nearer, entry + start, index)
            parts.append(index)
    return torch.cat(parts)


class _Pairs(NamedTuple):
    """Candidates `[P]`: index of the vector, index of the entry, score."""

    row: Tensor
    entry: Tensor
    score: Tensor

    def kept(self, keep: Tensor) -> _Pairs:
        return _Pairs(*take(keep.nonzero()[:, 0], *self))

    def joined(self, other: _Pairs) -> _Pairs:
        return _Pairs(*(torch.cat(both) for both in zip(self, other)))


def _smallest(groups: Tensor, minima: Tensor) -> tuple[Tensor, Tensor]:
    """Row and entry of the smallest score of each row."""
    row = torch.arange(len(groups), device=groups.device)
    group = minima.argmin(1)
    members = groups.flatten(0, 1).index_select(0, row * groups.shape[1] + group)
    return row, group * groups.shape[2] + members.argmin(1)


def _up_to(groups: Tensor, minima: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row, entry and score of all scores that are at most the limit of their row `[M]`."""
    row, group = (minima <= limit[:, None]).nonzero(as_tuple=True)
    if groups.shape[2] == 1:
        return row, group, groups[row, group, 0]
    members = groups.flatten(0, 1).index_select(0, row * groups.shape[1] + group)
    which, member = _true(members <= limit.index_select(0, row)[:, None])
    score = members.flatten().index_select(0, which * groups.shape[2] + member)
    return row.index_select(0, which), group.index_select(0, which) * groups.shape[2] + member, score


def _true(mask: Tensor) -> tuple[Tensor, Tensor]:
    """`mask.nonzero(as_tuple=True)`, faster where few are: eight are asked at a time."""
    row, block = mask.view(torch.int64).nonzero(as_tuple=True)
    which, place = mask.view(-1, 8).index_select(0, row * (mask.shape[1] // 8) + block).nonzero(as_tuple=True)
    return row.index_select(0, which), block.index_select(0, which) * 8 + place


def _by_differences(vectors: Tensor, book: Tensor) -> Tensor:
    parts = [
        (vectors[:, None] - part).square_().sum(2)
        for part in book.split(max(1, _DIFFERENCES // book.shape[1]))
    ]
    return torch.cat(parts, 1).min(1).indices


def _rows(device: torch.device, size: int) -> int:
    """Vectors of a tile."""
    return _TILE[_kind(device)] // min(size, _COLUMNS[_kind(device)])


def _kind(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "cuda"
