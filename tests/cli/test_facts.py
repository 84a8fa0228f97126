"""info and list: what stands in files and folders, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import save_file

from audiotokens import registry
from audiotokens.cli.text import format_facts, format_table, size

Run = Callable[..., Result]

CONFIG = {
    "format": "audiotokens",
    "version": 1,
    "architecture": "gain-shape",
    "config": {"width": 8},
    "spec": {
        "name": "little",
        "sample_rate": 16000,
        "output_sample_rate": 24000,
        "streams": [{"name": "codes", "codebook_sizes": [1024, 1024, 1024], "frame_rate": "25/2"}],
        "legal_prefixes": [1, 2, 3],
        "weights_license": "CC-BY-4.0",
    },
}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped tokenizer "little"."""
    folder = tmp_path / "weights" / "little"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float16)}, folder / "model.safetensors")
    monkeypatch.setattr(registry, "SHIPPED", tmp_path / "weights")
    return folder


def facts(text: str) -> dict[str, str]:
    """The aligned lines of a description."""
    return dict(line.split("  ", 1) for line in text.splitlines() if "  " in line)


def test_list_is_a_table_or_json(shipped: Path, plugin: str, run: Run) -> None:
    lines = run("list").stdout.splitlines()
    cells = [" ".join(line.split()) for line in lines]
    assert cells[0] == "name kind rate frames/s books kbit/s licence from"
    assert cells[1] == f"little shipped 16000 12.5 3 x 1024 0.125 to 0.375 CC-BY-4.0 {shipped}"
    assert cells[2].startswith("mu-law-256 entry point - - - - - mulaw-tokenizer 1.2.3 (mulaw_tokenizer:")
    found = json.loads(run("list", "--json").stdout)["tokenizers"]
    assert [(entry["name"], entry["kind"]) for entry in found if entry["kind"] != "published"] == [
        ("little", "shipped"),
        ("mu-law-256", "entry point"),
    ]
    assert found[0]["spec"] == registry.list_tokenizers()[0].spec.__dict__ | found[0]["spec"]
    assert found[1]["spec"] is None


