"""`.tok`: tokens on disk, complete and exact, safe to read from anyone (specification: docs/tok-format.md).

Reading runs no code of the file, allocates in proportion to the bytes that are really there, and gives
either exactly the tokens that were written or an error. Salvage gives what is intact in a damaged file and
lists the rest.
"""

from __future__ import annotations

import io
import os
import secrets
import sys
from collections.abc import Callable
from typing import IO, Literal, TypeVar, overload

import numpy as np

from audiotokens.errors import TokenFileError, TokensError
from audiotokens.tokens import Tokens
from audiotokens.tokformat.header import describe, from_json, to_json
from audiotokens.tokformat.layout import (
    CHECKSUM,
    CHUNK_HEAD,
    CLOSING_BYTES,
    CONTENT_ID_BYTES,
    MAGIC,
    MARKER,
    PREAMBLE,
    VERSION,
    Chunk,
    Layout,
    Part,
    Start,
    frame_chunk,
    is_intact,
    make_start,
)
from audiotokens.tokformat.salvage import Missing, Salvage, rescue
from audiotokens.tokformat.spans import Run, Span
from audiotokens.tokformat.tables import from_tables, pack_chunk, to_tables, unpack_chunk

__all__ = ["Missing", "Run", "Salvage", "Span", "TokenFileError", "read_tokens", "write_tokens"]

PathOrFile = str | os.PathLike[str] | IO[bytes]
Result = TypeVar("Result")

_BLOCK = 1 << 20


@overload
def read_tokens(path_or_file: PathOrFile, *, salvage: Literal[False] = False) -> Tokens: ...
@overload
def read_tokens(path_or_file: PathOrFile, *, salvage: Literal[True]) -> Salvage: ...
@overload
def read_tokens(path_or_file: PathOrFile, *, salvage: bool) -> Tokens | Salvage: ...


def read_tokens(path_or_file: PathOrFile, *, salvage: bool = False) -> Tokens | Salvage:
    """Read a `.tok` file.

    Args:
        path_or_file: a path, "-" for standard input, or a binary file object, which is read to its end.
        salvage: return a `Salvage` of what is intact, also of a damaged file.

    Returns:
        Exactly the tokens that were written, or the `Salvage`.

    Raises:
        TokenFileError: the file is not a .tok file or was damaged; with `salvage`: its header was.
        TokensError: there is no such file, or it cannot be read.

    Example:
        >>> tokens = read_tokens("speech.tok")  # doctest: +SKIP
    """
    work: Callable[[IO[bytes]], Tokens | Salvage] = _salvage if salvage else _read
    if not isinstance(path_or_file, str | os.PathLike):
        return _named(work, path_or_file, str(getattr(path_or_file, "name", "tokens")))
    path = os.fspath(path_or_file)
    if path == "-":
        return _named(work, sys.stdin.buffer, "standard input")
    try:
        with open(path, "rb") as file:
            return _named(work, file, path)
    except OSError as error:
        raise TokensError(f'cannot read "{path}": {_reason(error)}; expected a .tok file') from None


def write_tokens(path_or_file: PathOrFile, tokens: Tokens, *, overwrite: bool = False) -> None:
    """Write a `.tok` file: complete, or not at all.

    Args:
        path_or_file: a path, "-" for standard output, or a binary file object.
        tokens: what to write.
        overwrite: replace an existing file.

    Raises:
        TokensError: the file exists or cannot be written, or the tokens exceed what the format holds.
    """
    encoded = _encode(tokens)
    if not isinstance(path_or_file, str | os.PathLike):
        if isinstance(path_or_file, io.TextIOBase):
            raise TokensError("cannot write tokens to a text file: open it in binary mode")
        path_or_file.write(encoded)
        return
    path = os.fspath(path_or_file)
    if path == "-":
        sys.stdout.buffer.write(encoded)
        sys.stdout.buffer.flush()
        return
    try:
        _write_path(os.path.realpath(path), encoded, overwrite)
    except OSError as error:
        raise TokensError(f'cannot write "{path}": {_reason(error)}') from None


def _encode(tokens: Tokens) -> bytes:
    header = describe(tokens)
    json_bytes = to_json(header)
    layout = Layout(header)
    tables = to_tables(tokens)
    order = layout.in_file_order()
    payloads = [pack_chunk(layout.parts[chunk.part], chunk, tables[chunk.part]) for chunk in order]
    content = make_start(json_bytes, bytes(CONTENT_ID_BYTES)).content_hash()
    for payload in payloads:
        content.update(payload)
    digest = content.digest()
    start = make_start(json_bytes, digest[:CONTENT_ID_BYTES])
    frames = (frame_chunk(chunk, payload, start.seed) for chunk, payload in zip(order, payloads))
    return b"".join([start.encoded, *frames, digest[CONTENT_ID_BYTES:]])


