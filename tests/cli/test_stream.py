"""latency and stream: tables, pipes that are read while they are written, and a device that is not there."""

from __future__ import annotations

import builtins
import io
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from tiny_codecs import tiny

import audiotokens
from audiotokens.cli import batch
from audiotokens.latency import measure_latency
from audiotokens.live import LineReader, PcmReader, PcmWriter, Stopwatch

Run = Callable[..., Result]
RATE, HOP = 16000, 40


@pytest.fixture
def codec(tmp_path: Path) -> Any:
    """A tiny causal codec at 16 kHz with frames of 40 samples, in the folder "codec" of the current one."""
    found = tiny("soundstream tiny-lyra")
    found.save(tmp_path / "codec")
    batch.loaded.cache_clear()
    return found


@pytest.fixture
def folder(codec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "codec")


@pytest.fixture
def pcm() -> np.ndarray:
    """Int16 samples `[T]`, not a whole number of frames."""
    time = np.arange(30 * HOP + 17) / RATE
    return np.rint(9000 * np.sin(2 * np.pi * 300 * time) * (1 + np.sin(40 * time))).astype("<i2")


def heard(codec: Any, tokens: audiotokens.Tokens) -> np.ndarray:
    """Decoded tokens as 16-bit samples, with room for differences."""
    return np.clip(np.rint(codec.decode(tokens)[0] * 32768), -32768, 32767).astype(np.int64)


def as_pcm(waveform: np.ndarray) -> bytes:
    file = io.BytesIO()
    PcmWriter(file, "s16le")(waveform)
    return file.getvalue()


def test_latency_is_a_table_and_json(folder: str, run: Run) -> None:
    text = run("latency", folder, "--seconds", 0.1).stdout
    assert "soundstream: 40 samples or 2.5 ms per frame" in text
    assert [line.split() for line in text.splitlines() if line.startswith("round trip")] == [
        ["round", "trip", "0", "0", "0", "0", "2.5", "ms"]
    ]
    values = json.loads(run("latency", folder, "--seconds", 0.1, "--chunk", 5, "--json").stdout)
    assert values["agrees"] is True
    assert values["latency"]["encoder"] == {"declared": 0, "changed": 0, "later": 0, "session": 0}
    assert values["steps"]["chunk"] == 80
    assert len(values["steps"]["decoder"]["milliseconds"]) == 3


