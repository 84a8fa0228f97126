"""The specification of `.tok`, its test vectors, and the code agree to the byte."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from audiotokens.tokenfile import read_tokens, write_tokens

GOLDEN = Path(__file__).resolve().parent / "golden" / "tok"


def _golden(name: str) -> ModuleType:
    """Import a script that stands with the vectors."""
    found = importlib.util.spec_from_file_location(name, GOLDEN / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


vectors = _golden("make_vectors")
CONTENTS: dict[str, Any] = json.loads((GOLDEN / "vectors.json").read_text(encoding="utf-8"))
each = pytest.mark.parametrize("name", sorted(CONTENTS))


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    """The written specification."""
    return (root / "docs" / "tok-format.md").read_text(encoding="utf-8")


@each
def test_reading_gives_the_contents(name: str) -> None:
    tokens = read_tokens(GOLDEN / f"{name}.tok")
    assert tokens == vectors.VECTORS[name]()
    assert vectors.described(tokens) == CONTENTS[name]


@each
def test_writing_gives_the_bytes(name: str) -> None:
    stored = io.BytesIO()
    write_tokens(stored, vectors.VECTORS[name]())
    assert stored.getvalue() == (GOLDEN / f"{name}.tok").read_bytes()


def test_every_file_is_a_vector() -> None:
    assert {path.stem for path in GOLDEN.glob("*.tok")} == set(CONTENTS) == set(vectors.VECTORS)


@each
def test_the_reader_of_the_page_reads_the_vectors(name: str, page: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "tok-format.md", "exec"), names)
    header, tables = names["read_tok"]((GOLDEN / f"{name}.tok").read_bytes())
    left, expected = iter(tables), CONTENTS[name]
    assert header["num_samples"] == expected["num_samples"]
    for stream in header["streams"]:
        content = expected["streams"][stream["name"]]
        if content["segments"] is not None:
            assert [list(window) for window in zip(*next(left), strict=True)] == content["segments"]
        rows = next(left)
        assert (rows.pop(0) if content["durations"] is not None else None) == content["durations"]
        assert rows == content["codes"]
    for item in header.get("conditioning", []):
        assert next(left) == expected["conditioning"][item["name"]]
    assert next(left, None) is None


def test_the_page_shows_the_bytes(page: str) -> None:
    rows = re.findall(r"^[0-9a-f]{8}: ((?:[0-9a-f]{2} )+) ", page, re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == (GOLDEN / "minimal.tok").read_bytes()
    for name in CONTENTS:
        assert f"| `{name}.tok` | {(GOLDEN / f'{name}.tok').stat().st_size} |" in page
    codes = ", ".join(map(str, CONTENTS["minimal"]["streams"]["codes"]["codes"][0]))
    assert f"holding {codes} |" in page
