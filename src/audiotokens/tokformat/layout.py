"""Where everything stands in a `.tok` file: preamble, chunks, closing. docs/tok-format.md explains it.

All sizes follow from the header by arithmetic: a file is judged before anything is allocated for it.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from audiotokens.errors import TokenFileError
from audiotokens.tokformat.bitpack import packed_size
from audiotokens.tokformat.crc32c import crc32c
from audiotokens.tokformat.header import MOST_PAYLOAD_BYTES, Header, SegmentsHeader

MAGIC = b"\x89TOK\r\n"
VERSION = 1
MARKER = b"\xc7\x5a"

PREAMBLE = struct.Struct(">6sHH8s")
CHUNK_HEAD = struct.Struct(">2sI")
CHECKSUM = struct.Struct(">I")
POSITION = struct.Struct(">Q")
CONTENT_ID_BYTES = 8
CLOSING_BYTES = 32 - CONTENT_ID_BYTES
MOST_CHUNKS = 1 << 32


@dataclass(frozen=True)
class Part:
    """A table of numbers of fixed width that is stored in chunks of whole columns.

    Args:
        label: as errors name it.
        kind: "frames", "segments" or "conditioning".
        widths: bits of each row.
        columns: of the whole table.
        chunk_columns: of every chunk but the last.
        has_position: whether chunks begin with the base frame of their first column (streams with durations).
    """

    label: str
    kind: str
    widths: tuple[int, ...]
    columns: int
    chunk_columns: int
    has_position: bool = False

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.columns // self.chunk_columns) if self.columns else 0

    def payload_bytes(self, columns: int) -> int:
        """Bytes of a chunk of `columns` columns without its frame."""
        return packed_size(self.widths, columns) + POSITION.size * self.has_position

    @property
    def total_bytes(self) -> int:
        """Bytes of all chunks."""
        whole, rest = divmod(self.columns, self.chunk_columns) if self.columns else (0, 0)
        payloads = whole * self.payload_bytes(self.chunk_columns) + (self.payload_bytes(rest) if rest else 0)
        return payloads + self.num_chunks * (CHUNK_HEAD.size + CHECKSUM.size)


@dataclass(frozen=True)
class Chunk:
    """One chunk: its number in the file, its part, and the columns `start` to `end` that it holds."""

    number: int
    part: int
    start: int
    end: int
    payload_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes with marker, number and checksum."""
        return CHUNK_HEAD.size + self.payload_bytes + CHECKSUM.size


class Layout:
    """Parts and chunks that a header announces.

    Raises:
        TokenFileError: a chunk is larger, or there are more chunks, than the format allows.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self.parts = _parts(header)
        for part in self.parts:
            if part.columns and packed_size(part.widths, part.chunk_columns) > MOST_PAYLOAD_BYTES:
                raise TokenFileError(f"{part.label}: a chunk is larger than {MOST_PAYLOAD_BYTES} bytes")
        self._first_numbers = list(accumulate((part.num_chunks for part in self.parts), initial=0))
        if self.num_chunks > MOST_CHUNKS:
            raise TokenFileError(f"{self.num_chunks} chunks, expected at most {MOST_CHUNKS}")

    @property
    def num_chunks(self) -> int:
        """Number of chunks of all parts."""
        return self._first_numbers[-1]

    @property
    def body_bytes(self) -> int:
        """Bytes of all chunks and the closing."""
        return sum(part.total_bytes for part in self.parts) + CLOSING_BYTES

    def chunk(self, number: int) -> Chunk:
        """Return the chunk of this number; they are numbered part after part."""
        index = bisect_right(self._first_numbers, number) - 1
        part = self.parts[index]
        start = (number - self._first_numbers[index]) * part.chunk_columns
        end = min(start + part.chunk_columns, part.columns)
        return Chunk(number, index, start, end, part.payload_bytes(end - start))

    def in_file_order(self) -> list[Chunk]:
        """Return all chunks as they stand in the file: the first of every part, then the second, and so on.

        Chunks of different streams cover about the same time, so the beginning of a cut file is the beginning
        of the recording. Call this only after the size of the file was found to be as announced.
        """
        order = sorted(
            (place, first + place)
            for first, part in zip(self._first_numbers, self.parts)
            for place in range(part.num_chunks)
        )
        return [self.chunk(number) for _, number in order]


@dataclass(frozen=True)
class Start:
    """Everything before the chunks: magic, version, length, content id, JSON, checksum."""

    encoded: bytes

    @property
    def json(self) -> bytes:
        """The header's JSON."""
        return self.encoded[PREAMBLE.size : -CHECKSUM.size]

    @property
    def content_id(self) -> bytes:
        """The first eight bytes of the content hash."""
        return self.encoded[PREAMBLE.size - CONTENT_ID_BYTES : PREAMBLE.size]

    @cached_property
    def seed(self) -> int:
        """The CRC that every chunk's continues, so that a chunk of another file does not pass."""
        return crc32c(hashlib.sha256(self.encoded).digest())

    def content_hash(self) -> hashlib._Hash:
        """Begin the SHA-256 of the content: magic, version, length, JSON; payloads follow in file order."""
        return hashlib.sha256(self.encoded[: PREAMBLE.size - CONTENT_ID_BYTES] + self.json)


def make_start(json_bytes: bytes, content_id: bytes) -> Start:
    """Return what stands before the chunks."""
    head = PREAMBLE.pack(MAGIC, VERSION, len(json_bytes), content_id) + json_bytes
    return Start(head + CHECKSUM.pack(crc32c(head)))


def frame_chunk(chunk: Chunk, payload: bytes, seed: int) -> bytes:
    """Return a chunk as it stands in the file: marker, number, payload, checksum."""
    framed = CHUNK_HEAD.pack(MARKER, chunk.number) + payload
    return framed + CHECKSUM.pack(crc32c(framed, seed))


def is_intact(framed: memoryview, seed: int) -> bool:
    """Whether the checksum at the end of a framed chunk is right."""
    return CHECKSUM.pack(crc32c(framed[: -CHECKSUM.size], seed)) == framed[-CHECKSUM.size :]


def _parts(header: Header) -> tuple[Part, ...]:
    parts = []
    for stream in header.streams:
        label = f'stream "{stream.name}"'
        if stream.segments is not None:
            parts.append(_segments_part(stream.segments, f"windows of {label}"))
        chunk = stream.chunk or max(1, stream.frames)
        has_position = stream.duration_bits > 0
        parts.append(Part(label, "frames", stream.widths, stream.frames, chunk, has_position))
    for item in header.conditioning:
        chunk = item.chunk or max(1, item.frames)
        parts.append(
            Part(f'conditioning "{item.name}"', "conditioning", (32,) * item.rows, item.frames, chunk)
        )
    return tuple(parts)


def _segments_part(segments: SegmentsHeader, label: str) -> Part:
    chunk = segments.chunk or max(1, segments.count)
    return Part(label, "segments", (*segments.bits, 32), segments.count, chunk)
