"""The packets of an Ogg stream (RFC 3533), to count what a codec wrote without its container."""

from __future__ import annotations

import struct
import zlib

from audiotokens.errors import DamagedError

_HEADER = struct.Struct("<4sBBqIIIB")
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_packets(data: bytes) -> list[bytes]:
    """Return the packets of a whole Ogg file with one stream, headers included.

    A packet ends with the first lacing value below 255; values of 255 go on, over pages too.

    Raises:
        DamagedError: a page is cut, changed, missing or of another stream, or a packet is not finished.
    """
    packets: list[bytes] = []
    pending: list[bytes] = []
    position, number, flags, serials = 0, 0, 0, set()
    while position < len(data):
        flags, serial, sequence, lacing, body = _page(data, position)
        serials.add(serial)
        if sequence != number or len(serials) > 1 or bool(flags & _FIRST) != (number == 0):
            raise DamagedError(
                f"Ogg: found page {sequence} of stream {serial}, expected page {number} of one"
            )
        if bool(flags & _CONTINUED) != bool(pending):
            raise DamagedError(f"Ogg: page {number} does not go on where page {number - 1} ended")
        begin = 0
        for size in lacing:
            pending.append(body[begin : begin + size])
            begin += size
            if size < 255:
                packets.append(b"".join(pending))
                pending = []
        position += _HEADER.size + len(lacing) + len(body)
        number += 1
    if pending or not flags & _LAST:
        raise DamagedError(f"Ogg: the stream is cut off after page {number - 1}")
    return packets


def _page(data: bytes, start: int) -> tuple[int, int, int, bytes, bytes]:
    """Return flags, serial number, sequence number, lacing values and body of the page at `start`."""
    if len(data) < start + _HEADER.size:
        raise DamagedError(f"Ogg: the page at byte {start} is cut off")
    magic, version, flags, _, serial, sequence, checksum, count = _HEADER.unpack_from(data, start)
    if magic != b"OggS" or version != 0:
        raise DamagedError(f"Ogg: found no page at byte {start}")
    begin = start + _HEADER.size
    lacing = data[begin : begin + count]
    end = begin + count + sum(lacing)
    if len(lacing) < count or len(data) < end:
        raise DamagedError(f"Ogg: the page at byte {start} is cut off")
    blank = data[start : start + 22] + bytes(4) + data[start + 26 : end]
    if _checksum(blank) != checksum:
        raise DamagedError(f"Ogg: the page at byte {start} does not have its checksum")
    return flags, serial, sequence, lacing, data[begin + count : end]


def _checksum(data: bytes) -> int:
    """CRC-32 of RFC 3533: the polynomial of zlib, but most significant bit first and without inversions."""
    mirrored = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
