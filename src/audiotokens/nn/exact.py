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
    # ||x - e||^2 less ||x||^2, which is the same for all entries: one product of (x, 1) with (-2 e, ||e||^2).
    entries = torch.cat([-2.0 * book, book.square().sum(1, keepdim=True)], 1)
    scores = torch.cat([vectors, vectors.new_ones(len(vectors), 1)], 1) @ entries.T
    return scores.argmin(1)


def first_equal(book: Tensor) -> Tensor:
    """For each entry of a book `[N, D]` the lowest index of an equal entry, int64 `[N]`."""
    groups = torch.unique(book, dim=0, return_inverse=True)[1]
    index = torch.arange(len(book), device=book.device)
    lowest = torch.full_like(index, len(book)).scatter_reduce(0, groups, index, "amin")
    return lowest[groups]
