"""The toy tokenizer as a folder of graphs."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module `toy.py` beside this file."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    spec = importlib.util.spec_from_file_location("engines_toy", Path(__file__).with_name("toy.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy_original(toy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = toy.write_toy(tmp_path_factory.mktemp("engines") / "toy")
    return folder


@pytest.fixture
def toy_folder(toy_original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(toy_original, tmp_path / "toy")
