"""`audiotokens verify`: the ten promises of a tokenizer, tried out."""

from __future__ import annotations

import click

from audiotokens.cli.batch import loaded
from audiotokens.cli.options import DEFAULT_MODEL, device_option, exact_option, json_option, progress_option
from audiotokens.cli.progress import ProgressBar
from audiotokens.cli.text import print_json

_BROKEN = 1


@click.command(epilog="Example: audiotokens verify speech-16k --promise I3 --promise I4")
@click.argument("tokenizer", default=DEFAULT_MODEL)
@click.option(
    "--promise", "promises", multiple=True, metavar="I1..I10", help="Check only this; can be repeated."
)
@click.option("--thorough", is_flag=True, help="Many more chunkings, lengths and files; takes minutes.")
@click.option("--seed", default=0, show_default=True, help="Of the random choices.")
@device_option
@exact_option
@json_option
@progress_option
def verify(
    tokenizer: str,
    promises: tuple[str, ...],
    thorough: bool,
    seed: int,
    device: str,
    exact: bool,
    as_json: bool,
    progress: bool,
) -> None:
    """Check the ten promises of a tokenizer.

    TOKENIZER is a name, a folder or hf:org/name. The exit code is 1 if a promise is broken.
    """
    from audiotokens import verify as verification
    from audiotokens.config import to_dict

    subject = loaded(tokenizer, exact, device)
    with ProgressBar(progress) as bar:
        found = verification.verify(
            subject, promises=promises or None, seed=seed, thorough=thorough, progress=bar.note
        )
    if as_json:
        print_json(to_dict(found) | {"ok": found.ok})
    else:
        click.echo(verification.format_verification(found))
    if not found.ok:
        raise click.exceptions.Exit(_BROKEN)
