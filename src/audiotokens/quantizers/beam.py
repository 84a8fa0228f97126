"""Beam search through residual books: keep several partial sums instead of the best one.

Greedy residual coding takes the nearest entry of each book in turn; a sum that is worse at first may come
nearer in the end (Babenko and Lempitsky 2014, "Additive quantization", section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Criterion: TypeAlias = Literal["error", "summed"]
"""Which partial sums are kept: those of the least squared error ||r_k||^2, or of the least sum of the errors
after each book so far, sum_{j <= k} ||r_j||^2, which keeps prefixes good (vector-quantize-pytorch)."""

# The scores of so many candidates stay in the processor's cache.
_CACHED_ROWS = 256
_GROUP = 32


def beam_search(vectors: Tensor, books: Sequence[Tensor], width: int, criterion: Criterion) -> Tensor:
    """Codes int64 `[K, M]` of the best of the sums that the search has kept.

    Args:
        vectors: float64 `[M, D]`.
        books: float64 `[N, D]` each.
        width: partial sums kept for each vector.
        criterion: which ones.

    Raises:
        ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"search_width is {width}, expected at least 1")
    entries = [_factors(book) for book in books]
    pieces = torch.split(vectors, max(1, _CACHED_ROWS // width))
    return torch.cat([_search(piece, books, entries, width, criterion) for piece in pieces], 1)


def _factors(book: Tensor) -> Tensor:
    """||r - e||^2 is the product of (r, ||r||^2, 1) with these rows, (-2 e, 1, ||e||^2)."""
    norms = book.square().sum(1, keepdim=True)
    return torch.cat([-2.0 * book, torch.ones_like(norms), norms], 1)


def _search(
    vectors: Tensor, books: Sequence[Tensor], entries: Sequence[Tensor], width: int, criterion: Criterion
) -> Tensor:
    rows, dim = vectors.shape
    residuals = vectors[:, None]
    former = vectors.new_zeros(rows, 1, 1)
    codes = torch.zeros(0, rows, 1, dtype=torch.long, device=vectors.device)
    for book, entry in zip(books, entries):
        lengths = residuals.square().sum(2, keepdim=True)
        scores = torch.cat([residuals, lengths + former, torch.ones_like(lengths)], 2) @ entry.T
        best = _smallest(scores.flatten(1), min(width, scores.shape[1] * len(book)))
        if criterion == "summed":
            former = scores.flatten(1).gather(1, best)[..., None]
        parent, index = best // len(book), best % len(book)
        residuals = residuals.gather(1, parent[..., None].expand(-1, -1, dim)) - book[index]
        codes = torch.cat([codes.gather(2, parent.expand(len(codes), -1, -1)), index[None]])
    final = residuals.square().sum(2) if criterion == "error" else former[..., 0]
    winner = final.argmin(1)
    return codes.gather(2, winner[None, :, None].expand(len(codes), -1, -1))[..., 0]


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
