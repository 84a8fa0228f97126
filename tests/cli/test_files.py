"""encode, decode, reconstruct: files, folders, patterns, pipes, what is never overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import audiotokens
from audiotokens import tokenfile
from audiotokens.cli import paths
from audiotokens.errors import AudioTokensError
from audiotokens.tokenfile import Salvage, Span

Run = Callable[..., Result]


def test_a_folder_is_mirrored_there_and_back(folder: Path, plugin: str, run: Run) -> None:
    said = run("encode", "in", "-m", plugin, "-o", "tokens").stdout
    assert "in/one.wav -> tokens/one.tok: 0.20 s" in said
    assert sorted(str(path) for path in Path("tokens").rglob("*.tok")) == [
        "tokens/deep/two.tok",
        "tokens/one.tok",
    ]
    run("decode", "tokens", "-o", "out", "--format", "flac")
    for name, rate in (("one", 16000), ("deep/two", 22050)):
        given, _ = audiotokens.read_audio(next(Path("in").glob(f"{name}.*")))
        again, found = audiotokens.read_audio(f"out/{name}.flac")
        assert (found, again.shape) == (rate, (1, 3207))
        assert np.abs(again - given.mean(0))[:, 100:-100].max() < 0.05


def test_the_native_rate_is_the_tokenizers(folder: Path, plugin: str, run: Run) -> None:
    run("encode", "in/deep/two.flac", "-m", plugin)
    run("decode", "in/deep/two.tok", "-o", "native.wav", "--native-rate")
    waveform, rate = audiotokens.read_audio("native.wav")
    assert (rate, waveform.shape[1]) == (16000, -(-3207 * 16000 // 22050))


def test_without_output_results_lie_beside_their_inputs(folder: Path, plugin: str, run: Run) -> None:
    run("reconstruct", "in/one.wav", "in/deep/two.flac", "-m", plugin)
    assert audiotokens.read_audio("in/one.reconstructed.wav")[1] == 16000
    assert audiotokens.read_audio("in/deep/two.reconstructed.wav")[0].shape == (1, 3207)


def test_json_has_one_record_for_each_file(folder: Path, plugin: str, run: Run) -> None:
    found = json.loads(run("encode", "in/**/*.wav", "in/deep", "-m", plugin, "-o", "t", "--json").stdout)
    assert (found["succeeded"], found["failed"]) == (2, 0)
    first = found["results"][0]
    assert (first["input"], first["output"], first["status"]) == ("in/one.wav", "t/one.tok", "ok")
    assert first["bytes"] == Path("t/one.tok").stat().st_size
    assert first["frames"] == {"codes": 3207}
    again = json.loads(run("decode", "t", "--json").stdout)["results"][0]
    assert (again["num_samples"], again["sample_rate"]) == (3207, 16000)


def test_pipes(folder: Path, plugin: str, run: Run) -> None:
    tokens = run("encode", "-", "-m", plugin, "-o", "-", stdin=Path("in/one.wav").read_bytes()).stdout_bytes
    run("encode", "in/one.wav", "-m", plugin, "-o", "one.tok")
    assert tokens == Path("one.tok").read_bytes()
    wav = run("decode", "-", stdin=tokens).stdout_bytes
    run("decode", "one.tok", "-o", "one.wav")
    assert wav == Path("one.wav").read_bytes()
    assert run("reconstruct", "-", "-m", plugin, stdin=Path("in/one.wav").read_bytes()).stdout_bytes == wav


def test_nothing_is_overwritten_without_force(folder: Path, plugin: str, run: Run) -> None:
    Path("one.tok").write_text("precious")
    refused = run("encode", "in/one.wav", "-m", plugin, "-o", "one.tok", code=2)
    assert refused.stderr == (
        "error: in/one.wav: one.tok exists: give --force to overwrite it, or another --output\n"
    )
    assert Path("one.tok").read_text() == "precious"
    run("encode", "in/one.wav", "-m", plugin, "-o", "one.tok", "-f")
    assert audiotokens.read_tokens("one.tok").num_samples == 3207


def test_jobs_give_the_same_files(folder: Path, site: Path, plugin: str, run: Run) -> None:
    run("encode", "in", "-m", plugin, "-o", "first")
    run("encode", "in", "-m", plugin, "-o", "second", "-j", 2)
    for path in Path("first").rglob("*.tok"):
        assert path.read_bytes() == Path("second", *path.parts[1:]).read_bytes()


def test_progress_is_shown_on_stderr_where_it_is_asked_for(folder: Path, plugin: str, run: Run) -> None:
    result = run("encode", "in", "-m", plugin, "-o", "t", "--progress")
    assert result.stderr == "1/2 one.wav\n2/2 two.flac\n"
    assert run("encode", "in", "-m", plugin, "-o", "u").stderr == ""


def test_salvage_keeps_the_time_of_what_is_intact(folder: Path, plugin: str, run: Run) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 30 * 16000).astype(np.float32)
    audiotokens.write_audio("long.wav", noise, 16000)
    run("encode", "long.wav", "-m", plugin)
    run("decode", "long.tok", "-o", "whole.wav")
    content = bytearray(Path("long.tok").read_bytes())
    content[len(content) // 2] ^= 1
    Path("long.tok").write_bytes(content)
    refused = run("decode", "long.tok", "-o", "refused.wav", code=3)
    assert "is damaged" in refused.stderr
    result = run("decode", "long.tok", "-o", "part.wav", "--salvage")
    assert "warning: long.tok: " in result.stderr
    assert "missing" in result.stderr
    whole, part = audiotokens.read_audio("whole.wav")[0], audiotokens.read_audio("part.wav")[0]
    assert whole.shape == part.shape
    same = whole == part
    assert 0.5 < same.mean() < 1
    assert not part[~same].any()


def test_what_a_file_says_of_its_source_is_not_believed_blindly(folder: Path, plugin: str, run: Run) -> None:
    run("encode", "in/one.wav", "-m", plugin, "-o", "one.tok")
    tokens = audiotokens.read_tokens("one.tok")
    for name, source in {
        "long": audiotokens.Source(16000, 1 << 60, 1),
        "fast": audiotokens.Source(48000, 1, 1),
    }.items():
        replace(tokens, source=source).save(f"{name}.tok")
        run("decode", f"{name}.tok")
        waveform, rate = audiotokens.read_audio(f"{name}.wav")
        assert waveform.shape[1] / rate == 3207 / 16000


def test_intact_parts_that_lie_absurdly_late_are_refused(
    folder: Path, plugin: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = audiotokens.load(plugin).encode(np.zeros(100, np.float32), 16000)
    tokens.save("a.tok")
    span = Span(1 << 40, (1 << 40) + 100, tokens)
    late = Salvage((span,), (), (), (), span.end_sample, 16000)
    monkeypatch.setattr(tokenfile, "read_tokens", lambda *_, **__: late)
    refused = run("decode", "a.tok", "--salvage", "-o", "a.flac", code=2)
    assert "too late to be joined" in refused.stderr
    assert not Path("a.flac").exists()


def found(*names: str) -> list[paths.Found]:
    return [paths.Found(name, Path(name)) for name in names]


@pytest.mark.parametrize(
    ("inputs", "output", "expected"),
    [
        (["a/x.wav"], None, ["a/x.tok"]),
        (["a/x.wav"], "y.bin", ["y.bin"]),
        (["a/x.wav"], "out/", ["out/a/x.tok"]),
        (["x.wav", "y.flac"], "out", ["out/x.tok", "out/y.tok"]),
        (["-"], None, ["-"]),
        (["-"], "y.tok", ["y.tok"]),
    ],
)
def test_plans(inputs: list[str], output: str | None, expected: list[str], folder: Path) -> None:
    assert [item.output for item in paths.plan(found(*inputs), output, suffix=".tok")] == expected


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["x.wav", "y.wav"], "-", "-o - takes one input, found 2"),
        (["x.wav", "x.flac"], "out", r"x\.wav and x\.flac would both be written to out/x\.tok"),
        (["x.wav", "y.wav"], "in/one.wav", r"in/one\.wav is a file, expected a folder"),
    ],
)
def test_plans_that_cannot_be(inputs: list[str], output: str, message: str, folder: Path) -> None:
    with pytest.raises(AudioTokensError, match=message):
        paths.plan(found(*inputs), output, suffix=".tok")


def test_inputs_are_found_once_hidden_ones_not_and_patterns_keep_their_tree(folder: Path) -> None:
    (folder / "in" / ".hidden.wav").write_bytes(b"")
    collected = paths.collect(["in", "in/one.wav", "i*/d*/*.flac"], {".wav", ".flac"})
    assert [(each.source, str(each.relative)) for each in collected] == [
        ("in/one.wav", "one.wav"),
        ("in/deep/two.flac", "deep/two.flac"),
    ]
    pattern = paths.collect(["in/d*/*.flac"], {".flac"})
    assert [str(each.relative) for each in pattern] == ["deep/two.flac"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["in/deep/nothing*"], 'no file matches "in/deep/nothing'),
        (["empty"], r"folder empty holds no file that ends in \.wav"),
        (["-", "in"], r'"-" \(stdin\) stands beside other inputs'),
        ([""], "an input is empty text"),
    ],
)
def test_inputs_that_name_nothing(inputs: list[str], message: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(AudioTokensError, match=message):
        paths.collect(inputs, {".wav"})
