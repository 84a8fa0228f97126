"""Fixtures that every test may use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep caches out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIOTOKENS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Shared data and golden vectors: `AUDIOTOKENS_SHARED`, else `../shared`; skips without."""
    folder = Path(os.environ.get("AUDIOTOKENS_SHARED") or ROOT.parent / "shared")
    if not (folder / "data" / "manifest.csv").is_file():
        pytest.skip("the shared data are not here: set AUDIOTOKENS_SHARED")
    return folder


@pytest.fixture(scope="session")
def run_browser() -> Callable[..., Any]:
    """Run a script with playwright-core in node: `run_browser(script, ...)` gives the JSON that it prints.

    The script's first argument is headless Chromium. `AUDIOTOKENS_NODE_PATH` may name a node_modules folder
    that has playwright-core.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    node = shutil.which("node")
    if not browser or not node:
        pytest.skip("needs chromium and node")
    modules = os.environ.get("AUDIOTOKENS_NODE_PATH", os.environ.get("NODE_PATH", ""))
    environment = {**os.environ, "NODE_PATH": modules}
    known = subprocess.run([node, "-e", "require('playwright-core')"], env=environment, capture_output=True)
    if known.returncode:
        pytest.skip("needs playwright-core: set AUDIOTOKENS_NODE_PATH to a node_modules folder that has it")

    def run(script: Path, *arguments: str) -> Any:
        command = [node, str(script), browser, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
