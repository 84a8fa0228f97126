"""Golden vectors of the references: small copies in `tests/golden/codecs`, all of them in the shared data."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
COPIES = ROOT / "tests" / "golden" / "codecs"
PARITY = Path(os.environ.get("AUDIOTOKENS_SHARED") or ROOT.parent / "shared") / "parity"


@dataclass(frozen=True)
class Case:
    """One folder of golden vectors."""

    folder: Path

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The reference's own constructor arguments, without what is about the recording."""
        config: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return {name: value for name, value in config.items() if name != "lengths"}

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Samples of each run: "full", "short", "tiny"; copies hold the shorter ones only."""
        lengths: dict[str, int] = json.loads((self.folder / "config.json").read_text())["lengths"]
        return {run: n for run, n in lengths.items() if any(self.folder.glob(f"{run}.*.npy"))}

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """State dict under the reference's keys."""
        return load_file(self.folder / "weights.safetensors")

    def waveform(self, run: str) -> Tensor:
        """Input of a run, float32 `[1, C, T]`."""
        source = self.folder / "input.wav"
        if not source.is_file():
            source = self.folder.parent.parent / json.loads((self.folder / "meta.json").read_text())["input"]
        samples, _ = soundfile.read(source, dtype="int16", always_2d=True)
        return torch.from_numpy(samples.T[None, :, : self.lengths[run]].astype(np.float32) / 32768)

    def array(self, name: str) -> Tensor:
        """A stored array, such as "short.codes"; codes are int64."""
        values = np.load(self.folder / f"{name}.npy")
        return torch.from_numpy(values.astype(np.int64) if values.dtype.kind == "i" else values)

    def has(self, name: str) -> bool:
        """Whether an array is stored."""
        return (self.folder / f"{name}.npy").is_file()

    def __str__(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"


def cases(family: str) -> list[Case]:
    """Golden cases of a family of codecs: those of the shared data, or the copies where they are not here."""
    for root in (PARITY, COPIES):
        found = sorted(path.parent for path in (root / family).glob("*/weights.safetensors"))
        found = [folder for folder in found if not folder.name.endswith("training_step")]
        if found:
            return [Case(folder) for folder in found]
    return []


def copies(family: str) -> list[Case]:
    """The small copies of a family that are in the repository."""
    return [Case(path.parent) for path in sorted((COPIES / family).glob("*/weights.safetensors"))]


def full_keys(family: str) -> dict[str, Any]:
    """Keys and shapes of the published sizes, from `full_keys.json` of the shared data; {} without them."""
    folder = PARITY / family
    if (folder / "full_keys.json").is_file():
        keys: dict[str, Any] = json.loads((folder / "full_keys.json").read_text())
        return keys
    if (folder / "full_keys.json.gz").is_file():
        packed: dict[str, Any] = json.loads(gzip.decompress((folder / "full_keys.json.gz").read_bytes()))
        return packed
    return {}


def assert_close(found: Tensor, expected: Tensor, *, tolerance: float = 1e-4) -> None:
    """max |a - b| <= tolerance max |b|, shapes equal."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    if expected.numel():
        worst = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
        assert worst <= tolerance, worst
