"""Lloyd's algorithm (Lloyd 1982; k-means++ by Arthur and Vassilvitskii 2007), as used to start a book.

a_i = argmin_k ||x_i - c_k||^2;  c_k = mean of the x_i with a_i = k; a cluster left empty restarts at the
vector farthest from its centroid.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from audiotokens.nn.search import Searcher

Start = Literal["k-means++", "random"]

CHUNK = 65536
"""Vectors whose sum is accumulated in float32 before it is added in float64."""

# Differences of so many vectors stay in the processor's cache.
_CACHED = 512
# k-means++ costs size^2: it looks at fewer vectors the dearer they are, and is not used for very large books.
_SEED_COST = 1 << 38
_SEED_MAX = 8192


def lloyd(
    vectors: Tensor,
    size: int,
    *,
    iterations: int = 8,
    start: Start = "k-means++",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return centroids `[size, D]` of vectors, float32, on the device of the vectors.

    Where there are fewer different vectors than centroids, several centroids are equal.

    Args:
        vectors: `[M, D]`, at least one, finite.
        size: number of centroids.
        iterations: of Lloyd's algorithm; 0 returns the start.
        start: "k-means++", or "random" for vectors drawn without repetition; see `seed`.
        generator: on the CPU; default: the global one.

    Raises:
        ValueError: no vectors, or `size` is below 1.

    Example:
        >>> vectors = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
        >>> lloyd(vectors, 2, generator=torch.Generator().manual_seed(0)).sort(0).values.tolist()
        [[0.5], [10.5]]
    """
    if vectors.ndim != 2 or not len(vectors) or size < 1:
        raise ValueError(
            f"found vectors of shape {tuple(vectors.shape)} for {size} centroids, expected at least one "
            "vector [M, D] and one centroid"
        )
    with torch.no_grad(), torch.autocast(vectors.device.type, enabled=False):
        vectors = vectors.detach().float()
        if len(vectors) < size:
            vectors = vectors.repeat(-(-size // len(vectors)), 1)
        centroids = seed(vectors, size, start=start, generator=generator)
        for _ in range(iterations):
            labels = Searcher(centroids).nearest(vectors)
            centroids = centroids_of(*cluster_sums(vectors, labels, size), centroids, vectors)
    return centroids


def cluster_sums(vectors: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the sums float64 `[size, D]` and the counts int64 `[size]` of the vectors of each label.

    Vectors are added in their order: the result depends on no tile and no thread.
    """
    sums = torch.zeros(size, vectors.shape[1], dtype=torch.float64, device=vectors.device)
    for rows, names in zip(vectors.split(CHUNK), labels.split(CHUNK)):
        order = names.argsort(stable=True)
        ends = torch.bincount(names, minlength=size).cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        # Sums of vectors picked by an index: a bag of embeddings.
        sums += torch.nn.functional.embedding_bag(order, rows, starts, mode="sum")
    return sums, torch.bincount(labels, minlength=size)


def centroids_of(sums: Tensor, counts: Tensor, centroids: Tensor, vectors: Tensor) -> Tensor:
    """Return the new centroids `[K, D]`: the mean of each cluster, the empty ones restarted.

    Empty clusters restart at those of `vectors` `[M, D]` that are farthest from their centroids, in order of
    index, and stay where every vector lies on a centroid.

    Args:
        sums: float64 `[K, D]`, of `cluster_sums`.
        counts: int64 `[K]`.
        centroids: those that `sums` were assigned by, `[K, D]`.
        vectors: where to restart.
    """
    updated = torch.where(
        counts[:, None] > 0, (sums / counts.clamp(min=1)[:, None]).to(centroids.dtype), centroids
    )
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty):
        apart, order = distances(vectors, centroids, Searcher(centroids).nearest(vectors)).sort(
            descending=True, stable=True
        )
        order = order[: len(empty)][apart[: len(empty)] > 0]
        updated[empty[: len(order)]] = vectors[order]
    return updated


def distances(vectors: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    """Return the squared distances `[M]` of vectors `[M, D]` from the centroids that `labels` name."""
    parts = zip(vectors.split(_CACHED), labels.split(_CACHED))
    return torch.cat([(rows - centroids[names]).square_().sum(1) for rows, names in parts])


def seed(
    vectors: Tensor, size: int, *, start: Start = "k-means++", generator: torch.Generator | None = None
) -> Tensor:
    """Return `size` of the vectors `[M, D]`, M >= size, to start from, `[size, D]`.

    k-means++ draws each next one with a probability proportional to its squared distance from those chosen,
    here greedily: the candidate of 2 + log(size) that leaves the least distance. It looks at a sample of up
    to 64 vectors per centroid. More than 8,192 centroids are drawn at random.
    """
    trials = 2 + int(math.log(size))
    room = size
    if start == "k-means++" and size <= _SEED_MAX:
        affordable = _SEED_COST // (size * vectors.shape[1] * trials)
        room = min(len(vectors), 64 * size, max(4 * size, affordable))
    order = torch.randperm(len(vectors), generator=generator)[:room]
    vectors = vectors[order.to(vectors.device)]
    if start == "random" or size > _SEED_MAX:
        return vectors
    centered = vectors - vectors.mean(0)
    lengths = centered.square().sum(1)
    chosen = torch.zeros(size, dtype=torch.long, device=vectors.device)
    nearest = _squared(centered, lengths, chosen[:1])[0]
    for place in range(1, size):
        drawn = torch.rand(trials, dtype=torch.float64, generator=generator).to(vectors.device)
        reach = nearest.double().cumsum(0)
        candidates = torch.searchsorted(reach, drawn * reach[-1], right=True).clamp(max=room - 1)
        reached = torch.minimum(nearest, _squared(centered, lengths, candidates))
        best = reached.sum(1).argmin()
        chosen[place], nearest = candidates[best], reached[best]
    return vectors[chosen]


def _squared(vectors: Tensor, lengths: Tensor, chosen: Tensor) -> Tensor:
    """Squared distances `[K, M]` from the chosen vectors; what rounding cannot tell from zero is zero."""
    total = lengths + lengths[chosen][:, None]
    found = torch.addmm(total, vectors[chosen], vectors.T, alpha=-2)
    return torch.where(found > 1e-6 * total, found, 0.0)
