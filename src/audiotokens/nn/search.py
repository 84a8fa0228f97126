"""Nearest entries of a book by Euclidean distance: exact, for about the price of one matrix product.

argmin_n ||x - e_n||^2 is searched in two steps. A product gives scores of all entries with errors of a
proven bound; the entries that the bound cannot rule out are compared by sum_j (x_j - e_nj)^2 in float64. So
an index depends on its vector and the book alone: not on the batch, the thread count, the processor or the
arithmetic of the product.

Float32 scores are s = ||e||^2 - 2 <x, e>, one product of (x, 1) with (-2 e, ||e||^2), about the mean of the
book where that is far from zero. A sum of n products in any order errs by at most n u / (1 - n u) sum |a b|
with u = 2^-24 (Higham 2002, section 3.1), here with n = D + 1 and sum |a b| <= 2 ||x|| L + L^2, where L is
the largest ||e||. Rounding the factors adds 2 u, and 2 v where the product itself rounds them to v (TF32,
bfloat16). So every score errs by at most b = ((D + 4) u + 2 v) (2 ||x|| L + L^2), and an entry whose score
exceeds the smallest by more than 2 b is not the nearest.

Scores in 8 bits are h = ||e||^2 / 2ac - <p, q> with integers p ~ x / a and q ~ e / c of at most 127 in size;
their product is exact. <x, e> - ac <p, q> = <x - ap, e> + <ap, e - cq>, so that by Cauchy-Schwarz ac h is
within ||x - ap|| ||e|| + ||ap|| ||e - cq|| of t = ||e||^2 / 2 - <x, e>. With the mean X of ||x - ap|| over a
tile, l = h - X ||e|| / ac, rounded, is compared in integers. The entry of the smallest l, scored in float32,
gives t <= (s + b) / 2 for the nearest one, whose ac l is therefore at most
(s + 2 b) / 2 + max(||x - ap|| - X, 0) L + ||ap|| max ||e - cq|| + ac, with b once more for x in float32. The
entries up to there, about two of a thousand, are scored in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_GROUP = 64
# Scores of one tile: as many as a processor keeps close to it.
_TILE = {"cpu": 1 << 21, "cuda": 1 << 25}
_INNER = 1 << 18
_CPU_COLUMNS = 2048
_COLUMNS = {"cpu": _CPU_COLUMNS, "cuda": 1 << 16}
_PAIRS = 1024
_MOST_PAIRS = 1 << 19
_DIFFERENCES = 1 << 20
# With so many candidates a vector, scores in 8 bits are not worth their price.
_CROWD = 16
_FEW = 32
# So few scores are compared at once.
_SMALL = 1 << 16
_UNIT = 2.0**-24
_LARGEST = 1e38
_SMALLEST = 1e-15


class Searcher:
    """A book prepared for many searches; indices are int64 `[M]`.

    Args:
        book: float32 or float64 `[N, D]`, not to be changed afterwards.
        eight_bits: whether a product in 8 bits may rule out entries first; default: where the processor has
            instructions for it and the book is large enough. The indices are the same.
    """

    def __init__(self, book: Tensor, *, eight_bits: bool | None = None) -> None:
        self.book = book.detach()
        entries = self.book.double()
        mean = entries.mean(0).float()
        far = mean.square().sum() > 0.5 * entries.square().sum(1).mean()
        self._center = mean if far else None
        self._float = _FloatScores(entries if self._center is None else entries - self._center)
        if eight_bits is None:
            eight_bits = _has_int8_products(book.device) and len(book) >= 256 and book.shape[1] >= 48
        # torch's product of 8 bits over one dimension is wrong.
        self._eight_bits = eight_bits and book.shape[1] > 1
        self._coarse: _Int8Scores | None = None

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Index of the nearest entry of each vector `[M, D]`; of equally near ones the lowest."""
        if not len(vectors):
            return torch.zeros(0, dtype=torch.long, device=vectors.device)
        rows = _rows(vectors.device, self._float.size)
        with torch.autocast(vectors.device.type, enabled=False):
            parts = [self._tile(part) for part in vectors.detach().split(rows)]
        return torch.cat(parts)

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
        if not self._eight_bits or len(left) < _FEW:
            return None
        if self._coarse is None:
            entries = self.book.double()
            self._coarse = _Int8Scores(entries if self._center is None else entries - self._center)
        coarse = self._coarse
        whole, offsets, unit, error = coarse.prepare(left[:, :-1], length)
        limit: Tensor | None = None
        pairs: _Pairs | None = None
        for start in range(0, coarse.size, _CPU_COLUMNS):
            groups, minima = coarse.product(whole, offsets, start, start + _CPU_COLUMNS)
            row, first = _smallest(groups, minima)
            score = self._float.score(row, first + start, left)
            bound = torch.add(error, score + margin, alpha=0.5 / unit)
            bound = bound.add_(bound.abs(), alpha=8 * _UNIT).clamp_(max=2.0**30).int()
            limit = bound if limit is None else torch.minimum(limit, bound)
            others, entry, _ = _up_to(groups, minima, limit)
            if len(others) > _CROWD * len(left):
                self._eight_bits, self._coarse = False, None
                return None
            others, entry = _at((entry != first[others]).nonzero()[:, 0], others, entry)
            row, entry = torch.cat([row, others]), torch.cat([first, entry]) + start
            found = _Pairs(
                row, entry, torch.cat([score, self._float.score(others, entry[len(left) :], left)])
            )
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
            return (_with_ones(vectors, dtype) @ table.T).min(1).indices
        table = _float_table(entries, squares, dtype)
        step = _COLUMNS[_kind(vectors.device)]
        parts = []
        for part in vectors.split(_rows(vectors.device, len(table))):
            left = _with_ones(part, dtype)
            for start in range(0, len(table), step):
                groups, minima = _grouped_product(left, table[start : start + step], None)
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
        return _Pairs(*_at(keep.nonzero()[:, 0], *self))

    def joined(self, other: _Pairs) -> _Pairs:
        return _Pairs(*(torch.cat(both) for both in zip(self, other)))


