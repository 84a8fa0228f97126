"""The cache gives what a fresh run gives, measures anew what changed, and trusts nothing that is damaged."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotokens.errors import AudioTokensError, MetricError
from audiotokens.evaluation import cache as caching
from audiotokens.evaluation.cache import Cache, Value, default_folder
from audiotokens.evaluation.compare import compare
from audiotokens.evaluation.metrics import METRICS, Measured, Metric
from audiotokens.evaluation.results import Comparison

work = importlib.import_module("audiotokens.evaluation.work")
CALLS: list[str] = []


def peak(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
    CALLS.append("peak")
    return float(np.abs(output).max())


def odd(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> Measured:
    CALLS.append("odd")
    if reference[0] > 0.1:
        raise MetricError("not defined for this one")
    return Measured(float("inf") if reference[0] < -0.1 else 1.5, weight=3.0)


@pytest.fixture(autouse=True)
def measures(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    for name, function in (("peak", peak), ("odd", odd)):
        metric = Metric(name, name, f"{name}, first version", function, True, packages=("numpy",))
        monkeypatch.setitem(METRICS, name, metric)


def run(tokenizer: object, files: object, folder: object, **options: object) -> Comparison:
    given = {"metrics": ["peak", "odd"], "num_codebooks": [1, 2], "cache": folder} | options
    return compare(tokenizer, files, **given)  # type: ignore[arg-type]


def calls(tokenizer: object) -> tuple[int, int, int]:
    found = (tokenizer.encoded, tokenizer.decoded, len(CALLS))  # type: ignore[attr-defined]
    tokenizer.encoded = tokenizer.decoded = 0  # type: ignore[attr-defined]
    CALLS.clear()
    return found


def test_a_second_run_finds_the_same_and_does_nothing(digits: object, sounds: Path, tmp_path: Path) -> None:
    first = run(digits, sounds, tmp_path / "c", unquantized=True, anchors=["original", "noise-20db"])
    encoded, decoded, measured = calls(digits)
    assert encoded >= 6
    assert decoded >= 12
    assert measured == 2 * 6 * (3 + 2)
    second = run(digits, sounds, tmp_path / "c", unquantized=True, anchors=["original", "noise-20db"])
    assert calls(digits) == (0, 0, 0)
    assert second == first
    without = run(digits, sounds, None, unquantized=True, anchors=["original", "noise-20db"])
    assert (without.rows, without.usage) == (first.rows, first.usage)
    assert {row.status for row in first.rows if row.metric == "odd"} == {"ok", "failed"}
    assert float("inf") in {row.value for row in first.rows}
    assert {row.weight for row in first.rows if row.metric == "odd" and row.value is not None} == {3.0}


def test_other_names_and_places_of_equal_content_are_hits(
    digits: object, sounds: Path, tmp_path: Path
) -> None:
    run(digits, sounds, tmp_path / "c")
    calls(digits)
    moved = sounds.rename(tmp_path / "elsewhere")
    for path in moved.glob("*.wav"):
        path.rename(path.with_name(f"a{path.name}"))
    (moved / "manifest.csv").unlink()
    found = run(digits, moved, tmp_path / "c", domain="speech")
    assert calls(digits) == (0, 0, 0)
    assert {row.domain for row in found.rows} == {"speech"}
    assert {row.file for row in found.rows} == {f"as{number}.wav" for number in range(6)}


@pytest.mark.parametrize("change", ["definition", "version"])
def test_what_changed_of_a_measure_is_measured_anew(
    change: str, digits: object, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(digits, sounds, tmp_path / "c")
    calls(digits)
    if change == "definition":
        monkeypatch.setitem(METRICS, "peak", replace(METRICS["peak"], definition="peak, second version"))
    else:
        monkeypatch.setitem(METRICS, "peak", replace(METRICS["peak"], packages=("soxr",)))
        run(digits, sounds, tmp_path / "c")
        calls(digits)
        monkeypatch.setattr(caching, "package_version", lambda package: "99" if package == "soxr" else "1")
        monkeypatch.setitem(METRICS, "odd", replace(METRICS["odd"], packages=()))
        run(digits, sounds, tmp_path / "c", metrics=["odd"])
        calls(digits)
    again = run(digits, sounds, tmp_path / "c")
    assert set(CALLS) == {"peak"}
    encoded, _, measured = calls(digits)
    assert (encoded, measured) == (6, 12)
    assert again.rows == first.rows


def test_other_tokenizers_files_and_books_are_no_hits(digits: object, sounds: Path, tmp_path: Path) -> None:
    run(digits, sounds, tmp_path / "c")
    calls(digits)
    other = type(digits)(seed=1)
    run(other, sounds, tmp_path / "c")
    assert calls(other)[2] == 24
    run(digits, sounds, tmp_path / "c", num_codebooks=[2, 3])
    # two books are known
    assert calls(digits)[2] == 12
    path = sounds / "s3.wav"
    path.write_bytes((sounds / "s4.wav").read_bytes())
    run(digits, sounds, tmp_path / "c")
    assert calls(digits)[2] == 0
    soundfile.write(path, np.linspace(-0.4, 0.5, 4000), 8000)
    run(digits, sounds, tmp_path / "c")
    assert calls(digits)[2] == 4


def test_a_stopped_run_goes_on(digits: object, sounds: Path, tmp_path: Path) -> None:
    whole = run(type(digits)(), sounds, None)
    CALLS.clear()
    digits.fails_after = 6 + 3 + 4  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        run(digits, sounds, tmp_path / "c")
    assert calls(digits)[2] == 16
    digits.fails_after = None  # type: ignore[attr-defined]
    found = run(digits, sounds, tmp_path / "c")
    assert calls(digits) == (2, 4, 8)
    assert found.rows == whole.rows


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-9],
        lambda text: text.replace('"polarity": 1', '"polarity": -1'),
        lambda text: "[]",
        lambda text: json.dumps({"sha256": caching._digest({"x": 1}), "content": {"x": 1}}),
        lambda text: "[" * 100_000,
    ],
)
def test_damaged_entries_are_made_anew(damage: object, digits: object, sounds: Path, tmp_path: Path) -> None:
    first = run(digits, sounds, tmp_path / "c")
    calls(digits)
    entries = [path for path in (tmp_path / "c").rglob("*.json") if "polarity" in path.read_text()]
    assert len(entries) == 12
    whole = entries[5].read_text()
    entries[5].write_text(damage(whole))  # type: ignore[operator]
    second = run(digits, sounds, tmp_path / "c")
    assert calls(digits)[2] == 2
    assert second == first
    assert entries[5].read_text() == whole
    entries[7].write_bytes(b"\xff\xfe")
    assert run(digits, sounds, tmp_path / "c") == first


def test_only_what_is_settled_is_remembered(
    digits: object, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
        raise RuntimeError("out of memory")

    (sounds / "bad.wav").write_bytes(b"no sound")
    monkeypatch.setitem(METRICS, "peak", replace(METRICS["peak"], function=broken))
    first = run(digits, sounds, tmp_path / "c")
    peaks = [row for row in first.rows if row.metric == "peak" and row.file != "bad.wav"]
    assert {(row.status, row.reason) for row in peaks} == {("failed", "RuntimeError: out of memory")}
    calls(digits)
    monkeypatch.setitem(METRICS, "peak", replace(METRICS["peak"], function=peak))
    second = run(digits, sounds, tmp_path / "c")
    # a MetricError is remembered as well as a value
    assert set(CALLS) == {"peak"}
    assert {row.status for row in second.rows if row.metric == "peak" and row.file != "bad.wav"} == {"ok"}
    assert second.failed_files == ("bad.wav",)
    assert [point.failed for point in second.points] == [1, 1, 0, 0]


def test_speed_is_measured_anew_for_other_threads_and_processors(
    digits: object, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(digits, sounds, tmp_path / "c")
    assert {point.timed for point in first.points} == {3}
    calls(digits)
    run(digits, sounds, tmp_path / "c", threads=2)
    # the files from which delay and speed are learned, and no measure
    assert calls(digits) == (6 + 3, 6 + 3, 0)
    module = importlib.import_module("audiotokens.evaluation.compare")
    monkeypatch.setattr(module, "processor_name", lambda: "another one")
    run(digits, sounds, tmp_path / "c")
    assert calls(digits) == (6 + 3, 6 + 3, 0)


def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOTOKENS_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "compare"
    monkeypatch.delenv("AUDIOTOKENS_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_folder() == Path("/x/audiotokens/compare")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "audiotokens" / "compare"
    (tmp_path / "file").write_text("")
    with pytest.raises(AudioTokensError, match="cannot write the cache"):
        Cache(tmp_path / "file").put({"a": 1}, Value(1.0))
    nothing = Cache(None)
    nothing.put({"a": 1}, Value(1.0))
    assert nothing.get(Value, {"a": 1}) is None
    kept = Cache(tmp_path / "kept")
    kept.put({"a": 1}, Value(-9.47, weight=1e-5))
    assert kept.get(Value, {"a": 1}) == Value(-9.47, weight=1e-5)
    assert kept.get(Value, {"a": 2}) is None
    assert [path.suffix for path in (tmp_path / "kept").rglob("*") if path.is_file()] == [".json"]
