"""Every family that can be trained learns from real speech: 200 steps of its smallest variant."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest
import torch

from audiotokens.codec import Codec
from audiotokens.config import from_dict, to_dict
from audiotokens.registry import architectures
from audiotokens.training.config import Recipe
from audiotokens.training.loop import train
from audiotokens.training.pack import pack

pytestmark = pytest.mark.slow

STEPS = 200


def trainable() -> list[str]:
    """Families whose class is a codec."""
    names = []
    for name, place in architectures.items():
        module, _, attribute = place.partition(":")
        if issubclass(getattr(importlib.import_module(module), attribute), Codec):
            names.append(name)
    return names


@pytest.fixture(scope="module")
def speech(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Packed training speech by sample rate; filled as it is asked for."""
    folder = tmp_path_factory.mktemp("speech")

    class Packs(dict[int, Path]):
        def __missing__(self, rate: int) -> Path:
            self[rate] = folder / f"{rate}.pack"
            where = ["corpus=LibriSpeech train-clean-100"]
            pack([shared / "data" / "manifest.csv"], self[rate], rate, where=where, max_mib=rate / 4000)
            return self[rate]

    return Packs()


@pytest.mark.parametrize("architecture", trainable())
def test_two_hundred_steps_on_real_speech(
    architecture: str, speech: dict[int, Path], tmp_path: Path
) -> None:
    module, _, attribute = architectures[architecture].partition(":")
    family = getattr(importlib.import_module(module), attribute)
    config = importlib.import_module(module).VARIANTS["tiny"]
    rate = family(config).spec.sample_rate
    recipe = from_dict(
        Recipe,
        {
            "name": f"{architecture}-tiny",
            "architecture": architecture,
            "codec": to_dict(config),
            "log_every": 20,
            "checkpoint_every": STEPS,
            "data": {"batch_size": 4, "crop_samples": rate // 4},
            "loss": {"loudness": 0.0},
            "optimizer": {"learning_rate": 2e-3},
            "schedule": {"steps": STEPS, "warmup": 10, "unquantized": 40, "start_latents": 20},
        },
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(recipe, speech[rate], tmp_path, device="cpu", progress=False)
    finally:
        torch.set_num_threads(threads)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, last = log[0], log[-1]
    assert last["step"] == STEPS
    assert all(math.isfinite(record["loss"]) for record in log)
    # Measured with the codes in the end and without them in the beginning: learning must win.
    for term in ("log_mel", "complex_stft"):
        assert last[term] < 0.9 * first[term], (term, [record[term] for record in log])
