"""The types hold what published tokenizers make: golden codes and small made-up ones, through everything."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import token_cases as cases

from audiotokens.errors import TokensError
from audiotokens.tokenfile import read_tokens, write_tokens
from audiotokens.tokens import CodeStream, Conditioning, Segment, Tokens

Golden = Callable[[Path], Tokens]


def load(folder: Path, name: str) -> np.ndarray:
    """A golden array; codes of one book become `[1, T]`."""
    return np.atleast_2d(np.load(folder / f"{name}.npy"))


def facts(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / f"{name}.json").read_text()))


def snac(parity: Path) -> Tokens:
    folder = parity / "snac" / "snac_24khz_style"
    config = facts(folder, "config")
    hop, size = int(np.prod(config["encoder_rates"])), config["codebook_size"]
    streams = {
        f"level{i}": CodeStream(load(folder, f"short.codes_level{i}"), (size,), Fraction(24000, hop * stride))
        for i, stride in enumerate(config["vq_strides"])
    }
    return cases.make(streams, config["lengths"]["short"], 24000)  # type: ignore[no-any-return]


def facodec(parity: Path) -> Tokens:
    folder = parity / "facodec" / "v1"
    codes = load(folder, "b.codes")
    books = {"prosody": codes[:1], "content": codes[1:3], "residual": codes[3:]}
    streams = {
        name: CodeStream(rows, (32,) * len(rows), Fraction(16000, 200)) for name, rows in books.items()
    }
    timbre = {"timbre": Conditioning(load(folder, "b.spk").T)}
    return cases.make(streams, 6437, 16000, conditioning=timbre)  # type: ignore[no-any-return]


def ticodec(parity: Path) -> Tokens:
    folder = parity / "ticodec" / "24k_320d_1g4r"
    streams = {
        "codes": CodeStream(load(folder, "b.codes"), (32,) * 4, Fraction(24000, 320)),
        "global": CodeStream(load(folder, "b.global_codes").T, (32,) * 2, Fraction(0)),
    }
    return cases.make(streams, 9600, 24000)  # type: ignore[no-any-return]


def encodec(parity: Path) -> Tokens:
    folder = parity / "encodec" / "stereo_48khz"
    config = facts(folder, "config")
    length, window = config["lengths"]["full"], round(config["segment"] * 48000)
    codes = [load(folder, f"full.seg{i}_codes") for i in range(3)]
    scales = [float(load(folder, f"full.seg{i}_scale").item()) for i in range(3)]
    starts = [i * window * 99 // 100 for i in range(3)]
    segments = tuple(
        Segment(start, min(window, length - start), part.shape[1], scale)
        for start, part, scale in zip(starts, codes, scales, strict=True)
    )
    stream = CodeStream(np.hstack(codes), (16,) * 4, Fraction(150), segments=segments)
    return cases.make({"codes": stream}, length, 48000, channels=2)  # type: ignore[no-any-return]


def mimi(parity: Path) -> Tokens:
    codes = load(parity / "mimi" / "moshi_style", "short.codes")
    streams = {
        "semantic": CodeStream(codes[:1], (16,), Fraction(25, 2)),
        "acoustic": CodeStream(codes[1:], (16,) * 3, Fraction(25, 2)),
    }
    return cases.make(streams, 9001, 24000)  # type: ignore[no-any-return]


def neucodec(parity: Path) -> Tokens:
    codes = load(parity / "xcodec2" / "neucodec", "a.codes")
    stream = CodeStream(codes, (4**8,), Fraction(50))
    return cases.make({"codes": stream}, 16000, 16000)  # type: ignore[no-any-return]


def units(parity: Path) -> Tokens:
    """Golden S3 codes with repeats merged into durations."""
    codes = np.repeat(load(parity / "s3tokenizer" / "v1_25hz", "a.codes")[0], 3)
    changes = np.flatnonzero(np.diff(codes, prepend=-1))
    durations = np.diff(changes, append=codes.size)
    size = int(codes.max()) + 1
    stream = CodeStream(codes[None, changes], (size,), Fraction(25), durations=durations)
    return cases.make({"units": stream}, 640 * codes.size, 16000)  # type: ignore[no-any-return]


GOLDEN: dict[str, Golden] = {g.__name__: g for g in (snac, facodec, ticodec, encodec, mimi, neucodec, units)}


@pytest.fixture(params=[*cases.CASES, *(f"golden-{name}" for name in GOLDEN)])
def tokens(request: pytest.FixtureRequest) -> Tokens:
    name = request.param
    if name in cases.CASES:
        return cases.CASES[name]()  # type: ignore[no-any-return]
    return GOLDEN[name.removeprefix("golden-")](request.getfixturevalue("shared") / "parity")


def varying(tokens: Tokens) -> dict[str, CodeStream]:
    return {name: stream for name, stream in tokens.streams.items() if stream.frame_rate}


def expanded(tokens: Tokens) -> Tokens:
    """The tokens with one code for every base frame: cuts inside a duration become comparable."""
    streams = {
        name: stream
        if stream.durations is None
        else replace(stream, codes=np.repeat(stream.codes, stream.durations, axis=1), durations=None)
        for name, stream in tokens.streams.items()
    }
    return replace(tokens, streams=streams)


def seconds(tokens: Tokens, sample: int) -> Fraction:
    return Fraction(sample, tokens.sample_rate)


def test_clip_and_concatenate(tokens: Tokens) -> None:
    for at in np.linspace(0.01, 0.99, 9) * tokens.duration:
        start, end = tokens.clip_bounds(0, at)
        assert start == 0
        assert at * tokens.sample_rate - 0.5 <= end <= tokens.num_samples
        if end == tokens.num_samples:
            assert tokens.clip(0, at) == tokens
            continue
        head, tail = tokens.clip(0, at), tokens.clip(seconds(tokens, end))
        assert (head.num_samples, tail.num_samples) == (end, tokens.num_samples - end)
        assert expanded(Tokens.concatenate([head, tail])) == expanded(tokens)
        assert head.clip(0) == head


def test_clip_takes_the_frames_of_its_bounds(tokens: Tokens) -> None:
    start, end = tokens.clip_bounds(0.3 * tokens.duration, 0.6 * tokens.duration)
    assert start <= 0.3 * tokens.num_samples + 1
    assert end >= 0.6 * tokens.num_samples - 1
    part = expanded(tokens.clip(seconds(tokens, start), seconds(tokens, end)))
    whole = expanded(tokens)
    assert part.num_samples == end - start
    for name, stream in whole.streams.items():
        if not stream.frame_rate:
            assert part.streams[name] == stream
        elif stream.segments is None:
            rate = stream.frame_rate / tokens.sample_rate
            last = None if end == tokens.num_samples else int(end * rate)
            assert np.array_equal(part.streams[name].codes, stream.codes[:, int(start * rate) : last])
    for name, item in whole.conditioning.items():
        assert item.frame_rate or part.conditioning[name] == item


def is_whole(tokens: Tokens) -> bool:
    parts = [stream for stream in varying(tokens).values() if stream.segments is None]
    frames = [Fraction(stream.base_frames) / stream.frame_rate for stream in parts]
    return all(seconds(tokens, tokens.num_samples) == time for time in frames)


def test_concatenate_whole_items(tokens: Tokens) -> None:
    whole = tokens
    if not is_whole(tokens):
        with pytest.raises(TokensError, match=r"item 0 has .* use item.clip\(0, ([\d.]+)\)") as caught:
            Tokens.concatenate([tokens, tokens])
        whole = tokens.clip(0, float(str(caught.value).split("clip(0, ")[1].split(")")[0]))
    twice = Tokens.concatenate([whole, tokens])
    assert twice.num_samples == whole.num_samples + tokens.num_samples
    for name, stream in varying(twice).items():
        ending = tokens.streams[name]
        assert np.array_equal(stream.codes[:, stream.num_frames - ending.num_frames :], ending.codes)
    for name, stream in tokens.streams.items():
        assert stream.frame_rate or twice.streams[name] == stream


def test_take(tokens: Tokens) -> None:
    assert tokens.take(tokens.num_codebooks) == tokens
    rows = [(name, k) for name, stream in varying(tokens).items() for k in range(stream.num_codebooks)]
    for number in range(1, tokens.num_codebooks):
        taken = tokens.take(number)
        assert [(n, k) for n, s in varying(taken).items() for k in range(s.num_codebooks)] == rows[:number]
        assert taken.conditioning == tokens.conditioning
        assert taken.code_bits < tokens.code_bits
        for name, stream in taken.streams.items():
            assert np.array_equal(stream.codes, tokens.streams[name].codes[: stream.num_codebooks])


def test_torch_and_back(tokens: Tokens) -> None:
    pytest.importorskip("torch")
    codes: dict[str, Any] = tokens.torch()
    streams = {name: replace(stream, codes=codes[name]) for name, stream in tokens.streams.items()}
    assert replace(tokens, streams=streams) == tokens


def test_file_and_back(tokens: Tokens) -> None:
    for part in (tokens, tokens.take(1), tokens.clip(0.5 * tokens.duration)):
        stored = io.BytesIO()
        write_tokens(stored, part)
        stored.seek(0)
        assert read_tokens(stored) == part


@pytest.mark.parametrize("name", ["snac", "units"])
def test_codes_need_one_rate(name: str) -> None:
    tokens = cases.CASES[name]()
    if name == "snac":
        with pytest.raises(TokensError, match='"level0" 12 frames at 375/32 Hz, "level1" 24 frames'):
            _ = tokens.codes
    else:
        assert tokens.codes.shape == (1, 90)


def test_codes_stack_what_shares_a_rate() -> None:
    assert cases.facodec().codes.shape == (6, 32)
    assert cases.mimi().codes.shape == (8, 20)
    assert cases.ticodec().codes.shape == (4, 75)


def test_with_globals_moves_the_voice() -> None:
    mine = cases.facodec()
    theirs = replace(mine, conditioning={"timbre": Conditioning(np.ones((256, 1), np.float32))})
    converted = mine.with_globals(theirs)
    assert converted.streams == mine.streams
    assert converted.conditioning == theirs.conditioning
