"""Approximate scores of book entries, with proven bounds of their errors: the products behind `search`.

Float32 scores are s = ||e||^2 - 2 <x, e>, one product of (x, 1) with (-2 e, ||e||^2), about the mean of the
book where that is far from zero. A sum of n products in any order errs by at most n u / (1 - n u) sum |a b|
with u = 2^-24 (Higham 2002, section 3.1), here with n = D + 1 and sum |a b| <= 2 ||x|| L + L^2, where L is
the largest ||e||. Rounding the factors adds 2 u, and 2 v where the product itself rounds them to v (TF32,
bfloat16). So every score errs by at most b = ((D + 4) u + 2 v) (2 ||x|| L + L^2), and an entry whose score
exceeds the smallest by more than 2 b is not the nearest.

Scores in 8 bits are h = ||e||^2 / 2ac - <p, q> with integers p ~ x / a and q ~ e / c of at most 127 in size;
their product is exact. <x, e> - ac <p, q> = <x - ap, e> + <ap, e - cq>, so that by Cauchy-Schwarz ac h is
within ||x - ap|| ||e|| + ||ap|| ||e - cq|| of t = ||e||^2 / 2 - <x, e>. With X, about the mean of ||x - ap||
over a tile, l = h - X ||e|| / ac, rounded, is compared in integers. The entry of the smallest l, scored in
float32, gives t <= (s + b) / 2 for the nearest one, whose ac l is therefore at most
(s + 2 b) / 2 + max(||x - ap|| - X, 0) L + ||ap|| max ||e - cq|| + ac, with b once more for x in float32. The
entries up to there, about two of a thousand, are scored in float32. A number of an entry within its group
takes the last bits of l, so that a minimum tells where it is.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

GROUP = 64
"""Neighbouring entries whose least score is found at once."""
FEW = 32
"""Vectors below which groups are not worth their price."""

# Scores of a part that stay in the nearest cache until their minima are taken.
_INNER = 1 << 19
_PAIRS = 2048
_UNIT = 2.0**-24
_LARGEST = 1e38
_SMALLEST = 1e-15


class FloatScores:
    """Float32 scores of entries `[N, D]`, filled up to whole groups by some that are never near."""

    def __init__(self, entries: Tensor) -> None:
        squares = entries.square().sum(1)
        self._longest = float(squares.amax().sqrt())
        self._table = float_table(entries, squares, torch.float32)
        self.size = len(self._table)
        dim = entries.shape[1]
        self._relative = 2.0 * ((dim + 4) * _UNIT + 2.0 * _factor_rounding(entries.device))
        self.largest_margin = _LARGEST * self._relative

    def prepare(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Left factor of the product, lengths, and by how much the nearest may miss the smallest score."""
        left = with_ones(vectors)
        length = torch.linalg.vector_norm(left[:, :-1], dim=1)
        return left, length, (2.0 * length + self._longest).mul_(self._longest * self._relative)

    def product(self, left: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Scores of a range of entries `[M, N / C, C]` in groups of C, or fewer at the end; their minima."""
        return grouped_product(left, self._table[start:stop], None)

    def of_one(self, vector: np.ndarray) -> tuple[np.ndarray, float]:
        """Scores of all entries for one vector `[D]` on a CPU, and the margin of `prepare`."""
        left = np.ones(len(vector) + 1, np.float32)
        left[:-1] = vector
        length = math.sqrt(left[:-1] @ left[:-1])
        return self._table.numpy() @ left, (2.0 * length + self._longest) * self._longest * self._relative

    def score(self, left: Tensor, entry: Tensor) -> Tensor:
        """Scores `[M]` of vectors, given by their left factors `[M, D + 1]`, with one entry each `[M]`."""
        parts = [
            self._table.index_select(0, some).mul_(rows).sum(1)
            for rows, some in zip(left.split(_PAIRS), entry.split(_PAIRS))
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class Int8Scores:
    """Lower bounds l for entries `[N, D]`, in 8 bits."""

    def __init__(self, entries: Tensor) -> None:
        self._scale = max(float(entries.abs().amax()) / 127.0, _SMALLEST)
        table = (entries / self._scale).round()
        extra = -len(table) % GROUP
        self._table = functional.pad(-table, (0, 0, 0, extra)).to(torch.int8)
        self._lengths = functional.pad(entries.square().sum(1).sqrt(), (0, extra))
        self._halves = 0.5 * self._lengths.square()
        self._halves[len(table) :] = torch.inf
        self._longest = float(self._lengths.amax())
        self._rest = float((entries - table * self._scale).square().sum(1).amax().sqrt())
        self.size = len(self._table)
        self._places = torch.arange(self.size, dtype=torch.int32) % GROUP
        # ||e||^2 / 2ac is at most 2^22: with <p, q> of 768 dimensions it stays below 2^24.
        self._finest = max(0.5 * self._longest**2 / self._scale / 2**22, _SMALLEST)

    def prepare(self, vectors: Tensor, length: Tensor) -> tuple[Tensor, Tensor, float, Tensor]:
        """Integers p `[M, D]`; what to add to -<p, q> `[N]`; ac; what to add to (s + b) / 2ac `[M]`."""
        # Larger than the largest of most vectors; what it cuts off is part of x - ap.
        largest = vectors[:: max(1, len(vectors) // 64)].abs().amax(1).mean()
        scale = float(largest.mul_(1.6 / 127.0).clamp_(min=self._finest))
        unit = scale * self._scale
        whole = (vectors * (1.0 / scale)).round_().clamp_(-127.0, 127.0)
        rest = torch.linalg.vector_norm(torch.sub(vectors, whole, alpha=scale), dim=1)
        rest = rest.mul_(1.001).add_(length, alpha=1e-6)  # at least ||x - ap||, rounding included
        # Any number serves as X; few loud vectors must not make it useless to the others, or too large.
        usual = min(float(rest.mean()), 2.0 * scale * vectors.shape[1] ** 0.5)
        offsets = (self._halves - usual * self._lengths).div_(unit).round_()
        offsets = offsets.clamp_(max=2.0**24).to(torch.int32).mul_(GROUP).add_(self._places)
        # ||ap|| <= ||x|| + ||x - ap||
        above = (rest - usual).clamp_(min=0).mul_(self._longest).add_((length + rest).mul_(self._rest))
        return whole.to(torch.int8), offsets, unit, above.mul_(1.001 / unit).add_(2.0)

    def product(self, left: Tensor, offsets: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """64 l + n % 64 of a range of entries, int32 `[M, N / 64, 64]`, and the minima of the groups."""
        return grouped_product(left, self._table[start:stop], offsets[start:stop])

    def packed(self, limit: Tensor) -> Tensor:
        """The largest packed bound with an l up to a limit."""
        limit = limit.add_(limit.abs(), alpha=8 * _UNIT)
        # Of infinities that cancel, all entries remain.
        limit = torch.fmin(limit, limit.new_tensor(2.0**24 - 1)).clamp_(min=-(2.0**24))
        return limit.to(torch.int32).mul_(GROUP).add_(GROUP - 1)

    def first(self, minima: Tensor) -> Tensor:
        """Entry of the smallest bound of each row."""
        group = minima.argmin(1, keepdim=True)
        return (group * GROUP + (minima.gather(1, group) & (GROUP - 1)))[:, 0]

    def up_to(self, groups: Tensor, minima: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        """Row and entry of all packed bounds that are at most the limit of their row."""
        row, group = (minima <= limit[:, None]).nonzero(as_tuple=True)
        place = row * groups.shape[1] + group
        lowest = minima.flatten().index_select(0, place) & (GROUP - 1)
        members = groups.flatten(0, 1).index_select(0, place)
        # Few groups hold another one.
        members.scatter_(1, lowest[:, None].long(), torch.iinfo(torch.int32).max)
        more = (members.amin(1) <= limit.index_select(0, row)).nonzero()[:, 0]
        again, base = take(more, row, group * GROUP)
        which, member = (members.index_select(0, more) <= limit[again, None]).nonzero(as_tuple=True)
        entries = torch.cat([group * GROUP + lowest, base[which] + member])
        return torch.cat([row, again[which]]), entries


def float_table(entries: Tensor, squares: Tensor, dtype: torch.dtype) -> Tensor:
    """(-2 e, ||e||^2), filled up to whole groups by entries that are never near."""
    size, dim = entries.shape
    table = entries.new_zeros(size + -size % GROUP, dim + 1, dtype=dtype)
    table[:size, :dim] = entries
    table[:size, :dim] *= -2.0
    table[:size, dim] = squares
    table[size:, dim] = torch.inf
    return table


def take(where: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """The elements at the same places of several tensors `[P]`."""
    return tuple(part.index_select(0, where) for part in parts)


def with_ones(vectors: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(x, 1)."""
    left = vectors.new_empty(len(vectors), vectors.shape[1] + 1, dtype=dtype)
    left[:, :-1] = vectors
    left[:, -1] = 1.0
    return left


def grouped_product(left: Tensor, table: Tensor, offsets: Tensor | None) -> tuple[Tensor, Tensor]:
    """left table^T as `[M, N / C, C]`, and its minima over C, which are found vectorized.

    With offsets C left table^T + offsets of integers.
    """
    rows, size = len(left), len(table)
    dtype = left.dtype if offsets is None else torch.int32
    scores = torch.empty(rows, size, dtype=dtype, device=left.device)
    groups = scores.view(rows, -1, GROUP if rows >= FEW else 1)
    minima = torch.empty(groups.shape[:2], dtype=dtype, device=left.device)
    step = max(1, _INNER // size) if left.device.type == "cpu" else rows
    # Each part is still in the processor's nearest cache when its minima are taken.
    for start in range(0, rows, step):
        part = slice(start, start + step)
        if offsets is None:
            torch.mm(left[part], table.T, out=scores[part])
        else:
            torch._int_mm(left[part], table.T, out=scores[part])
            torch.add(offsets, scores[part], alpha=GROUP, out=scores[part])
        torch.amin(groups[part], 2, out=minima[part])
    return groups, minima


def has_int8_products(device: torch.device) -> bool:
    """Whether products of 8-bit integers are exact and fast: VNNI; older instructions saturate."""
    supported = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return device.type == "cpu" and bool(supported()) and torch.backends.mkldnn.is_available()


def _factor_rounding(device: torch.device) -> float:
    """To what relative precision a float32 product rounds its factors, beyond float32."""
    if device.type == "cuda":
        return 2.0**-11 if torch.backends.cuda.matmul.allow_tf32 else 0.0
    return 0.0 if torch.get_float32_matmul_precision() == "highest" else 2.0**-8
