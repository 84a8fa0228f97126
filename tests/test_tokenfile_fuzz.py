"""Thousands of damaged `.tok` files: an error or a flagged salvage, never other tokens."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import token_cases as cases

from audiotokens.errors import TokenFileError
from audiotokens.tokenfile import Salvage, read_tokens, write_tokens
from audiotokens.tokens import Tokens
from audiotokens.tokformat.crc32c import crc32c

MOST_MEMORY = 16 * 2**20
MOST_SECONDS = 5.0

Random = np.random.Generator
Mutation = Callable[[bytes, Random, bytes], bytes]


def encoded(tokens: Tokens) -> bytes:
    stored = io.BytesIO()
    write_tokens(stored, tokens)
    return stored.getvalue()


def a_range(data: bytes, random: Random, longest: int = 2000) -> tuple[int, int]:
    start = int(random.integers(0, len(data)))
    return start, min(len(data), start + int(random.integers(1, longest)))


def flip(data: bytes, random: Random, _: bytes) -> bytes:
    damaged = bytearray(data)
    for place in random.integers(0, len(data), random.choice([1, 1, 1, 2, 10])):
        damaged[place] ^= 1 << random.integers(0, 8)
    return bytes(damaged)


def cut(data: bytes, random: Random, _: bytes) -> bytes:
    return data[: random.integers(0, len(data))]


def lose(data: bytes, random: Random, _: bytes) -> bytes:
    start, end = a_range(data, random)
    return data[:start] + data[end:]


def overwrite(data: bytes, random: Random, _: bytes) -> bytes:
    start, end = a_range(data, random)
    filler = bytes(end - start) if random.random() < 0.5 else random.bytes(int(end - start))
    return data[:start] + filler + data[end:]


def insert(data: bytes, random: Random, _: bytes) -> bytes:
    start, end = a_range(data, random)
    return data[:start] + random.bytes(int(end - start)) + data[start:]


def duplicate(data: bytes, random: Random, _: bytes) -> bytes:
    start, end = a_range(data, random)
    return data[:end] + data[start:]


def transplant(data: bytes, random: Random, other: bytes) -> bytes:
    start, end = a_range(data, random)
    return data[:start] + other[start:end] + data[end:]


def swap_chunks(data: bytes, random: Random, other: bytes) -> bytes:
    """Exchange what stands between two markers with what stands between two others, or another file's."""
    places = [found.start() for found in re.finditer(b"\xc7\x5a", data)] + [len(data) - 24]
    donor = other if random.random() < 0.3 else data
    if len(places) < 3:
        return flip(data, random, other)
    i, j = sorted(random.choice(len(places) - 1, 2, replace=False))
    one, two = data[places[i] : places[i + 1]], donor[places[j] : places[j + 1]]
    return data[: places[i]] + two + data[places[i + 1] : places[j]] + one + data[places[j + 1] :]


def edit_header(data: bytes, random: Random, _: bytes) -> bytes:
    """Change one number or word of the JSON and put the header's checksum right."""
    length = int.from_bytes(data[8:10], "big")
    text = data[18 : 18 + length].decode("latin-1")
    found = list(re.finditer(r"-?\d+|\w+", text))
    if not found:
        return data
    chosen = found[random.integers(0, len(found))]
    new = str(random.choice(["0", "1", "-1", "7", "99", "1e3", "null", "[]", str(2**40), str(2**70), "x"]))
    edited = (text[: chosen.start()] + new + text[chosen.end() :]).encode("latin-1")
    head = data[:8] + struct.pack(">H", len(edited) & 0xFFFF) + data[10:18] + edited
    return head + struct.pack(">I", crc32c(head)) + data[18 + length + 4 :]


MUTATIONS: list[Mutation] = [flip, flip, cut, lose, overwrite, insert, duplicate, transplant, swap_chunks]
MUTATIONS += [edit_header]


def originals() -> list[tuple[Tokens, Tokens]]:
    """Tokens, and others of the same shape."""
    made = [case() for case in cases.CASES.values()] + [cases.plain(31, 2), cases.snac(600)]
    pairs = []
    for tokens in made:
        streams = {name: replace(s, codes=s.codes[:, ::-1]) for name, s in tokens.streams.items()}
        pairs.append((tokens, replace(tokens, streams=streams)))
    return pairs


def attempt(damaged: bytes, *, salvage: bool) -> Tokens | Salvage | None:
    """Read, or None after an error; every other exception is a failure."""
    try:
        return read_tokens(io.BytesIO(damaged), salvage=salvage)
    except TokenFileError as error:
        return None if "\n" not in str(error) else pytest.fail(f"two lines: {error}")


