"""`audiotokens bench`: studies of the parts that tokenizers are made of."""

from __future__ import annotations

import click

from audiotokens.cli.options import json_option, progress_option
from audiotokens.cli.progress import ProgressBar
from audiotokens.cli.text import one_line, print_json


@click.command(epilog="Example: audiotokens bench quantizers --data speech -o study")
@click.argument("what", type=click.Choice(["quantizers"]))
@click.option(
    "--study",
    default="collapse",
    show_default=True,
    type=click.Choice(["collapse"]),
    help="collapse: use of the books, distortion at equal bits, five claims of the surveys.",
)
@click.option(
    "--data", required=True, metavar="FOLDER", help="Folder of speech, with the subfolders train and test."
)
@click.option(
    "-o",
    "--output",
    default="quantizer-study",
    show_default=True,
    help="Folder to write to; a study that was stopped goes on there.",
)
@click.option("--quick", is_flag=True, help="A minute instead of an hour; its figures mean nothing.")
@click.option(
    "-j",
    "--jobs",
    default=2,
    show_default=True,
    type=click.IntRange(min=1),
    help="Processes, of one thread each.",
)
@json_option
@progress_option
def bench(
    what: str,
    study: str,
    data: str,
    output: str,
    quick: bool,
    jobs: int,
    as_json: bool,
    progress: bool,
) -> None:
    """Compare the parts of tokenizers in studies.

    WHAT is quantizers: every kind learns from the latents of a frozen encoder. The output folder gets a page,
    its figures as CSV and JSON, pictures, and one file for each result, so that nothing is measured twice.
    """
    from audiotokens.evaluation.quantizer_study.plan import FULL, QUICK
    from audiotokens.evaluation.quantizer_study.study import run_study

    with ProgressBar(progress) as bar:
        page = run_study(data, output, plan=QUICK if quick else FULL, jobs=jobs, progress=bar.note)
    if as_json:
        print_json({"page": str(page)})
        return
    click.echo(one_line(f"page: {page}"))
