"""The training command's engine: `train` starts or resumes a run, `extend` goes on with a finished one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from audiotokens.codec import Codec
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError
from audiotokens.training.build import build_codec
from audiotokens.training.checkpoint import find_checkpoints, read_checkpoint
from audiotokens.training.config import Recipe, read_recipe
from audiotokens.training.data import open_pack
from audiotokens.training.progress import Progress
from audiotokens.training.trainer import Trainer
from audiotokens.training.warm_start import describe, warm_start


def train(
    recipe: Recipe | str | Path,
    data: str | Path,
    output: str | Path,
    *,
    resume: bool = True,
    device: str = "auto",
    max_steps: int | None = None,
    minutes: float | None = None,
    start_from: str | Path | None = None,
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
        minutes: stop, resumably, after this time; with a cooldown, cooled down: the cooldown then has the
            share of the time that it has of the recipe's steps.
        start_from: instead of the recipe's `warm_start`: a tokenizer (name or folder), a run's folder or a
            checkpoint whose weights a new run begins with; a run that has a checkpoint of its own ignores it.
        progress: print progress on stderr.

    Returns:
        The folder of the tokenizer (running mean of the weights).

    Raises:
        ConfigError: a bad recipe, another recipe than the folder's run, or data of another sample rate.
        CheckpointError: damaged data or checkpoint.
        TokenizerNotFoundError: there is nothing to start from.
        TrainingError: the loss is not finite; the last checkpoint is kept.

    Example:
        >>> train("recipes/speech-16k.yaml", "speech.pack", "runs/speech-16k")  # doctest: +SKIP
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    if start_from is not None:
        recipe = replace(recipe, warm_start=str(start_from))
    audio, output = open_pack(data), Path(output)
    torch.manual_seed(recipe.seed)
    codec = build_codec(recipe)
    if recipe.warm_start is not None and not find_checkpoints(output / "checkpoints"):
        _warm_start(codec, recipe.warm_start, output, progress=progress)
    trainer = Trainer(codec, recipe, audio, output, device=pick_device(device))
    trainer.resume(allowed=resume)
    return trainer.run(Progress(recipe.schedule.last, enabled=progress), max_steps=max_steps, minutes=minutes)


def _warm_start(codec: Codec, source: str, output: Path, *, progress: bool) -> None:
    """Take the weights of `source` and leave the report in the folder of the run."""
    report = describe(warm_start(codec, source))
    output.mkdir(parents=True, exist_ok=True)
    path = output / "warm-start.txt"
    path.write_text(report, encoding="utf-8")
    if progress:
        print(f"{report.splitlines()[0]} (see {path})", file=sys.stderr)


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
