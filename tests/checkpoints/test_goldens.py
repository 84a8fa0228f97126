"""Golden checkpoints of every family, in every container: the imported folder gives the original's codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from codec_goldens import Case, cases
from torch import Tensor

import audiotokens
from audiotokens import registry
from audiotokens.checkpoints import run_import
from audiotokens.checkpoints.recognition import known_share
from audiotokens.codec import Codec
from audiotokens.errors import CheckpointError

FAMILIES = ("dac", "encodec", "mimi", "snac", "speechtokenizer", "vocos", "wavtokenizer")
CASES = [case for family in FAMILIES for case in cases(family)]

each_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture(autouse=True)
def _registered(case: Case) -> None:
    if family_name(case) not in registry.architectures:
        pytest.skip(f"{family_name(case)} is not built")


def family_name(case: Case) -> str:
    return case.folder.parent.name


def expected_codes(case: Case, run: str) -> list[np.ndarray]:
    """Codes `[K, T]` of each stream, windows one after the other; [] where the original takes no waveform."""
    levels = sorted(case.folder.glob(f"{run}.codes_level*.npy"))
    windows = sorted(case.folder.glob(f"{run}.seg*_codes.npy"))
    if levels:
        return [np.load(path).reshape(1, -1) for path in levels]
    if windows:
        return [np.concatenate([np.load(path) for path in windows], 1)]
    if not case.has(f"{run}.codes"):
        return []
    codes = case.array(f"{run}.codes").numpy()
    return [codes] if codes.ndim == 2 else [np.concatenate([*codes], 1)]


def found_codes(codec: Codec, case: Case, run: str) -> list[np.ndarray]:
    waveform = case.waveform(run)[0].numpy()
    streams = [*codec.encode(waveform, codec.spec.sample_rate).streams.values()]
    if len({stream.frame_rate for stream in streams}) == 1:
        return [np.concatenate([stream.codes for stream in streams])]
    return [stream.codes for stream in streams]


@each_case
def test_an_imported_folder_gives_the_codes_of_the_original(case: Case, tmp_path: Path) -> None:
    done = run_import(
        family_name(case),
        [case.folder / "weights.safetensors"],
        config=case.arguments,
        output=tmp_path / "out",
    )
    loaded = audiotokens.load(tmp_path / "out")
    assert loaded.fingerprint == done.codec.fingerprint
    assert loaded.spec.weights_license == ""
    run = "short" if "short" in case.lengths else next(iter(case.lengths))
    expected = expected_codes(case, run)
    if not expected:
        assert family_name(case) == "vocos", "only a vocoder has no codes"
        return
    for found, original in zip(found_codes(loaded, case, run), expected, strict=True):
        assert np.array_equal(found, original[:, : found.shape[1]])
        # The port in transformers fills its last window up.
        assert found.shape == original.shape or "transformers_48khz" in str(case)


CONTAINERS: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], Any]] = {
    "weights.th": lambda tensors, arguments: tensors,
    "legacy.th": lambda tensors, arguments: tensors,
    "weights.pth": lambda tensors, arguments: {"state_dict": tensors, "metadata": {"kwargs": arguments}},
    "lightning.ckpt": lambda tensors, arguments: {
        "state_dict": tensors,
        "epoch": 1,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-4}]}],
        "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.tensor(4.0)}},
        "hyper_parameters": {"initial_learning_rate": np.float64(2e-4)},
    },
}


@each_case
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_weights(case: Case, container: str, tmp_path: Path) -> None:
    content = CONTAINERS[container](case.tensors, case.arguments)
    packed = container != "legacy.th"
    torch.save(content, tmp_path / container, _use_new_zipfile_serialization=packed)
    if container == "legacy.th":
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(case.arguments))
    elif container != "weights.pth":
        (tmp_path / "config.json").write_text(json.dumps(case.arguments))
    plain = run_import(family_name(case), [case.folder / "weights.safetensors"], config=case.arguments)
    done = run_import(family_name(case), [tmp_path / container])
    assert done.codec.fingerprint == plain.codec.fingerprint
    stored = container == "weights.pth"
    assert done.config_source.startswith(container if stored else "config.")


@each_case
def test_a_lost_tensor_is_named(case: Case, tmp_path: Path) -> None:
    family = family_name(case)
    plain = run_import(family, [case.folder / "weights.safetensors"], config=case.arguments)
    used = [key for key in plain.match.used if key in case.tensors]
    for key in (used[0], used[-1]):
        torch.save({n: t for n, t in case.tensors.items() if n != key}, tmp_path / "w.pt")
        with pytest.raises(CheckpointError, match="is missing"):
            run_import(family, [tmp_path / "w.pt"], config=case.arguments)
    torch.save({**case.tensors, "not.of.this.model": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"not\.of\.this\.model is unknown"):
        run_import(family, [tmp_path / "w.pt"], config=case.arguments)


@each_case
def test_the_keys_tell_the_family(case: Case) -> None:
    from audiotokens.checkpoints import fold_weight_norm
    from audiotokens.checkpoints.recognition import importable

    folded = fold_weight_norm(case.tensors)
    assert known_share(importable()[family_name(case)], folded) == 1
