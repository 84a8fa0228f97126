"""The header of a `.tok` file: what its JSON may say, and how it follows from tokens (docs/tok-format.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import groupby
from typing import Any

from audiotokens.config import from_dict
from audiotokens.errors import ConfigError, TokenFileError, TokensError
from audiotokens.splice import common_frame
from audiotokens.streams import LARGEST, MOST_CODEBOOKS, CodeStream, Conditioning
from audiotokens.tokens import Source, Tokens
from audiotokens.tokformat.bitpack import bit_width

MOST_JSON_BYTES = 0xFFFF
MOST_PARTS = 128
MOST_ROWS = 16384
MOST_PAYLOAD_BYTES = 1 << 16
CHUNK_SECONDS = 5


@dataclass(frozen=True)
class SegmentsHeader:
    """Windows: how many, bits of (start_sample, num_samples, frames), windows in a chunk (0: all)."""

    count: int
    bits: tuple[int, int, int]
    chunk: int = 0


@dataclass(frozen=True)
class StreamHeader:
    """A stream: runs of (book size, books), frames in a chunk (0: all), bits of a duration (0: none)."""

    name: str
    codebook_sizes: tuple[tuple[int, int], ...]
    frame_rate: Fraction
    frames: int
    chunk: int = 0
    duration_bits: int = 0
    segments: SegmentsHeader | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Size of every book."""
        return tuple(size for size, count in self.codebook_sizes for _ in range(count))

    @property
    def widths(self) -> tuple[int, ...]:
        """Bits of each row of the stream's table: durations, if any, then the books."""
        durations = (self.duration_bits,) if self.duration_bits else ()
        return durations + tuple(bit_width(size - 1) for size in self.sizes)


@dataclass(frozen=True)
class ConditioningHeader:
    """A conditioning: rows of float32, columns, rate, columns in a chunk (0: all)."""

    name: str
    rows: int
    frames: int
    frame_rate: Fraction = Fraction(0)
    chunk: int = 0


@dataclass(frozen=True)
class SourceHeader:
    """How the audio was fed; None: as in the header itself."""

    sample_rate: int | None = None
    num_samples: int | None = None
    channels: int | None = None
    resampler: str = ""
    mixdown: str = ""


@dataclass(frozen=True)
class Header:
    """Everything of the tokens but codes, durations, windows and conditioning values."""

    tokenizer: str
    fingerprint: str
    num_samples: int
    sample_rate: int
    channels: int = 1
    source: SourceHeader | None = None
    streams: tuple[StreamHeader, ...] = ()
    conditioning: tuple[ConditioningHeader, ...] = ()

    def full_source(self) -> Source | None:
        """The source with what was left out of the header filled in."""
        given = self.source
        if given is None:
            return None
        return Source(
            sample_rate=self.sample_rate if given.sample_rate is None else given.sample_rate,
            num_samples=self.num_samples if given.num_samples is None else given.num_samples,
            channels=self.channels if given.channels is None else given.channels,
            resampler=given.resampler,
            mixdown=given.mixdown,
        )


