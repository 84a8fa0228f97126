"""Training checkpoints: the whole state of a run as one safetensors file, written atomically.

Tensors: `codec.*` (parameters and all buffers), `average.*`, `optimizer.<index>.<name>`, `start.<n>` (latents
that wait for the start of the books); in an adversarial phase also `discriminators.*`,
`discriminator_optimizer.<index>.<name>` and `balancer.*`. Metadata: one JSON object with step, recipe and
hash of the data.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from audiotokens.errors import CheckpointError

VERSION = 1
_NAME = re.compile(r"step-(\d{8})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Args:
        path: of the file.
        step: steps done.
        recipe: of the run, as plain values.
        data: SHA-256 of the packed samples.
        tensors: by name.
    """

    path: Path
    step: int
    recipe: dict[str, Any]
    data: str
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name starts with `prefix`, without it."""
        return {name[len(prefix) :]: t for name, t in self.tensors.items() if name.startswith(prefix)}


def write_checkpoint(
    folder: Path, *, step: int, recipe: dict[str, Any], data: str, tensors: dict[str, Tensor], keep: int
) -> Path:
    """Write a checkpoint so that it is there whole or not at all, then remove all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("*.partial"):
        leftover.unlink()
    path = folder / f"step-{step:08d}.safetensors"
    partial = path.with_suffix(".partial")
    state = json.dumps({"version": VERSION, "step": step, "recipe": recipe, "data": data})
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, partial, metadata={"training": state})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    for old in find_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def find_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*.safetensors") if _NAME.fullmatch(path.name))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: damaged, or not a training checkpoint of this version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if state["version"] != VERSION:
            raise CheckpointError(f"{path}: version {state['version']}, expected {VERSION}; train again")
        return Checkpoint(path, int(state["step"]), state["recipe"], state["data"], tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a complete training checkpoint ({error}); delete it to go on from the one before"
        ) from None


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, also those that are not stored with the weights."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def restore_tensors(targets: dict[str, Tensor], stored: dict[str, Tensor], path: Path) -> None:
    """Copy stored tensors into `targets` in place.

    Raises:
        CheckpointError: a name or shape differs.
    """
    wrong = sorted(set(targets) ^ set(stored)) or [n for n in targets if targets[n].shape != stored[n].shape]
    if wrong:
        raise CheckpointError(f"{path}: {len(wrong)} tensors do not fit the recipe, the first is {wrong[0]}")
    for name, tensor in targets.items():
        tensor.copy_(stored[name])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimizer as tensors "<index of parameter>.<name>"."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(v) for index, item in state.items() for name, v in item.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, stored: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in stored.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def start_latents(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Name waiting latents in their order."""
    return {f"start.{index:04d}": tensor for index, tensor in enumerate(tensors)}
