"""One line on stderr, the right exit code, a batch that goes on; help that is instant."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import Result

from audiotokens import Tokenizer, read_tokens, registry
from audiotokens.cli import VERBS, main
from audiotokens.cli.text import one_line

Run = Callable[..., Result]


@pytest.fixture
def damaged(folder: Path, plugin: str, run: Run) -> Path:
    """`good.tok`, `bad.tok` (a flipped bit) and `cut.tok`."""
    run("encode", "in/one.wav", "-m", plugin, "-o", "good.tok")
    content = bytearray(Path("good.tok").read_bytes())
    Path("cut.tok").write_bytes(content[:-40])
    content[len(content) // 2] ^= 4
    Path("bad.tok").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "absent.wav", "-m", "mu-law-256"], "absent.wav.*"),
        (["encode", "in/notes.txt", "-m", "mu-law-256"], "in/notes.txt.*"),
        (["encode", "in/one.wav", "-m", "mu-law-25"], '.*did you mean "mu-law-256".*'),
        (["encode", "in/one.wav", "-m", "mu-law-256", "-k", "2"], "mu-law-256: num_codebooks is 2, legal.*"),
        (["encode", "in/one.wav", "-k", "0"], r"Invalid value for '-k'.* \(see audiotokens encode --help\)"),
        (["encode"], r"Missing argument 'INPUTS\.\.\.'\. \(see audiotokens encode --help\)"),
        (["encode", "in", "-o", "-", "-m", "mu-law-256"], "-o - takes one input, found 2: give a folder"),
        (["encode", "in/one.wav", "-o", "-", "--json", "-m", "mu-law-256"], "--json and -o - both write.*"),
        (["reconstruct", "in/one.wav", "-o", "in", "-m", "mu-law-256", "--format", "aac"], "Invalid value.*"),
        (["reconstruct", "in/one.wav", "-o", "-", "--format", "ogg"], "stdout takes wav, not ogg.*"),
        (["reconstruct", "in/one.wav", "-o", "a.doc", "-m", "mu-law-256"], '.*"?.doc"?.*'),
        (["decode", "absent.tok"], ".*absent.tok.*"),
        (["info", "nothing-of-this-name"], ".*no tokenizer and no folder is called.*"),
        (["verify", "mu-law-256", "--promise", "I11"], 'there is no promise "I11".*'),
        (
            ["compare", "mu-law-256"],
            "give audio files or folders, or a data folder with --data: one of the two",
        ),
        (["compare", "mu-law-256", "in", "-k", "3,x"], '.*"3,x" is not a list of numbers.*'),
        (["compare", "mu-law-256", "in", "--split", "test"], "--split and --filter choose rows.*"),
        (["compare", "mu-law-256", "--data", "in"], "in/manifest.csv: No such file or directory; expected.*"),
        (["pack", "out.pack", "absent"], "absent.*"),
        (["train", "recipe.yaml"], "Missing option '--data'.*"),
        (["unknown"], "No such command 'unknown'.*see audiotokens --help.*"),
        (["--unknown"], "No such option '?--unknown'?.*"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: list[str], message: str, folder: Path, plugin: str, run: Run
) -> None:
    result = run(*arguments, code=2)
    assert re.fullmatch(f"error: {message}\n", result.stderr), result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("name", ["bad.tok", "cut.tok"])
@pytest.mark.parametrize("verb", ["decode", "info"])
def test_damage_is_one_line_and_code_3(damaged: Path, run: Run, verb: str, name: str) -> None:
    result = run(verb, name, code=3)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert name in result.stderr
    assert not Path(name).with_suffix(".wav").exists()


def test_a_batch_goes_on_and_ends_with_a_count(damaged: Path, run: Run) -> None:
    only_damage = run("decode", "bad.tok", "good.tok", "cut.tok", "-o", "out", code=3)
    assert only_damage.stderr.endswith("error: 2 of 3 failed\n")
    assert only_damage.stderr.count("\n") == 3
    assert Path("out/good.wav").is_file()
    mixed = run("decode", "bad.tok", "good.tok", "absent.tok", "-o", "out", "-f", "--json", code=2)
    found = json.loads(mixed.stdout)
    assert [record["status"] for record in found["results"]] == ["failed", "ok", "failed"]
    assert [record.get("exit_code") for record in found["results"]] == [3, None, 2]
    assert (found["succeeded"], found["failed"]) == (1, 2)


def test_the_unexpected_has_a_trace_and_code_1(
    folder: Path, plugin: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(self: Tokenizer, waveform: np.ndarray, num_codebooks: int) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(type(registry.load(plugin)), "_encode", stumble)
    result = run("encode", "in", "absent.wav", "-m", plugin, "-o", "out", code=1)
    assert result.stderr.count("Traceback") == 1
    assert "error: in/one.wav: unexpected ZeroDivisionError: planted\n" in result.stderr
    assert result.stderr.endswith("error: 3 of 3 failed\n")


def test_outside_a_batch_the_unexpected_has_a_trace_and_code_1_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble() -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(registry, "list_tokenizers", stumble)
    result = run("list", code=1)
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: unexpected ZeroDivisionError: planted: please")


def test_a_missing_torch_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "audiotokens.training.loop", raising=False)
    monkeypatch.delattr("audiotokens.training.loop", raising=False)
    result = run("train", "recipe.yaml", "--data", "x", "-o", "y", code=2)
    assert result.stderr == 'error: This command needs the extra "torch": pip install "audiotokens[torch]"\n'


def test_a_token_file_cannot_choose_what_is_loaded(folder: Path, plugin: str, run: Run) -> None:
    run("encode", "in/one.wav", "-m", plugin, "-o", "good.tok")
    for name in ("in", "hf:someone/else"):
        replace(read_tokens("good.tok"), tokenizer=name).save("other.tok", overwrite=True)
        result = run("decode", "other.tok", code=2)
        assert f'made by "{name}", which is not a name' in result.stderr
        run("decode", "other.tok", "-m", plugin, "-o", f"{len(name)}.wav")


def test_names_of_files_cannot_break_the_line() -> None:
    assert one_line("a\nb\x1b[31m  c\u202e") == "a b?[31m c?"


def commands() -> dict[str, click.Command]:
    context = click.Context(main)
    return {verb: command for verb in VERBS if (command := main.get_command(context, verb)) is not None}


def test_every_verb_says_what_the_dictionary_says_and_shows_an_example(run: Run) -> None:
    found = commands()
    assert list(found) == list(VERBS)
    for verb, command in found.items():
        assert (command.help or "").split("\n")[0] == VERBS[verb][1]
        assert (command.epilog or "").startswith(f"Example: audiotokens {verb} ")
        assert "--json" in run(verb, "--help").stdout


def test_version(run: Run) -> None:
    assert re.fullmatch(r"audiotokens \d+\.\d+\.\d+\n", run("--version").stdout)


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    code = """
import sys
from audiotokens.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
heavy = {"torch", "numpy", "rich", "soundfile", "soxr", "audiotokens.cli.encode", "audiotokens.registry"}
sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "reconstruct" in done.stdout