def test_latency_ends_with_1_where_it_is_not_as_declared(
    folder: str, codec: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measure_latency(codec)
    assert found.encoder is not None
    wrong = replace(found, encoder=replace(found.encoder, declared=40))
    monkeypatch.setattr("audiotokens.latency.measure_latency", lambda _: wrong)
    assert "encoder" in run("latency", folder, "--seconds", 0.1, code=1).stdout


def test_without_sessions_it_is_said_why(tmp_path: Path, run: Run) -> None:
    tiny("encodec tiny-stereo").save(tmp_path / "stereo")
    for verb in ("latency", "stream"):
        error = run(verb, tmp_path / "stereo", code=2, stdin=bytes(100)).stderr
        assert "reads whole recordings, because of its overlapping windows" in error


def test_a_stream_is_the_file(folder: str, codec: Any, pcm: np.ndarray, run: Run) -> None:
    tokens = codec.encode(pcm, RATE)
    result = run("stream", folder, stdin=pcm.tobytes())
    assert np.frombuffer(result.stdout_bytes, "<i2").size == pcm.size
    assert np.abs(np.frombuffer(result.stdout_bytes, "<i2") - heard(codec, tokens)).max() <= 1
    assert "0.1 s of sound, first output after" in result.stderr
    values = json.loads(run("stream", folder, "--json", stdin=pcm.tobytes()).stderr)
    assert values["audio_seconds"] == pytest.approx(pcm.size / RATE) and values["steps"]["count"] == 31
    lines = run("stream", folder, "--encode", stdin=pcm.tobytes()).stdout_bytes
    parts = list(LineReader(io.BytesIO(lines), codec))
    assert [part.num_samples for part in parts[:-1]] == [HOP] * 30
    assert np.array_equal(np.concatenate([part.codes for part in parts], 1), tokens.codes)
    assert run("stream", folder, "--decode", stdin=lines).stdout_bytes == result.stdout_bytes


def test_fewer_books_another_rate_and_floats(folder: str, codec: Any, pcm: np.ndarray, run: Run) -> None:
    books = min(codec.spec.legal_prefixes)
    lines = run("stream", folder, "--encode", "-k", books, stdin=pcm.tobytes()).stdout_bytes
    parts = [*LineReader(io.BytesIO(lines), codec)]
    expected = codec.encode(pcm, RATE, num_codebooks=books).codes
    assert np.array_equal(np.concatenate([part.codes for part in parts], 1), expected)
    sound = (pcm / np.float32(32768)).astype("<f4")
    out = run("stream", folder, "--format", "f32le", "--rate", 48000, "--chunk", 7, stdin=sound.tobytes())
    assert len(out.stdout_bytes) == sound.nbytes
    tokens = codec.encode(sound, 48000)
    again = audiotokens.audio.resample(codec.decode(tokens), RATE, 48000)[0, : sound.size]
    assert np.abs(np.frombuffer(out.stdout_bytes, "<f4") - again).max() < 1e-4 * np.abs(again).max()


def start(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "audiotokens.cli", "stream", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)


def read(process: subprocess.Popen[bytes], size: int, seconds: float = 60) -> bytes:
    """Read so many bytes, which must come while stdin is still open."""
    found = b""
    assert process.stdout is not None
    while len(found) < size:
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        assert ready, f"only {len(found)} of {size} bytes came"
        data = os.read(process.stdout.fileno(), size - len(found))
        assert data
        found += data
    return found


def test_sound_comes_out_before_it_ends(folder: str, codec: Any, pcm: np.ndarray) -> None:
    expected = heard(codec, codec.encode(pcm, RATE))
    process = start(folder)
    assert process.stdin is not None and process.stderr is not None
    for frame in range(8):
        # Not a sample more than the declared latency asks for: one frame in, one frame out.
        process.stdin.write(pcm[frame * HOP : (frame + 1) * HOP].tobytes())
        out = np.frombuffer(read(process, 2 * HOP), "<i2")
        assert np.abs(out - expected[frame * HOP : (frame + 1) * HOP]).max() <= 1
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.stderr.read().decode().startswith("0.0 s of sound, first output after")


@pytest.mark.slow
def test_a_closed_pipe_ends_it_without_a_word_of_complaint(folder: str, pcm: np.ndarray) -> None:
    process = start(folder, "--encode")
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    read(process, 10)
    process.stdout.close()
    process.stdin.write(pcm.tobytes())
    assert process.wait(60) == 0
    said = process.stderr.read().decode()
    assert "s of sound" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["--encode", "--decode"], b"", "--encode and --decode are both given"),
        (["--decode", "--microphone"], b"", "leave one out"),
        ([], b"", "ended before any sample came: expected PCM on stdin"),
        ([], b"\0", "ended before any sample came: expected PCM on stdin"),
        (["--format", "f32le"], b"\xff" * 400, "is it s16le?"),
        (["--rate", "10"], b"", "the sample rate is 10 Hz"),
        (["-k", "99"], b"", "num_codebooks is 99, legal values are"),
        (["--decode"], b"RIFF", "line 1 of the codes is not as audiotokens stream --encode writes it"),
        (["--decode"], b'{"tokenizer": "x", "fingerprint": "y"}\n', 'made by "x" (y), this is "soundstream"'),
    ],
)
def test_mistakes_are_one_line(
    folder: str, run: Run, arguments: list[str], stdin: bytes, message: str
) -> None:
    error = run("stream", folder, *arguments, code=2, stdin=stdin).stderr
    assert message in error
    assert error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[1]",
        "7",
        '{"num_samples": 40, "codes": {"codes": [[1], [2, 3]]}}',
        '{"num_samples": 40, "codes": {"codes": [[1.5]]}}',
        '{"num_samples": 40, "codes": {"codes": [[99999999999999999999]]}}',
        '{"num_samples": 40, "codes": 3}',
        "[" * 100000,
    ],
)
def test_lines_of_codes_are_checked(line: str, folder: str, codec: Any, run: Run) -> None:
    head = json.dumps({"tokenizer": "x", "fingerprint": codec.fingerprint})
    error = run("stream", folder, "--decode", code=2, stdin=f"{head}\n{line}\n".encode()).stderr
    assert "line 2 of the codes" in error and error.count("\n") == 1


