"""Residual vector quantization with books learned by exponential moving averages.

r_0 = z;  c_k = argmin_n ||r_k - e_{k,n}||;  r_{k+1} = r_k - e_{k,c_k};  z ~ sum_k e_{k,c_k}
(Zeghidour et al. 2021, SoundStream). Any prefix of the books decodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from audiotokens.nn.exact import first_equal, nearest, nearest_float64
from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig

_SEARCH_ROWS = 4096
# The scores of so many candidates stay in the processor's cache.
_CACHED_ROWS = 256
_GROUP = 32


@dataclass(frozen=True)
class RVQConfig(QuantizerConfig):
    """Residual vector quantizer.

    Args:
        kind: names this quantizer in a configuration.
        num_codebooks: books K.
        codebook_size: entries of each book.
        decay: of the moving averages of counts and sums.
        expire_below: an entry whose moving count falls below this is replaced by a current residual.
        commitment: weight of the commitment loss.
        prefix_offsets: whether a learned vector per number of books is added to what they sum up to, so that
            the decoder knows how coarse its input is; that of all books is zero.
    """

    kind: Literal["rvq"] = "rvq"
    num_codebooks: int = 12
    codebook_size: int = 1024
    decay: float = 0.98
    expire_below: float = 0.003
    commitment: float = 0.25
    prefix_offsets: bool = False

    def __post_init__(self) -> None:
        if self.num_codebooks < 1 or self.codebook_size < 2:
            raise ValueError(
                f"num_codebooks is {self.num_codebooks}, expected at least 1; "
                f"codebook_size is {self.codebook_size}, expected at least 2"
            )


class ResidualVectorQuantizer(Quantizer):
    """RVQ over latents of `dim` dimensions.

    Straight-through over the sum, residuals detached: the only gradients are the identity to the latents
    and the commitment loss, commitment * mean ||z - q||^2 / mean per-dimension variance of z (about its
    mean, so that no constant offset of the latents can lower it).
    """

    config_class: ClassVar[type[QuantizerConfig]] = RVQConfig
    label = "RVQ"
    books: Tensor
    counts: Tensor
    sums: Tensor
    offsets: nn.Parameter | None

    def __init__(self, dim: int, config: RVQConfig) -> None:
        super().__init__(dim, config)
        self.config = config
        self._equal: tuple[tuple[int, int], Tensor] | None = None
        books = torch.randn(config.num_codebooks, config.codebook_size, dim)
        books = books * 0.5 ** torch.arange(config.num_codebooks)[:, None, None]
        self.register_buffer("books", books)
        offsets = nn.Parameter(torch.zeros(config.num_codebooks - 1, dim)) if config.prefix_offsets else None
        self.register_parameter("offsets", offsets)
        # Learning state: kept in training checkpoints, not with the weights.
        self.register_buffer("counts", torch.ones(books.shape[:2]), persistent=False)
        self.register_buffer("sums", books.clone(), persistent=False)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.config.codebook_size,) * self.config.num_codebooks

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        return tuple(range(1, self.config.num_codebooks + 1))

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        batch, dim, frames = latents.shape
        latents = latents.float()
        vectors = latents.mT.reshape(-1, dim)
        used = self._books_per_row(num_codebooks, batch, frames, latents.device)
        valid = torch.ones_like(used, dtype=torch.bool) if mask is None else mask.reshape(-1)
        residual = vectors.detach()
        codes, statistics = [], self._empty_statistics()
        # Autocast would search and sum in bfloat16.
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            for level, book in enumerate(self.books):
                index = nearest(residual, book)
                active = used > level
                if self.training:
                    self._collect(statistics, level, residual[active & valid], index[active & valid])
                residual = residual - book[index] * active[:, None]
                codes.append(index)
            quantized = (vectors - residual).view(batch, frames, dim).mT
        restored = latents + (quantized - latents).detach()
        return Quantized(
            latents=restored + self._offset(used.view(batch, frames)[:, 0])[..., None],
            codes=torch.stack(codes).view(-1, batch, frames).transpose(0, 1),
            losses={"commitment": self._commitment(vectors[valid], residual[valid])},
            statistics=statistics if self.training else {},
        )

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None, search_width: int = 1) -> Tensor:
        """Return the codes of latents.

        Args:
            latents: `[B, D, T]`; the search runs in float64.
            num_codebooks: books to use; default: all.
            search_width: candidates kept through the books (beam search); 1 is greedy, and only greedy
                codes have shorter encodes as their prefixes.
        """
        batch, dim, frames = latents.shape
        books = self.books[:num_codebooks].double()
        vectors = latents.mT.reshape(-1, dim).double()
        if search_width == 1:
            parts = [self._greedy(rows, books) for rows in torch.split(vectors, _SEARCH_ROWS)]
        else:
            # ||r - e||^2 is the product of (r, ||r||^2, 1) with (-2 e, 1, ||e||^2).
            norms = books.square().sum(2, keepdim=True)
            entries = torch.cat([-2.0 * books, torch.ones_like(norms), norms], 2)
            pieces = torch.split(vectors, max(1, _CACHED_ROWS // search_width))
            parts = [self._beam(rows, books, entries, search_width) for rows in pieces]
        codes = torch.cat(parts, 1) if parts else vectors.new_zeros((len(books), 0), dtype=torch.long)
        # Which of several equal entries wins may depend on the batch's shape; the lowest one stands for all.
        codes = self._first_equal()[: len(books)].gather(1, codes)
        return codes.view(len(books), batch, frames).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        total = self.books[0][codes[:, 0]]
        for level in range(1, codes.shape[1]):
            total = total + self.books[level][codes[:, level]]
        return total.mT + self._offset(codes.shape[1])[..., None]

    def _offset(self, num_codebooks: Tensor | int) -> Tensor:
        """Offsets `[..., D]` of numbers of books; zero for all of them."""
        if self.offsets is None:
            return self.books.new_zeros(())
        return torch.cat([self.offsets, self.books.new_zeros(1, self.books.shape[2])])[num_codebooks - 1]

    def _first_equal(self) -> Tensor:
        """Per book the lowest index of an equal entry, `[K, N]`; found again when the books have changed."""
        version = (self.books.data_ptr(), self.books._version)
        if self._equal is None or self._equal[0] != version:
            self._equal = (version, torch.stack([first_equal(book) for book in self.books]))
        return self._equal[1]

    @staticmethod
    def _greedy(vectors: Tensor, books: Tensor) -> Tensor:
        codes = []
        for book in books:
            index = nearest_float64(vectors, book)
            vectors = vectors - book[index]
            codes.append(index)
        return torch.stack(codes)

    @staticmethod
    def _beam(vectors: Tensor, books: Tensor, entries: Tensor, search_width: int) -> Tensor:
        """Keep the `search_width` partial sums nearest to each vector; int64 `[K, M]`.

        `entries` are the books `[K, N, D + 2]` as factors of squared distances.
        """
        rows, size = vectors.shape[0], books.shape[1]
        residuals = vectors[:, None]
        codes = vectors.new_zeros((0, rows, 1), dtype=torch.long)
        for book, entry in zip(books, entries):
            lengths = residuals.square().sum(2, keepdim=True)
            scores = torch.cat([residuals, lengths, torch.ones_like(lengths)], 2) @ entry.T
            width = min(search_width, scores.shape[1] * size)
            best = _smallest(scores.flatten(1), width)
            parent, index = best // size, best % size
            residuals = residuals.gather(1, parent[..., None].expand(-1, -1, vectors.shape[1])) - book[index]
            codes = torch.cat([codes.gather(2, parent.expand(len(codes), -1, -1)), index[None]])
        winner = residuals.square().sum(2).argmin(1)
        return codes.gather(2, winner[None, :, None].expand(len(codes), -1, -1))[..., 0]

    @torch.no_grad()
    def initialize(
        self, latents: Tensor, *, generator: torch.Generator | None = None, iterations: int = 8
    ) -> None:
        """Set each book in turn by k-means (Lloyd) on what the books before leave of `latents` `[N, D]`."""
        residual = latents.float()
        for level in range(len(self.books)):
            book = _kmeans(residual, self.config.codebook_size, iterations, generator)
            index = nearest(residual, book)
            self.books[level] = book
            self.counts[level] = 1.0
            self.sums[level] = book
            residual = residual - book[index]

    @torch.no_grad()
    def update(self, statistics: dict[str, Tensor]) -> None:
        """Move the books: N <- d N + (1-d) n, M <- d M + (1-d) m, e = M / N; revive expired entries.

        A revived entry restarts its moving statistics too, so that the next update cannot undo it.
        """
        decay, threshold = self.config.decay, self.config.expire_below
        counts, sums, found = statistics["sum_counts"], statistics["sum_vectors"], statistics["candidates"]
        seen = counts.sum(1) > 0
        self.counts[seen] = self.counts[seen] * decay + counts[seen] * (1 - decay)
        self.sums[seen] = self.sums[seen] * decay + sums[seen] * (1 - decay)
        for level in torch.nonzero(seen)[:, 0].tolist():
            expired = torch.nonzero(self.counts[level] < threshold)[:, 0]
            candidates = found[level][: int(statistics["sum_candidates"][level])]
            expired = expired[: len(candidates)]
            restart = 20 / 3 * threshold
            self.counts[level, expired] = restart
            self.sums[level, expired] = restart * candidates[: len(expired)]
        self.books[seen] = self.sums[seen] / self.counts[seen][..., None]

    def _books_per_row(
        self, num_codebooks: Tensor | int | None, batch: int, frames: int, device: torch.device
    ) -> Tensor:
        if num_codebooks is None:
            num_codebooks = self.config.num_codebooks
        per_item = torch.as_tensor(num_codebooks, device=device).expand(batch)
        return per_item.repeat_interleave(frames)

    def _empty_statistics(self) -> dict[str, Tensor]:
        if not self.training:
            return {}
        return {
            "sum_counts": torch.zeros_like(self.counts),
            "sum_vectors": torch.zeros_like(self.sums),
            "sum_candidates": torch.zeros(len(self.books), dtype=torch.long, device=self.books.device),
            "candidates": torch.zeros(len(self.books), 64, self.books.shape[2], device=self.books.device),
        }

    def _collect(self, statistics: dict[str, Tensor], level: int, vectors: Tensor, index: Tensor) -> None:
        statistics["sum_counts"][level] = torch.bincount(index, minlength=self.config.codebook_size)
        statistics["sum_vectors"][level].index_add_(0, index, vectors)
        room = statistics["candidates"].shape[1]
        chosen = torch.randperm(len(vectors), device=vectors.device)[:room]
        statistics["candidates"][level, : len(chosen)] = vectors[chosen]
        statistics["sum_candidates"][level] = len(chosen)

    def _commitment(self, vectors: Tensor, residual: Tensor) -> Tensor:
        error = (vectors - (vectors - residual).detach()).square().mean()
        variance = vectors.var(0, unbiased=False).mean().clamp(min=1e-8)
        return self.config.commitment * error / variance


def _smallest(scores: Tensor, count: int) -> Tensor:
    """Indices `[M, count]` of the smallest scores `[M, N]`, smallest first.

    They lie in the `count` groups with the smallest minima, and a minimum is found several times faster than
    the smallest few.
    """
    if scores.shape[1] % _GROUP or scores.shape[1] <= _GROUP * count:
        return scores.topk(count, largest=False).indices
    groups = scores.unflatten(1, (-1, _GROUP))
    chosen = groups.amin(2).topk(count, largest=False).indices
    within = groups.gather(1, chosen[..., None].expand(-1, -1, _GROUP)).flatten(1)
    place = within.topk(count, largest=False).indices
    found: Tensor = chosen.gather(1, place // _GROUP) * _GROUP + place % _GROUP
    return found


def _kmeans(vectors: Tensor, size: int, iterations: int, generator: torch.Generator | None) -> Tensor:
    """Lloyd's algorithm from random vectors, where empty clusters restart too; returns `[size, D]`."""
    count = len(vectors)
    if count < size:
        vectors = vectors.repeat(-(-size // count), 1)
        count = len(vectors)
    book = vectors[torch.randperm(count, generator=generator)[:size].to(vectors.device)].clone()
    for _ in range(iterations):
        index = nearest(vectors, book)
        counts = torch.bincount(index, minlength=size)
        sums = torch.zeros_like(book).index_add_(0, index, vectors)
        book = sums / counts.clamp(min=1)[:, None]
        empty = torch.nonzero(counts == 0)[:, 0]
        fresh = torch.randint(count, (len(empty),), generator=generator).to(vectors.device)
        book[empty] = vectors[fresh]
    return book
