"""The adversarial phase: off it changes nothing; on it freezes, ramps, balances, stores and resumes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import audiotokens
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import CheckpointError, ConfigError
from audiotokens.training import checkpoint as checkpoints
from audiotokens.training.build import build_codec
from audiotokens.training.config import AdversarialConfig, Recipe
from audiotokens.training.data import PackedAudio
from audiotokens.training.loop import train
from audiotokens.training.trainer import Trainer

TINY_PHASE = {
    "start": 7,
    "alone": 2,
    "ramp": 2,
    "discriminators": [
        {"kind": "stft", "windows": [64], "channels": 4, "spectrum": "compressed"},
        {"kind": "period", "periods": [3], "channels": [4, 6]},
        {"kind": "band", "windows": [128], "channels": 4},
        {"kind": "scale", "factors": [2], "channels": 4},
    ],
}


pytestmark = pytest.mark.usefixtures("one_thread")


def phase(recipe: Recipe, **changes: Any) -> Recipe:
    adversarial = from_dict(AdversarialConfig, {**TINY_PHASE, **changes})
    return dataclasses.replace(recipe, adversarial=adversarial)


def run(recipe: Recipe, audio: PackedAudio, output: Path, steps: int | None = None) -> dict[str, Tensor]:
    train(recipe, audio.path, output, device="cpu", max_steps=steps, progress=False)
    return checkpoints.read_checkpoint(checkpoints.find_checkpoints(output / "checkpoints")[-1]).tensors


def log(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def equal(one: dict[str, Tensor], other: dict[str, Tensor], *prefixes: str) -> bool:
    names = [name for name in one if name.startswith(prefixes or "")]
    assert names
    return all(torch.equal(one[name], other[name]) for name in names)


def test_without_the_phase_a_run_is_what_it_was(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path
) -> None:
    plain = run(recipe, pack_file, tmp_path / "plain")
    later = run(phase(recipe, start=12), pack_file, tmp_path / "later")
    assert set(plain) == set(later)
    assert equal(plain, later)
    assert log(tmp_path / "plain")[-1].keys() == log(tmp_path / "later")[-1].keys()


def test_the_plain_step_is_written_out_here(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    """The step as it was before there were phases, against the trainer's own, bit for bit."""
    ours, reference = (make_trainer(recipe, pack_file, tmp_path) for _ in range(2))
    for step in range(4):
        ours.train_step()
        torch.manual_seed(step)
        batch = reference.crops(step)
        waveform, books = torch.from_numpy(batch.waveform), torch.from_numpy(batch.num_codebooks)
        reference._set_learning_rate(step)
        reference.step = step
        output = reference.codec(waveform[:, None], num_codebooks=books, quantize=False)
        loudness = recipe.loss.loudness_at(step)
        terms = reference.criterion(waveform, output.waveform[:, 0], loudness=loudness > 0)
        loss = 0.5 * (1.5 * terms["complex_stft"]).mean() + 0.15 * terms["log_mel"].mean()
        loss = loss + loudness * terms["loudness"].mean() if loudness else loss
        reference.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.codec.parameters(), 1.0)
        reference.optimizer.step()
    assert equal(dict(ours.codec.state_dict()), dict(reference.codec.state_dict()))


def make_trainer(recipe: Recipe, audio: PackedAudio, output: Path) -> Trainer:
    torch.manual_seed(0)
    return Trainer(build_codec(recipe), recipe, audio, output, device=torch.device("cpu"))


@pytest.mark.parametrize("balancer", [None, {}])
def test_the_codec_hears_of_discriminators_after_their_steps_alone(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path, balancer: dict[str, Any] | None
) -> None:
    plain, adversarial = (
        make_trainer(each, pack_file, tmp_path) for each in (recipe, phase(recipe, balancer=balancer))
    )
    assert adversarial.adversary
    first = {name: t.clone() for name, t in adversarial.adversary.discriminators.state_dict().items()}
    for step in range(10):
        plain.train_step()
        adversarial.train_step()
        same = equal(dict(plain.codec.state_dict()), dict(adversarial.codec.state_dict()))
        untrained = equal(first, dict(adversarial.adversary.discriminators.state_dict()))
        assert (same, untrained) == (step < 9, step < 7), step


