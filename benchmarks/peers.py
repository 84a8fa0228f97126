"""What the benchmarks have in common: how a peer's process is started."""

from __future__ import annotations

import os
from pathlib import Path


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