def test_published_checkpoints_are_told_without_fetching_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    for variable in ("AUDIOTOKENS_CACHE", "HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    by_name = {line.split()[0]: " ".join(line.split()[1:]) for line in run("list").stdout.splitlines()}
    assert by_name["encodec-32khz"] == (
        "not here 32000 50 4 x 2048 2.2 CC-BY-NC-4.0 (non-commercial) hub: facebook/encodec_32khz"
    )
    record = json.loads(run("info", "encodec-24khz", "--json").stdout)["results"][0]
    assert (record["kind"], record["state"]) == ("published checkpoint", "not here")
    assert record["put_files_into"] == str(tmp_path / "AUDIOTOKENS_CACHE" / "originals" / "encodec-24khz")
    assert record["origins"][0]["files"] == {"encodec_24khz-d7cc33bc.th": "d7cc33bc"}
    said = {name: text.strip() for name, text in facts(run("info", "mimi").stdout).items()}
    assert said["weights license"] == "CC-BY-4.0"
    assert said['stream "acoustic"'] == "frame_rate 25/2, codebook_sizes 31 x 2048"
    found = json.loads(run("list", "--json").stdout)["tokenizers"]
    assert {r["state"] for r in found if r["kind"] == "published"} <= {"here", "not here"}


def test_a_token_file_says_everything(folder: Path, plugin: str, run: Run) -> None:
    run("encode", "in/deep/two.flac", "-m", plugin, "-o", "two.tok")
    said = {name: text.strip() for name, text in facts(run("info", "two.tok").stdout).items()}
    assert said["tokenizer"] == "mu-law-256"
    assert said["num samples"] == "2328"
    assert said["bitrate"] == "128.000 kbit/s"
    assert said["source"] == (
        "sample_rate 22050, num_samples 3207, channels 2, resampler soxr-vhq, mixdown 2 to 1"
    )
    record = json.loads(run("info", "two.tok", "--json").stdout)["results"][0]
    assert record["streams"]["codes"]["codebook_sizes"] == [256]
    assert record["bytes"] == Path("two.tok").stat().st_size
    assert record["file_bitrate"] == pytest.approx(8 * record["bytes"] / record["seconds"])
    piped = json.loads(run("info", "-", "--json", stdin=Path("two.tok").read_bytes()).stdout)["results"][0]
    assert piped["fingerprint"] == record["fingerprint"]
    Path("two.tok").rename("two.bin")
    assert json.loads(run("info", "two.bin", "--json").stdout)["results"][0]["kind"] == "tokens"


def test_a_tokenizer_folder_is_described_from_its_files(shipped: Path, run: Run) -> None:
    by_name, by_folder = (
        json.loads(run("info", target, "--json").stdout)["results"][0] for target in ("little", shipped)
    )
    assert by_name["weights"] == {"tensors": 2, "parameters": 17, "bytes": by_name["weights"]["bytes"]}
    assert by_name["bitrates"] == {"1": 125.0, "2": 250.0, "3": 375.0}
    assert by_name["config"] == {"width": 8}
    assert {**by_name, "input": ""} == {**by_folder, "input": ""}
    said = run("info", "little").stdout
    assert "3 x 1024" in said
    assert "1: 0.125, 2: 0.25, 3: 0.375 kbit/s" in said


def test_size_work_and_latency_have_units(shipped: Path, run: Run) -> None:
    said = {name: text.strip() for name, text in facts(run("info", "little").stdout).items()}
    assert said["parameters"].startswith("not counted, 17 stored (")
    assert said["encoder macs"] == said["decoder macs"] == "-"
    counts = {"parameters": 3_390_400, "encoder_macs": 105_000_000, "decoder_macs": 2_500_000_000}
    spec = CONFIG["spec"] | counts | {"lookahead": 320, "decoder_lookahead": 8, "streamable": True}
    (shipped / "config.json").write_text(json.dumps(CONFIG | {"spec": spec}))
    said = {name: text.strip() for name, text in facts(run("info", "little").stdout).items()}
    assert said["parameters"].startswith("3.39 M trainable, 17 stored")
    assert said["encoder macs"] == "105 M per second of audio"
    assert said["decoder macs"] == "2.5 G per second of audio"
    assert said["lookahead"] == "320 samples (20 ms)"
    assert said["decoder lookahead"] == "8 samples (0.5 ms)"
    record = json.loads(run("info", "little", "--json").stdout)["results"][0]
    assert record["macs"] == 2_605_000_000
    assert record["latency_ms"] == {"lookahead": 20.0, "decoder_lookahead": 0.5}
    (shipped / "config.json").write_text(json.dumps(CONFIG | {"spec": spec | {"receptive_field": None}}))
    assert "receptive field     no bound" in run("info", "little").stdout
    spec |= {"receptive_field": None, "streamable": False, "lookahead": 0, "decoder_lookahead": 0}
    (shipped / "config.json").write_text(json.dumps(CONFIG | {"spec": spec}))
    said = {name: text.strip() for name, text in facts(run("info", "little").stdout).items()}
    assert (said["lookahead"], said["decoder lookahead"]) == ("the whole recording", "-")


def test_damaged_weights_are_code_3(shipped: Path, run: Run) -> None:
    (shipped / "model.safetensors").write_bytes(b"\xff" * 100)
    assert "model.safetensors: not a safetensors file" in run("info", "little", code=3).stderr
    (shipped / "config.json").write_text("{")
    assert "not valid JSON" in run("info", shipped, code=3).stderr


def test_a_tokenizer_of_another_package_is_loaded_to_be_described(plugin: str, run: Run) -> None:
    record = json.loads(run("info", plugin, "--json").stdout)["results"][0]
    assert record["spec"]["source"] == "ITU-T G.711"
    assert record["origin"].startswith("mulaw-tokenizer 1.2.3")


def test_folders_mix_audio_and_tokens_and_failures_are_counted(folder: Path, plugin: str, run: Run) -> None:
    run("encode", "in/one.wav", "-m", plugin)
    (folder / "in" / "broken.wav").write_bytes(b"RIFF")
    result = run("info", "in", "--json", code=2)
    records = {record["input"]: record for record in json.loads(result.stdout)["results"]}
    assert {name: record.get("kind") for name, record in records.items()} == {
        "in/broken.wav": None,
        "in/deep/two.flac": "audio",
        "in/one.tok": "tokens",
        "in/one.wav": "audio",
    }
    assert records["in/one.wav"]["seconds"] == 3207 / 16000
    assert result.stderr.endswith("error: 1 of 4 failed\n")


def test_info_of_files_and_shipped_folders_imports_no_torch(
    folder: Path, shipped: Path, plugin: str, run: Run
) -> None:
    run("encode", "in/one.wav", "-m", plugin, "-o", "one.tok")
    code = """
import sys
from audiotokens.cli import main
try:
    main(["info", *sys.argv[1:]])
except SystemExit as end:
    sys.exit(end.code or "torch" in sys.modules)
"""
    arguments = [sys.executable, "-c", code, "one.tok", "in/one.wav", str(shipped)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_texts() -> None:
    assert [size(number) for number in (999, 3750, 2_500_000, 1_000_000_000)] == [
        "999 B",
        "3.8 kB",
        "2.5 MB",
        "1.0 GB",
    ]
    assert format_table(["a", "bb"], [["ccc", "d"]]) == "a    bb\nccc  d"
    said = format_facts(
        {"ok": True, "no": None, "run": [1, 2, 3], "mixed": [1, 3, 4], "x_y": {"a": 1.5, "b": ""}}
    )
    assert said.splitlines() == ["ok     yes", "run    1 to 3", "mixed  1, 3, 4", "x y    a 1.5"]
