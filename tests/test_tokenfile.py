"""`.tok` files give back exactly what was written; damage is found, named, and salvaged around."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import token_cases as cases

from audiotokens.errors import TokenFileError, TokensError
from audiotokens.tokenfile import Missing, Salvage, read_tokens, write_tokens
from audiotokens.tokens import CodeStream, Conditioning, Segment, Tokens

everywhere = pytest.mark.parametrize("name", cases.CASES)


def encoded(tokens: Tokens) -> bytes:
    stored = io.BytesIO()
    write_tokens(stored, tokens)
    return stored.getvalue()


def decoded(data: bytes | bytearray) -> Tokens:
    return read_tokens(io.BytesIO(data))


def salvaged(data: bytes | bytearray) -> Salvage:
    return read_tokens(io.BytesIO(data), salvage=True)


def body_start(data: bytes | bytearray) -> int:
    """Where the chunks begin: after preamble, JSON and checksum."""
    return 18 + int.from_bytes(data[8:10], "big") + 4


def check_spans(found: Salvage, written: Tokens) -> None:
    """Every span is a true part of what was written."""
    for span in found.spans:
        bounds = [Fraction(sample, written.sample_rate) for sample in (span.start_sample, span.end_sample)]
        assert written.clip_bounds(*bounds) == (span.start_sample, span.end_sample)
        assert span.tokens == written.clip(*bounds)


@everywhere
def test_an_undamaged_file(name: str) -> None:
    tokens = cases.CASES[name]()
    data = encoded(tokens)
    assert decoded(data) == tokens
    found = salvaged(data)
    assert found.is_complete
    assert found.tokens == tokens
    assert found.report() == []
    assert encoded(tokens) == data


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 1000, 65536, 65537, 2**33, 2**62])
def test_every_width(size: int) -> None:
    codes = np.random.default_rng(size % 97).integers(0, size, (2, 777))
    codes[:, 0], codes[:, -1] = 0, size - 1
    tokens = cases.make({"codes": CodeStream(codes, (size, size), Fraction(50))}, 777 * 320, 16000)
    data = encoded(tokens)
    assert decoded(data) == tokens
    assert len(data) < 2 * 777 * max(1, (size - 1).bit_length()) / 8 + 450


def test_books_of_different_sizes() -> None:
    sizes = (1024, 1024, 8, 65536, 8)
    codes = np.stack([np.arange(9) % size for size in sizes])
    tokens = cases.make({"codes": CodeStream(codes, sizes, Fraction(50))}, 2880, 16000)
    assert decoded(encoded(tokens)) == tokens


def test_corner_cases() -> None:
    nothing = np.zeros((2, 0), np.int64)
    values = np.array([[np.float32(1e-45), -0.0, np.finfo(np.float32).max]], np.float32)
    streams = {
        "none": CodeStream(nothing, (8, 8), Fraction(50)),
        "merged": CodeStream(nothing, (8, 8), Fraction(50), durations=np.zeros(0, np.int64)),
        "windows": CodeStream(nothing, (8, 8), Fraction(50), segments=()),
        'a "name", ünï😀': CodeStream(np.array([[1], [2]]), (8, 8), Fraction(0)),
    }
    conditioning = {"edges": Conditioning(values), "none": Conditioning(np.zeros((0, 0), np.float32))}
    tokens = cases.make(streams, 0, 16000, conditioning=conditioning)
    assert decoded(encoded(tokens)) == tokens
    assert salvaged(encoded(tokens)).tokens == tokens


def test_scales_survive_to_the_last_bit() -> None:
    scales = [0.1, 1e-8, 3e38, -0.0]
    segments = tuple(Segment(i * 90, 100, 1, scale) for i, scale in enumerate(scales))
    stream = CodeStream(np.array([[0, 1, 2, 3]]), (8,), Fraction(150), segments=segments)
    back = decoded(encoded(cases.make({"codes": stream}, 370, 48000))).streams["codes"].segments
    assert back == segments
    assert [np.float32(s.scale).tobytes() for s in back or ()] == [np.float32(s).tobytes() for s in scales]


def test_the_size_is_the_packed_codes_and_little_more() -> None:
    five = cases.plain(5, books=6)
    assert len(encoded(five)) - five.code_bits / 8 <= 300
    hour = cases.plain(3600, books=6)
    assert len(encoded(hour)) < 1.006 * hour.code_bits / 8


def test_paths_pipes_and_file_objects(tmp_path: Path) -> None:
    tokens, path = cases.mimi(), tmp_path / "a.tok"
    tokens.save(path)
    tokens.save(str(path), overwrite=True)
    assert read_tokens(path) == read_tokens(str(path)) == tokens
    assert os.listdir(tmp_path) == ["a.tok"]
    assert not stat.S_IMODE(path.stat().st_mode) & stat.S_IXUSR
    code = "from audiotokens.tokenfile import *; write_tokens('-', read_tokens('-'))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=path.read_bytes(), capture_output=True, check=True
    )
    assert done.stdout == path.read_bytes()


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tok"
    path.write_bytes(b"kept")
    with pytest.raises(TokensError, match=r'a.tok" exists: choose another name'):
        cases.mimi().save(path)
    with pytest.raises(TokensError, match="it is a folder"):
        cases.mimi().save(tmp_path)
    with pytest.raises(TokensError, match=r"cannot write .*no such file"):
        cases.mimi().save(tmp_path / "missing" / "a.tok")
    with pytest.raises(TokensError, match="binary mode"):
        cases.mimi().save(io.StringIO())

    def fails(source: str, target: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(TokensError, match="disk full"):
        cases.mimi().save(path, overwrite=True)
    assert path.read_bytes() == b"kept"
    assert os.listdir(tmp_path) == ["a.tok"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.tok", tmp_path / "link.tok"
    target.write_bytes(b"old")
    link.symlink_to(target)
    cases.mimi().save(link, overwrite=True)
    assert link.is_symlink()
    assert read_tokens(target) == cases.mimi()


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TokensError, match=r"cannot read .*no such file"):
        read_tokens(tmp_path / "missing.tok")
    with pytest.raises(TokensError, match=r"cannot read .*is a directory"):
        read_tokens(tmp_path)
    with pytest.raises(TokensError, match="binary mode"):
        read_tokens(cast(Any, io.StringIO("text")))
    for content in (b"", b"\x89", b"RIFF" + bytes(100)):
        with pytest.raises(TokenFileError, match=r"not a \.tok file"):
            decoded(content)


def test_another_version() -> None:
    data = bytearray(encoded(cases.mimi()))
    data[7] = 2
    with pytest.raises(TokenFileError, match="version 2, expected 1: update"):
        decoded(data)


def test_what_the_format_cannot_hold() -> None:
    stream = CodeStream(np.array([[1]]), (8,), Fraction(50))
    with pytest.raises(TokensError, match="cannot hold these tokens: 129 streams"):
        encoded(cases.make({str(i): stream for i in range(129)}, 320, 16000))
    tall = {"tall": Conditioning(np.zeros((16385, 1), np.float32))}
    with pytest.raises(TokensError, match="expected at most 4096 and 16384"):
        encoded(cases.make({"codes": stream}, 320, 16000, conditioning=tall))
    sizes = tuple(range(10**9, 10**9 + 3900))
    many = {f"{i:0>200}": stream for i in range(120)}
    many["codes"] = CodeStream(np.zeros((3900, 1), np.int64), sizes, Fraction(50))
    with pytest.raises(TokensError, match="the header takes"):
        encoded(cases.make(many, 320, 16000))


@everywhere
def test_a_file_cut_anywhere_is_an_error(name: str) -> None:
    tokens = cases.CASES[name]()
    data = encoded(tokens)
    for length in {*range(0, len(data), 1 + len(data) // 60), len(data) - 1}:
        with pytest.raises(TokenFileError, match=r"is cut|not a .tok file"):
            decoded(data[:length])
        try:
            found = salvaged(data[:length])
        except TokenFileError:
            continue
        check_spans(found, tokens)
        assert found.report()
    nearly = salvaged(data[:-1])
    assert nearly.tokens == tokens
    assert nearly.report()
    with pytest.raises(TokenFileError, match="goes on after byte"):
        decoded(data + b"\0")
    assert salvaged(data + b"\0").tokens == tokens


def test_salvage_around_a_damaged_chunk() -> None:
    tokens = cases.plain(23)
    data = bytearray(encoded(tokens))
    data[body_start(data) + 1500] ^= 4
    with pytest.raises(TokenFileError, match=r'stream "codes", frames 250 to 499 of 1150, is damaged'):
        decoded(data)
    found = salvaged(data)
    assert [(s.start_sample, s.end_sample) for s in found.spans] == [(0, 80000), (160000, 368000)]
    check_spans(found, tokens)
    assert found.missing == (Missing('stream "codes"', 250, 500, 1150),)
    assert found.tokens is None
    assert found.report() == [
        'stream "codes": 250 to 499 of 1150 frames are missing',
        "intact: 0 to 5 s, 10 to 23 s of 23 s",
    ]


def test_salvage_finds_chunks_that_moved() -> None:
    tokens = cases.plain(23)
    data = encoded(tokens)
    place = body_start(data) + 2 * (10 + 938)
    moved = salvaged(data[:place] + b"foreign" + data[place:])
    assert moved.tokens == tokens
    assert moved.report() == [
        "the file was damaged outside its content (order of chunks, foreign bytes or closing hash)"
    ]
    lost = salvaged(data[: place - 10] + data[place:])
    assert [(m.start, m.end) for m in lost.missing] == [(250, 500)]
    check_spans(lost, tokens)


def test_salvage_of_several_rates_keeps_the_beginning() -> None:
    tokens = cases.snac(1200)
    data = encoded(tokens)
    found = salvaged(data[: len(data) * 6 // 10])
    assert {m.part for m in found.missing} == {'stream "level0"', 'stream "level1"', 'stream "level2"'}
    assert len(found.spans) == 1
    assert found.spans[0].end_sample > 0.5 * tokens.num_samples - 5 * 24000
    check_spans(found, tokens)


def test_salvage_of_durations_and_windows() -> None:
    units = cases.units()
    windows = tuple(Segment(i * 47520, 48000, 150, 0.5) for i in range(20))
    stream = CodeStream(cases.random_codes(4, 3000, 1024), (1024,) * 4, Fraction(150), segments=windows)
    durations = np.random.default_rng(0).integers(1, 5, 1000)
    merged = CodeStream(cases.random_codes(1, 1000, 500), (500,), Fraction(50), durations=durations)
    long_units = replace(
        units, streams={"units": merged}, conditioning={}, num_samples=int(320 * durations.sum())
    )
    long_windows = replace(cases.encodec(), streams={"codes": stream}, num_samples=19 * 47520 + 48000)
    for tokens in (long_units, long_windows):
        data = bytearray(encoded(tokens))
        data[len(data) // 2] ^= 1
        found = salvaged(data)
        assert len(found.spans) == 2
        assert found.spans[0].start_sample == 0
        assert found.spans[1].end_sample == tokens.num_samples
        check_spans(found, tokens)
        covered = sum(span.end_sample - span.start_sample for span in found.spans)
        assert 0.5 * tokens.num_samples < covered < tokens.num_samples


def test_an_intact_piece_shorter_than_a_common_frame_is_no_span() -> None:
    """Columns so tall that each is a chunk of a third of a second, beside frames of half a second."""
    tall = {"tall": Conditioning(np.ones((16384, 6), np.float32), Fraction(3))}
    stream = CodeStream(cases.random_codes(1, 4, 8), (8,), Fraction(2))
    tokens = cases.make({"codes": stream}, 32000, 16000, conditioning=tall)
    data = bytearray(encoded(tokens))
    size = 10 + 65536
    for column in (0, 2):
        data[-24 - (6 - column) * size + 100] ^= 1
    found = salvaged(data)
    assert [(m.start, m.end) for m in found.missing] == [(0, 1), (2, 3)]
    assert [(s.start_sample, s.end_sample) for s in found.spans] == [(16000, 32000)]
    check_spans(found, tokens)


def test_lost_global_codes_leave_no_span_but_runs() -> None:
    tokens = cases.ticodec()
    data = bytearray(encoded(tokens))
    data[-24 - 4 - 2] ^= 1
    found = salvaged(data)
    assert [str(m) for m in found.missing] == ['stream "global": 0 to 0 of 1 frames are missing']
    assert found.spans == ()
    (run,) = found.runs
    assert np.array_equal(run.table, tokens.streams["codes"].codes)
    assert found.report()[-1] == "intact: no stretch of 1 s"


def test_a_damaged_header_leaves_nothing() -> None:
    data = encoded(cases.mimi())
    for place in range(body_start(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        for read in (decoded, salvaged):
            with pytest.raises(TokenFileError):
                read(bytes(damaged))


def test_chunks_of_other_files_do_not_pass() -> None:
    one = cases.plain(23)
    codes = one.streams["codes"].codes.copy()
    codes[0, -1] ^= 1
    other = replace(one, streams={"codes": replace(one.streams["codes"], codes=codes)})
    data, foreign = encoded(one), encoded(other)
    start, size = body_start(data), 10 + 938
    mixed = data[: start + size] + foreign[start + size : start + 2 * size] + data[start + 2 * size :]
    with pytest.raises(TokenFileError, match="frames 250 to 499"):
        decoded(mixed)
    check_spans(salvaged(mixed), one)
    swapped = data[:start] + data[start + size : start + 2 * size] + data[start : start + size]
    with pytest.raises(TokenFileError, match="frames 0 to 249"):
        decoded(swapped + data[start + 2 * size :])
