"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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