class Device:
    """What sounddevice's streams do, for tests: hears what it was given, remembers what it plays."""

    heard = np.zeros(0, np.float32)
    played = b""

    def __init__(self, **settings: Any) -> None:
        assert settings["dtype"] == "float32" and settings["channels"] == 1
        self.at = 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None: ...

    start = stop = close = lambda self: None

    def read(self, frames: int) -> tuple[bytes, bool]:
        if self.at >= self.heard.size:
            raise KeyboardInterrupt
        self.at += frames
        return self.heard[self.at - frames : self.at].tobytes(), self.at == frames

    def write(self, data: bytes) -> bool:
        Device.played += data
        return False


def test_microphone_and_loudspeaker(
    folder: str, codec: Any, pcm: np.ndarray, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "heard", pcm[: 20 * HOP].astype(np.float32) / 32768)
    monkeypatch.setattr(Device, "played", b"")
    module = SimpleNamespace(RawInputStream=Device, RawOutputStream=Device)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    result = run("stream", folder, "--microphone", "--play")
    expected = codec.decode(codec.encode(Device.heard, RATE))[0]
    assert np.abs(np.frombuffer(Device.played, np.float32) - expected).max() < 1e-5
    assert result.stderr.rstrip().endswith("0 underruns, 1 overruns")


def test_devices_that_are_not_there(folder: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class PortAudioError(Exception): ...

    def fail(**_: Any) -> None:
        raise PortAudioError("Error querying device -1")

    monkeypatch.setitem(
        sys.modules, "sounddevice", SimpleNamespace(RawInputStream=fail, RawOutputStream=fail)
    )
    error = run("stream", folder, "--microphone", code=2).stderr
    assert "no microphone can be opened (Error querying device -1): connect one" in error
    assert "no loudspeaker can be opened" in run("stream", folder, "--play", code=2).stderr
    real = builtins.__import__

    def without(error: Exception) -> Any:
        def imported(name: str, *more: Any) -> Any:
            if name == "sounddevice":
                raise error
            return real(name, *more)

        return imported

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(builtins, "__import__", without(OSError("PortAudio library not found")))
    assert "install it, such as with apt" in run("stream", folder, "--microphone", code=2).stderr
    monkeypatch.setattr(builtins, "__import__", without(ModuleNotFoundError(name="sounddevice")))
    assert 'needs the extra "live"' in run("stream", folder, "--play", code=2).stderr


def test_pcm_comes_as_it_is_there() -> None:
    parts = [b"\1", b"\0\2\0\3", b"\0" * 5]
    slow: Any = SimpleNamespace(read=None, read1=lambda size: parts.pop(0)[:size] if parts else b"")
    chunks = [*PcmReader(slow, "s16le", 1, 100)]
    assert [np.rint(chunk[0] * 32768).tolist() for chunk in chunks] == [[1, 2], [3, 0, 0]]
    loud = np.array([[-1.5, -1, 0, 1, 1.5]], np.float32)
    assert np.frombuffer(as_pcm(loud), "<i2").tolist() == [-32768, -32768, 0, 32767, 32767]


def test_a_player_runs_dry_when_steps_are_late() -> None:
    now = [0.0]
    watch = Stopwatch(0.02, lambda: now[0])
    for moment, expected in ((0.1, 0), (0.12, 0), (0.14, 0), (0.25, 1), (0.26, 1)):
        with watch.step(0.02):
            now[0] = moment
            watch.output(0.02)
        assert watch.summary().underruns == expected
    assert watch.summary().first_output == pytest.approx(0.1)
    steps = watch.summary().steps
    assert steps is not None and steps.count == 5
