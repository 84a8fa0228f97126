"""A codec's folder on disk, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from audiotokens import config as configuration
from audiotokens.errors import CheckpointError
from audiotokens.nn.storage import WeightBits, stored_bits, unpack_tensors

FORMAT_VERSION = 1


def fingerprint(architecture: str, config: Any, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over architecture, configuration and stored weights, as 64 hexadecimal digits."""
    digest = hashlib.sha256(architecture.encode())
    digest.update(json.dumps(configuration.to_dict(config), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def write_folder(
    folder: Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor], card: str
) -> None:
    """Write `config.json`, `model.safetensors` and `README.md`."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    (folder / "model.safetensors").write_bytes(save(contiguous))
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")
    (folder / "README.md").write_text(card)


def read_description(folder: Path) -> dict[str, Any]:
    """Return what `config.json` of a tokenizer folder says.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        description: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: config.json cannot be read ({error}); get the folder again"
        ) from None
    return description


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], WeightBits]:
    """Read stored weights that must have the names and shapes of `expected`; also tell how they were stored.

    Raises:
        CheckpointError: the file is missing or damaged, or a tensor is missing, unknown or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); get the folder again") from None
    try:
        tensors = unpack_tensors(stored)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: a scale does not fit its tensor ({error})") from None
    wrong = sorted(set(expected) ^ set(tensors))
    wrong = wrong or [name for name, tensor in expected.items() if tensors[name].shape != tensor.shape]
    if wrong:
        raise CheckpointError(f"{path}: {len(wrong)} tensors do not fit config.json, the first is {wrong[0]}")
    return tensors, stored_bits(stored)
