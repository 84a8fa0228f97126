"""Where the numbers of a tokenizer lie in `model.safetensors`, so that graphs can point at them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiotokens.nn.storage import SCALE

WEIGHTS = "model.safetensors"
LARGER = "graphs.data"
"""File of constants that are no weights, and too large to be part of a graph."""
_TYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "I8": torch.int8,
    "I64": torch.int64,
    "F64": torch.float64,
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file.

    Args:
        dtype: as it is stored.
        shape: sizes of its axes.
        offset: of its first byte in the file.
        length: bytes.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    length: int


class StoredWeights:
    """The tensors of a safetensors file, and which tensor of a model each one is.

    Args:
        path: the file.
        tensors: those of the model, by the names in the file.
    """

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        self.stored = {
            name: StoredTensor(
                _TYPES[entry["dtype"]],
                tuple(entry["shape"]),
                8 + size + entry["data_offsets"][0],
                entry["data_offsets"][1] - entry["data_offsets"][0],
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }
        # The tensors are kept, so that no other one can take over an identity.
        self._tensors = dict(tensors)
        self._names = {id(tensor): name for name, tensor in tensors.items()}
        self.larger = b""
        """What `LARGER` is to hold."""

    def name(self, tensor: Tensor) -> str | None:
        """The name of a tensor of the model; None where it is no such one."""
        return self._names.get(id(tensor))

    def place(self, content: bytes) -> int:
        """Where in the file of larger constants one begins; equal ones are stored once."""
        found = self.larger.find(content)
        if found < 0:
            found = len(self.larger)
            self.larger += content
        return found

    def scale(self, name: str) -> str | None:
        """The name of the factors of the rows of a tensor in 8 bits; None where there are none."""
        return name + SCALE if name + SCALE in self.stored else None
