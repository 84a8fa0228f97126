"""Checkpoint files of every container as tensors by name; nothing in a file is ever executed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audiotokens.checkpoints.lyra import GRAPH_SUFFIX, read_lyra
from audiotokens.checkpoints.torchfiles import read_torch_file
from audiotokens.errors import CheckpointError, ConfigError

NESTINGS = ("state_dict", "model", "best_state", "generator")
"""Keys under which training programs put the tensors of a model."""

SUFFIXES = (".safetensors", ".th", ".pt", ".pth", ".ckpt", ".bin", GRAPH_SUFFIX)
"""Names of weight files end with one of these."""

_USUAL = ("model.safetensors", "pytorch_model.bin")
_DEPTH = 4


@dataclass(frozen=True)
class Contents:
    """What one or several files hold.

    Args:
        tensors: by the file's own names.
        arguments: the constructor arguments that were stored with the weights; None: there are none.
    """

    tensors: dict[str, Tensor]
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SourceFile:
    """A file that was read.

    Args:
        path: where it was.
        sha256: of its bytes, 64 hexadecimal digits.
        size: in bytes.
    """

    path: Path
    sha256: str
    size: int


def find_files(weights: Sequence[Path]) -> list[Path]:
    """Return the weight files that are meant; a folder stands for the one in it, or for all its graphs.

    Raises:
        ConfigError: there is no such file, or a folder holds none or several.
    """
    return [found for path in weights for found in (_in_folder(path) if path.is_dir() else [_existing(path)])]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file: give the weights that the authors published")
    return path


def _in_folder(folder: Path) -> list[Path]:
    for name in _USUAL:
        if (folder / name).is_file():
            return [folder / name]
    found = [path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES and path.is_file()]
    # Graphs hold a codec in parts.
    if {path.suffix for path in found} == {GRAPH_SUFFIX}:
        return found
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigError(f"{folder}: weight files in this folder: {names}; name one of them")
    return found


def read_files(paths: Sequence[Path]) -> Contents:
    """Read checkpoint files and put their tensors together.

    Args:
        paths: safetensors or what `torch.save` wrote, told apart by their content, or the .tflite files of
            one codec.

    Raises:
        CheckpointError: a file is damaged, refused or holds no tensors, or two files hold the same one.
        ConfigError: files of several kinds that do not go together.
        NotOfferedError: this torch cannot read pickled files safely.
    """
    suffixes = {path.suffix.lower() for path in paths}
    if suffixes == {GRAPH_SUFFIX}:
        return Contents(*read_lyra(paths))
    if GRAPH_SUFFIX in suffixes:
        raise ConfigError(f"found {GRAPH_SUFFIX} files beside others: give only those of one codec")
    tensors: dict[str, Tensor] = {}
    arguments: Mapping[str, Any] | None = None
    for path in paths:
        contents = read_file(path)
        twice = sorted(tensors.keys() & contents.tensors.keys())
        if twice:
            raise CheckpointError(f"{path}: {twice[0]} is also in another file: give each file once")
        tensors.update(contents.tensors)
        arguments = contents.arguments if arguments is None else arguments
    return Contents(tensors, arguments)


def read_file(path: Path) -> Contents:
    """Read one checkpoint file.

    Raises:
        CheckpointError: it is damaged, refused or holds no tensors.
        NotOfferedError: this torch cannot read pickled files safely.
    """
    if _is_safetensors(path):
        return Contents(_read_safetensors(path))
    stored = read_torch_file(path)
    tensors = _model_tensors(stored)
    if not tensors:
        raise CheckpointError(
            f"{path}: found no tensors, neither at the top nor under {', '.join(NESTINGS)}: "
            "is this another file?"
        )
    for name, tensor in tensors.items():
        _check_plain(path, name, tensor)
    plain = {name: tensor.detach() for name, tensor in tensors.items()}
    return Contents(plain, _constructor_arguments(stored))


def identify(path: Path) -> SourceFile:
    """Return the size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return SourceFile(path, digest.hexdigest(), file.tell())


def _is_safetensors(path: Path) -> bool:
    """A length of 8 bytes that fits the file, then JSON; a name alone proves nothing."""
    with path.open("rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    return path.suffix == ".safetensors" or (head[8:] == b"{" and length < path.stat().st_size)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}): get it again") from None


def _model_tensors(stored: object, depth: int = _DEPTH) -> dict[str, Tensor]:
    """Tensors of the model in what a training program stored; {} where there are none."""
    if not isinstance(stored, Mapping) or not depth:
        return {}
    for key in NESTINGS:
        if isinstance(stored.get(key), Mapping):
            return _model_tensors(stored[key], depth - 1)
    return {name: t for name, t in stored.items() if isinstance(name, str) and isinstance(t, Tensor)}


def _constructor_arguments(stored: Any) -> Mapping[str, Any] | None:
    """Return `metadata.kwargs`, where audiotools keeps the arguments of the model's class."""
    metadata = stored.get("metadata")
    arguments = metadata.get("kwargs") if isinstance(metadata, Mapping) else None
    return arguments if isinstance(arguments, Mapping) else None


def _check_plain(path: Path, name: str, tensor: Tensor) -> None:
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(
            f"{path}: {name} is not a plain tensor that the file holds whole: "
            "convert it as docs/import.md shows"
        )