def test_figures_of_the_phase_are_logged(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    run(phase(recipe, balancer={}), pack_file, tmp_path)
    records = log(tmp_path)
    assert "discriminator_loss" not in records[2]
    assert "adversarial" not in records[3]
    for name in ("discriminator_loss", "discriminator_gradient_norm", "adversarial", "feature_matching"):
        assert records[-1][name] > 0
    assert all(0 <= records[-1][name] <= 1 for name in ("real_right", "fake_right"))
    assert records[-1]["gradient_adversarial"] > 0
    assert "share judged right" in (tmp_path / "curves.svg").read_text()


@pytest.mark.parametrize(
    "changes",
    [
        {"train": "decoder"},
        {"balancer": {"decay": 0.9, "per_item": False}},
        {"conditional": True, "loss": "least-squares", "features": "absolute"},
    ],
)
def test_a_stopped_phase_resumes_bit_for_bit(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path, changes: dict[str, Any]
) -> None:
    recipe = phase(recipe, **changes)
    whole = run(recipe, pack_file, tmp_path / "whole")
    for steps in (7, 8, 10, None):
        resumed = run(recipe, pack_file, tmp_path / "stopped", steps)
    assert set(whole) == set(resumed)
    assert equal(whole, resumed)
    kinds = {name.partition(".")[0] for name in whole}
    assert {"discriminators", "discriminator_optimizer"} < kinds
    assert ("balancer" in kinds) == ("balancer" in changes)
    assert any("embedding" in name for name in whole) == ("conditional" in changes)


def test_the_export_knows_no_discriminators(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> None:
    run(recipe, pack_file, tmp_path / "plain")
    run(phase(recipe), pack_file, tmp_path / "phase")
    sizes = [(tmp_path / name / "export" / "model.safetensors").stat().st_size for name in ("plain", "phase")]
    assert sizes[0] == sizes[1]
    audiotokens.load(tmp_path / "phase" / "export")


def test_training_the_decoder_alone_keeps_codes(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = phase(recipe, train="decoder")
    run(recipe, pack_file, tmp_path, 7)
    sound = 0.3 * torch.randn(4000, generator=torch.Generator().manual_seed(1)).numpy()
    before = audiotokens.load(tmp_path / "export")
    codes = before.encode(sound, 16000).codes
    assert len(set(codes.flatten().tolist())) > 4
    run(recipe, pack_file, tmp_path)
    after = audiotokens.load(tmp_path / "export")
    assert (after.encode(sound, 16000).codes == codes).all()
    tokens = before.encode(sound, 16000)
    changed = before.decode(tokens) - after.decode(
        dataclasses.replace(tokens, tokenizer=after.spec.name, fingerprint=after.fingerprint)
    )
    assert abs(changed).max() > 0


@pytest.mark.parametrize(("codec", "precision"), [("bfloat16", None), ("float32", "bfloat16")])
def test_bfloat16_reaches_the_discriminators(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path, codec: str, precision: str | None
) -> None:
    changed = dataclasses.replace(phase(recipe, precision=precision), precision=codec)
    trainer = make_trainer(changed, pack_file, tmp_path)
    assert trainer.adversary
    kinds: set[torch.dtype] = set()
    for member in trainer.adversary.discriminators.members:
        member.register_forward_hook(lambda _module, _inputs, verdict: kinds.add(verdict.logits.dtype))
    coded: set[torch.dtype] = set()
    trainer.codec.encoder_net.register_forward_hook(lambda _module, _inputs, found: coded.add(found.dtype))
    for _ in range(10):
        trainer.train_step()
    assert kinds == {torch.bfloat16}
    assert coded == {getattr(torch, codec)}
    tensors = trainer.adversary.tensors(10)
    assert all(tensor.dtype != torch.bfloat16 for tensor in tensors.values())


def test_settings_of_a_phase_may_change_until_it_begins(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path
) -> None:
    run(recipe, pack_file, tmp_path, 6)
    run(phase(recipe, start=9), pack_file, tmp_path, 7)
    run(phase(recipe, alone=0), pack_file, tmp_path, 8)
    with pytest.raises(ConfigError, match=r"other settings \(adversarial\)"):
        run(phase(recipe, alone=1), pack_file, tmp_path)
    with pytest.raises(ConfigError, match=r"other settings \(adversarial\)"):
        run(recipe, pack_file, tmp_path)


def test_a_phase_needs_books(recipe: Recipe) -> None:
    values = {**to_dict(recipe), "adversarial": {**TINY_PHASE, "start": 3}}
    with pytest.raises(ConfigError, match=r"start is 3, expected at least schedule\.unquantized \(6\)"):
        from_dict(Recipe, values)
    with pytest.raises(ConfigError, match="at least one discriminator"):
        from_dict(AdversarialConfig, {"start": 3, "discriminators": []})
    with pytest.raises(ConfigError, match="expected 0 or more"):
        from_dict(AdversarialConfig, {"start": 3, "ramp": -1})


@pytest.mark.parametrize(
    ("discriminator", "message"),
    [
        (
            {"kind": "stft", "windwos": [64]},
            r'discriminators\[0\]: unknown key "windwos"; did you mean "windows"',
        ),
        ({"kind": "sftf"}, r"found str 'sftf', expected one of 'stft', 'period', 'band', 'scale'"),
        ({"kind": "stft", "windows": [30]}, r"windows are \[30\], expected multiples of 4"),
        ({"kind": "stft", "kernel": [3, 4]}, r"kernel is \[3, 4\], expected odd sizes"),
        ({"kind": "period", "periods": [1]}, r"periods are \[1\] .* expected periods of 2 or more"),
        ({"kind": "band", "edges": [0.0, 0.5, 0.5]}, r"edges are .* expected rising shares"),
        ({"kind": "scale", "channels": 6}, r"channels 6, expected .* multiple of 4"),
        (
            {"kind": "band", "windows": [4096]},
            r"4096 samples is longer than data\.crop_samples \(1600\)",
        ),
    ],
)
def test_mistakes_in_a_discriminator_are_named(
    recipe: Recipe, discriminator: dict[str, Any], message: str
) -> None:
    values = {**to_dict(recipe), "adversarial": {"start": 7, "discriminators": [discriminator]}}
    with pytest.raises(ConfigError, match=message):
        from_dict(Recipe, values)


def test_other_discriminators_in_a_checkpoint_are_refused(
    pack_file: PackedAudio, recipe: Recipe, tmp_path: Path
) -> None:
    trainer = make_trainer(phase(recipe), pack_file, tmp_path)
    assert trainer.adversary
    stored = trainer.adversary.tensors(8)
    stored.pop("discriminators.members.0.layers.0.bias")
    with pytest.raises(CheckpointError, match=r"1 tensors do not fit .* members\.0\.layers\.0\.bias"):
        trainer.adversary.restore(stored, 8, tmp_path)


def test_the_ramp() -> None:
    config = AdversarialConfig(start=100, alone=10, ramp=4)
    assert [config.ramp_at(step) for step in (0, 109, 110, 112, 113, 999)] == [0, 0, 0.25, 0.75, 1, 1]
    assert AdversarialConfig(start=5, alone=0, ramp=0).ramp_at(5) == 1
