"""Files that `torch.save` wrote, read without running anything that they name.

Such a file is a pickle: a little program that may name any function of any installed package. It is read by
torch's weights-only unpickler, which knows tensors and plain values and refuses every other name, with the
additions of `STANDINS` for what training frameworks leave beside the weights. None of those is the object
that the file means: each is a stand-in of this module that keeps nothing or a number.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from audiotokens.errors import CheckpointError, NotOfferedError, one_line

SAFE_SINCE = (2, 10)
"""The first torch whose weights-only unpickler checks what CVE-2025-32434 and CVE-2026-24747 used."""

_REFUSED = re.compile(r"GLOBAL (?P<name>[\w.]+)")
_CONVERSION = "docs/import.md shows how to convert it where it is trusted"
_NUMBER = re.compile(r"b1|[iuf][1248]")
_ZIP = b"PK\x03\x04"


class Unread:
    """Stands for an object beside the weights; takes whatever a pickle gives and keeps nothing."""

    def __new__(cls, *given: object) -> Self:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class UnreadMapping:
    """Stands for a dictionary of a class of its own: an empty dictionary in its place takes the items."""

    def __new__(cls, *given: object) -> Any:
        return {}


class NumberType:
    """Stands for a data type of numpy, such as "f8"."""

    def __init__(self, code: str, *flags: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


def number(kind: NumberType, content: bytes) -> bool | int | float:
    """Stand for the function with which numpy restores one number.

    Raises:
        ValueError: not a plain number.
    """
    order = kind.order if kind.order in ("<", ">") else "="
    if not _NUMBER.fullmatch(str(kind.code)) or not isinstance(content, bytes):
        raise ValueError("not a number of numpy")
    return np.frombuffer(content, np.dtype(f"{order}{kind.code}"), count=1)[0].item()  # type: ignore[no-any-return]


STANDINS: dict[str, Callable[..., Any]] = {
    # Command-line arguments of training scripts.
    "argparse.Namespace": Unread,
    # Folders that callbacks wrote to.
    "pathlib.PosixPath": Unread,
    "pathlib.WindowsPath": Unread,
    "pathlib._local.PosixPath": Unread,
    "pathlib._local.WindowsPath": Unread,
    # Lightning: old files have classes of callbacks as keys, and hyper-parameters in a dictionary of its own.
    **{
        f"{package}.callbacks.{module}": Unread
        for package in ("pytorch_lightning", "lightning.pytorch")
        for module in (
            "early_stopping.EarlyStopping",
            "lr_monitor.LearningRateMonitor",
            "model_checkpoint.ModelCheckpoint",
        )
    },
    "pytorch_lightning.utilities.parsing.AttributeDict": UnreadMapping,
    "lightning_fabric.utilities.data.AttributeDict": UnreadMapping,
    "lightning.fabric.utilities.data.AttributeDict": UnreadMapping,
    # Single numbers of numpy: learning rates, losses, constructor arguments.
    "numpy.dtype": NumberType,
    "numpy.core.multiarray.scalar": number,
    "numpy._core.multiarray.scalar": number,
}
"""Global in a file -> what is put in its place, beside what torch's weights-only unpickler knows itself."""


def read_torch_file(path: Path) -> Any:
    """Read what `torch.save` wrote, in the zip form or the one before torch 1.6.

    Tensors of the zip form stay in the file until they are used.

    Raises:
        NotOfferedError: this torch cannot read such files safely.
        CheckpointError: the file is damaged, declares more than it holds, or names something that is
            not a tensor or a plain value; nothing that it names has run.
    """
    _check_torch(path)
    with path.open("rb") as file:
        packed = file.read(len(_ZIP)) == _ZIP
    if packed:
        _check_archive(path)
    try:
        with _only_standins(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = path if packed else io.BytesIO(path.read_bytes())
            return torch.load(source, map_location="cpu", mmap=packed, weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # Anything can go wrong inside a pickle of a stranger, and the classes of errors are not documented.
        raise _refusal(path, error) from None


def _check_torch(path: Path) -> None:
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < SAFE_SINCE:
        needed = ".".join(map(str, SAFE_SINCE))
        raise NotOfferedError(
            f"{path}: a pickled file can harm torch {torch.__version__}: update torch to {needed} or later, "
            "or convert the file to safetensors (docs/import.md)"
        )


def _check_archive(path: Path) -> None:
    """Refuse archives that are damaged, that unpack to more than they are, and that hold programs."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive.infolist())
            _check_sums(archive)
    except CheckpointError:
        raise
    except Exception as error:
        # What zipfile raises for a forged archive depends on where it was forged.
        raise CheckpointError(
            f"{path}: the archive is damaged ({one_line(error)}): get the file again"
        ) from None


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    kind = ""
    if any(name.endswith(".data/extern_modules") for name in names):
        kind = "a torch.package archive, which brings Python code of its own"
    elif any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        kind = "a TorchScript program"
    if kind:
        raise CheckpointError(f"{path}: {kind}, and nothing here runs code of files: {_CONVERSION}")
    size = path.stat().st_size
    declared = sum(member.file_size for member in members)
    if declared > size or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise CheckpointError(
            f"{path}: a compressed archive, {size} bytes that unpack to {declared}; torch compresses "
            "nothing, so torch did not write it: get the file from its authors"
        )


def _check_sums(archive: zipfile.ZipFile) -> None:
    """Read every member once, which compares its checksum; torch does not. One of 0 was not computed."""
    for member in archive.infolist():
        if member.CRC:
            with archive.open(member) as content:
                while content.read(1 << 20):
                    pass


@contextmanager
def _only_standins() -> Iterator[None]:
    """Let torch's unpickler know the stand-ins, and nothing that another package has allowed it."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([(standin, name) for name, standin in STANDINS.items()])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


def _refusal(path: Path, error: Exception) -> CheckpointError:
    text = one_line(error)
    named = _REFUSED.search(text)
    if named is not None:
        return CheckpointError(
            f'{path}: refused, because it names "{named["name"].rstrip(".")}", which is neither a tensor '
            f"nor a plain value; nothing was run. {_CONVERSION}"
        )
    reason = text.partition("WeightsUnpickler error: ")[2] or text
    return CheckpointError(
        f"{path}: cannot be read as a torch file ({type(error).__name__}: {reason[:160]}): get it again"
    )
