"""Discriminators against recorded outputs of the published ones; their key names are mapped here only."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiotokens.training.discriminators import (
    BandDiscriminatorConfig,
    Discriminators,
    PeriodDiscriminatorConfig,
    ScaleDiscriminatorConfig,
    STFTDiscriminatorConfig,
    Verdict,
)

DAC = (
    PeriodDiscriminatorConfig(whole_period=True, level=True),
    ScaleDiscriminatorConfig(factors=(2,)),
    BandDiscriminatorConfig(framing="matched"),
)
NAMES = {
    "weight": "weight",
    "bias": "bias",
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


def our_key(key: str) -> str | None:
    """Name of a published tensor in `Discriminators`; None for windows, which are computed."""
    if key.endswith("window"):
        return None
    path, _, kind = key.rpartition(".")
    member = re.match(r"discriminators\.(\d+)\.", key)
    assert member
    path = path.removeprefix(member[0]).removesuffix(".conv")
    if path == "emb":
        return f"members.{member[1]}.head.embedding.weight"
    if path == "conv_post":
        return f"members.{member[1]}.head.layer.{NAMES[kind]}"
    numbers = re.findall(r"\d+", path)
    if path.startswith("band_convs"):
        return f"members.{member[1]}.bands.{numbers[0]}.{numbers[1]}.{NAMES[kind]}"
    return f"members.{member[1]}.layers.{numbers[0]}.{NAMES[kind]}"


def weight(key: str, shape: list[int], seed: int = 0) -> np.ndarray:
    """A weight by the rule in the folders' meta.json."""
    state = np.random.RandomState((zlib.crc32(key.encode()) + seed) & 0x7FFFFFFF)
    values = np.asarray(state.randn(*shape), np.float32)
    if key.endswith("weight_g"):
        return 1.4 * (1 + 0.1 * values)
    if key.endswith("bias"):
        return 0.05 * values
    if key.endswith("weight_v"):
        return values
    return 0.1 * values if "emb" in key else values / np.sqrt(np.prod(shape[1:]))


def filled(discriminators: Discriminators, folder: Path) -> Discriminators:
    keys: dict[str, list[int]] = json.loads((folder / "keys.json").read_text())
    mapped = {
        name: torch.from_numpy(np.float32(weight(key, shape)))
        for key, shape in keys.items()
        if (name := our_key(key)) is not None
    }
    discriminators.load_state_dict(mapped, strict=True)
    return discriminators.eval()


def close(found: torch.Tensor, expected: np.ndarray) -> bool:
    """Within 1e-5 of the largest value; the folders allow 1e-4."""
    difference = np.abs(found.numpy().reshape(expected.shape) - expected).max()
    return bool(difference <= 1e-5 * np.abs(expected).max())


def check_map(found: torch.Tensor, stored: dict[str, Any]) -> None:
    """Eight values and two moments; the largest value, to which the tolerance refers, is not stored."""
    assert list(found.shape) == stored["shape"]
    values = found.flatten()[torch.tensor(stored["index"])]
    scale = max(np.abs(stored["value"]).max(), stored["std"])
    assert np.abs(values.numpy() - np.array(stored["value"])).max() <= 1e-4 * scale
    assert float(found.mean()) == pytest.approx(stored["mean"], abs=1e-4 * stored["std"])
    assert float(found.std()) == pytest.approx(stored["std"], rel=1e-4)


def judged(folder: Path, configs: tuple[Any, ...], file: str, **options: int) -> list[Verdict]:
    """Verdicts of filled discriminators about a stored input."""
    condition = options.pop("condition", None)
    waveform = torch.from_numpy(np.load(folder / f"{file}.npy"))
    waveform = waveform[:, None] if waveform.ndim == 2 else waveform
    discriminators = filled(Discriminators(configs, **options), folder)
    with torch.no_grad():
        return discriminators(waveform, None if condition is None else torch.tensor([condition]))


@pytest.mark.parametrize(
    ("name", "config", "channels"),
    [
        ("encodec_msstft", STFTDiscriminatorConfig(), 1),
        ("encodec_msstft_stereo", STFTDiscriminatorConfig(channels=16), 2),
    ],
)
def test_stft(shared: Path, name: str, config: STFTDiscriminatorConfig, channels: int) -> None:
    folder = shared / "parity" / "discriminators" / name
    maps = json.loads((folder / "feature_maps.json").read_text())
    for index, verdict in enumerate(judged(folder, (config,), "input", channels=channels)):
        assert close(verdict.logits, np.load(folder / f"logits{index}.npy"))
        assert len(verdict.features) == len(maps[index]) == 5
        for found, stored in zip(verdict.features, maps[index], strict=True):
            check_map(found, stored)


@pytest.mark.parametrize(
    ("name", "config", "conditions", "first"),
    [
        ("vocos_mpd", PeriodDiscriminatorConfig(), 0, 1),
        ("vocos_mpd_conditional", PeriodDiscriminatorConfig(periods=(2, 3)), 4, 1),
        ("vocos_mrd", BandDiscriminatorConfig(), 0, 5),
        ("vocos_mrd_conditional", BandDiscriminatorConfig(windows=(512,)), 4, 5),
    ],
)
def test_vocos(shared: Path, name: str, config: Any, conditions: int, first: int) -> None:
    folder = shared / "parity" / "discriminators" / name
    maps = json.loads((folder / "feature_maps.json").read_text())
    for kind in ("real", "fake"):
        options = {"conditions": conditions} | ({"condition": 2} if conditions else {})
        verdicts = judged(folder, (config,), f"input_{kind}", **options)
        for index, verdict in enumerate(verdicts):
            assert close(verdict.logits, np.load(folder / f"{kind}{index}.npy"))
            if kind == "real":
                # Vocos leaves out the first map of every band, and counts the logits among the maps.
                step = 5 if first == 5 else len(verdict.features)
                kept = [map_ for place, map_ in enumerate(verdict.features) if place % step]
                for found, stored in zip([*kept, verdict.logits], maps[index], strict=True):
                    check_map(found, stored)


@pytest.fixture(scope="module")
def dac_folder(shared: Path) -> Path:
    return shared / "parity" / "discriminators" / "dac"


def test_dac(dac_folder: Path) -> None:
    maps = json.loads((dac_folder / "feature_maps.json").read_text())
    names = ["mpd2", "mpd3", "mpd5", "mpd7", "mpd11", "msd_rate2", "mrd2048", "mrd1024", "mrd512"]
    verdicts = judged(dac_folder, DAC, "input")
    assert set(maps) == set(names)
    for name, verdict in zip(names, verdicts, strict=True):
        assert close(verdict.logits, np.load(dac_folder / f"{name}.npy")), name
        for found, stored in zip(verdict.features, maps[name], strict=True):
            check_map(found, stored)


def test_every_golden_folder_is_tested(shared: Path) -> None:
    text = Path(__file__).read_text()
    folders = [path.name for path in (shared / "parity" / "discriminators").iterdir()]
    assert folders and not [name for name in folders if f'"{name}"' not in text]
