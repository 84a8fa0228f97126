"""Tensors out of every container and nesting, and files that belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from audiotokens.checkpoints.containers import find_files, identify, read_file, read_files
from audiotokens.errors import CheckpointError, ConfigError

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}

NESTINGS: dict[str, Callable[[Mapping[str, Tensor]], Any]] = {
    "none": lambda tensors: tensors,
    "state_dict": lambda tensors: {"state_dict": tensors, "metadata": {"logs": {}}},
    "model": lambda tensors: {"model": tensors, "epoch": 3},
    "best_state": lambda tensors: {"best_state": {"model": tensors}, "history": [1.5], "xp.sig": "e351c8d8"},
    "generator": lambda tensors: {"generator": tensors, "steps": torch.tensor(9)},
}


def same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[n], t) for n, t in expected.items())


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("packed", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("suffix", [".th", ".pt", ".pth", ".ckpt", ".bin", ".of-another-name"])
def test_torch_files_of_every_nesting(tmp_path: Path, nesting: str, packed: bool, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(NESTINGS[nesting](TENSORS), path, _use_new_zipfile_serialization=packed)
    assert same(read_file(path).tensors, TENSORS)


@pytest.mark.parametrize("name", ["model.safetensors", "weights.bin"])
def test_safetensors_by_content(tmp_path: Path, name: str) -> None:
    save_file(TENSORS, tmp_path / name)
    contents = read_file(tmp_path / name)
    assert same(contents.tensors, TENSORS)
    assert contents.arguments is None


def test_parameters_come_without_gradients(tmp_path: Path) -> None:
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "p.pt")
    assert not read_file(tmp_path / "p.pt").tensors["a"].requires_grad


def test_constructor_arguments_come_along(tmp_path: Path) -> None:
    arguments = {"encoder_dim": 64, "encoder_rates": [2, 4, 8, 8], "latent_dim": None}
    torch.save({"state_dict": TENSORS, "metadata": {"kwargs": arguments}}, tmp_path / "weights.pth")
    assert read_file(tmp_path / "weights.pth").arguments == arguments


@pytest.mark.parametrize("stored", [{}, {"epoch": 3}, [1, 2], torch.ones(2), {"state_dict": {"a": 1}}])
def test_a_file_without_tensors_by_name(tmp_path: Path, stored: object) -> None:
    torch.save(stored, tmp_path / "empty.pt")
    with pytest.raises(
        CheckpointError, match="found no tensors, neither at the top nor under state_dict, model"
    ):
        read_file(tmp_path / "empty.pt")


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(1).expand(1 << 40), torch.eye(3).to_sparse(), torch.ones(2, device="meta")],
    ids=["larger than its storage", "sparse", "without values"],
)
def test_tensors_that_are_not_plain(tmp_path: Path, tensor: Tensor) -> None:
    torch.save({"a": tensor}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="a is not a plain tensor"):
        read_file(tmp_path / "odd.pt")


def test_a_broken_safetensors_file(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    for cut in (0, 4, 30, len(whole) - 1):
        (tmp_path / "model.safetensors").write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            read_file(tmp_path / "model.safetensors")


def test_a_pickle_named_safetensors(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read_file(tmp_path / "model.safetensors")


def test_files_that_belong_together(tmp_path: Path) -> None:
    save_file({"a.weight": TENSORS["a.weight"]}, tmp_path / "one.safetensors")
    torch.save({"a.bias": TENSORS["a.bias"]}, tmp_path / "two.pt")
    both = [tmp_path / "one.safetensors", tmp_path / "two.pt"]
    assert same(read_files(both).tensors, TENSORS)
    with pytest.raises(CheckpointError, match="a.bias is also in another file"):
        read_files([*both, tmp_path / "two.pt"])
    with pytest.raises(ConfigError, match="found .tflite files beside others"):
        read_files([*both, tmp_path / "lyragan.tflite"])


def test_a_folder_stands_for_the_weights_in_it(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "SpeechTokenizer.pt")
    (tmp_path / "config.json").write_text("{}")
    assert find_files([tmp_path]) == [tmp_path / "SpeechTokenizer.pt"]
    torch.save(TENSORS, tmp_path / "other.pt")
    with pytest.raises(
        ConfigError, match=r"weight files in this folder: SpeechTokenizer\.pt, other\.pt; name"
    ):
        find_files([tmp_path])
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert find_files([tmp_path]) == [tmp_path / "model.safetensors"]
    with pytest.raises(ConfigError, match="there is no such file"):
        find_files([tmp_path / "absent.pt"])


def test_a_file_is_identified_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"abc")
    found = identify(tmp_path / "x.bin")
    assert (found.size, found.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