def check(written: Tokens, data: bytes, damaged: bytes) -> bool:
    """A damaged file is an error; its salvage gives parts of what was written, and says so."""
    found = attempt(damaged, salvage=False)
    assert found == (written if damaged == data else None)
    saved = attempt(damaged, salvage=True)
    if not isinstance(saved, Salvage):
        return False
    assert bool(saved.report()) == (damaged != data)
    assert (saved.num_samples, saved.sample_rate) == (written.num_samples, written.sample_rate)
    assert saved.tokens == (written if saved.is_complete else None)
    for span in () if saved.is_complete else saved.spans:
        bounds = [Fraction(sample, written.sample_rate) for sample in (span.start_sample, span.end_sample)]
        assert span.tokens == written.clip(*bounds)
    return True


def fuzz(times: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    pool = [(one, two, encoded(one), encoded(two)) for one, two in originals()]
    slowest, saved, peak = 0.0, 0, 0
    for turn in range(times):
        written, other_tokens, data, other = pool[turn % len(pool)]
        damaged = data
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            mutation = MUTATIONS[random.integers(0, len(MUTATIONS))]
            damaged = mutation(damaged, random, other) or damaged
        if damaged[:18] == other[:18]:
            # So much was transplanted that this is now the other file, damaged.
            written, data = other_tokens, other
        if turn % 7 == 0:
            tracemalloc.start()
        start = time.process_time()
        saved += check(written, data, damaged)
        slowest = max(slowest, time.process_time() - start)
        if tracemalloc.is_tracing():
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peak < MOST_MEMORY
    assert slowest < MOST_SECONDS
    assert saved > times / 4


def test_500_mutations() -> None:
    fuzz(500, seed=1)


@pytest.mark.slow
def test_10000_mutations() -> None:
    fuzz(10_000, seed=2)


def forged(text: str, random: Random) -> bytes:
    """A file with any header and any chunks, all checksums right, as an attacker would write it."""
    head = b"\x89TOK\r\n\x00\x01" + struct.pack(">H", len(text.encode()))
    payloads = [random.bytes(int(random.integers(0, 60))) for _ in range(random.integers(0, 4))]
    digest = hashlib.sha256(head + text.encode() + b"".join(payloads)).digest()
    start = head + digest[:8] + text.encode()
    start += struct.pack(">I", crc32c(start))
    seed = crc32c(hashlib.sha256(start).digest())
    chunks = [b"\xc7\x5a" + struct.pack(">I", i) + payload for i, payload in enumerate(payloads)]
    return start + b"".join(c + struct.pack(">I", crc32c(c, seed)) for c in chunks) + digest[8:]


def test_forged_headers_neither_crash_nor_allocate() -> None:
    random = np.random.default_rng(3)
    headers = []
    for tokens, _ in originals():
        data = encoded(tokens)
        headers.append(json.loads(data[18 : 18 + int.from_bytes(data[8:10], "big")]))
    values: list[Any] = [
        0,
        1,
        -1,
        3,
        40,
        2**31,
        2**53,
        2**62,
        2**63,
        2**200,
        "1/3",
        "x",
        "",
        None,
        [],
        {},
        True,
        0.5,
    ]
    tracemalloc.start()
    for turn in range(120):
        header = json.loads(json.dumps(headers[turn % len(headers)]))
        for _ in range(random.integers(1, 4)):
            target = header
            while True:
                keys = list(target) if isinstance(target, dict) else list(range(len(target)))
                if not keys:
                    break
                key = keys[random.integers(0, len(keys))]
                if isinstance(target[key], dict | list) and random.random() < 0.9:
                    target = target[key]
                    continue
                target[key] = values[random.integers(0, len(values))]
                break
        damaged = forged(json.dumps(header), random)
        for salvage in (False, True):
            attempt(damaged, salvage=salvage)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_MEMORY


def test_a_file_that_looks_like_chunks_all_over_ends_soon() -> None:
    """Markers everywhere, each with a number that exists: every one costs a checksum, up to a limit."""
    header = {"tokenizer": "a", "fingerprint": "f", "num_samples": 1, "sample_rate": 16000}
    stream = {"codebook_sizes": [[2, 1]], "frame_rate": 50, "frames": 2**50, "chunk": 2**19, "name": "codes"}
    data = forged(json.dumps({**header, "streams": [stream]}), np.random.default_rng(0))
    start = time.process_time()
    assert attempt(data + b"\xc7\x5a\x00\x00" * 50_000, salvage=True) is None
    assert time.process_time() - start < MOST_SECONDS
