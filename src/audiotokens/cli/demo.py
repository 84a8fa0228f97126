"""`audiotokens demo`: one command to hear, see and measure audio tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from audiotokens.cli.batch import loaded
from audiotokens.cli.options import (
    device_option,
    engine_option,
    exact_option,
    json_option,
    model_option,
    progress_option,
)
from audiotokens.cli.progress import ProgressBar
from audiotokens.cli.text import one_line, print_json

if TYPE_CHECKING:
    from audiotokens.engines import Engine


@click.command(epilog="Example: audiotokens demo recordings/ -o demo --domain speech")
@click.argument("audio", nargs=-1, metavar="[AUDIO]...")
@click.option("-o", "--output", default="audiotokens-demo", show_default=True, help="Folder to write to.")
@click.option("--domain", help="What AUDIO holds: speech, music or sound.")
@model_option
@device_option
@engine_option
@exact_option
@json_option
@progress_option
def demo(
    audio: tuple[str, ...],
    output: str,
    domain: str | None,
    model: str,
    device: str,
    engine: Engine,
    exact: bool,
    as_json: bool,
    progress: bool,
) -> None:
    """Hear, see and measure audio tokens: writes one page.

    AUDIO are files and folders; without any, the demo makes its own sounds. The output folder
    gets the page, the tokens and the reconstructions; what an earlier demo wrote there is replaced.
    """
    from audiotokens.config import to_dict
    from audiotokens.demo import run_demo

    tokenizer = loaded(model, exact, device, engine=engine)
    with ProgressBar(progress) as bar:
        result = run_demo(audio or None, output, tokenizer=tokenizer, domain=domain, progress=bar.update)
    if as_json:
        print_json(to_dict(result) | {"page": str(result.page)})
        return
    for note in result.notes:
        click.echo(one_line(f"note: {note}"), err=True)
    for figure in result.figures:
        click.echo(one_line(str(figure)))
    click.echo(one_line(f"page: {result.page}"))
