"""A run that SIGKILL ends again and again arrives at the bits of an undisturbed one."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.training import checkpoint as checkpoints
from audiotokens.training.config import AdversarialConfig, Recipe
from audiotokens.training.data import PackedAudio

yaml = pytest.importorskip("yaml")
pytestmark = pytest.mark.slow

KILLS = 10
COMMAND = "from audiotokens.cli import main; main()"
PHASE = {
    "start": 40,
    "alone": 10,
    "ramp": 20,
    "conditional": True,
    "balancer": {"decay": 0.9},
    "discriminators": [
        {"kind": "stft", "windows": [64], "channels": 4, "spectrum": "compressed"},
        {"kind": "period", "periods": [3], "channels": [4, 6]},
    ],
}
# A process that kills itself when it comes to a given line for the third time.
SUICIDE = """
import os, signal
from pathlib import Path
from audiotokens.training import checkpoint, trainer
left = 3
def die_at_last():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
save_file, replace, export = checkpoint.save_file, os.replace, trainer.Trainer.export
def half_written(tensors, path, metadata):
    save_file(tensors, path, metadata=metadata)
    os.truncate(path, path.stat().st_size // 2)
    die_at_last()
    save_file(tensors, path, metadata=metadata)
def renamed(source, target):
    if Path(target).name.startswith(PREFIX):
        die_at_last()
    replace(source, target)
def exported(self):
    die_at_last()
    return export(self)
"""
# What it does, and the newest checkpoint that it leaves. The second tokenizer takes two renames.
MOMENTS = {
    "half written": ("checkpoint.save_file = half_written", 50),
    "written, not renamed": ("PREFIX = 'step-'; os.replace = renamed", 50),
    "renamed, not exported": ("trainer.Trainer.export = exported", 75),
    "between the renames of the tokenizer": ("PREFIX = 'export'; os.replace = renamed", 50),
}


def make_recipe(recipe: Recipe, *, adversarial: bool) -> Recipe:
    schedule = dataclasses.replace(recipe.schedule, steps=160, unquantized=30)
    phase = from_dict(AdversarialConfig, PHASE) if adversarial else None
    return dataclasses.replace(recipe, schedule=schedule, adversarial=phase)


def arguments(recipe: Recipe, audio: PackedAudio, output: Path) -> list[str]:
    path = audio.path.with_name("recipe.yaml")
    path.write_text(yaml.safe_dump(to_dict(recipe)))
    return ["train", str(path), "--data", str(audio.path), "-o", str(output), "--device", "cpu"]


def start(code: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    # At most one thread: with more, the order of sums is not fixed.
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(arguments: Sequence[str], output: Path) -> float:
    """Run to the end; return the seconds after the first steps could be made."""
    process = start(COMMAND, arguments)
    begun = wait_for_training(process, output)
    assert process.wait() == 0, process.communicate()[1].decode()
    return time.monotonic() - begun


def wait_for_training(process: subprocess.Popen[bytes], output: Path) -> float:
    """Wait until the run has read its checkpoint and opened its log; return the time."""
    log, now = output / "log.jsonl", time.time_ns()
    while process.poll() is None and not (log.exists() and log.stat().st_mtime_ns > now):
        time.sleep(0.002)
    return time.monotonic()


def newest(output: Path) -> str:
    found = checkpoints.find_checkpoints(output / "checkpoints")
    return found[-1].name if found else "none"


def check_equal(whole: Path, killed: Path) -> None:
    one, other = (
        checkpoints.read_checkpoint(checkpoints.find_checkpoints(folder / "checkpoints")[-1])
        for folder in (whole, killed)
    )
    assert one.step == other.step == 160
    assert set(one.tensors) == set(other.tensors)
    assert not [name for name, tensor in one.tensors.items() if not torch.equal(tensor, other.tensors[name])]
    for name in ("model.safetensors", "config.json"):
        assert (whole / "export" / name).read_bytes() == (killed / "export" / name).read_bytes()


@pytest.mark.parametrize("adversarial", [False, True], ids=["plain", "adversarial"])
def test_killed_at_ten_random_moments(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path, adversarial: bool
) -> None:
    recipe = make_recipe(recipe, adversarial=adversarial)
    seconds = finish(arguments(recipe, pack_file, tmp_path / "whole"), tmp_path / "whole")
    killed, moments = tmp_path / "killed", random.Random(13)
    begun_at = []
    for _ in range(KILLS):
        begun_at.append(newest(killed))
        process = start(COMMAND, arguments(recipe, pack_file, killed))
        wait_for_training(process, killed)
        time.sleep(moments.uniform(0, seconds / (KILLS + 4)))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert len(set(begun_at)) > 3, begun_at
    finish(arguments(recipe, pack_file, killed), killed)
    check_equal(tmp_path / "whole", killed)


def test_killed_inside_a_checkpoint(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    recipe = make_recipe(recipe, adversarial=True)
    recipe = dataclasses.replace(recipe, checkpoint_every=25)
    finish(arguments(recipe, pack_file, tmp_path / "whole"), tmp_path / "whole")
    for name, (moment, kept) in MOMENTS.items():
        killed = tmp_path / name
        process = start(f"{SUICIDE}\n{moment}\n{COMMAND}", arguments(recipe, pack_file, killed))
        assert process.wait() == -signal.SIGKILL, process.communicate()[1].decode()
        partial = [path.name for path in (killed / "checkpoints").glob("*.partial")]
        assert bool(partial) == (name in ("half written", "written, not renamed"))
        assert newest(killed) == f"step-{kept:08d}.safetensors"
        assert (killed / "export").exists() == ("between" not in name)
        finish(arguments(recipe, pack_file, killed), killed)
        assert not list(killed.rglob("*.partial"))
        check_equal(tmp_path / "whole", killed)
