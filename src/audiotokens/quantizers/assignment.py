"""The nearest centroid of many vectors, as fast as the processor allows: the inner loop of k-means.

||x - c||^2 / 2 = ||d||^2 / 2 - <x - m, d> + a constant of x, with m the median of the centroids and
d = c - m, so that neither an offset common to all nor a few centroids far from the rest cost much precision.

Where the processor multiplies 8-bit integers fast, <p, q> with p ~ (x - m) / a and q ~ d / b tells first what
can be nearest. The rounding errors of p and q, uniform with variances 1 / 12, change the difference of two
scores with a variance of at most v = a^2 / 12 (2 max ||d||)^2 + 2 b^2 / 12 ||x - m||^2; centroids within
6 sqrt(v) of the least score are compared in float32. This is no proof, as that of `nn.exact` is, but leaves a
chance of about 10^-9 of missing one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Scores of a tile of vectors: few enough to stay in the processor's cache.
_SCORES = 1 << 21
_COARSE_ROWS = 512
_GROUP = 32
_DEVIATIONS = 6.0
# With so many candidates per vector, scores in 8 bits are not worth their price.
_CROWD = 8


class Assigner:
    """Centroids `[K, D]` prepared for many vectors.

    Args:
        centroids: float32 or float64; vectors have to be of the same type.
        eight_bits: whether to look with 8 bits first; default: where that is faster.
    """

    def __init__(self, centroids: Tensor, *, eight_bits: bool | None = None) -> None:
        exact = centroids.double()
        self._middle = exact.T.contiguous().median(1).values
        moved = exact - self._middle
        halves = 0.5 * moved.square().sum(1)
        self._size = len(centroids)
        self._weights = (-moved).to(centroids.dtype).T
        self._offsets = (halves + moved @ self._middle).to(centroids.dtype)
        if eight_bits is None:
            eight_bits = _pays(centroids)
        self._coarse = _Coarse(self._middle.float(), moved.float(), halves.float()) if eight_bits else None

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the index int64 `[M]` of the nearest centroid of each vector `[M, D]`.

        The vectors are taken in tiles of a size that depends on K alone, so that memory grows with neither.
        Of equal scores the lowest index wins.
        """
        labels = torch.empty(len(vectors), dtype=torch.long, device=vectors.device)
        rows = _COARSE_ROWS if self._coarse else max(64, _SCORES // self._size)
        room = vectors.new_empty(rows, self._size)
        for first in range(0, len(vectors), rows):
            tile = vectors[first : first + rows]
            found = self._coarse.nearest(tile) if self._coarse else None
            if found is None:
                self._coarse = None
                scores = torch.addmm(self._offsets, tile, self._weights, out=room[: len(tile)])
                found = scores.min(1).indices
            labels[first : first + rows] = found
        return labels


def assign(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Return the index int64 `[M]` of the centroid `[K, D]` nearest to each vector `[M, D]`."""
    return Assigner(centroids)(vectors)


class _Coarse:
    """Scores of centroids in 8 bits, filled up to whole groups by some that are never near."""

    def __init__(self, middle: Tensor, moved: Tensor, halves: Tensor) -> None:
        extra = -len(moved) % _GROUP
        self._middle = middle
        self._moved = moved
        self._halves = functional.pad(halves, (0, extra), value=torch.inf)
        self._scale = max(float(moved.abs().amax()) / 127.0, 1e-30)
        whole = functional.pad(moved, (0, 0, 0, extra)) / self._scale
        self._whole = whole.round_().to(torch.int8).T
        self._longest = float((2 * halves.amax()).sqrt())

    def nearest(self, vectors: Tensor) -> Tensor | None:
        """Index `[M]` of the nearest centroids of vectors `[M, D]`; None if too many are near."""
        rows = len(vectors)
        apart = vectors - self._middle
        scale = apart.abs().amax(1, keepdim=True).div_(127.0).clamp_(min=1e-30)
        products = torch._int_mm((apart / scale).round_().to(torch.int8), self._whole)
        scores = torch.addcmul(self._halves, products.float(), scale * -self._scale)
        groups = scores.view(rows, _GROUP, -1)
        minima = groups.amin(1)
        lengths = torch.linalg.vector_norm(apart, dim=1, keepdim=True)
        deviation = torch.hypot(scale * (2.0 * self._longest), lengths * (2.0**0.5 * self._scale)) / 12.0**0.5
        limit = minima.amin(1, keepdim=True) + _DEVIATIONS * deviation
        row, group = (minima <= limit).nonzero(as_tuple=True)
        if len(row) > _CROWD * rows:
            return None
        members = groups[row, :, group]
        which, member = (members <= limit[row]).nonzero(as_tuple=True)
        if len(which) > _CROWD * rows:
            return None
        row, entry = row[which], member * groups.shape[2] + group[which]
        pairs = apart.index_select(0, row).mul_(self._moved.index_select(0, entry))
        score = self._halves[entry] - pairs.sum(1)
        least = score.new_full((rows,), torch.inf).scatter_reduce_(0, row, score, "amin")
        best = score <= least[row]
        index = entry.new_full((rows,), self._halves.numel())
        found: Tensor = index.scatter_reduce_(0, row[best], entry[best], "amin")
        return found


def _pays(centroids: Tensor) -> bool:
    """Whether products of 8 bits are exact and fast (VNNI; older instructions saturate) and matter."""
    supported = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    large = centroids.shape[0] >= 256 and centroids.shape[1] >= 64
    on_processor = centroids.device.type == "cpu" and centroids.dtype == torch.float32
    return large and on_processor and bool(supported()) and torch.backends.mkldnn.is_available()
