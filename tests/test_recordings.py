"""Recordings of any length: equal to one pass, in flat memory, to go on with after an interruption."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import running

import audiotokens
from audiotokens import Tokenizer, Tokens, load, read_audio, read_tokens
from audiotokens.audio import write_audio, write_blocks
from audiotokens.errors import AudioError, DamagedError, NotOfferedError, TokensError
from audiotokens.recordings import (
    Checkpoint,
    Windowed,
    decode_blocks,
    encode_blocks,
    encode_file,
    encoding,
    restored_blocks,
    restored_format,
    windows_of,
)
from audiotokens.verify import verify

HOP, RATE, Running, Whole = running.HOP, running.RATE, running.Running, running.Whole


@pytest.fixture(scope="module")
def speech() -> Tokenizer:
    return load("speech-16k-stream")


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (0.2 * random.standard_normal((channels, samples))).astype(np.float32)


def cut(waveform: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (waveform[:, i : i + size] for i in range(0, waveform.shape[1], size))


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_gives_the_tokens_of_one_pass(
    tmp_path: Path, speech: Tokenizer, rate: int, channels: int
) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, noise(channels, int(2.37 * rate)), rate)
    expected = speech.encode(*read_audio(path), num_codebooks=6)
    assert encode_file(speech, path, num_codebooks=6) == expected
    assert expected.source is not None
    assert expected.source.num_samples == int(2.37 * rate)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_blocks_of_any_size_give_the_tokens_of_one_pass(rate: int) -> None:
    waveform = noise(2, 3 * rate + 17)
    expected = Running().encode(waveform, rate)
    for size in (1, 999, rate, 10 * rate):
        blocks = cut(waveform[:, :3000] if size == 1 else waveform, size)
        found = encode_blocks(Running(), blocks, rate)
        assert found == (Running().encode(waveform[:, :3000], rate) if size == 1 else expected)


def test_blocks_that_cannot_be_encoded() -> None:
    for tokenizer in (Running(), Whole()):
        with pytest.raises(AudioError, match="no samples came"):
            encode_blocks(tokenizer, [], 8000)
    with pytest.raises(AudioError, match="a block has 2 channels, expected 1 as in the first one"):
        encode_blocks(Running(), [noise(1, 10), noise(2, 10)], 8000)
    with pytest.raises(TokensError, match="num_codebooks is 2"):
        encode_blocks(Running(), [noise(1, 10)], 8000, num_codebooks=2)


def test_progress_tells_the_seconds(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", noise(1, 44100 * 5 // 2), 44100)
    seen: list[tuple[float, float | None]] = []
    tokens = encode_file(Running(), tmp_path / "a.wav", progress=lambda *now: seen.append(now))
    assert seen == [(1.0, 2.5), (2.0, 2.5), (2.5, 2.5)]
    seen.clear()
    assert len(list(decode_blocks(Running(), tokens, progress=lambda *now: seen.append(now)))) == 4
    assert seen == [(1.0, 2.5), (2.0, 2.5), (2.5, 2.5)]


def test_without_sessions_the_recording_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform = noise(2, 30_000)
    write_audio(tmp_path / "a.wav", waveform, 22050, encoding="float32")
    expected = Whole().encode(waveform, 22050)
    assert encode_file(Whole(), tmp_path / "a.wav") == expected
    (only,) = decode_blocks(Whole(), expected)
    np.testing.assert_array_equal(only, Whole().decode(expected))
    monkeypatch.setattr(encoding, "MEMORY_LIMIT", 1000)
    with pytest.raises(AudioError, match=r"whole reads whole recordings, .* of 1 s .*: encode it in windows"):
        encode_file(Whole(), tmp_path / "a.wav")


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 8000, 8001, 12_345, 16_000])
def test_decoded_blocks_are_those_of_one_pass(samples: int) -> None:
    tokens = Running().encode(noise(1, samples), RATE)
    blocks = list(decode_blocks(Running(), tokens))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), Running().decode(tokens))


@pytest.mark.parametrize("rate", [8000, 12000, 22050, 48000])
def test_decoded_blocks_come_back_to_the_rate_and_length(rate: int) -> None:
    tokens = Running().encode(noise(2, 2 * rate + 11), rate)
    blocks = list(restored_blocks(Running(), tokens, decode_blocks(Running(), tokens)))
    assert restored_format(Running(), tokens) == (rate, 2 * rate + 11)
    joined = np.concatenate(blocks, axis=1)
    assert joined.shape == (1, 2 * rate + 11)
    expected = audiotokens.audio.resample(Running().decode(tokens), 12000, rate)[:, : joined.shape[1]]
    np.testing.assert_array_equal(joined[:, : expected.shape[1]], expected)


def test_what_tokens_say_of_their_source_is_not_believed_blindly() -> None:
    tokens = Running().encode(noise(1, 8000), RATE)
    for source, expected in (
        (None, (12000, 12000)),
        (audiotokens.Source(16000, 1 << 60, 1), (16000, 16000)),
        (audiotokens.Source(16000, 16001, 1), (16000, 16001)),
    ):
        told = replace(tokens, source=source)
        assert restored_format(Running(), told) == expected
        blocks = restored_blocks(Running(), told, decode_blocks(Running(), told))
        assert sum(block.shape[1] for block in blocks) == expected[1]


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    found = []
    for minutes in (1, 5):
        path = tmp_path / f"{minutes}.wav"
        write_blocks(path, (noise(1, 16000, second) for second in range(60 * minutes)), 16000)
        tokens = Running().encode(np.zeros(RATE * 60 * minutes, np.float32), RATE)
        encoded = peak(lambda path=path: encode_file(Running(), path))
        restored = restored_blocks(Running(), tokens, decode_blocks(Running(), tokens))
        decoded = peak(
            lambda blocks=restored: write_blocks(tmp_path / "out.wav", blocks, RATE, overwrite=True)
        )
        found.append((encoded, decoded))
    (short, short_out), (long, long_out) = found
    codes = 8 * 5 * 60 * RATE // HOP
    # The samples of four minutes more take 15 MB at the file's rate.
    assert long - short < 4 * codes + 500_000
    assert long_out - short_out < 500_000


# Checkpoints


class Interrupted(Exception):
    pass


def stop_after(seconds: float) -> Callable[[float, float | None], None]:
    def progress(done: float, _: float | None) -> None:
        if done >= seconds:
            raise Interrupted

    return progress


@pytest.fixture(scope="module")
def lecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five minutes at 16 kHz."""
    path = tmp_path_factory.mktemp("recordings") / "lecture.wav"
    write_blocks(path, (noise(1, 16000, second) for second in range(5 * 60)), 16000)
    return path