def _write_path(path: str, encoded: bytes, overwrite: bool) -> None:
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with open(path, "wb") as device:
            device.write(encoded)
        return
    if os.path.isdir(path):
        raise TokensError(f'cannot write "{path}": it is a folder')
    if os.path.exists(path) and not overwrite:
        raise TokensError(f'"{path}" exists: choose another name, or allow overwriting')
    unfinished = f"{path}.{secrets.token_hex(4)}.part"
    try:
        with open(unfinished, "xb") as file:
            file.write(encoded)
        os.replace(unfinished, path)
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)


def _read(file: IO[bytes]) -> Tokens:
    start, layout = _read_start(file)
    body = _read_up_to(file, layout.body_bytes + 1)
    if len(body) != layout.body_bytes:
        raise TokenFileError(_wrong_length(len(start.encoded), len(body), layout.body_bytes))
    # Only now is it known that the file is as long as its header says: every table has its bytes.
    tables = [np.empty((len(part.widths), part.columns), dtype=np.int64) for part in layout.parts]
    content = start.content_hash()
    offset, reached = 0, [0] * len(layout.parts)
    for chunk in layout.in_file_order():
        part = layout.parts[chunk.part]
        payload = _payload(memoryview(body)[offset : offset + chunk.total_bytes], chunk, part, start)
        position, table = unpack_chunk(part, chunk, payload)
        if position != reached[chunk.part]:
            raise TokenFileError(f"{part.label}: chunk {chunk.number} contradicts the durations before it")
        if part.has_position:
            reached[chunk.part] += sum(table[0].tolist())
        content.update(payload)
        tables[chunk.part][:, chunk.start : chunk.end] = table
        offset += chunk.total_bytes
    if start.content_id + body[-CLOSING_BYTES:] != content.digest():
        raise TokenFileError("the closing hash does not match the content: the file was changed")
    return from_tables(layout.header, tables)


def _payload(framed: memoryview, chunk: Chunk, part: Part, start: Start) -> memoryview:
    head = CHUNK_HEAD.unpack(framed[: CHUNK_HEAD.size])
    if head != (MARKER, chunk.number) or not is_intact(framed, start.seed):
        where = f"{part.label}, frames {chunk.start} to {chunk.end - 1} of {part.columns}"
        raise TokenFileError(f"{where}, is damaged; salvage reads what is intact")
    return framed[CHUNK_HEAD.size : -CHECKSUM.size]


def _salvage(file: IO[bytes]) -> Salvage:
    start, layout = _read_start(file)
    # What was inserted is passed over, but a pipe that never ends must end here.
    return rescue(_read_up_to(file, 2 * layout.body_bytes + _BLOCK), start, layout)


def _read_start(file: IO[bytes]) -> tuple[Start, Layout]:
    """Read and check everything before the chunks."""
    head = _read_up_to(file, PREAMBLE.size)
    magic = head[: len(MAGIC)]
    if magic != MAGIC:
        raise TokenFileError(f"the file begins with {magic!r}, expected {MAGIC!r}: it is not a .tok file")
    if len(head) < PREAMBLE.size:
        raise TokenFileError("the file is cut inside its header: nothing can be recovered")
    _, version, length, _ = PREAMBLE.unpack(head)
    if version != VERSION:
        raise TokenFileError(f"the file says it is version {version}, expected {VERSION}: update audiotokens")
    rest = _read_up_to(file, length + CHECKSUM.size)
    if len(rest) != length + CHECKSUM.size:
        raise TokenFileError("the file is cut inside its header: nothing can be recovered")
    if not is_intact(memoryview(head + rest), 0):
        raise TokenFileError("the header is damaged (wrong checksum): nothing can be recovered")
    start = Start(head + rest)
    return start, Layout(from_json(start.json))


def _wrong_length(start_bytes: int, found: int, expected: int) -> str:
    if found > expected:
        return f"the file goes on after byte {start_bytes + expected}, its end; salvage reads what is intact"
    sizes = f"found {start_bytes + found} bytes, expected {start_bytes + expected}"
    return f"the file is cut: {sizes}; salvage reads what is intact"


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    """Read `size` bytes or to the end; in blocks, because `size` may be a lie."""
    blocks, missing = [], size
    while missing > 0:
        block = file.read(min(missing, _BLOCK))
        if isinstance(block, str):
            raise TokensError("cannot read tokens from a text file: open it in binary mode")
        if not block:
            break
        blocks.append(block)
        missing -= len(block)
    return b"".join(blocks)


def _named(work: Callable[[IO[bytes]], Result], file: IO[bytes], name: str) -> Result:
    try:
        return work(file)
    except TokenFileError as error:
        raise TokenFileError(f'"{name}": {error}') from None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
