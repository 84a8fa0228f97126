"""Everything that the documentation shows is run, page by page, in a folder with a little audio.

A block that cannot run has `<!-- no-test: reason -->` on the line before its fence.
"""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import audiotokens
from audiotokens.cli import VERBS, main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [m.name for m in pkgutil.walk_packages(audiotokens.__path__, "audiotokens.")]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)")
NO_TEST = re.compile(r"<!-- no-test: \S.* -->")
SHELLS = {"bash", "console", "sh", "shell"}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and the line of the page where the text begins."""

    language: str
    text: str
    line: int
    tested: bool


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page in order."""
    lines = text.split("\n")
    above, index = "", 0
    while index < len(lines):
        opening = FENCE.match(lines[index])
        if opening is None:
            above = lines[index].strip() or above
            index += 1
            continue
        end = next(i for i in range(index + 1, len(lines)) if lines[i].strip() == opening["ticks"])
        body = "\n".join(line.removeprefix(opening["indent"]) for line in lines[index + 1 : end])
        yield Block(opening["language"], body + "\n", index + 2, not NO_TEST.fullmatch(above))
        above, index = "", end + 1


def commands(text: str) -> Iterator[str]:
    """The `audiotokens` command lines of a shell block, with or without a `$` prompt."""
    for line in text.replace("\\\n", " ").split("\n"):
        command = line.strip().removeprefix("$ ")
        if re.search(r"(^|\| *)audiotokens ", command):
            yield command


def run_command(command: str) -> None:
    if re.search(r"[|<>&;*~]", re.sub(r"'[^']*'|\"[^\"]*\"", "", command)):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, env={**os.environ, "PATH": path}
        )
        assert done.returncode == 0, done.stderr.decode()
        return
    arguments = shlex.split(command, comments=True)[1:]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, f"{command}\n{result.output}{result.exception or ''}"


def run_python(text: str, names: dict[str, object], where: str) -> None:
    if ">>> " not in text:
        exec(compile(text, where, "exec", dont_inherit=True), names)
        return
    test = doctest.DocTestParser().get_doctest(text, names, where, None, 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert not said, "".join(said)


def run_yaml(text: str) -> None:
    import yaml

    yaml.safe_load(text)


def run_block(block: Block, names: dict[str, object], where: str) -> None:
    checks: dict[str, Callable[[str], object]] = {"json": json.loads, "yaml": run_yaml}
    if block.language in {"python", "pycon"}:
        run_python("\n" * (block.line - 1) + block.text, names, where)
    elif block.language in SHELLS:
        for command in commands(block.text):
            run_command(command)
    elif block.language in checks:
        checks[block.language](block.text)


def speech_like(seconds: float, pitch: float, rate: int = 16000) -> np.ndarray:
    """A buzz with a moving formant and pauses: enough like speech for every measure to be defined."""
    time = np.arange(round(seconds * rate)) / rate
    phase = np.cumsum(2 * np.pi * pitch * (1 + 0.1 * np.sin(2 * np.pi * 3 * time)) / rate)
    buzz = sum(np.sin(k * phase) / k for k in range(1, 30)) * np.clip(
        np.sin(2 * np.pi * 2 * time) + 0.6, 0, 1
    )
    noise = np.random.default_rng(0).normal(0, 0.01, time.size)
    return np.asarray(0.15 * buzz + noise, np.float32)[None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a snippet: `speech.wav`, `recordings/` with three short files, `tests/golden`."""
    (tmp_path / "recordings").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "golden").symlink_to(ROOT / "tests" / "golden")
    audiotokens.write_audio(tmp_path / "speech.wav", speech_like(2.0, 120), 16000)
    for index, suffix in enumerate(["wav", "flac", "ogg"]):
        path = tmp_path / "recordings" / f"voice{index}.{suffix}"
        audiotokens.write_audio(path, speech_like(1.2, 100 + 40 * index), 16000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_snippets_of_a_page_run(page: Path, folder: Path) -> None:
    names: dict[str, object] = {"__name__": "snippet"}
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.tested:
            run_block(block, names, f"{page}:{block.line}")


@pytest.mark.parametrize("name", ["audiotokens", *MODULES])
def test_docstring_examples_run(name: str, folder: Path) -> None:
    module = importlib.import_module(name)
    said: list[str] = []
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=OPTIONS)
    for test in finder.find(module, name):
        runner.run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_linked_files_and_pictures_exist(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^():#]+)(?:#[^)]*)?\)", prose)
    assert not [link for link in links if not (page.parent / link).is_file()]


def test_readme_shows_python_and_every_command_it_promises() -> None:
    found = list(blocks((ROOT / "README.md").read_text(encoding="utf-8")))
    assert any(block.language == "python" and block.tested for block in found)
    shell = "".join(block.text for block in found if block.language in SHELLS)
    assert "make demo" in shell
    assert "make test" in shell


def test_api_page_names_everything_public() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in audiotokens.__all__ if f"`{name}" not in page]
    kinds = [audiotokens.Tokens, audiotokens.Tokenizer, audiotokens.CodeStream, audiotokens.Spec]
    for kind in kinds:
        members = [
            n
            for n, m in vars(kind).items()
            if not n.startswith("_") and (callable(m) or isinstance(m, property))
        ]
        missing += [
            f"{kind.__name__}.{name}" for name in members if f"`{name}" not in page and f".{name}" not in page
        ]
    assert not missing


def test_command_page_names_every_verb() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert not [verb for verb in VERBS if f"audiotokens {verb}" not in page]


def test_navigation_names_every_page() -> None:
    listed = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}


PAGE = """
Text.

```python
value = 1
```

<!-- no-test: needs the network -->
```python
raise SystemExit
```

```console
$ audiotokens info a.tok
$ ls
$ cat a.wav | audiotokens encode - \\
    -o b.tok
```
"""


def test_blocks_of_a_page() -> None:
    found = list(blocks(PAGE))
    assert [(block.language, block.line, block.tested) for block in found] == [
        ("python", 5, True),
        ("python", 10, False),
        ("console", 14, True),
    ]
    assert [re.sub(" +", " ", command) for command in commands(found[2].text)] == [
        "audiotokens info a.tok",
        "cat a.wav | audiotokens encode - -o b.tok",
    ]


def test_a_wrong_snippet_fails() -> None:
    with pytest.raises(NameError, match="missing_name"):
        run_python("missing_name\n", {}, "page")
    with pytest.raises(AssertionError, match="Expected"):
        run_python(">>> 1 + 1\n3\n", {}, "page")
    with pytest.raises(AssertionError, match="No such command"):
        run_command("audiotokens no-such-verb")