@pytest.mark.parametrize("interruptions", [[59.0], [61.0], [62.5, 100.0, 241.0], [300.0]])
def test_an_interrupted_encoding_goes_on(lecture: Path, tmp_path: Path, interruptions: list[float]) -> None:
    expected = encode_file(Running(), lecture)
    checkpoint = Checkpoint(tmp_path / "a.partial", resume=True)
    for seconds in interruptions:
        with pytest.raises(Interrupted):
            encode_file(Running(), lecture, checkpoint=checkpoint, progress=stop_after(seconds))
    tokenizer = Running()
    assert encode_file(tokenizer, lecture, checkpoint=checkpoint) == expected
    left = 300 - interruptions[-1] // 60 * 60
    assert tokenizer.pushed == (left if left else 60) * RATE or interruptions == [300.0]
    assert tokenizer.pushed < 300 * RATE or interruptions == [59.0]
    checkpoint.remove()
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_without_resuming_a_checkpoint_is_overwritten(lecture: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.partial"
    path.write_bytes(b"of something else")
    tokenizer = Running()
    encode_file(tokenizer, lecture, checkpoint=Checkpoint(path))
    assert tokenizer.pushed == 300 * RATE
    assert path.read_bytes() != b"of something else"


def test_a_checkpoint_of_something_else_is_refused(lecture: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a.partial", resume=True, settings="exact")
    with pytest.raises(Interrupted):
        encode_file(Running(), lecture, checkpoint=checkpoint, progress=stop_after(100))
    other = tmp_path / "other.wav"
    other.write_bytes(lecture.read_bytes())
    with pytest.raises(TokensError, match=r"begun otherwise \(file .*: begin anew without resuming"):
        encode_file(Running(), other, checkpoint=checkpoint)
    with pytest.raises(TokensError, match="settings 'exact', now 'fast'"):
        encode_file(Running(), lecture, checkpoint=replace(checkpoint, settings="fast"))
    with pytest.raises(TokensError, match="tokenizer 'running"):
        encode_file(Windowed(Running()), lecture, checkpoint=checkpoint)


def test_a_damaged_checkpoint_is_refused(lecture: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.partial"
    checkpoint = Checkpoint(path, resume=True)
    with pytest.raises(Interrupted):
        encode_file(Running(), lecture, checkpoint=checkpoint, progress=stop_after(100))
    content = path.read_bytes()
    for damaged in (b"", b"text", content[:-1], content[:-3] + b"9" + content[-2:]):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"a\.partial.*: delete it, or begin anew"):
            encode_file(Running(), lecture, checkpoint=checkpoint)


# Windows


def drifting(samples: int) -> np.ndarray:
    return np.linspace(-0.5, 0.5, samples, dtype=np.float32)[None] + noise(1, samples)


def test_short_recordings_get_the_plain_codes() -> None:
    windowed = Windowed(Whole(), window=2, overlap=0.5)
    for samples in (1, 101, 16_000):
        waveform = drifting(samples)
        session = windowed.encoder()
        first, rest = session.push(waveform), session.finish()
        tokens = rest if first is None else Tokens.concatenate([first, rest])
        np.testing.assert_array_equal(tokens.codes, Whole().encode(waveform, RATE).codes)
        assert session.disagreement is None
        np.testing.assert_array_equal(windowed.decode(tokens), Whole().decode(windowed.inward(tokens)))


def test_long_recordings_are_cut_in_the_middle_of_each_overlap() -> None:
    windowed = Windowed(Whole(), window=2, overlap=0.5)
    window, overlap = 2 * 80, 40
    waveform = drifting(8000 * 7 + 130)
    frames = -(-waveform.shape[1] // HOP)
    starts = range(0, frames - overlap, window - overlap)
    alone = [Whole().encode(waveform[:, s * HOP : (s + window) * HOP], RATE).codes[0] for s in starts]
    kept = [
        codes[overlap // 2 if index else 0 : None if index == len(alone) - 1 else window - overlap // 2]
        for index, codes in enumerate(alone)
    ]
    session = windowed.encoder()
    found = encode_blocks(windowed, cut(waveform, 1234), RATE, encoder=session)
    np.testing.assert_array_equal(found.codes[0], np.concatenate(kept))
    assert found == windowed.encode(waveform, RATE)
    pairs = [(a[-overlap:], b[:overlap]) for a, b in zip(alone, alone[1:], strict=False)]
    assert session.disagreement is not None
    assert session.disagreement.overlaps == np.mean([a != b for a, b in pairs])
    beside = slice(overlap // 2 - 1, overlap // 2 + 1)
    assert session.disagreement.cuts == np.mean([a[beside] != b[beside] for a, b in pairs])
    assert 0 < session.disagreement.cuts <= 1


def test_windows_that_agree_change_nothing() -> None:
    waveform = np.tile(noise(1, HOP), 700)
    windowed = Windowed(Whole(), window=2, overlap=0.5)
    session = windowed.encoder()
    found = encode_blocks(windowed, [waveform], RATE, encoder=session)
    np.testing.assert_array_equal(found.codes, Whole().encode(waveform, RATE).codes)
    assert session.disagreement is not None
    assert session.disagreement.overlaps == session.disagreement.cuts == 0
    np.testing.assert_array_equal(windowed.decode(found), Whole().decode(windowed.inward(found)))


@pytest.mark.parametrize("samples", [16_000, 16_001, 28_000, 28_001, 32_123])
def test_decoding_in_windows_fades_in_the_middle(samples: int) -> None:
    windowed = Windowed(Whole(), window=2, overlap=0.5)
    tokens = windowed.encode(drifting(samples), RATE)
    joined = np.concatenate(list(decode_blocks(windowed, tokens)), axis=1)
    assert joined.shape[1] == -(-samples * 3 // 2)
    np.testing.assert_array_equal(joined, windowed.decode(tokens))
    if samples <= 16_000:
        return
    rate = tokens.sample_rate
    parts = [tokens.clip(i * 1.5, min(i * 1.5 + 2, samples / rate)) for i in range(2)]
    first, second = (Whole().decode(windowed.inward(part))[0] for part in parts)
    edge, fade = int(1.75 * 12000), 120
    np.testing.assert_array_equal(joined[0, : edge - fade], first[: edge - fade])
    weight = (np.arange(2 * fade) + 0.5) / (2 * fade)
    old, new = first[edge - fade : edge + fade], second[3000 - fade : 3000 + fade]
    np.testing.assert_allclose(joined[0, edge - fade : edge + fade], old + weight * (new - old), atol=1e-6)
    until = min(3 * 12000, joined.shape[1])
    np.testing.assert_array_equal(
        joined[0, edge + fade : until], second[3000 + fade :][: until - edge - fade]
    )


def test_a_windowed_tokenizer_keeps_its_promises() -> None:
    found = verify(Windowed(Whole(), window=0.5, overlap=0.1), promises=["I3", "I4", "I7", "I8", "I9"])
    assert {verdict.promise: verdict.status for verdict in found.verdicts} == dict.fromkeys(
        ["I3", "I4", "I7", "I8", "I9"], "kept"
    )


def test_an_interrupted_encoding_in_windows_goes_on(lecture: Path, tmp_path: Path) -> None:
    windowed = Windowed(Whole(), window=20)
    session = windowed.encoder()
    expected = encode_file(windowed, lecture, encoder=session)
    checkpoint = Checkpoint(tmp_path / "a.partial", resume=True)
    with pytest.raises(Interrupted):
        encode_file(windowed, lecture, checkpoint=checkpoint, progress=stop_after(150))
    resumed = windowed.encoder()
    assert encode_file(windowed, lecture, checkpoint=checkpoint, encoder=resumed) == expected
    assert resumed.disagreement == session.disagreement


def test_tokens_of_the_inner_tokenizer_can_be_decoded_in_windows() -> None:
    windowed = Windowed(Running(), window=1, overlap=0.5)
    tokens = Running().encode(noise(1, 20_000), RATE)
    np.testing.assert_array_equal(windowed.decode(tokens), Running().decode(tokens))
    with pytest.raises(TokensError, match="decode them with the tokenizer that made them"):
        Running().decode(windowed.encode(noise(1, 20_000), RATE))


def test_what_windows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for window, overlap in ((2.0, 1.1), (2.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0), (-1.0, -2.0)):
        with pytest.raises(TokensError, match="at most half of a window"):
            Windowed(Whole(), window=window, overlap=overlap)
    stream = replace(Whole().spec.streams[0], frame_rate=Fraction(0))
    spec = replace(Whole().spec, streams=(*Whole().spec.streams, stream))
    monkeypatch.setattr(Whole, "spec", spec)
    with pytest.raises(NotOfferedError, match="codes that stand for the whole recording"):
        Windowed(Whole())


def test_the_name_tells_the_windows() -> None:
    windowed = Windowed(Whole(), window=12.5, overlap=1)
    assert windows_of(windowed.spec.name) == ("whole", 12.5, 1.0)
    assert windowed.fingerprint not in {Whole().fingerprint, Windowed(Whole()).fingerprint}
    for name in ("whole", "whole:window=1", "whole:window=..,overlap=1", ":window=1,overlap=1"):
        assert windows_of(name) is None


# An hour

MEASURE = """
import json, resource, sys, time
import audiotokens
from audiotokens.recordings import decode_blocks, encode_file

model, hour, short, output = sys.argv[1:]
tokenizer = audiotokens.load(model)

def cost(path):
    start = time.process_time()
    tokens = encode_file(tokenizer, path)
    return (time.process_time() - start) / tokens.duration, tokens

cost(short)
shorts = [cost(short)[0] for _ in range(3)]
long, tokens = cost(hour)
shorts += [cost(short)[0] for _ in range(3)]
tokens.save(output)
decoded = sum(block.shape[1] for block in decode_blocks(tokenizer, tokens))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "long": long, "short": sorted(shorts)[3], "decoded": decoded}))
"""


def spoken(shared: Path, seconds: int) -> Iterator[np.ndarray]:
    """The 16 kHz speech of the test split, over and over."""
    with open(shared / "data" / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test" and row["domain"] == "speech"]
    left = 16000 * seconds
    while left:
        for row in rows:
            if row["sample_rate"] == "16000" and left:
                block = read_audio(shared / "data" / row["path"])[0][:1, :left]
                left -= block.shape[1]
                yield block


@pytest.mark.slow
@pytest.mark.parametrize("name", ["speech-16k", "speech-16k-stream", "lyra-v2"])
def test_an_hour(shared: Path, tmp_path: Path, name: str) -> None:
    model = name
    if name == "lyra-v2":
        model = str(tmp_path / "lyra")
        weights = sorted((shared / "weights" / "lyra_v2").glob("*.tflite"))
        audiotokens.import_checkpoint("lyra-v2", weights, output=tmp_path / "lyra")
    paths = [tmp_path / "hour.flac", tmp_path / "short.flac"]
    for path, seconds in zip(paths, (3600, 30), strict=True):
        write_blocks(path, spoken(shared, seconds), 16000)
    command = [sys.executable, "-c", MEASURE, model, *map(str, paths), str(tmp_path / "hour.tok")]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    print(name, finished.stdout)
    tokenizer = load(model)
    first, rate = read_audio(paths[0], frames=600 * 16000)
    whole = tokenizer.encode(first, rate).codes
    final = (first.shape[1] - tokenizer.spec.lookahead) // int(tokenizer.spec.hop)
    hour = read_tokens(tmp_path / "hour.tok")
    np.testing.assert_array_equal(hour.codes[:, :final], whole[:, :final])
    assert hour.num_samples == 3600 * 16000
    assert found["decoded"] == tokenizer.spec.output_length(hour.num_samples)
    assert found["peak"] < 1e9
    assert found["long"] < 1.1 * found["short"]
