"""What the benchmarks share: the environment of the peers, and how a process of theirs is started."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_peers(folder: Path, packages: Sequence[str], stubs: Mapping[str, str] | None = None) -> None:
    """Make the environment of the peers, which sees the packages of this one after its own.

    Args:
        folder: where it is or shall be.
        packages: what pip installs, without what they require.
        stubs: modules to write, file -> text.
    """
    if (folder / "ready").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    subprocess.run([*install, *packages], check=True)
    place = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (place / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name, text in (stubs or {}).items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    (folder / "ready").touch()


def environment(threads: int, *, fast_faiss: bool = False) -> dict[str, str]:
    """Return the environment of a process with so many threads.

    The library of faiss does not know every processor, and may take kernels several times as slow as those of
    AVX-512, which `fast_faiss` names for it.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    found = {**os.environ, **dict.fromkeys(names, str(threads))}
    return {**found, "OPENBLAS_CORETYPE": "SkylakeX"} if fast_faiss else found


def has_avx512() -> bool:
    """Whether the processor has the instructions of those kernels."""
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
