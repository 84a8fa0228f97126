"""Agglomerative clustering of centroids to a smaller vocabulary (SD-HuBERT, Cho et al. 2024; SyllableLM).

The two nearest clusters are merged until V are left. Ward (1963): d(i, j) = w_i w_j / (w_i + w_j) times
||c_i - c_j||^2, by how much a merger raises the squared error of the data that the centroids stand for.
Average: the mean distance of their members. After a merger (Lance and Williams 1967)

    Ward:     d(k, ij) = ((w_i + w_k) d(k, i) + (w_j + w_k) d(k, j) - w_k d(i, j)) / (w_i + w_j + w_k)
    average:  d(k, ij) = (w_i d(k, i) + w_j d(k, j)) / (w_i + w_j)

Both keep nearest neighbours that are each other's so whatever else is merged, so that a chain of nearest
neighbours finds all mergers in N^2 steps (Murtagh 1983).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiotokens.nn.search import Searcher
from audiotokens.quantizers.base import Quantized, QuantizerConfig, from_rows, to_rows
from audiotokens.quantizers.book import BookQuantizer
from audiotokens.quantizers.lloyd import lloyd

Linkage: TypeAlias = Literal["ward", "average"]

# What a centroid that stands for no vector weighs, against the lightest other one: it joins its nearest.
_UNUSED = 1e-6


@dataclass(frozen=True)
class MergedVocabulary:
    """A vocabulary of V clusters of N centroids.

    Args:
        mapping: int64 `[N]`, the cluster of each centroid; clusters are numbered by their first members.
        centroids: weighted means of the clusters' members `[V, D]`, float32.
    """

    mapping: Tensor
    centroids: Tensor

    def merge_codes(self, codes: Tensor) -> Tensor:
        """Return codes of the small vocabulary for codes int64 of the large one, of any shape.

        Raises:
            ValueError: a code is not below N.
        """
        size = len(self.mapping)
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < size:
            raise ValueError(
                f"found codes from {int(codes.min())} to {int(codes.max())}, expected 0 to {size - 1}"
            )
        return self.mapping.to(codes.device)[codes]


def agglomerate(
    centroids: Tensor, size: int, *, counts: Tensor | None = None, linkage: Linkage = "ward"
) -> MergedVocabulary:
    """Merge centroids to a smaller vocabulary; takes 16 N^2 bytes of memory at most.

    Args:
        centroids: `[N, D]`.
        size: clusters V to leave, 1 to N.
        counts: how many vectors each centroid stands for `[N]`; default: all weigh the same.
        linkage: "ward" or "average".

    Raises:
        ValueError: the size, the counts or the linkage cannot be used.

    Example:
        >>> agglomerate(torch.tensor([[0.0], [9.0], [1.0], [8.0]]), 2).mapping.tolist()
        [0, 1, 0, 1]
    """
    number = len(centroids)
    if not 1 <= size <= number:
        raise ValueError(f"size is {size}, expected 1 to the number of centroids, {number}")
    if linkage not in ("ward", "average"):
        raise ValueError(f'linkage is "{linkage}", expected "ward" or "average"')
    points = centroids.detach().double().cpu()
    weights = _weights(counts, number)
    centered = points - points.mean(0)
    distances = torch.cdist(centered, centered, compute_mode="use_mm_for_euclid_dist")
    # A product need not be symmetric to the last bit, and the chain of neighbours would then not end.
    distances = torch.minimum(distances, distances.T)
    if linkage == "ward":
        distances = distances.square_().mul_(weights[:, None] * weights).div_(weights[:, None] + weights)
    mergers = _chain(distances.numpy(), weights.numpy().copy(), ward=linkage == "ward")
    mapping = torch.from_numpy(_cut(mergers, number, size))
    total = torch.zeros(size, dtype=torch.float64).index_add_(0, mapping, weights)
    sums = torch.zeros(size, points.shape[1], dtype=torch.float64).index_add_(
        0, mapping, points * weights[:, None]
    )
    device = centroids.device
    return MergedVocabulary(mapping.to(device), (sums / total[:, None]).float().to(device))


def _weights(counts: Tensor | None, number: int) -> Tensor:
    if counts is None:
        return torch.ones(number, dtype=torch.float64)
    weights = counts.detach().double().cpu()
    if weights.shape != (number,) or not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError(
            f"found counts of shape {tuple(weights.shape)}, expected ({number},), finite and not negative"
        )
    used = weights[weights > 0]
    return torch.where(weights > 0, weights, _UNUSED * (used.min() if len(used) else 1.0))


def _chain(
    distances: NDArray[np.float64], weights: NDArray[np.float64], *, ward: bool
) -> list[tuple[float, int, int]]:
    """All mergers as distance and two members; a cluster goes by its lower index. Overwrites both arrays."""
    number = len(distances)
    np.fill_diagonal(distances, np.inf)
    mergers: list[tuple[float, int, int]] = []
    chain: list[int] = []
    active = np.ones(number, dtype=bool)
    while len(mergers) < number - 1:
        if not chain:
            chain.append(int(active.argmax()))
        tip = chain[-1]
        nearest = int(distances[tip].argmin())
        # Of equal neighbours the previous one of the chain, which otherwise might never end.
        if len(chain) > 1 and distances[tip, chain[-2]] <= distances[tip, nearest]:
            nearest = chain[-2]
        if len(chain) < 2 or nearest != chain[-2]:
            chain.append(nearest)
            continue
        del chain[-2:]
        kept, gone = min(tip, nearest), max(tip, nearest)
        height = float(distances[kept, gone])
        mergers.append((height, kept, gone))
        own, other = weights[kept], weights[gone]
        with np.errstate(invalid="ignore"):
            if ward:
                row = (
                    (own + weights) * distances[kept] + (other + weights) * distances[gone] - weights * height
                )
                row /= own + other + weights
            else:
                row = (own * distances[kept] + other * distances[gone]) / (own + other)
        active[gone] = False
        row[~active] = np.inf
        row[kept] = np.inf
        distances[kept] = distances[:, kept] = row
        distances[gone] = distances[:, gone] = np.inf
        weights[kept] = own + other
    return mergers


def _cut(mergers: list[tuple[float, int, int]], number: int, size: int) -> NDArray[np.int64]:
    """Clusters `[N]` after the lowest mergers, numbered by their first members."""
    root = np.arange(number)
    for _, kept, gone in sorted(mergers, key=lambda merger: merger[0])[: number - size]:
        first, second = sorted((_root(root, kept), _root(root, gone)))
        root[second] = first
    roots = np.array([_root(root, index) for index in range(number)])
    # A root is the lowest index of its cluster: sorted roots are in order of first members.
    mapping: NDArray[np.int64] = np.unique(roots, return_inverse=True)[1].astype(np.int64)
    return mapping


def _root(root: NDArray[np.int64], index: int) -> int:
    while root[index] != index:
        root[index] = root[root[index]]
        index = int(root[index])
    return index


@dataclass(frozen=True)
class AgglomerativeConfig(QuantizerConfig):
    """k-means units merged to a smaller vocabulary.

    Args:
        kind: names this quantizer in a configuration.
        num_centroids: centroids N that are searched.
        codebook_size: clusters V of them, which the codes name.
        linkage: "ward" or "average".
        iterations: of Lloyd's algorithm in `initialize`.
    """

    kind: Literal["agglomerative"] = "agglomerative"
    num_centroids: int = 16384
    codebook_size: int = 4096
    linkage: Linkage = "ward"
    iterations: int = 50

    def __post_init__(self) -> None:
        if not 2 <= self.codebook_size <= self.num_centroids or self.iterations < 0:
            raise ValueError(
                f"codebook_size is {self.codebook_size}, expected 2 to num_centroids, {self.num_centroids}; "
                f"iterations is {self.iterations}, expected 0 or more"
            )


class AgglomerativeQuantizer(BookQuantizer):
    """The cluster of the nearest of N centroids; `forward` gives no gradient, losses or statistics.

    State: `searched` `[N, D]`, `mapping` int64 `[N]`, `book` `[V, D]`, the clusters' weighted means.
    """

    config_class: ClassVar[type[QuantizerConfig]] = AgglomerativeConfig
    label = "agglomerative"
    searched: Tensor
    mapping: Tensor
    book: Tensor

    def __init__(self, dim: int, config: AgglomerativeConfig) -> None:
        super().__init__(dim, config, size=config.codebook_size)
        self.config = config
        searched = torch.randn(config.num_centroids, dim)
        self.register_buffer("searched", searched)
        self.register_buffer("mapping", torch.arange(config.num_centroids) % config.codebook_size)
        self.register_buffer("book", searched[: config.codebook_size].clone())

    def entries(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The centroids `[N, D]` that are searched."""
        return self.searched.to(dtype)

    def embed(self, index: Tensor) -> Tensor:
        """Means `[M, D]` of the clusters int64 `[M]`."""
        return self.book[index]

    @torch.no_grad()
    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        """Return the means of the clusters and their indices; a mask changes nothing."""
        index = self.mapping[self.nearest(to_rows(latents))]
        return Quantized(
            latents=from_rows(self.embed(index), len(latents)), codes=index.view(len(latents), 1, -1)
        )

    @torch.no_grad()
    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        return self.mapping[super().encode(latents, num_codebooks=num_codebooks)]

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Fit the centroids to `latents` `[N, D]` and merge them, weighted by how many each one wins."""
        number = self.config.num_centroids
        searched = lloyd(latents, number, iterations=self.config.iterations, generator=generator)
        counts = torch.bincount(Searcher(searched).nearest(latents.float()), minlength=number)
        self.set_vocabulary(
            searched,
            agglomerate(searched, self.codebook_size, counts=counts, linkage=self.config.linkage),
        )

    @torch.no_grad()
    def set_vocabulary(self, centroids: Tensor, merged: MergedVocabulary) -> None:
        """Use centroids `[N, D]` and how they were merged."""
        self.searched.copy_(centroids)
        self.mapping.copy_(merged.mapping)
        self.book.copy_(merged.centroids)
