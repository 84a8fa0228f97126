"""CRC-32C (Castagnoli), the checksum of `.tok` files: polynomial 0x1EDC6F41 reflected, as in RFC 3720.

A CRC without its initial and final inversion is linear over GF(2): the CRC of a message is the XOR of what
every byte contributes alone, and a byte followed by n others contributes A^n(t[byte]), where t is the usual
table and A advances the register by one zero byte. `_row_tables` holds that for every byte value at every
place of a row of 256 bytes, so numpy looks up and XORs whole rows; rows are then chained by A^256, four
more look-ups.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_ROW = 256
_BLOCK = 1 << 16
_MASK = 0xFFFFFFFF

Table = npt.NDArray[np.uint32]


def crc32c(data: bytes | memoryview, value: int = 0) -> int:
    """Return the CRC-32C of `data`, or of all before it and `data` if `value` is the CRC of that.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    view = memoryview(data)
    register = value ^ _MASK
    for start in range(0, len(view), _BLOCK):
        register = _advance(register, np.frombuffer(view[start : start + _BLOCK], dtype=np.uint8))
    return register ^ _MASK


def _advance(register: int, message: npt.NDArray[np.uint8]) -> int:
    rows = message.size // _ROW
    if rows:
        table, shift = _row_tables()
        places = message[: rows * _ROW].reshape(rows, _ROW) + _offsets()
        contributions = np.bitwise_xor.reduce(table[places], axis=1).tolist()
        a, b, c, d = shift
        for contribution in contributions:
            moved = a[register & 255] ^ b[register >> 8 & 255] ^ c[register >> 16 & 255] ^ d[register >> 24]
            register = moved ^ contribution
    single = _byte_table()
    for byte in message[rows * _ROW :].tolist():
        register = register >> 8 ^ single[(register ^ byte) & 255]
    return register


@cache
def _byte_table() -> list[int]:
    table = []
    for byte in range(256):
        register = byte
        for _ in range(8):
            register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return table


@cache
def _offsets() -> npt.NDArray[np.intp]:
    return np.arange(_ROW, dtype=np.intp) * 256


@cache
def _row_tables() -> tuple[Table, tuple[list[int], list[int], list[int], list[int]]]:
    """What each byte value at each place of a row contributes (flat), and A^256 by the register's bytes."""
    single = np.array(_byte_table(), dtype=np.uint32)
    table = np.empty((_ROW, 256), dtype=np.uint32)
    table[-1] = single
    for place in range(_ROW - 2, -1, -1):
        table[place] = table[place + 1] >> np.uint32(8) ^ single[table[place + 1] & np.uint32(255)]
    # The register meets the message by XOR, so its four bytes act like the first four bytes of the row.
    a, b, c, d = (table[place].tolist() for place in range(4))
    return table.ravel(), (a, b, c, d)
