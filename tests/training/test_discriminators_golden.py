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

from audiotokens.training.adversarial import discriminator_loss, feature_loss, generator_loss
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


def read_keys(folder: Path) -> dict[str, list[int]]:
    keys: dict[str, list[int]] = json.loads((folder / "keys.json").read_text())
    return keys


def filled(discriminators: Discriminators, keys: dict[str, list[int]]) -> Discriminators:
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
    discriminators = filled(Discriminators(configs, **options), read_keys(folder))
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
        pytest.param("vocos_mpd", PeriodDiscriminatorConfig(), 0, 1, marks=pytest.mark.slow),
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


def loss_verdicts(shared: Path, rate: int, configs: tuple[Any, ...], keys: dict[str, list[int]]) -> Any:
    folder = shared / "parity" / "losses"
    discriminators = filled(Discriminators(configs), keys)
    with torch.no_grad():
        waveforms = (torch.from_numpy(np.load(folder / f"{kind}_{rate}.npy")) for kind in ("real", "fake"))
        return [discriminators(waveform) for waveform in waveforms]


def test_least_squares_and_feature_sums_of_dac(shared: Path, dac_folder: Path) -> None:
    values = json.loads((shared / "parity" / "losses" / "values.json").read_text())
    configs = (
        PeriodDiscriminatorConfig(periods=(2, 3), whole_period=True, level=True),
        BandDiscriminatorConfig(windows=(512,), framing="matched"),
    )
    # The golden folder's members 0, 1 and 8 are the three of this one.
    renamed = {"discriminators.0.": "discriminators.0.", "discriminators.1.": "discriminators.1."}
    renamed["discriminators.8."] = "discriminators.2."
    keys = {
        key.replace(old, new): shape
        for key, shape in read_keys(dac_folder).items()
        for old, new in renamed.items()
        if key.startswith(old)
    }
    real, fake = loss_verdicts(shared, 44100, configs, keys)
    layers = sum(len(verdict.features) for verdict in real)
    found = {
        "discriminator_loss (periods 2,3; fft 512; weights by recipe seed 0)": 3
        * discriminator_loss(real, fake, "least-squares"),
        "generator adversarial": 3 * generator_loss(fake, "least-squares"),
        "generator feature": layers * feature_loss(real, fake, "absolute"),
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(values[f"dac_GANLoss {name}"], rel=1e-4), name


def test_hinge_and_feature_sums_of_vocos(shared: Path) -> None:
    values = json.loads((shared / "parity" / "losses" / "values.json").read_text())
    keys = read_keys(shared / "parity" / "discriminators" / "vocos_mpd_conditional")
    plain = {key: shape for key, shape in keys.items() if "emb" not in key}
    configs = (PeriodDiscriminatorConfig(periods=(2, 3)),)
    real, fake = loss_verdicts(shared, 24000, configs, plain)
    counted = [
        [Verdict(verdict.logits, (*verdict.features[1:], verdict.logits)) for verdict in side]
        for side in (real, fake)
    ]
    layers = sum(len(verdict.features) for verdict in counted[0])
    found = {
        "GeneratorLoss hinge": 2 * generator_loss(fake, "hinge"),
        "DiscriminatorLoss hinge": 2 * discriminator_loss(real, fake, "hinge"),
        "FeatureMatchingLoss": layers * feature_loss(*counted, "absolute"),
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(values[f"vocos_{name} (mpd 2,3)"], rel=1e-4), name


def test_every_golden_folder_is_tested(shared: Path) -> None:
    text = Path(__file__).read_text()
    folders = [path.name for path in (shared / "parity" / "discriminators").iterdir()]
    assert folders and not [name for name in folders if f'"{name}"' not in text]
