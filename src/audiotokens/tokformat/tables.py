"""Tokens as tables of numbers, which `.tok` files store, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from audiotokens.errors import TokenFileError, TokensError
from audiotokens.streams import CodeStream, Conditioning, Segment
from audiotokens.tokens import Tokens
from audiotokens.tokformat.bitpack import Table, pack, unpack
from audiotokens.tokformat.header import Header, StreamHeader
from audiotokens.tokformat.layout import POSITION, Chunk, Part


def to_tables(tokens: Tokens) -> list[Table]:
    """Return one table for each part of the layout: of a stream its windows, then durations above codes."""
    tables = []
    for stream in tokens.streams.values():
        if stream.segments is not None:
            tables.append(_segments_table(stream.segments))
        tables.append(
            stream.codes if stream.durations is None else np.vstack([stream.durations, stream.codes])
        )
    for item in tokens.conditioning.values():
        tables.append(item.values.view(np.uint32).astype(np.int64))
    return tables


def pack_chunk(part: Part, chunk: Chunk, table: Table) -> bytes:
    """Return the payload of a chunk, cut from the whole table of its part."""
    packed = pack(table[:, chunk.start : chunk.end], part.widths)
    return POSITION.pack(int(table[0, : chunk.start].sum())) + packed if part.has_position else packed


def unpack_chunk(part: Part, chunk: Chunk, payload: memoryview) -> tuple[int, Table]:
    """Return the base frame at which a chunk begins (0 if it does not say) and its table `[R, n]`.

    Raises:
        TokenFileError: the payload contradicts the format.
    """
    position = 0
    if part.has_position:
        (position,) = POSITION.unpack(payload[: POSITION.size])
        payload = payload[POSITION.size :]
    try:
        return position, unpack(payload, part.widths, chunk.end - chunk.start)
    except ValueError as error:
        raise TokenFileError(f"{part.label}, chunk {chunk.number}: {error}") from None


def from_tables(header: Header, tables: Sequence[Table]) -> Tokens:
    """Return the tokens that a header and the tables of all its parts describe.

    Raises:
        TokenFileError: they contradict each other.
    """
    left = iter(tables)
    try:
        return Tokens(
            streams={stream.name: _stream(stream, left) for stream in header.streams},
            num_samples=header.num_samples,
            sample_rate=header.sample_rate,
            channels=header.channels,
            tokenizer=header.tokenizer,
            fingerprint=header.fingerprint,
            source=header.full_source(),
            conditioning={
                c.name: Conditioning(to_values(next(left)), c.frame_rate) for c in header.conditioning
            },
        )
    except TokensError as error:
        raise TokenFileError(f"the content contradicts itself: {error}") from None


def to_stream(header: StreamHeader, table: Table, segments: tuple[Segment, ...] | None = None) -> CodeStream:
    """Return columns of a stream's table as a stream.

    Raises:
        TokensError: they are not valid codes or durations.
    """
    rows = 1 if header.duration_bits else 0
    return CodeStream(table[rows:], header.sizes, header.frame_rate, table[0] if rows else None, segments)


def to_segments(table: Table) -> tuple[Segment, ...]:
    """Return a table of windows `[4, W]` as segments.

    Raises:
        TokensError: they are not valid windows.
    """
    columns = (*table[:3].tolist(), to_values(table[3]).tolist())
    return tuple(Segment(start, length, frames, scale) for start, length, frames, scale in zip(*columns))


def to_values(table: Table) -> np.ndarray:
    """Return 32-bit patterns as the float32 numbers that they are."""
    return table.astype(np.uint32).view(np.float32)


def _stream(header: StreamHeader, tables: Iterator[Table]) -> CodeStream:
    segments = to_segments(next(tables)) if header.segments is not None else None
    return to_stream(header, next(tables), segments)


def _segments_table(segments: Sequence[Segment]) -> Table:
    table = np.empty((4, len(segments)), dtype=np.int64)
    for column, segment in enumerate(segments):
        table[:3, column] = segment.start_sample, segment.num_samples, segment.frames
    table[3] = np.array([segment.scale for segment in segments], dtype=np.float32).view(np.uint32)
    return table
