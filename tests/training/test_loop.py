"""The loop: it learns, stops, resumes bit for bit, and says what is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from audiotokens.config import from_dict
from audiotokens.errors import CheckpointError, ConfigError, TrainingError
from audiotokens.training import checkpoint as checkpoints
from audiotokens.training.build import build_codec
from audiotokens.training.config import Recipe
from audiotokens.training.data import PackedAudio
from audiotokens.training.loop import extend, pick_device, train
from audiotokens.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def run(recipe: Recipe, audio: PackedAudio, output: Path, max_steps: int | None = None) -> Path:
    return train(recipe, audio.path, output, device="cpu", max_steps=max_steps, progress=False)


def final_tensors(output: Path) -> dict[str, torch.Tensor]:
    return checkpoints.read_checkpoint(checkpoints.find_checkpoints(output / "checkpoints")[-1]).tensors


def log(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


class Killed(Exception):
    """Stands for a kill in the middle of a step."""


# Resumed at step 4 some latents wait for the start of the books; at step 8 the books are learning.
@pytest.mark.parametrize(("killed_at", "kept"), [(5, 4), (8, 4), (11, 8)])
def test_a_killed_run_resumes_bit_for_bit(
    pack_file: PackedAudio,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: int,
    kept: int,
) -> None:
    run(recipe, pack_file, tmp_path / "whole")
    update = torch.optim.AdamW.step
    done = 0

    def step(self: torch.optim.AdamW, closure: None = None) -> None:
        nonlocal done
        update(self, closure)
        done += 1
        if done == killed_at:
            raise Killed

    recipe = dataclasses.replace(recipe, checkpoint_every=4)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(Killed):
            run(recipe, pack_file, tmp_path / "killed")
    newest = checkpoints.find_checkpoints(tmp_path / "killed" / "checkpoints")[-1]
    assert newest.name == f"step-{kept:08d}.safetensors"
    run(recipe, pack_file, tmp_path / "killed")
    whole, resumed = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "killed")
    assert set(whole) == set(resumed)
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "whole/export" / name).read_bytes() == (
            tmp_path / "killed/export" / name
        ).read_bytes()
    assert [record["step"] for record in log(tmp_path / "killed")] == [2, 4, 6, 8, 10, 12]


def test_a_run_learns_and_leaves_its_files(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    schedule = dataclasses.replace(recipe.schedule, steps=60)
    folder = run(dataclasses.replace(recipe, schedule=schedule), pack_file, tmp_path / "run")
    records = log(tmp_path / "run")
    assert records[-1]["log_mel"] < 0.85 * records[0]["log_mel"]
    assert len(records[-1]["perplexity"]) == 4
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert "<polyline" in (tmp_path / "run" / "curves.svg").read_text()
    assert len(checkpoints.find_checkpoints(tmp_path / "run" / "checkpoints")) == recipe.keep_checkpoints


def test_the_export_is_the_running_mean(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = run(recipe, pack_file, tmp_path / "run")
    stored, tensors = load_file(folder / "model.safetensors"), final_tensors(tmp_path / "run")
    assert stored
    assert all(torch.equal(tensor, tensors[f"average.{name}"].half()) for name, tensor in stored.items())
    assert any(not torch.equal(tensor, tensors[f"codec.{name}"].half()) for name, tensor in stored.items())


def test_books_start_from_the_latents(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(recipe, pack_file, tmp_path)
    seen: list[Any] = []
    monkeypatch.setattr(
        trainer.codec.quantizer, "initialize", lambda latents, generator: seen.append(latents), raising=True
    )
    for _ in range(8):
        trainer.train_step()
    frames = recipe.schedule.start_latents * recipe.data.batch_size * recipe.data.crop_samples // 80
    assert [latents.shape[1] for latents in seen] == [6]
    assert frames <= len(seen[0]) <= frames + 6


def make_trainer(recipe: Recipe, audio: PackedAudio, output: Path) -> Trainer:
    torch.manual_seed(0)
    return Trainer(build_codec(recipe), recipe, audio, output, device=torch.device("cpu"))


def test_a_finished_run_stays_as_it_is(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    run(recipe, pack_file, tmp_path)
    before = final_tensors(tmp_path)
    run(recipe, pack_file, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in final_tensors(tmp_path).items())


def test_a_time_limit_stops_resumably(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe, pack_file, tmp_path / "whole")
    clock = iter(range(100000))
    with monkeypatch.context() as patch:
        # Every look at the clock takes a second.
        patch.setattr("audiotokens.training.trainer.time.monotonic", lambda: float(next(clock)))
        train(recipe, pack_file.path, tmp_path / "cut", device="cpu", minutes=0.1, progress=False)
    kept = checkpoints.find_checkpoints(tmp_path / "cut" / "checkpoints")[-1].name
    assert "step-00000000" < kept < "step-00000012"
    run(recipe, pack_file, tmp_path / "cut")
    whole, resumed = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "cut")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_extending_restarts_the_learning_rate(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    run(recipe, pack_file, tmp_path)
    low = log(tmp_path)[-1]["learning_rate"]
    extend(tmp_path, pack_file.path, 20, device="cpu", progress=False)
    records = log(tmp_path)
    assert records[-1]["step"] == 20
    assert records[6]["learning_rate"] > 5 * low
    with pytest.raises(ConfigError, match="already has 20 steps"):
        extend(tmp_path, pack_file.path, 20, device="cpu", progress=False)


def test_an_infinite_loss_stops_with_the_last_checkpoint(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe, pack_file, tmp_path, max_steps=5)
    forward = Trainer.evaluate

    def broken(self: Trainer, *arguments: Any, quantize: bool) -> Any:
        output, terms, parts = forward(self, *arguments, quantize=quantize)
        return output, {**terms, "loss": terms["loss"] * float("nan")}, parts

    monkeypatch.setattr(Trainer, "evaluate", broken)
    with pytest.raises(
        TrainingError, match=r"step 6: .*loss.* not finite; the last good checkpoint is .*00005"
    ):
        run(recipe, pack_file, tmp_path)
    assert all(t.isfinite().all() for t in final_tensors(tmp_path).values())


def test_validation_uses_held_out_files(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    data = dataclasses.replace(recipe.data, validation_files=1)
    run(dataclasses.replace(recipe, data=data, validate_every=6), pack_file, tmp_path)
    found = [record for record in log(tmp_path) if "validation_loss" in record]
    assert [record["step"] for record in found] == [6, 12]
    assert all(0 < record["validation_loss"] < 10 for record in found)


def test_bfloat16_trains(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    run(dataclasses.replace(recipe, precision="bfloat16"), pack_file, tmp_path)
    assert all(tensor.dtype != torch.bfloat16 for tensor in final_tensors(tmp_path).values())


def test_fixed_books_train(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    codec = {**recipe.codec, "latent": 4, "quantizer": {"kind": "fsq"}}
    run(dataclasses.replace(recipe, codec=codec), pack_file, tmp_path)
    assert log(tmp_path)[-1]["perplexity"][0] > 1


def test_another_recipe_or_other_data_is_refused(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path
) -> None:
    run(recipe, pack_file, tmp_path, max_steps=2)
    with pytest.raises(ConfigError, match=r"other settings \(seed\)"):
        run(dataclasses.replace(recipe, seed=1), pack_file, tmp_path)
    with pytest.raises(ConfigError, match=r"other settings \(codec\)"):
        run(dataclasses.replace(recipe, codec={**recipe.codec, "latent": 8}), pack_file, tmp_path)
    with pytest.raises(ConfigError, match="resume it, or choose another folder"):
        train(recipe, pack_file.path, tmp_path, device="cpu", resume=False, progress=False)
    other = checkpoints.read_checkpoint(checkpoints.find_checkpoints(tmp_path / "checkpoints")[0])
    checkpoints.write_checkpoint(
        tmp_path / "checkpoints", step=3, recipe=other.recipe, data="0", tensors=other.tensors, keep=1
    )
    with pytest.raises(ConfigError, match="started with other data"):
        run(recipe, pack_file, tmp_path)


def test_a_damaged_checkpoint_is_named(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    run(recipe, pack_file, tmp_path, max_steps=2)
    path = checkpoints.find_checkpoints(tmp_path / "checkpoints")[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"step-00000002.*delete it to go on from the one before"):
        run(recipe, pack_file, tmp_path)


def test_the_data_must_have_the_codecs_rate(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    codec = {**recipe.codec, "sample_rate": 24000}
    with pytest.raises(ConfigError, match="16000 Hz, the codec 24000 Hz"):
        run(dataclasses.replace(recipe, codec=codec), pack_file, tmp_path)


def test_mistakes_in_a_recipe_are_named(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match=r'unknown architecture "gain-shap"; known: .*gain-shape'):
        build_codec(dataclasses.replace(recipe, architecture="gain-shap"))
    with pytest.raises(ConfigError, match=r'recipe\.codec: unknown key "widht"; did you mean "width"'):
        build_codec(dataclasses.replace(recipe, codec={"widht": 3}))
    with pytest.raises(ConfigError, match='unknown key "step"; did you mean "steps"'):
        from_dict(Recipe, {"name": "x", "codec": {}, "schedule": {"step": 3}})


def test_an_absent_device_is_named() -> None:
    with pytest.raises(ConfigError, match='device "tpu" is not available here'):
        pick_device("tpu")


def test_a_half_written_checkpoint_is_ignored_and_removed(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path
) -> None:
    run(recipe, pack_file, tmp_path, max_steps=2)
    (tmp_path / "checkpoints" / "step-00000005.partial").write_bytes(b"cut")
    run(recipe, pack_file, tmp_path, max_steps=4)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000002.safetensors", "step-00000004.safetensors"]


def paced(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let a step take so many seconds, and all else none."""
    now, plain = 1000.0, Trainer.train_step

    def step(self: Trainer) -> None:
        nonlocal now
        plain(self)
        now += seconds

    monkeypatch.setattr(Trainer, "train_step", step)
    monkeypatch.setattr("time.monotonic", lambda: now)


