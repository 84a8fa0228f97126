"""Recipes: strict, complete, and the same run is recognised."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from audiotokens.config import to_dict
from audiotokens.errors import ConfigError
from audiotokens.training.config import (
    DataConfig,
    LossConfig,
    Recipe,
    ScheduleConfig,
    check_same_run,
    read_recipe,
)

pytest.importorskip("yaml")
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_open_with_their_command_and_are_valid(path: Path) -> None:
    assert path.read_text().startswith(f"# audiotokens train recipes/{path.name} --data ")
    assert read_recipe(path).name == path.stem


def test_a_recipe_file_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ncodec: {}\nloss: {loudnes: 1.0}\n")
    with pytest.raises(ConfigError, match='loss: unknown key "loudnes"; did you mean "loudness"'):
        read_recipe(path)
    path.write_text("name: [unclosed")
    with pytest.raises(ConfigError, match="not YAML"):
        read_recipe(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")


def test_the_loudness_ramp() -> None:
    loss = LossConfig(loudness=0.3, loudness_start=150, loudness_full=300)
    assert [loss.loudness_at(step) for step in (0, 150, 225, 300, 9000)] == pytest.approx(
        [0, 0, 0.15, 0.3, 0.3]
    )


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ScheduleConfig, {"steps": 0}, "expected positive rising"),
        (ScheduleConfig, {"steps": 10, "extensions": (10,)}, "expected positive rising"),
        (ScheduleConfig, {"unquantized": 5, "start_latents": 6}, "start_latents is 6"),
        (ScheduleConfig, {"steps": 10, "cooldown": 11}, "cooldown is 11"),
        (DataConfig, {"batch_size": 0}, "batch_size 0"),
        (DataConfig, {"speed": (1.2, 1.1)}, "lowest and highest"),
        (DataConfig, {"weights": {"*": 0.0}}, "factors above 0"),
        (DataConfig, {"validation_files": -1}, "validation_files -1"),
        (Recipe, {"name": "x", "codec": {}, "log_every": 0}, "must be at least 1"),
        (Recipe, {"name": "x", "codec": {}, "validate_every": 10}, "needs data.validation_files"),
    ],
)
def test_contradictions_are_refused(kind: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_only_extensions_and_reporting_may_change() -> None:
    recipe = Recipe(name="x", codec={"width": 3})
    stored = to_dict(recipe)
    check_same_run(stored, recipe.extended(20000), where="run")
    check_same_run(stored, dataclasses.replace(recipe, log_every=1), where="run")
    with pytest.raises(ConfigError, match=r"other settings \(codec, schedule\)"):
        check_same_run(
            stored,
            dataclasses.replace(recipe, codec={"width": 4}, schedule=ScheduleConfig(steps=3000)),
            where="run",
        )
    with pytest.raises(ConfigError, match=r"schedule\.extensions"):
        check_same_run(to_dict(recipe.extended(20000)), recipe, where="run")
    with pytest.raises(ConfigError, match="already has 10000 steps"):
        recipe.extended(10000)


def test_the_length_may_change_until_the_cooldown_begins() -> None:
    def planned(steps: int, cooldown: int) -> Recipe:
        return Recipe(name="x", codec={}, schedule=ScheduleConfig(steps=steps, cooldown=cooldown))

    stored = to_dict(planned(1000, 200))
    check_same_run(stored, planned(900, 100), where="run", step=800)
    for other, step in ((planned(900, 100), 801), (planned(900, 101), 800), (planned(900, 0), 800)):
        with pytest.raises(ConfigError, match="schedule"):
            check_same_run(stored, other, where="run", step=step)
