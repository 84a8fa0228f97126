"""encode, decode and reconstruct on long files: windows, progress, going on after an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import audiotokens
from audiotokens.audio import read_audio, write_audio, write_blocks
from audiotokens.cli import progress
from audiotokens.recordings import Windowed

Run = Callable[..., Result]
COMMAND = "from audiotokens.cli import main; main()"
DIES_AFTER_SAVING = """
import os, signal
from audiotokens.recordings import Checkpoint
save = Checkpoint.save
Checkpoint.save = lambda *arguments: (save(*arguments), os.kill(os.getpid(), signal.SIGKILL))
"""
MODEL = "speech-16k-stream"


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (0.1 * random.standard_normal((1, round(16000 * seconds)))).astype(np.float32)


@pytest.fixture(scope="module")
def lecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little more than a minute."""
    path = tmp_path_factory.mktemp("long") / "lecture.wav"
    write_blocks(path, (noise(10, seed) for seed in range(7)), 16000)
    return path


def start(*arguments: object, before: str = "") -> subprocess.Popen[bytes]:
    """Run the command line in another process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", before + COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_killed_encoding_goes_on(folder: Path, run: Run, lecture: Path) -> None:
    options = ("-m", MODEL, "-k", 1, "--fast")
    run("encode", lecture, *options, "-o", "expected.tok")
    partial = Path("killed.tok.partial")
    process = start("encode", lecture, *options, "-o", "killed.tok", before=DIES_AFTER_SAVING)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert partial.exists()
    assert not Path("killed.tok").exists()
    other = ("-m", MODEL, "-k", 2, "--fast")
    refused = run("encode", lecture, *other, "-o", "killed.tok", "--resume", code=2)
    assert "was begun otherwise (books '1', now '2'): begin anew without resuming" in refused.stderr
    run("encode", lecture, *options, "-o", "killed.tok", "--resume")
    assert Path("killed.tok").read_bytes() == Path("expected.tok").read_bytes()
    assert not partial.exists()


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(folder: Path) -> None:
    write_blocks("lecture.wav", (noise(10, seed) for seed in range(90)), 16000)
    began = time.perf_counter()
    start("encode", "lecture.wav", "-m", MODEL, "-o", "expected.tok").communicate()
    whole = time.perf_counter() - began
    random, kills = np.random.default_rng(), 0
    while not Path("killed.tok").exists():
        process = start("encode", "lecture.wav", "-m", MODEL, "-o", "killed.tok", "--resume")
        try:
            # Ever longer, so that it ends on a machine that became slower.
            process.communicate(timeout=random.uniform(0.2, 0.9) * whole * 1.1**kills)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert kills
    assert Path("killed.tok").read_bytes() == Path("expected.tok").read_bytes()
    assert not Path("killed.tok.partial").exists()


def test_resuming_keeps_what_is_finished(folder: Path, plugin: str, run: Run) -> None:
    run("encode", "in/one.wav", "-m", plugin, "-o", "out/one.tok")
    before = Path("out/one.tok").stat().st_mtime_ns
    said = run("encode", "in", "-m", plugin, "-o", "out", "--resume").stdout
    one, two = said.splitlines()
    assert one.endswith("kbit/s, kept")
    assert two.endswith("kbit/s")
    assert Path("out/one.tok").stat().st_mtime_ns == before
    again = json.loads(run("encode", "in", "-m", plugin, "-o", "out", "--resume", "--json").stdout)
    assert [record["kept"] for record in again["results"]] == [True, True]
    run("encode", "in", "-m", plugin, "-o", "out", "--resume", "--force")
    assert Path("out/one.tok").stat().st_mtime_ns > before
    refused = run("encode", "in/one.wav", "-m", MODEL, "-o", "out/one.tok", "--resume", code=2)
    assert 'out/one.tok is of "mu-law-256"' in refused.stderr
    assert "give --force to encode again, or another --output" in refused.stderr
    assert "--resume needs files" in run("encode", "-", "-m", plugin, "--resume", code=2).stderr


def test_long_files_show_how_far_they_are(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio("long.wav", noise(9), 16000)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 4)
    options = ("-m", MODEL, "--progress")
    expected = "long.{0}: 4 of 9 s\nlong.{0}: 8 of 9 s\n1/1 long.{0}\n"
    assert run("encode", "long.wav", *options).stderr == expected.format("wav")
    assert run("decode", "long.tok", *options, "-o", "a.wav").stderr == expected.format("tok")
    assert run("reconstruct", "long.wav", *options, "-o", "b.wav").stderr == expected.format("wav")
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_windows_say_how_much_they_disagree(folder: Path, run: Run) -> None:
    write_audio("long.wav", noise(5), 16000)
    run("encode", "long.wav", "-m", "speech-16k", "-k", 2, "-o", "plain.tok")
    said = run("encode", "long.wav", "-m", "speech-16k", "-k", 2, "--window", 2, "-o", "windows.tok").stdout
    tokenizer = Windowed(audiotokens.load("speech-16k"), window=2, overlap=0.5)
    session = tokenizer.encoder(num_codebooks=2)
    session.push(read_audio("long.wav")[0])
    session.finish()
    expected = session.disagreement
    assert expected is not None
    assert f"windows disagree on {expected.overlaps:.2%} of the codes in their overlaps" in said
    record = json.loads(
        run("encode", "long.wav", "-m", "speech-16k", "-k", 2, "--window", 2, "-f", "--json").stdout
    )["results"][0]
    assert record["window"] == 2
    assert record["disagreement"] == {"overlaps": expected.overlaps, "cuts": expected.cuts}
    assert record["tokenizer"] == "speech-16k:window=2,overlap=0.5"
    # What is inside the file finds its tokenizer again, and asks for no option.
    run("decode", "windows.tok", "-o", "windows.wav")
    options = ("-m", "speech-16k", "-k", 2, "--window", 2)
    assert "windows disagree on " in run("reconstruct", "long.wav", *options, "-o", "again.wav").stdout
    assert Path("windows.wav").read_bytes() == Path("again.wav").read_bytes()
    run("decode", "plain.tok", "--window", 2, "-o", "plain.wav")
    assert read_audio("plain.wav")[0].shape == (1, 80_000)
    short = run("encode", "in/one.wav", "-m", "speech-16k", "--window", 2, "--json").stdout
    assert "disagreement" not in json.loads(short)["results"][0]