def cooled(recipe: Recipe, **schedule: int) -> Recipe:
    schedule = {"steps": 1000, "cooldown": 400, **schedule}
    return dataclasses.replace(recipe, log_every=1, schedule=dataclasses.replace(recipe.schedule, **schedule))


def test_a_time_limit_brings_the_cooldown(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = cooled(recipe)
    with monkeypatch.context() as patch:
        paced(patch, 3.0)
        train(recipe, pack_file.path, tmp_path / "timed", device="cpu", minutes=1, progress=False)
    rates = [record["learning_rate"] for record in log(tmp_path / "timed")]
    highest = recipe.optimizer.learning_rate
    assert len(rates) == 20 and set(rates[1:12]) == {highest}
    assert rates[12] < highest and rates[-1] == pytest.approx(recipe.schedule.final_share * highest)
    # It is the run that a recipe with these numbers makes.
    run(cooled(recipe, steps=20, cooldown=8), pack_file, tmp_path / "counted")
    timed, counted = final_tensors(tmp_path / "timed"), final_tensors(tmp_path / "counted")
    assert all(torch.equal(tensor, counted[name]) for name, tensor in timed.items())
    # And it is over.
    run(recipe, pack_file, tmp_path / "timed")
    assert len(log(tmp_path / "timed")) == 20


@pytest.mark.parametrize("minutes", [None, 1.0])
def test_a_run_killed_in_its_timed_cooldown_resumes_bit_for_bit(
    pack_file: PackedAudio,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    minutes: float | None,
) -> None:
    recipe = dataclasses.replace(cooled(recipe), checkpoint_every=1000)
    for name in ("whole", "killed"):
        with monkeypatch.context() as patch:
            paced(patch, 3.0)
            if name == "killed":
                step = Trainer.train_step

                def cut(self: Trainer, plain: Any = step) -> None:
                    plain(self)
                    if self.step == 15:
                        raise Killed

                patch.setattr(Trainer, "train_step", cut)
                with pytest.raises(Killed):
                    train(recipe, pack_file.path, tmp_path / name, device="cpu", minutes=1, progress=False)
            else:
                train(recipe, pack_file.path, tmp_path / name, device="cpu", minutes=1, progress=False)
    train(recipe, pack_file.path, tmp_path / "killed", device="cpu", minutes=minutes, progress=False)
    whole, resumed = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "killed")
    assert set(whole) == set(resumed)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_time_enough_for_all_steps_changes_nothing(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = cooled(recipe, steps=12, cooldown=4)
    run(recipe, pack_file, tmp_path / "plain")
    paced(monkeypatch, 3.0)
    train(recipe, pack_file.path, tmp_path / "timed", device="cpu", minutes=30, progress=False)
    plain, timed = final_tensors(tmp_path / "plain"), final_tensors(tmp_path / "timed")
    assert all(torch.equal(tensor, timed[name]) for name, tensor in plain.items())
