"""`audiotokens import`: a published checkpoint in, a tokenizer folder out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audiotokens.cli.options import force_option, json_option
from audiotokens.cli.text import format_facts, one_line, print_json

if TYPE_CHECKING:
    from audiotokens.checkpoints import Imported

_EXAMPLE = "Example: audiotokens import --architecture dac-44khz --weights weights.pth -o dac"


@click.command("import", epilog=_EXAMPLE)
@click.option(
    "-a", "--architecture", required=True, metavar="NAME", help='Family or variant, "dac" or "dac-44khz".'
)
@click.option(
    "-c", "--config", metavar="FILE", help="Configuration, JSON or YAML; default: found with the weights."
)
@click.option("-w", "--weights", multiple=True, metavar="FILE...", help="Weights, or the folder of them.")
@click.argument("more_weights", nargs=-1, metavar="")
@click.option("-o", "--output", required=True, metavar="DIR", help="Tokenizer folder to write.")
@click.option("--name", help="Of the tokenizer; default: of the published one.")
@click.option("--report", metavar="FILE", help="Write what became of every tensor.")
@click.option("-v", "--verbose", is_flag=True, help="Print what became of every tensor.")
@force_option
@json_option
def import_verb(
    architecture: str,
    config: str | None,
    weights: tuple[str, ...],
    more_weights: tuple[str, ...],
    output: str,
    name: str | None,
    report: str | None,
    verbose: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a published checkpoint into a tokenizer folder.

    Weights are safetensors, what torch saved (.th, .pt, .pth, .ckpt, .bin) or .tflite files, as their authors
    published them; nothing in them is executed. Every key and shape is checked.
    """
    from audiotokens.checkpoints import MismatchError, describe_match, run_import

    try:
        done = run_import(
            architecture, [*weights, *more_weights], config=config, output=output, name=name, force=force
        )
    except MismatchError as error:
        _tell_tensors([f"wrong: {problem}" for problem in error.problems], report, verbose)
        raise
    _tell_tensors(describe_match(done.match), report, verbose)
    facts = _facts(done)
    if as_json:
        print_json(facts)
        return
    click.echo(one_line(f"{output}: {done.codec.spec.name}"))
    click.echo(format_facts({key: fact for key, fact in facts.items() if key not in ("name", "output")}))
    click.echo(f"try: audiotokens info {shlex.quote(output)}")


def _tell_tensors(lines: list[str], report: str | None, verbose: bool) -> None:
    if report is not None:
        Path(report).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if verbose:
        click.echo("\n".join(map(one_line, lines)), err=True)


def _facts(done: Imported) -> dict[str, Any]:
    from audiotokens.checkpoints.cards import license_text

    spec = done.codec.spec
    return {
        "name": spec.name,
        "output": str(done.folder),
        "architecture": spec.architecture,
        "variant": done.variant or "none of the published ones",
        "configuration": done.config_source,
        "weights": [file.path.name for file in done.sources],
        "sha256": [file.sha256 for file in done.sources],
        "tensors": {"used": len(done.match.used), "not needed": len(done.match.ignored)},
        "parameters": f"{spec.parameters:,}",
        "licence": license_text(spec),
        "fingerprint": done.codec.fingerprint,
    }
