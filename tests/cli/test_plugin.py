"""A tokenizer of another package, in processes of their own: no line of this package knows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import audiotokens

NAME = "mu-law-256"


@pytest.fixture
def call(site: Path, folder: Path) -> object:
    """Run `audiotokens` in a fresh process that sees the test package."""
    source = Path(audiotokens.__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(source)])}

    def run(*arguments: str, stdin: bytes | None = None) -> bytes:
        command = [sys.executable, "-m", "audiotokens.cli", *arguments]
        done = subprocess.run(command, capture_output=True, check=False, env=environment, input=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


def test_list_encode_compare_and_verify_know_it(call: object) -> None:
    run = call if callable(call) else pytest.fail("no runner")
    assert NAME in run("list").decode()
    tokens = run("encode", "-", "-m", NAME, "-o", "-", stdin=Path("in/one.wav").read_bytes())
    assert json.loads(run("info", "-", "--json", stdin=tokens))["results"][0]["tokenizer"] == NAME
    assert b"mu-law-256" in run("compare", NAME, "in/one.wav", "--metrics", "si-sdr")
    verdicts = json.loads(run("verify", NAME, "--json", "--promise", "I1", "--promise", "I9"))["verdicts"]
    assert [verdict["status"] for verdict in verdicts] == ["kept", "kept"]


def test_without_the_package_the_name_is_unknown() -> None:
    with pytest.raises(
        audiotokens.AudioTokensError, match='no tokenizer and no folder is called "mu-law-256"'
    ):
        audiotokens.load(NAME)