def to_json(header: Header) -> bytes:
    """Return the header as compact JSON with sorted keys, without what has its default value.

    Raises:
        TokensError: it is longer than the format allows.
    """
    text = json.dumps(_plain(header), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    encoded = text.encode("utf-8")
    if len(encoded) > MOST_JSON_BYTES:
        raise TokensError(f"the header takes {len(encoded)} bytes, a .tok file holds {MOST_JSON_BYTES}")
    return encoded


def from_json(encoded: bytes) -> Header:
    """Read a header that may come from anyone.

    Raises:
        TokenFileError: it is not JSON, or not what this version knows.
    """
    try:
        values = json.loads(encoded.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
        header = from_dict(Header, values, where="header")
    except (ValueError, RecursionError, ConfigError) as error:
        raise TokenFileError(f"the header is not valid: {' '.join(str(error).split())[:200]}") from None
    _check(header)
    return header


def describe(tokens: Tokens) -> Header:
    """Return the header that these tokens are written with.

    Raises:
        TokensError: they exceed what the format holds.
    """
    grid = _grid(tokens)
    header = Header(
        tokenizer=tokens.tokenizer,
        fingerprint=tokens.fingerprint,
        num_samples=tokens.num_samples,
        sample_rate=tokens.sample_rate,
        channels=tokens.channels,
        source=_describe_source(tokens),
        streams=tuple(_describe_stream(name, stream, grid) for name, stream in tokens.streams.items()),
        conditioning=tuple(_describe_conditioning(name, c, grid) for name, c in tokens.conditioning.items()),
    )
    try:
        _check(header)
    except TokenFileError as error:
        raise TokensError(f"a .tok file cannot hold these tokens: {error}") from None
    return header


def _describe_source(tokens: Tokens) -> SourceHeader | None:
    source = tokens.source
    if source is None:
        return None
    return SourceHeader(
        sample_rate=None if source.sample_rate == tokens.sample_rate else source.sample_rate,
        num_samples=None if source.num_samples == tokens.num_samples else source.num_samples,
        channels=None if source.channels == tokens.channels else source.channels,
        resampler=source.resampler,
        mixdown=source.mixdown,
    )


def _describe_stream(name: str, stream: CodeStream, grid: Fraction) -> StreamHeader:
    segments, duration_bits = None, 0
    if stream.durations is not None:
        duration_bits = bit_width(int(stream.durations.max(initial=0)))
    if stream.segments is not None:
        columns = [(s.start_sample, s.num_samples, s.frames) for s in stream.segments]
        a, b, c = (bit_width(max(column, default=0)) for column in zip(*columns or [(0, 0, 0)]))
        chunk = _chunk(len(columns), a + b + c + 32, None)
        segments = SegmentsHeader(len(columns), (a, b, c), chunk)
    runs = tuple((size, len(list(same))) for size, same in groupby(stream.codebook_sizes))
    bits = duration_bits + sum(bit_width(size - 1) for size in stream.codebook_sizes)
    chunk = _chunk(stream.num_frames, bits, stream.frame_rate * grid)
    return StreamHeader(name, runs, stream.frame_rate, stream.num_frames, chunk, duration_bits, segments)


def _describe_conditioning(name: str, item: Conditioning, grid: Fraction) -> ConditioningHeader:
    rows, columns = item.values.shape
    chunk = _chunk(columns, 32 * rows, item.frame_rate * grid)
    return ConditioningHeader(name, rows, columns, item.frame_rate, chunk)


def _grid(tokens: Tokens) -> Fraction:
    """Seconds of a chunk: about five, a whole number of frames of every part, so that chunks end together."""
    rates = [s.frame_rate for s in tokens.streams.values() if s.segments is None]
    rates += [c.frame_rate for c in tokens.conditioning.values()]
    step = Fraction(common_frame(tokens.sample_rate / rate for rate in rates if rate), tokens.sample_rate)
    return max(1, int(CHUNK_SECONDS / step)) * step if step <= 2 * CHUNK_SECONDS else Fraction(CHUNK_SECONDS)


def _chunk(columns: int, column_bits: int, wanted: Fraction | None) -> int:
    """Columns of a chunk as the header says it: 0 if one chunk holds them all."""
    most = max(1, 8 * MOST_PAYLOAD_BYTES // max(1, column_bits))
    chunk = min(most, math.ceil(wanted)) if wanted else most
    return chunk if chunk < columns else 0


def _check(header: Header) -> None:
    """Refuse what would make a reader work or allocate without bounds."""
    parts: list[StreamHeader | ConditioningHeader] = [*header.streams, *header.conditioning]
    if len({part.name for part in header.streams}) < len(header.streams):
        raise TokenFileError("two streams have one name")
    if len({part.name for part in header.conditioning}) < len(header.conditioning):
        raise TokenFileError("two conditionings have one name")
    if len(parts) > MOST_PARTS:
        raise TokenFileError(f"{len(parts)} streams and conditionings, expected at most {MOST_PARTS}")
    for stream in header.streams:
        _check_stream(stream)
    books = sum(count for stream in header.streams for _, count in stream.codebook_sizes)
    rows = sum(item.rows for item in header.conditioning)
    if books > MOST_CODEBOOKS or rows > MOST_ROWS:
        raise TokenFileError(
            f"{books} books and {rows} rows, expected at most {MOST_CODEBOOKS} and {MOST_ROWS}"
        )
    for name in ("num_samples", "sample_rate", "channels"):
        _check_range(getattr(header, name), int(name != "num_samples"), LARGEST, name)
    for part in parts:
        _check_range(part.frame_rate.numerator, 0, LARGEST, "numerator of frame_rate")
        _check_range(part.frame_rate.denominator, 1, LARGEST, "denominator of frame_rate")
        _check_range(part.frames, 0, LARGEST, "frames")
        _check_range(part.chunk, 0, LARGEST, "chunk")
    for item in header.conditioning:
        _check_range(item.rows, 0, MOST_ROWS, "rows")
        if item.frames and not item.rows:
            raise TokenFileError("conditioning has columns but no rows")


def _check_stream(stream: StreamHeader) -> None:
    for size, count in stream.codebook_sizes:
        _check_range(size, 1, LARGEST, "book size")
        _check_range(count, 1, MOST_CODEBOOKS, "number of books")
    _check_range(stream.duration_bits, 0, 62, "duration_bits")
    if stream.segments is not None:
        _check_range(stream.segments.count, 0, LARGEST, "segments.count")
        _check_range(stream.segments.chunk, 0, LARGEST, "segments.chunk")
        for bits in stream.segments.bits:
            _check_range(bits, 1, 62, "segments.bits")


def _check_range(value: int, lowest: int, highest: int, what: str) -> None:
    if not lowest <= value <= highest:
        found = value if abs(value) < 1 << 64 else "huge"
        raise TokenFileError(f"{what} is {found}, expected {lowest} to {highest}")


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    given = ((field, getattr(value, field.name)) for field in fields(value))
    return {field.name: _plain(item) for field, item in given if item != field.default}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice")
    return values


def _refuse(text: str) -> Any:
    raise ValueError(f"found {text}, expected a finite number")
