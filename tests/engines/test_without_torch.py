"""What a user expects of an installation without torch: the README's ten lines and the verbs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotokens.engines import has_graphs
from audiotokens.registry import shipped

pytest.importorskip("onnxruntime")

MOST_BYTES = 170e6
BLOCKED = '''
"""Importing torch fails in every process that starts with this folder on its path."""
import sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoTorch())
'''
VERBS = [
    "encode speech.wav -k 6 -o a.tok --force",
    "info a.tok speech-16k-stream",
    "decode a.tok -o a.wav --force",
    "reconstruct speech.wav -m speech-16k-stream -o b.wav --force",
    "list",
    "verify speech-16k-stream --promise I10",
]

Run = Callable[..., bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a second of sound."""
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 200 * time * (1 + time)) * np.hanning(16000)
    soundfile.write(tmp_path / "speech.wav", 0.5 * tone, 16000)
    return tmp_path


def runner(python: Path | str, folder: Path, path: str = "") -> Run:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": path} if path else {}

    def run(arguments: Sequence[str], given: bytes = b"") -> bytes:
        command = [str(python), *arguments]
        finished = subprocess.run(command, cwd=folder, input=given, capture_output=True, env=environment)
        assert finished.returncode == 0, f"{arguments}: {finished.stderr.decode()}"
        return finished.stdout

    return run


def ten_lines(root: Path) -> str:
    """The first Python of the README."""
    found = re.search(r"```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def check(run: Run, root: Path, folder: Path, verbs: Sequence[str]) -> None:
    run(["-c", ten_lines(root)])
    assert soundfile.info(folder / "again.wav").frames == 16000
    for verb in verbs:
        assert run(["-m", "audiotokens.cli", *verb.split()]).strip(), verb
    assert len(run(["-m", "audiotokens.cli", "stream"], bytes(6400))) == 6400
    assert soundfile.info(folder / "a.wav").frames == 16000
    assert soundfile.info(folder / "b.wav").frames == 16000


needs_graphs = pytest.mark.skipif(
    not all(map(has_graphs, shipped().values())), reason="the shipped tokenizers have no graphs here"
)


@needs_graphs
def test_everything_works_where_torch_cannot_be_imported(root: Path, folder: Path) -> None:
    block = folder / "block"
    block.mkdir()
    (block / "sitecustomize.py").write_text(BLOCKED)
    run = runner(sys.executable, folder, f"{block}{os.pathsep}{root / 'src'}")
    blocked = "try:\n    import torch\nexcept ModuleNotFoundError:\n    print('blocked')"
    assert run(["-c", blocked]).strip() == b"blocked"
    check(run, root, folder, VERBS)


@needs_graphs
@pytest.mark.slow
def test_an_installation_without_torch_is_small_and_complete(root: Path, folder: Path) -> None:
    home = folder / "installed"
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    run = runner(python, folder)
    packages = Path(run(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).decode().strip())
    before = size(packages)
    pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"]
    run([*pip, "--constraint", str(root / "constraints.txt"), f"{root}[onnx]"])
    assert size(packages) - before < MOST_BYTES
    assert not (packages / "torch").exists()
    check(run, root, folder, VERBS)


def size(folder: Path) -> int:
    """Bytes of all files, byte code aside, which Python makes when it likes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
