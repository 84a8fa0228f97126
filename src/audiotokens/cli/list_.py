"""`audiotokens list`: the tokenizers that can be loaded by name."""

from __future__ import annotations

import click

from audiotokens.cli.options import json_option
from audiotokens.cli.text import format_table, print_json
from audiotokens.spec import Spec


@click.command("list", epilog="Example: audiotokens list --json")
@json_option
def list_verb(as_json: bool) -> None:
    """List the tokenizers that can be loaded by name.

    Folders and hf:org/name can be loaded too. Tokenizers of other packages are named without importing them;
    "audiotokens info NAME" shows their facts.
    """
    from audiotokens.config import to_dict
    from audiotokens.registry import list_tokenizers

    records = list_tokenizers()
    if as_json:
        print_json({"tokenizers": [to_dict(record) for record in records]})
        return
    rows = [[record.name, record.kind, *_cells(record.spec), record.origin] for record in records]
    header = ["name", "kind", "rate", "frames/s", "books", "kbit/s", "licence", "from"]
    click.echo(
        format_table(header, rows) if rows else "no tokenizer is installed; a folder can be given instead"
    )


def _cells(spec: Spec | None) -> list[str]:
    if spec is None:
        return ["-"] * 5
    sizes = [size for stream in spec.streams if stream.frame_rate for size in stream.codebook_sizes]
    books = f"{len(sizes)} x {sizes[0]}" if len(set(sizes)) == 1 else str(len(sizes))
    rates = "+".join(f"{float(stream.frame_rate):g}" for stream in spec.streams if stream.frame_rate)
    lowest, highest = (
        spec.bitrate(prefix) / 1000 for prefix in (min(spec.legal_prefixes), max(spec.legal_prefixes))
    )
    bits = f"{lowest:.3g} to {highest:.3g}" if lowest < highest else f"{highest:.3g}"
    return [str(spec.sample_rate), rates, books, bits, spec.weights_license or "-"]
