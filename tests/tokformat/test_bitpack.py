"""Fixed-width packing, against bits written out by hand and by Python."""

from __future__ import annotations

import numpy as np
import pytest

from audiotokens.tokformat.bitpack import bit_width, pack, packed_size, unpack


def by_hand(table: np.ndarray, widths: list[int]) -> bytes:
    bits = "".join(
        f"{number:0{width}b}" for row, width in zip(table.tolist(), widths, strict=True) for number in row
    )
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


@pytest.mark.parametrize(
    "widths", [[1], [3], [8], [9, 9], [10, 3, 10], [16, 17], [32], [33, 1], [62], [1] * 40]
)
@pytest.mark.parametrize("columns", [1, 7, 64])
def test_pack_and_unpack(widths: list[int], columns: int) -> None:
    random = np.random.default_rng([columns, *widths])
    table = np.stack([random.integers(0, 1 << width, columns) for width in widths])
    packed = pack(table, widths)
    assert packed == by_hand(table, widths)
    assert len(packed) == packed_size(widths, columns)
    assert np.array_equal(unpack(packed, widths, columns), table)


def test_bit_width() -> None:
    assert [bit_width(largest) for largest in (0, 1, 2, 1023, 1024, 2**62 - 1)] == [1, 1, 2, 10, 11, 62]


def test_unpack_refuses_another_length_and_filled_gaps() -> None:
    with pytest.raises(ValueError, match="3 packed bytes, expected 2"):
        unpack(bytes(3), [3], 5)
    with pytest.raises(ValueError, match="filling bits are not zero"):
        unpack(b"\0\1", [3], 5)
