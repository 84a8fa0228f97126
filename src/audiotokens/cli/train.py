"""`audiotokens train`: a recipe and packed audio in, a tokenizer folder out."""

from __future__ import annotations

import sys
import time

import click

from audiotokens.cli.options import json_option, progress_option
from audiotokens.cli.text import one_line, print_json


@click.command(
    epilog="Example: audiotokens train recipes/speech-16k.yaml --data speech.pack -o runs/speech-16k"
)
@click.argument("recipe")
@click.option("--data", required=True, metavar="PACK", help="File made by audiotokens pack.")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder of the run.")
@click.option(
    "--resume/--fresh", default=True, show_default=True, help="Go on with a run, or refuse a used folder."
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Stop, resumably, when the run has this many steps."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop, resumably, after this time, with the cooldown of the recipe in its last part.",
)
@click.option(
    "--from",
    "start_from",
    metavar="SOURCE",
    help="Begin a new run with the weights of a tokenizer (name or folder), of a run or of a checkpoint.",
)
@click.option(
    "--device", default="auto", show_default=True, help="Torch device; auto: a GPU where there is one."
)
@json_option
@progress_option
def train(
    recipe: str,
    data: str,
    output: str,
    resume: bool,
    steps: int | None,
    minutes: float | None,
    start_from: str | None,
    device: str,
    as_json: bool,
    progress: bool,
) -> None:
    """Train a tokenizer from a recipe.

    RECIPE is a YAML file. A run that was stopped goes on where it stood. The last line names the folder that
    can be loaded.
    """
    from audiotokens.training import loop

    started = time.perf_counter()
    shown = progress or sys.stderr.isatty()
    folder = loop.train(
        recipe,
        data,
        output,
        resume=resume,
        device=device,
        max_steps=steps,
        minutes=minutes,
        start_from=start_from,
        progress=shown,
    )
    if as_json:
        print_json({"tokenizer": str(folder), "elapsed": time.perf_counter() - started})
        return
    click.echo(one_line(f"tokenizer: {folder}"))