class _FloatScores:
    """Float32 scores of entries `[N, D]`, filled up to whole groups by some that are never near."""

    def __init__(self, entries: Tensor) -> None:
        squares = entries.square().sum(1)
        self._longest = float(squares.amax().sqrt())
        self._table = _float_table(entries, squares, torch.float32)
        self.size = len(self._table)
        dim = entries.shape[1]
        self._relative = 2.0 * ((dim + 4) * _UNIT + 2.0 * _factor_rounding(entries.device))
        self.largest_margin = _LARGEST * self._relative

    def prepare(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Left factor of the product, lengths, and by how much the nearest may miss the smallest score."""
        left = _with_ones(vectors)
        length = torch.linalg.vector_norm(left[:, :-1], dim=1)
        return left, length, (2.0 * length + self._longest).mul_(self._longest * self._relative)

    def product(self, left: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Scores of a range of entries `[M, N / C, C]` in groups of C, or fewer at the end; their minima."""
        return _grouped_product(left, self._table[start:stop], None)

    def score(self, row: Tensor, entry: Tensor, left: Tensor) -> Tensor:
        """Scores of pairs."""
        parts = [
            self._table.index_select(0, some).mul_(left.index_select(0, where)).sum(1)
            for where, some in zip(row.split(_PAIRS), entry.split(_PAIRS))
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Int8Scores:
    """Lower bounds l for entries `[N, D]`, in 8 bits."""

    def __init__(self, entries: Tensor) -> None:
        self._scale = max(float(entries.abs().amax()) / 127.0, _SMALLEST)
        table = (entries / self._scale).round()
        extra = -len(table) % _GROUP
        self._table = functional.pad(-table, (0, 0, 0, extra)).to(torch.int8)
        self._lengths = functional.pad(entries.square().sum(1).sqrt(), (0, extra))
        self._halves = 0.5 * self._lengths.square()
        self._halves[len(table) :] = torch.inf
        self._longest = float(self._lengths.amax())
        self._rest = float((entries - table * self._scale).square().sum(1).amax().sqrt())
        self.size = len(self._table)
        # Half squares in units of both scales have to fit into 32 bits.
        self._finest = max(0.5 * self._longest**2 / self._scale / 2**29, _SMALLEST)

    def prepare(self, vectors: Tensor, length: Tensor) -> tuple[Tensor, Tensor, float, Tensor]:
        """Integers p `[M, D]`; what to add to -<p, q> `[N]`; ac; what to add to (s + b) / 2ac `[M]`."""
        # Larger than the largest of most vectors; what it cuts off is part of x - ap.
        scale = float(vectors.abs().amax(1).mean().mul_(1.6 / 127.0).clamp_(min=self._finest))
        unit = scale * self._scale
        whole = (vectors / scale).round_().clamp_(-127.0, 127.0)
        rest = torch.linalg.vector_norm(torch.sub(vectors, whole, alpha=scale), dim=1)
        rest = rest.mul_(1.001).add_(length, alpha=1e-6)  # at least ||x - ap||, rounding included
        usual = float(rest.mean())
        offsets = (self._halves - usual * self._lengths).div_(unit).round_()
        offsets = offsets.clamp_(-(2.0**30), 2.0**30).to(torch.int32)
        # ||ap|| <= ||x|| + ||x - ap||
        above = (rest - usual).clamp_(min=0).mul_(self._longest).add_((length + rest).mul_(self._rest))
        return whole.to(torch.int8), offsets, unit, above.mul_(1.001 / unit).add_(2.0)

    def product(self, left: Tensor, offsets: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Lower bounds of a range of entries, int32 `[M, N / C, C]` in groups of C; their minima."""
        return _grouped_product(left, self._table[start:stop], offsets[start:stop])


def _float_table(entries: Tensor, squares: Tensor, dtype: torch.dtype) -> Tensor:
    """(-2 e, ||e||^2), filled up to whole groups by entries that are never near."""
    size, dim = entries.shape
    table = entries.new_zeros(size + -size % _GROUP, dim + 1, dtype=dtype)
    table[:size, :dim] = entries
    table[:size, :dim] *= -2.0
    table[:size, dim] = squares
    table[size:, dim] = torch.inf
    return table


def _with_ones(vectors: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(x, 1)."""
    left = vectors.new_empty(len(vectors), vectors.shape[1] + 1, dtype=dtype)
    left[:, :-1] = vectors
    left[:, -1] = 1.0
    return left


def _grouped_product(left: Tensor, table: Tensor, offsets: Tensor | None) -> tuple[Tensor, Tensor]:
    """left table^T + offsets as `[M, N / C, C]`, and its minima over C, which are found vectorized."""
    rows, size = len(left), len(table)
    dtype = left.dtype if offsets is None else torch.int32
    scores = torch.empty(rows, size, dtype=dtype, device=left.device)
    groups = scores.view(rows, -1, _GROUP if rows >= _FEW else 1)
    minima = torch.empty(groups.shape[:2], dtype=dtype, device=left.device)
    step = max(1, _INNER // size) if left.device.type == "cpu" else rows
    # Each part is still in the processor's nearest cache when its minima are taken.
    for start in range(0, rows, step):
        part = slice(start, start + step)
        if offsets is None:
            torch.mm(left[part], table.T, out=scores[part])
        else:
            torch._int_mm(left[part], table.T, out=scores[part]).add_(offsets)
        torch.amin(groups[part], 2, out=minima[part])
    return groups, minima


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


def _at(where: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    return tuple(part.index_select(0, where) for part in parts)


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


def _has_int8_products(device: torch.device) -> bool:
    """Whether products of 8-bit integers are exact and fast: VNNI; older instructions saturate."""
    supported = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return device.type == "cpu" and bool(supported()) and torch.backends.mkldnn.is_available()


def _factor_rounding(device: torch.device) -> float:
    """To what relative precision a float32 product rounds its factors, beyond float32."""
    if device.type == "cuda":
        return 2.0**-11 if torch.backends.cuda.matmul.allow_tf32 else 0.0
    return 0.0 if torch.get_float32_matmul_precision() == "highest" else 2.0**-8


def _rows(device: torch.device, size: int) -> int:
    """Vectors of a tile."""
    return _TILE[_kind(device)] // min(size, _COLUMNS[_kind(device)])


def _kind(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "cuda"
