from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from audiotokens.errors import DamagedError
from audiotokens.evaluation.anchors.ogg import ogg_packets

CONTINUED, FIRST, LAST = 1, 2, 4


def checksum(data: bytes) -> int:
    """CRC of RFC 3533, bit by bit."""
    value = 0
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def page(number: int, lacing: Sequence[int], body: bytes, flags: int = 0, serial: int = 7) -> bytes:
    assert len(body) == sum(lacing)
    head = struct.pack("<4sBBqII", b"OggS", 0, flags, 0, serial, number)
    tail = bytes([len(lacing), *lacing]) + body
    return head + struct.pack("<I", checksum(head + bytes(4) + tail)) + tail


SHORT, LONG = bytes(range(100)), bytes(range(256)) * 3
THREE = [
    page(0, [100], SHORT, FIRST),
    page(1, [3, 255, 255], LONG[:3] + LONG[:510], 0),
    page(2, [255, 3, 0, 10], LONG[510:] + LONG[: 3 - 3] + SHORT[:10], CONTINUED | LAST),
]


def test_packets_are_put_together_from_lacing_values() -> None:
    packets = ogg_packets(page(0, [100, 255, 1, 0], SHORT + LONG[:256], FIRST | LAST))
    assert packets == [SHORT, LONG[:256], b""]


def test_a_packet_of_255_bytes_ends_with_a_lacing_value_of_0() -> None:
    assert ogg_packets(page(0, [255, 0, 5], LONG[:260], FIRST | LAST)) == [LONG[:255], LONG[255:260]]


def test_a_packet_goes_on_over_pages() -> None:
    assert ogg_packets(b"".join(THREE)) == [SHORT, LONG[:3], LONG, b"", SHORT[:10]]


def test_a_packet_can_fill_a_whole_page_and_end_with_an_empty_value_on_the_next() -> None:
    first = page(0, [255, 255], LONG[:510], FIRST)
    assert ogg_packets(first + page(1, [0], b"", CONTINUED | LAST)) == [LONG[:510]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the stream is cut off"),
        (b"".join(THREE)[:-1], "is cut off"),
        (b"".join(THREE)[:20], "the page at byte 0 is cut off"),
        (b"".join(THREE[:2]), "the stream is cut off after page 1"),
        (THREE[0] + THREE[2], "found page 2 of stream 7, expected page 1"),
        (THREE[1] + THREE[2], "found page 1 of stream 7, expected page 0"),
        (THREE[0] + b"x" + THREE[1], "found no page at byte 128"),
        (THREE[0] + page(1, [4], b"four", CONTINUED | LAST), "page 1 does not go on where page 0 ended"),
        (THREE[0] + page(1, [4], b"four", LAST, serial=8), "found page 1 of stream 8"),
        (page(0, [255], LONG[:255], FIRST | LAST), "the stream is cut off after page 0"),
        (THREE[0][:-1] + b"!", "does not have its checksum"),
    ],
)
def test_damage_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        ogg_packets(data)
