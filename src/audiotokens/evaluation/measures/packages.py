"""Packages of others, tamed: one thread, loaded once, imported without what they do not use here."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import wraps
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from audiotokens.errors import MetricError, MissingExtraError

if TYPE_CHECKING:
    import onnxruntime

RATE = 16000
"""The rate, in Hz, at which every model of this folder listens."""
_REMEMBERED = 2048

Result = TypeVar("Result")


def remembered(analyse: Callable[[np.ndarray], Result]) -> Callable[[np.ndarray], Result]:
    """Let a function of one signal `[T]` keep its last results, by the content of the signal.

    The original of a file is analysed once and not once for each measure and reconstruction. Results must
    not be changed.
    """
    kept: OrderedDict[bytes, Result] = OrderedDict()

    @wraps(analyse)
    def recalled(signal: np.ndarray) -> Result:
        signal = np.ascontiguousarray(signal, dtype=np.float32)
        key = blake2b(signal.tobytes(), digest_size=16).digest()
        if key in kept:
            kept.move_to_end(key)
            return kept[key]
        result = kept[key] = analyse(signal)
        if len(kept) > _REMEMBERED:
            kept.popitem(last=False)
        return result

    return recalled


def require_rate(sample_rate: int) -> None:
    """Refuse any rate but 16 kHz: resampling is done once, before all measures.

    Raises:
        MetricError: it is another one.
    """
    if sample_rate != RATE:
        raise MetricError(f"found a sample rate of {sample_rate} Hz, expected {RATE} Hz: resample first")


def package_folder(name: str, purpose: str, extra: str) -> Path:
    """Return where a package lies, without importing it.

    Args:
        name: of the top module.
        purpose: for the error, such as "DNSMOS".
        extra: of this package that brings it.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        found = find_spec(name)
    except ValueError:  # somebody put None in its place
        found = None
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(purpose, extra)
    return Path(next(iter(found.submodule_search_locations)))


def import_without(name: str, *absent: str) -> ModuleType:
    """Import a module that imports packages which are not installed and which its used parts never touch.

    Empty modules stand for those packages while the import runs, and only then.

    Raises:
        ImportError: another package is missing.
    """
    empty = [package for package in absent if package not in sys.modules and find_spec(package) is None]
    sys.modules.update({package: ModuleType(package) for package in empty})
    try:
        return importlib.import_module(name)
    finally:
        for package in empty:
            del sys.modules[package]


def onnx_session(path: Path, purpose: str, extra: str) -> onnxruntime.InferenceSession:
    """Open an ONNX model on one thread of the CPU.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError(purpose, extra) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread and without gradients."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
