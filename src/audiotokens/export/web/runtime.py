"""ONNX Runtime Web: the few files of its npm package that a page needs, fetched once and checked."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from audiotokens.cache import cache_folder
from audiotokens.errors import AudioTokensError, CheckpointError, one_line

VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Hash of the package's archive, in the form of npm's lock files."""
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""The WebAssembly backend alone; with one thread it needs no special headers of the server."""
_PACKAGE = "onnxruntime-web"
_SECONDS = 600


class RuntimeMissingError(AudioTokensError):
    """ONNX Runtime Web is not to be had."""


@dataclass(frozen=True)
class Runtime:
    """An unpacked package.

    Args:
        version: of ONNX Runtime Web.
        folder: that holds `RUNTIME_FILES`.
    """

    version: str
    folder: Path

    def copy(self, target: Path) -> None:
        """Copy the files into a folder, which is created, and add the licence."""
        target.mkdir(parents=True, exist_ok=True)
        for name in RUNTIME_FILES:
            shutil.copyfile(self.folder / name, target / name)
        notice = (files(__package__) / "page" / "NOTICE.txt").read_text(encoding="utf-8")
        (target / "NOTICE.txt").write_text(notice.replace("$version", self.version), encoding="utf-8")


def find_runtime(package: str | os.PathLike[str] | None = None) -> Runtime:
    """Return ONNX Runtime Web.

    Args:
        package: an unpacked npm package; None: the pinned version, from the cache or fetched by npm.

    Raises:
        RuntimeMissingError: the package is not there, and npm cannot fetch it.
        CheckpointError: npm brought another archive than the pinned one.
    """
    return _described(_cached() if package is None else Path(package))


def _described(package: Path) -> Runtime:
    try:
        version = str(json.loads((package / "package.json").read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        version = ""
    absent = [name for name in RUNTIME_FILES if not (package / "dist" / name).is_file()]
    if absent or not version:
        raise RuntimeMissingError(
            f"{package}: no {absent[0] if absent else 'package.json with a version'} in it; "
            f"expected the unpacked npm package {_PACKAGE}, such as version {VERSION}"
        )
    return Runtime(version, package / "dist")


def _cached() -> Path:
    """Return the folder of the pinned version in the cache, which is filled on first use."""
    folder = cache_folder() / _PACKAGE / VERSION
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            made = Path(name) / "package"
            _unpack(_fetch(Path(name)), made)
            if not folder.is_dir():
                made.rename(folder)
    return folder


def _fetch(folder: Path) -> Path:
    """Let npm bring the archive into a folder; its settings choose registry and proxy."""
    npm = shutil.which("npm")
    advice = f"give an unpacked package {_PACKAGE} with --runtime FOLDER"
    if npm is None:
        raise RuntimeMissingError(
            f"{_PACKAGE} {VERSION} comes by npm, which is not installed: install it, or {advice}"
        )
    quiet = ("--loglevel=error", "--ignore-scripts", "--fetch-retries=0", "--fetch-timeout=60000")
    command = [npm, "pack", f"{_PACKAGE}@{VERSION}", *quiet]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS)
        said = done.stderr.strip().partition("\n")[0].removeprefix("npm error ")
        reason = "" if done.returncode == 0 else said or "it gave no reason"
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = one_line(error)
    found = [*folder.glob("*.tgz")]
    if reason or not found:
        raise RuntimeMissingError(
            f"npm cannot fetch {_PACKAGE} {VERSION} ({reason or 'it wrote no archive'}): "
            f"try again with a network, or {advice}"
        )
    return found[0]


def _unpack(archive: Path, target: Path) -> None:
    kind, _, expected = INTEGRITY.partition("-")
    digest = base64.b64encode(hashlib.new(kind, archive.read_bytes()).digest()).decode()
    if digest != expected:
        raise CheckpointError(
            f"{_PACKAGE} {VERSION} from npm has the {kind} {digest[:12]}, expected {expected[:12]}: "
            "ask whoever runs your registry"
        )
    (target / "dist").mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for name in ("package.json", *(f"dist/{file}" for file in RUNTIME_FILES)):
            member = tar.extractfile(f"package/{name}")
            if member is not None:
                with member, (target / name).open("wb") as file:
                    shutil.copyfileobj(member, file)
