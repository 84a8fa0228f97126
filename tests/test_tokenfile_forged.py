"""`.tok` files whose checksums are right and whose content is not: what an attacker can write."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from audiotokens.errors import TokenFileError
from audiotokens.tokenfile import Salvage, read_tokens, write_tokens
from audiotokens.tokens import CodeStream, Tokens
from audiotokens.tokformat.crc32c import crc32c


def decoded(data: bytes | bytearray) -> Tokens:
    return read_tokens(io.BytesIO(data))


def salvaged(data: bytes | bytearray) -> Salvage:
    return read_tokens(io.BytesIO(data), salvage=True)


def forge(header: Any, payloads: list[bytes] | None = None, digest: bytes | None = None) -> bytes:
    """A file with right checksums around any header: what an attacker can write."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    head = b"\x89TOK\r\n" + struct.pack(">HH", 1, len(text))
    digest = digest or hashlib.sha256(head + text + b"".join(payloads or [])).digest()
    start = head + digest[:8] + text
    start += struct.pack(">I", crc32c(start))
    seed = crc32c(hashlib.sha256(start).digest())
    framed = [b"\xc7\x5a" + struct.pack(">I", i) + payload for i, payload in enumerate(payloads or [])]
    return start + b"".join(f + struct.pack(">I", crc32c(f, seed)) for f in framed) + digest[8:]


BASE = {"tokenizer": "a", "fingerprint": "f", "num_samples": 960, "sample_rate": 16000}
STREAM = {"name": "codes", "codebook_sizes": [[8, 1]], "frame_rate": 50, "frames": 8}


def with_stream(**changes: object) -> dict[str, object]:
    return {**BASE, "streams": [{**STREAM, **changes}]}


def test_the_content_hash() -> None:
    stream = CodeStream(np.arange(8)[None], (8,), Fraction(50))
    tokens = Tokens({"codes": stream}, 2560, 16000, 1, "a", "f")
    stored = io.BytesIO()
    write_tokens(stored, tokens)
    data = bytearray(stored.getvalue())
    data[-1] ^= 1
    with pytest.raises(TokenFileError, match="closing hash does not match"):
        decoded(data)
    assert salvaged(data).tokens == tokens
    assert "closing hash" in salvaged(data).report()[0]
    other = forge(with_stream(), [b"\x05\x39\x77"], digest=bytes(32))
    with pytest.raises(TokenFileError, match="closing hash does not match"):
        decoded(other)
    with pytest.raises(TokenFileError, match="every chunk is intact, but the content hash"):
        salvaged(other)


def test_forged_files_are_read_where_they_are_valid() -> None:
    tokens = decoded(forge(with_stream(), [b"\x05\x39\x77"]))
    assert tokens.codes.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("header", "payloads", "message"),
    [
        (b"{", [], "the header is not valid"),
        (b"[" * 60000, [], "the header is not valid"),
        (b'{"num_samples":1,"num_samples":2}', [], "a key stands twice"),
        (b'{"num_samples":' + b"9" * 5000 + b"}", [], "the header is not valid"),
        (b"\xff\xfe", [], "the header is not valid"),
        ({**BASE, "num_samples": float("nan")}, [], "found NaN"),
        ({**BASE, "extra": 1}, [], 'unknown key "extra"'),
        ({**BASE, "sample_rate": True}, [], "sample_rate"),
        ({**BASE, "sample_rate": 0}, [], "sample_rate is 0"),
        ({**BASE, "num_samples": -1}, [], "num_samples is -1"),
        (BASE, [], "at least one stream"),
        (with_stream(tokenizer="x"), [], 'unknown key "tokenizer"'),
        (with_stream(frame_rate="1/0"), [], "header"),
        (with_stream(frame_rate=-1), [b"\x05\x39\x77"], "frame_rate is -1"),
        (with_stream(frames=2**40, chunk=2**16), [b"\x05\x39\x77"], "is cut: found"),
        (with_stream(frames=2**60, chunk=1), [], "chunks, expected at most"),
        (with_stream(frames=2**60), [], "a chunk is larger"),
        (with_stream(codebook_sizes=[[8, 10**9]]), [], "number of books is 1000000000"),
        (with_stream(codebook_sizes=[[8, 4000]] * 200), [], "800000 books"),
        (with_stream(codebook_sizes=[[0, 1]]), [], "book size is 0"),
        (with_stream(codebook_sizes=[[2**64, 1]]), [], "book size is huge"),
        (with_stream(codebook_sizes=[[7, 1]]), [b"\x05\x39\x77"], "holds the code 7, expected 0 to 6"),
        (with_stream(frames=7), [b"\x05\x39\x77"], "filling bits are not zero"),
        (with_stream(duration_bits=3, frames=2), [bytes(8) + b"\x0f\x00"], "smallest duration is 0"),
        (with_stream(duration_bits=3, frames=2), [bytes(7) + b"\x01\x24\x00"], "contradicts the durations"),
        (
            {**BASE, "streams": [STREAM], "conditioning": [{"name": "c", "rows": 10**9, "frames": 1}]},
            [],
            "rows, expected at most",
        ),
        (
            {**BASE, "conditioning": [{"name": "c", "rows": 1, "frames": 1}]},
            [b"\x7f\xc0\x00\x00"],
            "not all finite",
        ),
        ({**BASE, "streams": [STREAM, STREAM]}, [], "two streams have one name"),
    ],
)
def test_forged_files_are_refused(header: Any, payloads: list[bytes], message: str) -> None:
    data = forge(header, payloads)
    tracemalloc.start()
    with pytest.raises(TokenFileError, match=message) as caught:
        decoded(data)
    for read in (decoded, salvaged):
        try:
            read(data)
        except TokenFileError:
            continue
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 10 * 2**20
