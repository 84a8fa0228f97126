"""Fixtures of the command line's tests: a tokenizer of another package, a little audio, a runner."""

from __future__ import annotations

import importlib
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import audiotokens
from audiotokens.cli import batch, main

PACKAGE = Path(__file__).resolve().parent.parent / "plugin_package"
NAME = "mu-law-256"

Run = Callable[..., Result]


def install(package: Path, site: Path) -> Path:
    """Make a package visible as an installer would: its modules, and metadata from its pyproject."""
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(package / "src", site, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    facts = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(facts)
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `sys.path` with the installed test package."""
    return install(PACKAGE, tmp_path_factory.mktemp("plugin") / "site")


@pytest.fixture
def plugin(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the test package's tokenizer, visible to this process."""
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    batch.loaded.cache_clear()
    yield NAME
    batch.loaded.cache_clear()
    sys.modules.pop("mulaw_tokenizer", None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: `in/one.wav` (16 kHz mono) and `in/deep/two.flac` (22.05 kHz stereo)."""
    time = np.arange(3207) / 16000
    tone = (0.4 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    audiotokens.write_audio(tmp_path / "in" / "one.wav", tone, 16000)
    audiotokens.write_audio(tmp_path / "in" / "deep" / "two.flac", np.stack([tone, tone]), 22050)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIOTOKENS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Call the command line: `run("encode", path, ..., code=2)` checks the exit code too."""

    def invoke(*arguments: object, code: int = 0, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
        assert result.exit_code == code, f"{result.output}{result.exception!r}"
        return result

    return invoke
