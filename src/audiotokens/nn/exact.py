"""Codes that do not depend on how the audio was fed.

float32 kernels give other last bits for other batch sizes, lengths and thread counts, and near ties then
flip codes. The cure is to compute latents in float64, to round them to float32 (two float64 results that
differ by rounding noise round to one float32 value but for about one value in 10^8), and to search the
books in float64.
"""

from __future__ import annotations

from torch import Tensor

from audiotokens.nn.equal import first_equal
from audiotokens.nn.search import Searcher, nearest

__all__ = ["first_equal", "nearest", "nearest_float64"]


def nearest_float64(vectors: Tensor, book: Tensor) -> Tensor:
    """Index of the nearest entry in float64, the lowest of equally near ones.

    A book that is searched often is prepared once by `search.Searcher`.

    Args:
        vectors: float64 `[M, D]`.
        book: float64 `[N, D]`.

    Returns:
        int64 `[M]`.
    """
    return Searcher(book).nearest(vectors)
