"""What quantizers with one book of vectors share: the search, exact encoding, decoding, projections.

c = argmin_n d(P z, e_n) with d the squared Euclidean distance, of unit vectors where the metric says so;
z ~ P' e_c. P and P' are linear maps where the book has other dimensions than the latents (factorized lookup,
Yu et al. 2021, ViT-VQGAN).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.nn import exact
from audiotokens.nn.search import Searcher
from audiotokens.quantizers.base import Quantizer, QuantizerConfig, from_rows, gain, linear_rows, to_rows

Metric: TypeAlias = Literal["euclidean", "cosine", "sphere"]
"""How near an entry is.

"euclidean": by distance. "cosine": by angle; entries keep their lengths (DAC). "sphere": by angle, and
vectors and entries are made unit vectors before all else, losses too (ViT-VQGAN).
"""

# Vectors whose margins are found at once, and entries that are looked at closely.
_ROWS = 1024
_NEAR = 9


class BookQuantizer(Quantizer):
    """One book `[N, d]` behind linear maps from `dim` dimensions to d and back; none where they are equal.

    Rows `[M, d]` of the methods below are latents after `project`, entries are before `restore`.

    Args:
        dim: dimensions D of the latents.
        config: of the class's own `config_class`.
        size: entries N.
        codebook_dim: dimensions d of the book; None: `dim`.
        metric: how near an entry is.
    """

    project_in: nn.Linear | nn.Identity
    project_out: nn.Linear | nn.Identity

    def __init__(
        self,
        dim: int,
        config: QuantizerConfig,
        *,
        size: int,
        codebook_dim: int | None = None,
        metric: Metric = "euclidean",
    ) -> None:
        super().__init__(dim, config)
        self.codebook_size = size
        self.codebook_dim = codebook_dim or dim
        self.metric = metric
        projected = self.codebook_dim != dim
        self.project_in = nn.Linear(dim, self.codebook_dim) if projected else nn.Identity()
        self.project_out = nn.Linear(self.codebook_dim, dim) if projected else nn.Identity()
        self._equal: tuple[object, Tensor] | None = None
        self._searcher: tuple[object, Searcher] | None = None

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codebook_size,)

    @abstractmethod
    def entries(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The vectors `[N, d]` that the codes stand for, computed in `dtype`."""

    def embed(self, index: Tensor) -> Tensor:
        """Entries `[M, d]` of codes int64 `[M]`, with gradients to what they are made of."""
        return functional.embedding(index, self.entries())

    def project(self, rows: Tensor) -> Tensor:
        """Latents `[M, D]` as vectors `[M, d]` that the book is searched for, in their own dtype."""
        if isinstance(self.project_in, nn.Linear):
            rows = linear_rows(self.project_in, rows)
        return functional.normalize(rows, dim=1) if self.metric == "sphere" else rows

    def restore(self, vectors: Tensor) -> Tensor:
        """Entries `[M, d]` as latents `[M, D]`."""
        if isinstance(self.project_out, nn.Linear):
            vectors = linear_rows(self.project_out, vectors)
        return vectors

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """Codes int64 `[M]` of vectors `[M, d]`, searched in float32."""
        with torch.autocast(rows.device.type, enabled=False):
            return self._search(rows.float(), self.entries())

    @torch.no_grad()
    def nearest_exact(self, rows: Tensor) -> Tensor:
        """Codes int64 `[M]` of float64 vectors `[M, d]`, the same ones in any batch."""
        with torch.autocast(rows.device.type, enabled=False):
            searcher, rows = self.searcher(), self._comparable(rows)
            if self.metric == "euclidean":
                return searcher.nearest(rows)
            found = rows.any(1)
            index = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
            rows = functional.pad(rows[found], (0, searcher.book.shape[1] - rows.shape[1]))
            index[found] = searcher.nearest(rows)
            return index

    def searcher(self) -> Searcher:
        """The entries in float64, prepared for many searches."""
        version = self._entries_version(torch.float64)
        if self._searcher is None or self._searcher[0] != version:
            self._searcher = (version, Searcher(self._distinct(self.entries(torch.float64))))
        return self._searcher[1]

    def scores(self, rows: Tensor) -> Tensor:
        """Squared distances `[M, N]` of vectors `[M, d]` to all entries; with "cosine", of unit vectors."""
        entries = self._comparable(self.entries(rows.dtype))
        rows = self._comparable(rows)
        lengths = rows.square().sum(1, keepdim=True) + entries.square().sum(1)
        return torch.addmm(lengths, rows, entries.T, alpha=-2.0)

    @torch.no_grad()
    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        """Return the codes int64 `[B, 1, T]`; projection and search run in float64.

        Raises:
            ValueError: `num_codebooks` is not 1.
        """
        self.check_prefix(num_codebooks)
        return self.nearest_exact(self.project(to_rows(latents.double()))).view(len(latents), 1, -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the latents `[B, D, T]`; a projection runs in float64, so that a batch changes nothing."""
        vectors = self.embed(codes.flatten())
        if isinstance(self.project_out, nn.Linear):
            vectors = self.restore(vectors.double()).to(vectors.dtype)
        return from_rows(vectors, len(codes))

    @torch.no_grad()
    def margins(self, latents: Tensor, codes: Tensor) -> Tensor:
        """Distances to the nearest plane half-way between the chosen entry a and another one b.

        (||z - e_b||^2 - ||z - e_a||^2) / (2 ||e_a - e_b||)

        It is found among the entries nearest to z; of the others a lower bound is known.
        """
        rows = to_rows(latents.double())
        if isinstance(self.project_in, nn.Linear):
            rows = linear_rows(self.project_in, rows)
        lengths = 1.0 if self.metric == "euclidean" else rows.norm(dim=1)
        rows = rows if self.metric == "euclidean" else functional.normalize(rows, dim=1)
        entries = self._comparable(self.entries(torch.float64))
        parts = [
            _margins(some, index, entries)
            for some, index in zip(rows.split(_ROWS), codes.flatten().split(_ROWS))
        ]
        found = torch.cat(parts) * lengths
        found = found / gain(self.project_in) if isinstance(self.project_in, nn.Linear) else found
        return found.view(len(latents), 1, -1)

    def _search(self, rows: Tensor, entries: Tensor) -> Tensor:
        rows, compared = self._comparable(rows), self._distinct(entries)
        index = exact.nearest(functional.pad(rows, (0, compared.shape[1] - rows.shape[1])), compared)
        index = self.lowest(index, compared)
        # To a vector that has no direction all entries are equal, which rounding must not decide.
        return index if self.metric == "euclidean" else index * rows.any(1)

    def _distinct(self, entries: Tensor) -> Tensor:
        """Entries as they are compared `[N, d]`, or `[N, d + 1]`.

        What has no direction is at a right angle to everything: such entries have a coordinate of their own.
        """
        entries = self._comparable(entries)
        if self.metric == "euclidean":
            return entries
        return torch.cat([entries, (~entries.any(1, keepdim=True)).to(entries.dtype)], 1)

    def _comparable(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=1) if self.metric == "cosine" else vectors

    def lowest(self, index: Tensor, entries: Tensor) -> Tensor:
        """The lowest index of an entry equal to that of each code: a batch's shape may decide which one wins.

        Args:
            index: codes int64 `[M]`.
            entries: all that are compared, `[N, d]`.
        """
        version = self._entries_version(entries.dtype)
        if self._equal is None or self._equal[0] != version:
            self._equal = (version, exact.first_equal(entries))
        return self._equal[1][index]

    def _entries_version(self, dtype: torch.dtype) -> object:
        """What changes when the entries do."""
        tensors = (*self.parameters(), *self.buffers())
        return tuple((tensor.data_ptr(), tensor._version, dtype) for tensor in tensors)


def _margins(rows: Tensor, index: Tensor, entries: Tensor) -> Tensor:
    """Margins `[M]` of the choice of entries `[M]` for vectors `[M, d]`."""
    squares = entries.square().sum(1)
    distances = torch.addmm(squares, rows, entries.T, alpha=-2.0)
    values, near = distances.topk(min(_NEAR, len(entries)), largest=False)
    gaps = values - distances.gather(1, index[:, None])
    apart = (entries[near] - entries[index][:, None]).norm(dim=2)
    # An equal entry, such as the chosen one itself, is not another one.
    found = torch.where(apart == 0, torch.inf, gaps / (2 * apart)).amin(1)
    if len(entries) <= _NEAR:
        return found
    lengths = squares.sqrt()
    return torch.minimum(found, gaps[:, -1] / (2 * (lengths[index] + lengths.amax())))
