"""The training command's engine: `train` starts or resumes a run, `extend` goes on with a finished one."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import torch

from audiotokens.codec import Codec
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError, NotOfferedError
from audiotokens.training.checkpoint import find_checkpoints, read_checkpoint
from audiotokens.training.config import Recipe, read_recipe
from audiotokens.training.data import open_pack
from audiotokens.training.progress import Progress
from audiotokens.training.trainer import Trainer


def train(
    recipe: Recipe | str | Path,
    data: str | Path,
    output: str | Path,
    *,
    resume: bool = True,
    device: str = "auto",
    max_steps: int | None = None,
    progress: bool = True,
) -> Path:
    """Train a tokenizer.

    Args:
        recipe: a recipe or its YAML file.
        data: a file made by `audiotokens.training.pack.pack`.
        output: folder of the run: `checkpoints/`, `log.jsonl`, `curves.svg`, and the tokenizer in `export/`.
        resume: go on from the newest checkpoint in `output`; False refuses a folder that has one.
        device: "cpu", "cuda", or "auto" (a GPU where there is one).
        max_steps: stop, resumably, when the run has this many steps.
        progress: print progress on stderr.

    Returns:
        The folder of the tokenizer (running mean of the weights).

    Raises:
        ConfigError: a bad recipe, another recipe than the folder's run, or data of another sample rate.
        CheckpointError: damaged data or checkpoint.
        TrainingError: the loss is not finite; the last checkpoint is kept.

    Example:
        >>> train("recipes/speech-16k.yaml", "speech.pack", "runs/speech-16k")  # doctest: +SKIP
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    audio = open_pack(data)
    torch.manual_seed(recipe.seed)
    trainer = Trainer(build_codec(recipe), recipe, audio, Path(output), device=pick_device(device))
    trainer.resume(allowed=resume)
    last = recipe.schedule.last if max_steps is None else min(max_steps, recipe.schedule.last)
    return trainer.run(last, Progress(last, enabled=progress))


def extend(
    output: str | Path,
    data: str | Path,
    steps: int,
    *,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Go on with a finished run by a warm restart: the learning rate rises again and falls until `steps`.

    Args:
        output: folder of the run.
        data: the packed file of the run.
        steps: length of the whole run, more than it has.
        device: as for `train`.
        progress: as for `train`.

    Returns:
        The folder of the tokenizer.

    Raises:
        ConfigError: no run in the folder, or `steps` is not beyond its end.
        CheckpointError: damaged data or checkpoint.
    """
    found = find_checkpoints(Path(output) / "checkpoints")
    if not found:
        raise ConfigError(f"{output}: holds no run to extend; start one with train")
    recipe = from_dict(Recipe, read_checkpoint(found[-1]).recipe, where=str(found[-1]))
    return train(recipe.extended(steps), data, output, device=device, progress=progress)


def build_codec(recipe: Recipe) -> Codec:
    """Build the untrained codec that a recipe describes.

    Raises:
        ConfigError: unknown architecture, or a bad key in `codec`.
    """
    from audiotokens.registry import architectures

    if recipe.architecture not in architectures:
        known = ", ".join(sorted(architectures))
        raise ConfigError(f'recipe: unknown architecture "{recipe.architecture}"; known: {known}')
    module, _, attribute = architectures[recipe.architecture].partition(":")
    family = getattr(importlib.import_module(module), attribute)
    config = from_dict(family.config_class, recipe.codec, where="recipe.codec")
    texts = {"training_data": recipe.training_data, "weights_license": recipe.weights_license}
    codec = family(config, spec=replace(family(config).spec, name=recipe.name, **texts))
    if not isinstance(codec, Codec):
        raise NotOfferedError(f'the architecture "{recipe.architecture}" cannot be trained here')
    return codec


def pick_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one.

    Raises:
        ConfigError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.split(":")[0] not in ("cpu", "cuda") or (
        name.startswith("cuda") and not torch.cuda.is_available()
    ):
        raise ConfigError(
            f'device "{name}" is not available here; expected "cpu", "auto", or "cuda" on a GPU machine'
        )
    return torch.device(name)
