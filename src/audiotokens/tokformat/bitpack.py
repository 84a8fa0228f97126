"""Integers of fixed width as bits and back: row after row, the most significant bit first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]


def bit_width(largest: int) -> int:
    """Return the bits that every integer from 0 to `largest` fits in; at least 1."""
    return max(1, largest.bit_length())


def packed_size(widths: Sequence[int], columns: int) -> int:
    """Return the bytes of `columns` columns whose rows have these widths."""
    return -(-sum(widths) * columns // 8)


def pack(table: Table, widths: Sequence[int]) -> bytes:
    """Pack int64 `[R, n]`, row r as n numbers of `widths[r]` bits; the last byte is filled with zero bits."""
    pieces = [_to_bits(table[first:last], width) for first, last, width in _groups(widths)]
    return np.packbits(np.concatenate(pieces)).tobytes()


def unpack(packed: bytes | memoryview, widths: Sequence[int], columns: int) -> Table:
    """Return the int64 `[R, columns]` that `pack` packed.

    Raises:
        ValueError: the length is another, or the filling bits are not zero.
    """
    if len(packed) != packed_size(widths, columns):
        raise ValueError(f"{len(packed)} packed bytes, expected {packed_size(widths, columns)}")
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))
    used = sum(widths) * columns
    if bits[used:].any():
        raise ValueError("the filling bits are not zero")
    table = np.empty((len(widths), columns), dtype=np.int64)
    position = 0
    for first, last, width in _groups(widths):
        size = (last - first) * columns * width
        table[first:last] = _from_bits(bits[position : position + size], width).reshape(last - first, columns)
        position += size
    return table


def _groups(widths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    first = 0
    for width, same in groupby(widths):
        last = first + len(list(same))
        yield first, last, width
        first = last


def _container(width: int) -> int:
    return next(size for size in (1, 2, 4, 8) if width <= 8 * size)


def _to_bits(rows: Table, width: int) -> Bits:
    size = _container(width)
    bits = np.unpackbits(rows.astype(f">u{size}").ravel().view(np.uint8))
    return bits.reshape(-1, 8 * size)[:, 8 * size - width :].ravel()


def _from_bits(bits: Bits, width: int) -> Table:
    size = _container(width)
    wide = np.zeros((bits.size // width, 8 * size), dtype=np.uint8)
    wide[:, 8 * size - width :] = bits.reshape(-1, width)
    return np.packbits(wide.ravel()).view(f">u{size}").astype(np.int64)
