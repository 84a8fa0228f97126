"""Equal entries of a book, found by hashes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.nn.constants import integers

_HASHED = 8
_MULTIPLIERS = (
    0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93,
    0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3,
)  # fmt: skip
_FACTORS = tuple(value - (1 << 64) if value >> 63 else value for value in _MULTIPLIERS)
_LAST = torch.iinfo(torch.int64).max


def hashes(vectors: Tensor) -> Tensor:
    """Hash the bits of the first elements of each vector, float32 `[M, D]`; int64 `[M]`, not negative."""
    bits = vectors[:, :_HASHED].contiguous().view(torch.int32).to(torch.int64)
    mixed = (bits * integers(_FACTORS[: bits.shape[1]], bits.device)).sum(1)
    for shift in (29, 32):
        mixed = (mixed ^ (mixed >> shift)) * _FACTORS[0]
    return (mixed ^ (mixed >> 31)) & (_LAST - 1)


def first_equal(book: Tensor) -> Tensor:
    """For each entry of a book `[N, D]` the lowest index of an equal entry, int64 `[N]`."""
    # Negative zero is equal to zero, but has other bits.
    ranks, order = hashes(book.float() + 0.0).sort()
    same = ranks[1:] == ranks[:-1]
    index = torch.arange(len(book), device=book.device)
    # The one question for which a GPU has to be waited for, where all differ.
    if bool(same.any()):
        suspects = order[functional.pad(same, (1, 0)) | functional.pad(same, (0, 1))]
        groups = torch.unique(book[suspects], dim=0, return_inverse=True)[1]
        lowest = torch.full_like(suspects, len(book)).scatter_reduce(0, groups, suspects, "amin")
        index[suspects] = lowest[groups]
    return index
