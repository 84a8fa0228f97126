"""Training on a bare machine: torch, numpy, safetensors and PyYAML, no library that reads audio."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from audiotokens.config import from_dict, to_dict
from audiotokens.training.config import AdversarialConfig, Recipe
from audiotokens.training.data import PackedAudio
from audiotokens.training.loop import train

yaml = pytest.importorskip("yaml")

BARE = """
import sys
for name in ("soundfile", "soxr", "av", "scipy", "pesq", "pystoi", "onnxruntime", "huggingface_hub"):
    sys.modules[name] = None
from audiotokens.cli import main
main()
"""


def test_a_run_needs_no_audio_library(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    """From a tokenizer's folder, with the adversarial phase, in bfloat16, and its validation."""
    train(recipe, pack_file.path, tmp_path / "first", device="cpu", max_steps=1, progress=False)
    phase = {"start": 0, "alone": 0, "discriminators": [{"kind": "stft", "windows": [64], "channels": 4}]}
    carried = dataclasses.replace(
        recipe,
        precision="bfloat16",
        schedule=dataclasses.replace(recipe.schedule, unquantized=0, start_latents=0),
        data=dataclasses.replace(recipe.data, validation_files=1),
        validate_every=2,
        adversarial=from_dict(AdversarialConfig, phase),
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(to_dict(carried)))
    arguments = ["train", "recipe.yaml", "--data", "data.pack", "-o", "second", "--from", "first/export"]
    finished = subprocess.run(
        [sys.executable, "-c", BARE, *arguments, "--steps", "2", "--minutes", "5"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "tokenizer: second/export\n"
