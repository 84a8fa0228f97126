"""compare, verify, demo, pack, train: what the options reach, and what is printed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import audiotokens
from audiotokens import training
from audiotokens.cli.manifest import Condition, select, spread
from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.systems import Named

Run = Callable[..., Result]

MANIFEST = """path,split,domain,corpus,source_id
one.wav,test,speech,Libri clean,ann
deep/two.flac,train,music,Libri other,bob
three.wav,test,speech,Other,cat
"""


@pytest.fixture
def data(folder: Path) -> Path:
    """A data folder with a manifest."""
    (folder / "in" / "manifest.csv").write_text(MANIFEST)
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 8000).astype(np.float32)
    audiotokens.write_audio("in/three.wav", noise, 16000)
    return folder / "in"


@pytest.mark.parametrize(
    ("conditions", "limit", "expected"),
    [
        ([], None, ["one.wav", "deep/two.flac", "three.wav"]),
        (["split=test"], None, ["one.wav", "three.wav"]),
        (["corpus=Libri*", "split = test"], None, ["one.wav"]),
        (["corpus!=Libri*"], None, ["three.wav"]),
        (["corpus=* other | Other"], None, ["deep/two.flac", "three.wav"]),
        (["corpus!=* other|Other"], None, ["one.wav"]),
        ([], 2, ["one.wav", "deep/two.flac"]),
    ],
)
def test_manifests_choose(data: Path, conditions: list[str], limit: int | None, expected: list[str]) -> None:
    chosen = select(str(data), [Condition.parse(text) for text in conditions], limit)
    assert [path.relative_to(data).as_posix() for path in chosen] == expected
    assert chosen == select(str(data / "manifest.csv"), [Condition.parse(text) for text in conditions], limit)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("split", 'found the condition "split", expected "column=pattern"'),
        ("speaker=ann", 'no column "speaker"; it has path, split'),
        ("split=dev", "none of its 3 rows has split=dev"),
    ],
)
def test_manifests_that_do_not_fit(data: Path, condition: str, message: str) -> None:
    with pytest.raises(AudioTokensError, match=message):
        select(str(data), [Condition.parse(condition)])


def test_spreading_starts_at_the_first_and_reaches_far() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), None) == spread(range(3), 5) == [0, 1, 2]


def test_compare_measures_writes_and_draws(data: Path, plugin: str, run: Run) -> None:
    measure = ["--metrics", "si-sdr", "--data", "in", "--split", "test"]
    said = run(
        "compare", plugin, *measure, "-o", "all.json", "--report", "page.html", "--examples", "1"
    ).stdout
    assert "speech: 2 files" in said
    assert "128.000" in said
    found = json.loads(Path("all.json").read_text())
    assert {row["file"] for row in found["rows"]} == {"one.wav", "three.wav"}
    assert {row["speaker"] for row in found["rows"]} == {"ann", "cat"}
    assert "<html" in Path("page.html").read_text(encoding="utf-8")
    assert "exists: give --force" in run("compare", plugin, *measure, "-o", "all.json", code=2).stderr


def test_compare_passes_its_options_on(
    data: Path, plugin: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def compare(tokenizers: list[Any], files: list[Path], **options: Any) -> None:
        asked.update(options, names=tokenizers, files=files)
        raise AudioTokensError("enough")

    monkeypatch.setattr(importlib.import_module("audiotokens.evaluation.compare"), "compare", compare)
    options = ["-k", "1,3", "--metrics", "a,b", "--domain", "music", "--threads", 2, "-j", 3, "--seed", 4]
    options += [
        "--anchors",
        "all,original",
        "--calibration",
        "--lyra",
        "l",
        "--unquantized",
        "--by",
        "corpus",
    ]
    options += ["--against", "original", "--cache", "c", "--fast", "--search-width", 8]
    run("compare", "in", "-m", plugin, plugin, "--limit", 2, *options, code=2)
    del asked["progress"]
    assert asked == {
        "names": [Named(plugin, False, "cpu", 8)],
        "files": [Path("in/one.wav"), Path("in/three.wav")],
        "num_codebooks": (1, 3),
        "metrics": ["a", "b"],
        "anchors": ["available", "original", "calibration"],
        "lyra": "l",
        "unquantized": True,
        "against": "original",
        "by": "corpus",
        "cache": "c",
        "domain": "music",
        "threads": 2,
        "jobs": 3,
        "seed": 4,
    }
    run("compare", "in", "-m", plugin, "--no-cache", code=2)
    assert asked["cache"] is None
    run("compare", "in", "-m", plugin, code=2)
    assert asked["cache"] == Path("cache/compare").absolute()
    assert (asked["anchors"], asked["against"], asked["by"]) == ([], None, "domain")


def test_compare_beside_anchors_twice_with_one_cache(data: Path, plugin: str, run: Run) -> None:
    asked = ["--metrics", "si-sdr", "--data", "in", "--split", "test", "--anchors", "original,lowpass-4k"]
    asked += ["--against", "lowpass-4k", "--by", "corpus", "--markdown"]
    first = run("compare", plugin, *asked).stdout
    assert "**speech, Libri clean: 1 files" in first
    assert "**speech, Other: difference to Original below 4 kHz, file by file**" in first
    entries = sorted(Path("cache").rglob("*.json"))
    # two files and what was learned, for three systems
    assert len(entries) == 9
    before = [entry.stat().st_mtime_ns for entry in entries]
    assert run("compare", plugin, *asked).stdout == first
    assert [entry.stat().st_mtime_ns for entry in sorted(Path("cache").rglob("*.json"))] == before


def test_compare_goes_on_after_a_bad_file(data: Path, plugin: str, run: Run) -> None:
    (data / "broken.wav").write_bytes(b"RIFF")
    result = run("compare", plugin, "in/one.wav", "in/broken.wav", "--metrics", "si-sdr", "--json", code=2)
    failed = [row for row in json.loads(result.stdout)["rows"] if row["status"] == "failed"]
    assert [row["file"] for row in failed] == ["broken.wav"]
    assert result.stderr.endswith("error: 1 of 2 files failed\n")


def test_verify_prints_verdicts_and_fails_for_a_broken_promise(
    plugin: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run("verify", plugin, "--promise", "I8", "--promise", "I10").stdout
    assert "I8   kept" in said
    assert "I10  not offered" in said
    tokenizer = type(audiotokens.load(plugin))
    monkeypatch.setattr(tokenizer, "fit_length", lambda self, waveform, num_samples: waveform[:, 1:])
    result = run("verify", plugin, "--promise", "I8", "--json", code=1)
    found = json.loads(result.stdout)
    assert (found["ok"], found["verdicts"][0]["status"]) == (False, "broken")
    assert "Traceback" not in result.stderr


def test_verify_takes_recordings_and_writes_a_page(data: Path, plugin: str, run: Run) -> None:
    asked = ["verify", plugin, "--promise", "I1", "--promise", "I9"]
    found = json.loads(run(*asked, "--audio", "in", "--max-codes", 9000, "--json").stdout)
    assert (found["ok"], found["exact"]) == (True, True)
    assert found["audio_seconds"] == pytest.approx(9000 / 16000, abs=0.001)
    several = run(*asked, "--audio", "in/one.wav", "in/three.wav", "--report", "page.html").stdout
    assert "2 recordings" in several
    assert "Promises" in Path("page.html").read_text()
    assert "page.html exists" in run(*asked, "--report", "page.html", code=2).stderr
    assert "in stands after the tokenizer" in run(*asked, "in", code=2).stderr


def test_compare_verifies_on_its_recordings(data: Path, plugin: str, run: Run) -> None:
    asked = ["compare", plugin, "in/one.wav", "--domain", "speech", "--metrics", "si-sdr", "--verify"]
    run(*asked, "--report", "r.html", "--no-cache")
    page = Path("r.html").read_text()
    assert "tokens survive storage" in page and "1 recording," in page
    assert "--verify fills a part of the report" in run(*asked, code=2).stderr


def test_pack_writes_what_training_reads(data: Path, run: Run) -> None:
    from audiotokens.training.data import open_pack

    said = json.loads(run("pack", "a.pack", "in/manifest.csv", "--split", "test", "--json").stdout)
    packed = open_pack("a.pack")
    assert packed.names == ("one.wav", "three.wav")
    assert (said["files"], said["sha256"]) == (2, packed.digest)
    assert "exists" in run("pack", "a.pack", "in", code=2).stderr
    filters = ["--filter", "corpus!=Other", "--domain", "speech", "--split", "test", "--sample-rate", 8000]
    assert run("pack", "a.pack", "in/manifest.csv", *filters, "-f").stdout.startswith("a.pack: 1 files, 0.0 ")
    assert "alone is larger" in run("pack", "b.pack", "in", "--max-mib", 0.0001, code=2).stderr


def test_train_passes_its_options_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def train(*paths: str, **options: Any) -> Path:
        asked.append((paths, options))
        return Path("runs/x")

    monkeypatch.setattr(training, "loop", SimpleNamespace(train=train), raising=False)
    run_options = ["--data", "a.pack", "-o", "runs", "--fresh", "--steps", 7, "--device", "cpu"]
    limits = ["--minutes", 1.5, "--from", "speech-16k"]
    assert run("train", "r.yaml", *run_options, *limits).stdout == "tokenizer: runs/x\n"
    assert json.loads(run("train", "r.yaml", *run_options[:4], "--json").stdout)["tokenizer"] == "runs/x"
    plain = {"minutes": None, "start_from": None, "progress": False}
    assert asked[0][0] == ("r.yaml", "a.pack", "runs")
    assert asked[0][1] == plain | {
        "resume": False,
        "device": "cpu",
        "max_steps": 7,
        "minutes": 1.5,
        "start_from": "speech-16k",
    }
    assert asked[1][1] == plain | {"resume": True, "device": "auto", "max_steps": None}


def test_demo_ends_with_the_figures_and_the_page(
    plugin: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def run_demo(*paths: Any, **options: Any) -> SimpleNamespace:
        asked.append((paths, options))
        page = Path("out/report.html")
        return SimpleNamespace(page=page, figures=["3.00 kbit/s"], files=1, notes=["cut"])

    monkeypatch.setattr("audiotokens.demo.run_demo", run_demo)
    done = run("demo", "in", "-o", "out", "--domain", "speech", "-m", plugin)
    assert done.stdout.splitlines() == ["3.00 kbit/s", "page: out/report.html"]
    assert done.stderr == "note: cut\n"
    assert asked[0][0] == (("in",), "out")
    assert (asked[0][1]["domain"], asked[0][1]["tokenizer"].spec.name) == ("speech", plugin)
    run("demo", "-m", plugin)
    assert asked[1][0] == (None, "audiotokens-demo")
