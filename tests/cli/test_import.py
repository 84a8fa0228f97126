"""`audiotokens import`: what it prints, what it writes, and one line for every mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import save_file
from torch import Tensor

from audiotokens import registry

Run = Callable[..., Result]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Tensors of a codec of the tests' family, which is registered as "toy", under its original's keys."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "checkpoints"))
    import toy_codec

    monkeypatch.setitem(registry.architectures, "toy", "toy_codec:ToyCodec")
    torch.manual_seed(0)
    return toy_codec.original(toy_codec.ToyCodec(toy_codec.VARIANTS["toy-8k"]))


@pytest.fixture
def weights(stored: dict[str, Tensor], folder: Path) -> str:
    save_file(stored, folder / "weights.safetensors")
    return "weights.safetensors"


def test_it_tells_what_it_made(weights: str, run: Run) -> None:
    result = run("import", "--architecture", "toy-8k", "--weights", weights, "-o", "out")
    lines = [line.split("  ", 1)[0] for line in result.stdout.splitlines()]
    assert lines[0] == "out: toy-8k"
    assert {"variant", "configuration", "tensors", "parameters", "licence", "sha256"} <= {*lines}
    assert "licence        not known: ask whoever published the files" in result.stdout
    assert result.stdout.endswith("try: audiotokens info out\n")
    assert "toy-8k" in run("info", "out").stdout
    run("encode", "in/one.wav", "-m", "out", "-o", "one.tok")
    assert Path("one.tok").is_file()


def test_files_after_the_first(stored: dict[str, Tensor], folder: Path, run: Run) -> None:
    names = []
    for index in range(3):
        part = {k: t for i, (k, t) in enumerate(sorted(stored.items())) if min(i // 12, 2) == index}
        names.append(f"part{index}.pt")
        torch.save(part, names[-1])
    assert "2 tensors" not in run("import", "-a", "toy-8k", "-w", *names, "-o", "out").stdout
    assert "try:" in run("import", "-a", "toy-8k", "-w", names[0], "-w", names[1], names[2], "-o", "b").stdout
    assert "error: " in run("import", "-a", "toy-8k", "-w", names[0], "-o", "c", code=3).stderr


def test_json_and_report(weights: str, run: Run) -> None:
    result = run("import", "-a", "toy", "-w", weights, "-o", "out", "--json", "--report", "report.txt", "-v")
    facts = json.loads(result.stdout)
    assert facts["variant"] == "toy-8k"
    assert facts["tensors"]["not needed"] == 1
    lines = Path("report.txt").read_text().splitlines()
    assert len(lines) == facts["tensors"]["used"] + 1
    assert result.stderr.splitlines() == lines


def test_a_report_of_what_does_not_fit(stored: dict[str, Tensor], folder: Path, run: Run) -> None:
    torch.save({k: t for k, t in stored.items() if not re.search(r"decoder_net.blocks.[23]", k)}, "w.pt")
    result = run("import", "-a", "toy-8k", "-w", "w.pt", "-o", "out", "--report", "report.txt", code=3)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert " more" in line
    report = Path("report.txt").read_text().splitlines()
    assert f"error: {len(report)} tensors do not fit toy" in line
    assert all(re.match(r"wrong: decoder_net.blocks.[23].* is missing", row) for row in report)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["-a", "toys", "-w", "weights.safetensors", "-o", "out"],
            2,
            'no architecture and no variant is called "toys"',
        ),
        (["-a", "toy", "-w", "absent.pt", "-o", "out"], 2, "absent.pt: there is no such file"),
        (["-a", "toy", "-o", "out"], 2, "found no weight files for toy"),
        (["-a", "toy", "-w", "in/one.wav", "-o", "out"], 3, "in/one.wav: cannot be read as a torch file"),
        (
            ["-a", "toy", "-w", "weights.safetensors", "-c", "absent.json", "-o", "out"],
            2,
            "absent.json: there is",
        ),
        (["-a", "toy", "-w", "weights.safetensors", "-o", "in"], 2, "in: already exists"),
        (["-a", "toy", "-w", "weights.safetensors", "-o", "in", "-f"], 2, "in: is not a tokenizer folder"),
        (["-w", "weights.safetensors", "-o", "out"], 2, "Missing option '-a' / '--architecture'"),
    ],
)
def test_mistakes(weights: str, run: Run, arguments: list[str], code: int, message: str) -> None:
    result = run("import", *arguments, code=code)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert not Path("out").exists()
