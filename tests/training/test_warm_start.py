"""Warm starts: what fits is taken, more room keeps the function, anything else is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audiotokens.errors import ConfigError, NotOfferedError, TokenizerNotFoundError
from audiotokens.registry import read_folder_config, shipped
from audiotokens.training import checkpoint as checkpoints
from audiotokens.training.build import build_codec
from audiotokens.training.config import Recipe
from audiotokens.training.data import PackedAudio
from audiotokens.training.loop import train
from audiotokens.training.warm_start import Transfer, describe, warm_start

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def finished(pack_file: PackedAudio, recipe: Recipe, tmp_path: Path) -> Path:
    train(recipe, pack_file.path, tmp_path / "first", device="cpu", progress=False)
    return tmp_path / "first"


def with_codec(recipe: Recipe, **changes: Any) -> Recipe:
    return dataclasses.replace(recipe, codec={**recipe.codec, **changes})


def fresh(recipe: Recipe) -> Any:
    torch.manual_seed(99)
    return build_codec(recipe).eval()


def actions(transfers: list[Transfer]) -> set[str]:
    return {entry.action for entry in transfers}


@torch.no_grad()
def computed(codec: Any) -> tuple[Tensor, Tensor]:
    """Latents and sound that a codec makes of one input."""
    sound = 0.3 * torch.randn(1, 1, 2400, generator=torch.Generator().manual_seed(1))
    output = codec(sound)
    return output.latents, output.waveform


def test_a_tokenizer_is_taken_whole(recipe: Recipe, finished: Path) -> None:
    old, new = fresh(recipe), fresh(recipe)
    transfers = warm_start(new, finished / "export")
    stored = checkpoints.read_checkpoint(checkpoints.find_checkpoints(finished / "checkpoints")[-1])
    for name, tensor in new.state_dict().items():
        assert torch.equal(tensor, stored.tensors[f"average.{name}"].half().float()), name
    found = {entry.name: entry.action for entry in transfers}
    for index, (level, untrained) in enumerate(zip(new.quantizer.levels, old.quantizer.levels, strict=True)):
        assert not torch.equal(level.book, untrained.book)
        assert torch.equal(level.sums, level.book)
        assert bool((level.counts == 1).all())
        name = f"quantizer.levels.{index}"
        assert found.pop(f"{name}.counts") == found.pop(f"{name}.sums") == "new"
    assert set(found.values()) == {"taken"}
    assert set(found) == set(new.state_dict())


@pytest.mark.parametrize("place", ["", "checkpoints/step-00000012.safetensors"])
def test_a_checkpoint_brings_counts_too(recipe: Recipe, finished: Path, place: str) -> None:
    new = fresh(recipe)
    transfers = warm_start(new, finished / place)
    stored = checkpoints.read_checkpoint(finished / "checkpoints" / "step-00000012.safetensors")
    for name, tensor in checkpoints.module_tensors(new).items():
        assert torch.equal(tensor, stored.tensors[f"codec.{name}"]), name
    assert actions(transfers) == {"taken"}
    assert not bool((new.quantizer.levels[0].counts == 1).all())


def test_wider_hidden_layers_compute_the_same(recipe: Recipe, finished: Path) -> None:
    same, wide = fresh(recipe), fresh(with_codec(recipe, encoder_hidden=40, decoder_hidden=25))
    warm_start(same, finished)
    transfers = warm_start(wide, finished)
    for found, expected in zip(computed(wide), computed(same), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)
    widened = {entry.name: entry.detail for entry in transfers if entry.action == "widened"}
    assert len(widened) == 6
    assert widened["encoder_net.blocks.4.block.blocks.2.linear.weight"] == "24 to 40 hidden units"
    # The new units are awake: their weights are not zero, so that their output weights have a gradient.
    wide.train()
    wide(torch.randn(1, 1, 800)).waveform.square().sum().backward()
    layer = wide.get_submodule("decoder_net.blocks.2.block.blocks.4.linear")
    assert not bool(layer.weight[:, 24:].any())
    assert float(layer.weight.grad[:, 24:].abs().max()) > 0


def test_more_taps_compute_the_same(recipe: Recipe, finished: Path) -> None:
    same, more = fresh(recipe), fresh(with_codec(recipe, kernel=6, encoder_lookahead=2, decoder_lookahead=3))
    warm_start(same, finished)
    transfers = warm_start(more, finished)
    for found, expected in zip(computed(more), computed(same), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)
    shifted = [entry.detail for entry in transfers if entry.action == "shifted"]
    assert shifted == ["look-ahead 1 to 2, taps 3 to 6", "look-ahead 1 to 3, taps 3 to 6"]


def test_less_lookahead_drops_future_taps(recipe: Recipe, finished: Path) -> None:
    same, causal = fresh(recipe), fresh(with_codec(recipe, encoder_lookahead=0, decoder_lookahead=0))
    warm_start(same, finished)
    transfers = warm_start(causal, finished)
    (detail, _) = [entry.detail for entry in transfers if entry.action == "shifted"]
    assert detail == "look-ahead 1 to 0, taps 3 to 3; dropped: frames +1"
    old, new = (codec.get_submodule("encoder_net.blocks.4.block.blocks.0").taps for codec in (same, causal))
    assert torch.equal(new[1:], old[:2])
    assert not bool(new[0].any())


def test_offsets_may_be_new(recipe: Recipe, finished: Path) -> None:
    same = fresh(recipe)
    quantizer = {**recipe.codec["quantizer"], "prefix_offsets": True}
    offset = fresh(with_codec(recipe, quantizer=quantizer))
    warm_start(same, finished)
    transfers = warm_start(offset, finished)
    assert Transfer("quantizer.offsets", "new", "zero") in transfers
    for found, expected in zip(computed(offset), computed(same), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"width": 24},
            r"encoder_net\.blocks\.2\.linear\.weight has the shape \[16, 88\], .*\[24, 88\]",
        ),
        ({"encoder_hidden": 20}, r"linear\.weight has the shape \[24, 16\], .* needs \[20, 16\]"),
        ({"latent": 5}, r"has the shape \[6, 16\], .* needs \[5, 16\]"),
        ({"decoder_blocks": 2}, r"change the recipe"),
        ({"sample_rate": 24000}, r"encoder_net\.blocks\.1\.analysis differs from that of the recipe"),
        ({"quantizer": {"kind": "fsq"}}, r"quantizer\.levels\.0\.book has no place in the recipe's codec"),
    ],
)
def test_what_does_not_fit_is_named(
    recipe: Recipe, finished: Path, changes: dict[str, Any], message: str
) -> None:
    codec = fresh(with_codec(recipe, **changes))
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    with pytest.raises(ConfigError, match=message):
        warm_start(codec, finished)
    assert all(torch.equal(tensor, before[name]) for name, tensor in codec.state_dict().items())


def test_the_shipped_tokenizer_can_be_trained_on() -> None:
    for name, folder in shipped().items():
        recipe = Recipe(name="next", codec=read_folder_config(folder).config)
        assert actions(warm_start(fresh(recipe), name)) == {"taken", "new"}


def test_other_sources_are_refused(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TokenizerNotFoundError, match='no tokenizer and no folder is called "none"'):
        warm_start(fresh(recipe), "none")
    monkeypatch.setattr("audiotokens.registry.load", lambda source, exact: object())
    with pytest.raises(NotOfferedError, match="no run can begin with them"):
        warm_start(fresh(recipe), "other")


def test_a_run_begins_warm_once(
    pack_file: PackedAudio, recipe: Recipe, finished: Path, tmp_path: Path
) -> None:
    schedule = dataclasses.replace(recipe.schedule, unquantized=0, start_latents=0)
    recipe = dataclasses.replace(recipe, schedule=schedule, warm_start=str(finished / "export"))
    output = tmp_path / "second"
    train(recipe, pack_file.path, output, device="cpu", max_steps=1, progress=False)
    report = (output / "warm-start.txt").read_text()
    assert report.startswith("warm start: ")
    assert "encoder_net.blocks.2.linear.weight" in report
    first, begun = (
        checkpoints.read_checkpoint(checkpoints.find_checkpoints(folder / "checkpoints")[-1]).tensors
        for folder in (finished, output)
    )
    name = "average.encoder_net.blocks.2.linear.weight"
    assert torch.allclose(first[name], begun[name], atol=2e-2)
    assert int(begun["optimizer.0.step"]) == 1
    # The source may be gone when the run goes on.
    moved = dataclasses.replace(recipe, warm_start="elsewhere")
    train(moved, pack_file.path, output, device="cpu", progress=False)
    assert checkpoints.find_checkpoints(output / "checkpoints")[-1].name == "step-00000012.safetensors"


def test_the_argument_wins_over_the_recipe(
    pack_file: PackedAudio, recipe: Recipe, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(recipe, warm_start="none")
    train(
        recipe, pack_file.path, tmp_path / "x", device="cpu", max_steps=1, start_from=finished, progress=True
    )
    assert "warm start: 42 taken (see " in capsys.readouterr().err


def test_the_report() -> None:
    text = describe([Transfer("a", "taken"), Transfer("long", "widened", "2 to 3"), Transfer("b", "taken")])
    assert text == "warm start: 2 taken, 1 widened\na     taken\nlong  widened  2 to 3\nb     taken\n"
