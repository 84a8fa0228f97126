"""Data that users give to be clustered: arrays, tensors and streams of blocks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor


class Moments:
    """Count and variance of vectors that come in pieces."""

    def __init__(self) -> None:
        self.count = 0
        self._origin: Tensor | None = None
        self._sum = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, rows: Tensor) -> None:
        """Count vectors `[m, D]` in."""
        if self._origin is None:
            self._origin = rows.mean(0)
            self._sum = torch.zeros_like(self._origin, dtype=torch.float64)
            self._squares = torch.zeros_like(self._sum)
        self.count += len(rows)
        # Parts that stay in the processor's cache.
        for part in rows.split(512):
            apart = part - self._origin
            self._sum += apart.sum(0)
            self._squares += apart.square_().sum(0)

    @property
    def variance(self) -> float:
        """Mean variance of the dimensions."""
        return float((self._squares / self.count - (self._sum / self.count).square()).mean())


def as_vectors(X: object) -> Tensor:
    """Return data as a contiguous tensor, float64 if it is that or whole numbers, else float32.

    Raises:
        ValueError: it is sparse, or not made of real numbers.
    """
    if isinstance(X, Tensor):
        vectors = X.detach()
    else:
        if hasattr(X, "tocsr"):
            raise ValueError("found a sparse matrix, expected a dense array; convert it by .toarray()")
        array = np.asarray(X)
        if array.dtype == object:
            array = array.astype(np.float64)
        if array.dtype.kind not in "fiub":
            what = "Complex data not supported: " if array.dtype.kind == "c" else ""
            raise ValueError(f"{what}found data of the type {array.dtype}, expected real numbers")
        wide = array.dtype.kind != "f" or array.dtype.itemsize >= 8
        array = np.ascontiguousarray(array, dtype=np.float64 if wide else np.float32)
        with warnings.catch_warnings():
            # An array that must not be written to, such as a file in memory, is only read here.
            warnings.simplefilter("ignore", UserWarning)
            vectors = torch.from_numpy(array)
    if vectors.is_complex():
        raise ValueError(f"Complex data not supported: found {vectors.dtype}, expected real numbers")
    if vectors.dtype not in (torch.float32, torch.float64):
        vectors = vectors.float() if vectors.is_floating_point() else vectors.double()
    return vectors.contiguous()


def rechunked(blocks: Iterable[Tensor], rows: int) -> Iterator[Tensor]:
    """The same vectors `[m, D]` in blocks of so many rows, and the last of fewer."""
    waiting: list[Tensor] = []
    count = 0
    for block in blocks:
        for part in block.split(rows):
            waiting.append(part)
            count += len(part)
            if count >= rows:
                joined = torch.cat(waiting)
                yield joined[:rows]
                waiting, count = [joined[rows:]], count - rows
    if count:
        yield torch.cat(waiting)
