"""Every family learns from real speech: 200 steps of its smallest variant."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_codecs import family, variants

from audiotokens.codec import Codec
from audiotokens.config import from_dict, to_dict
from audiotokens.registry import architectures
from audiotokens.training.config import DataConfig, Recipe
from audiotokens.training.data import Crops, open_pack
from audiotokens.training.loop import train
from audiotokens.training.losses import ReconstructionLoss
from audiotokens.training.pack import pack

pytestmark = pytest.mark.slow

STEPS = 200
LEARNING_RATE = 1e-3

TRAINABLE = [name for name in architectures if issubclass(family(name), Codec)]
"""Families of codecs; Vocos, a vocoder, has a loop of its own below."""


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


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Layers of a few channels are too small for several threads, which then wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quick_books(config: dict[str, Any]) -> dict[str, Any]:
    """A codec's configuration, with moving averages over ten steps, not a hundred: there are only 200."""

    def quick(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: 0.9 if name == "decay" else quick(each) for name, each in value.items()}
        return [quick(each) for each in value] if isinstance(value, list) else value

    changed: dict[str, Any] = quick(config)
    return changed


@pytest.mark.parametrize("architecture", TRAINABLE)
def test_two_hundred_steps_on_real_speech(architecture: str, speech: dict[int, Path], tmp_path: Path) -> None:
    config = variants(architecture)["tiny"]
    rate = family(architecture)(config).spec.sample_rate
    recipe = from_dict(
        Recipe,
        {
            "name": f"{architecture}-tiny",
            "architecture": architecture,
            "codec": quick_books(to_dict(config)),
            "log_every": 20,
            "checkpoint_every": STEPS,
            "data": {"batch_size": 4, "crop_samples": rate // 4},
            "loss": {"loudness": 0.0},
            "optimizer": {"learning_rate": LEARNING_RATE},
            "schedule": {"steps": STEPS, "warmup": 10, "unquantized": 40, "start_latents": 20},
        },
    )
    train(recipe, speech[rate], tmp_path, device="cpu", progress=False)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, last = log[0], log[-1]
    assert last["step"] == STEPS
    assert all(math.isfinite(record["loss"]) for record in log)
    # Measured with the codes in the end and without them in the beginning: learning must win.
    for term in ("log_mel", "complex_stft"):
        assert last[term] < 0.9 * first[term], (term, [record[term] for record in log])
    assert max(last["perplexity"]) > 2, "one entry for everything is no code"


def test_two_hundred_steps_of_a_vocoder(speech: dict[int, Path]) -> None:
    """Vocos on mel spectrograms is no codec: it learns in five lines, with the losses of this package."""
    torch.manual_seed(0)
    vocoder = family("vocos")(variants("vocos")["tiny"])
    rate = vocoder.spec.sample_rate
    data = DataConfig(batch_size=4, crop_samples=rate // 4)
    crops = Crops(open_pack(speech[rate]), data, prefixes=[1], seed=0)
    distance = ReconstructionLoss(rate)
    optimizer = torch.optim.AdamW(vocoder.parameters(), LEARNING_RATE)
    losses = []
    for step in range(STEPS):
        waveform = torch.from_numpy(crops(step).waveform)
        terms = distance(waveform, vocoder(waveform[:, None])[:, 0], loudness=False, magnitude=False)
        loss = 0.5 * terms["complex_stft"].mean() + 0.15 * terms["log_mel"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-20:]) < 0.7 * sum(losses[:20]), losses[::20]
