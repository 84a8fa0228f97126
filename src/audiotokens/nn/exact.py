"""Codes that do not depend on how the audio was fed.

float32 kernels give other last bits for other batch sizes, lengths and thread counts, and near ties then
flip codes. The cure is to compute latents in float64, to round them to float32 (two float64 results that
differ by rounding noise round to one float32 value but for about one value in 10^8), and to search the
books in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(vectors: Tensor, book: Tensor) -> Tensor:
    """Index of the nearest book entry by Euclidean distance; the lowest of equal scores wins.

    Scores of equal entries may differ in their last bits: `first_equal` makes one of them.

    Args:
        vectors: `[M, D]`.
        book: `[N, D]`.

    Returns:
        int64 `[M]`.
    """
    # Of equal numbers min gives the first on a CPU, like argmin, at half the price.
    return _scores(vectors, book).min(1).indices


def nearest_float64(vectors: Tensor, book: Tensor) -> Tensor:
    """What `nearest` gives in float64, for about the price of float32.

    The search runs in float32; where the two best scores are closer than rounding can explain, it is run
    again in float64. A sum of n products has an error of at most n u sum |a b| with u = 2^-24 (Higham 2002,
    section 3.1), here with sum |a b| <= 2 ||x|| ||e|| + ||e||^2, and 3 u more from rounding the factors.

    Args:
        vectors: float64 `[M, D]`.
        book: float64 `[N, D]`.

    Returns:
        int64 `[M]`.
    """
    scores = _scores(vectors.float(), book.float())
    best, index = scores.min(1)
    second = scores.scatter_(1, index[:, None], torch.inf).amin(1)
    longest = book.square().sum(1).amax().sqrt()
    bound = (book.shape[1] + 4) * 2.0**-24 * longest * (2 * vectors.square().sum(1).sqrt() + longest)
    unsure = (second - best <= 2 * bound).nonzero()[:, 0]
    if len(unsure):
        index[unsure] = nearest(vectors[unsure], book)
    return index


def _scores(vectors: Tensor, book: Tensor) -> Tensor:
    """||x - e||^2 less ||x||^2, which all entries share: one product of (x, 1) with (-2 e, ||e||^2)."""
    entries = torch.cat([-2.0 * book, book.square().sum(1, keepdim=True)], 1)
    return torch.cat([vectors, vectors.new_ones(len(vectors), 1)], 1) @ entries.T


def first_equal(book: Tensor) -> Tensor:
    """For each entry of a book `[N, D]` the lowest index of an equal entry, int64 `[N]`."""
    groups = torch.unique(book, dim=0, return_inverse=True)[1]
    index = torch.arange(len(book), device=book.device)
    lowest = torch.full_like(index, len(book)).scatter_reduce(0, groups, index, "amin")
    return lowest[groups]
