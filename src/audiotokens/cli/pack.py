"""`audiotokens pack`: many audio files in, one file for training out."""

from __future__ import annotations

import click

from audiotokens.cli.options import force_option, json_option, progress_option
from audiotokens.cli.progress import ProgressBar
from audiotokens.cli.text import one_line, print_json, size


@click.command(epilog="Example: audiotokens pack train.pack data/manifest.csv --split train --domain speech")
@click.argument("output")
@click.argument("sources", nargs=-1, required=True)
@click.option(
    "--sample-rate", type=click.IntRange(1000, 768000), default=16000, show_default=True, help="In Hz."
)
@click.option("--split", help="Rows of manifests to take; default: train.")
@click.option("--domain", help="Rows of manifests to take, such as speech; default: all.")
@click.option(
    "--filter", "where", multiple=True, metavar="COLUMN=VALUE", help="Further condition on rows; also !=."
)
@click.option(
    "--max-mib",
    type=click.FloatRange(min=0, min_open=True),
    help="Take so many of the files, chosen by hashes of their names, that the pack stays below this size.",
)
@force_option
@json_option
@progress_option
def pack(
    output: str,
    sources: tuple[str, ...],
    sample_rate: int,
    split: str | None,
    domain: str | None,
    where: tuple[str, ...],
    max_mib: float | None,
    force: bool,
    as_json: bool,
    progress: bool,
) -> None:
    """Pack audio into one file for training.

    OUTPUT is the file to write. SOURCES are audio files, folders, and manifests (CSV with a column "path").
    """
    from audiotokens.training.pack import pack as pack_audio

    conditions = [*where]
    conditions += [
        f"{name}={value}" for name, value in (("split", split), ("domain", domain)) if value is not None
    ]
    with ProgressBar(progress) as bar:
        packed = pack_audio(
            sources,
            output,
            sample_rate,
            where=conditions,
            max_mib=max_mib,
            overwrite=force,
            progress=bar.update,
        )
    facts = {
        "output": output,
        "files": len(packed.names),
        "seconds": packed.seconds,
        "sample_rate": sample_rate,
    }
    if as_json:
        print_json(facts | {"sha256": packed.digest})
        return
    length = f"{packed.seconds / 60:.1f} minutes, {size(2 * packed.samples.size)}"
    click.echo(one_line(f"{output}: {len(packed.names)} files, {length}"))
