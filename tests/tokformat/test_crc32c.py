"""CRC-32C against published values, and against itself in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from audiotokens.tokformat.crc32c import crc32c

# RFC 3720, appendix B.4, and the usual check value.
PUBLISHED = {
    b"123456789": 0xE3069283,
    b"": 0,
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(range(31, -1, -1)): 0x113FDB5C,
}


@pytest.mark.parametrize("data", PUBLISHED, ids=len)
def test_published_values(data: bytes) -> None:
    assert crc32c(data) == PUBLISHED[data]


def bit_by_bit(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 1000, 4099])
def test_against_the_definition(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == bit_by_bit(data)


def test_pieces() -> None:
    data = np.random.default_rng(0).bytes(200_000)
    whole = crc32c(data)
    for cut in (0, 1, 256, 65536, 65537, 199_999):
        assert crc32c(data[cut:], crc32c(data[:cut])) == whole
    assert crc32c(memoryview(data)) == whole
