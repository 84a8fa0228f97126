"""`audiotokens list`: the tokenizers that can be loaded by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from audiotokens.cli.options import json_option
from audiotokens.cli.text import format_table, print_json

if TYPE_CHECKING:
    from audiotokens.registry import TokenizerRecord
    from audiotokens.spec import StreamSpec


@click.command("list", epilog="Example: audiotokens list --json")
@json_option
def list_verb(as_json: bool) -> None:
    """List the tokenizers that can be loaded by name.

    Folders and hf:org/name can be loaded too. Tokenizers of other packages are named without importing them;
    "audiotokens info NAME" shows their facts. A published checkpoint is imported when it is first used; it is
    "here" where its files are on this machine already.
    """
    from audiotokens.config import to_dict
    from audiotokens.registry import list_tokenizers

    records = list_tokenizers()
    if as_json:
        print_json({"tokenizers": [to_dict(record) for record in records]})
        return
    rows = [[record.name, record.state or record.kind, *_cells(record), _place(record)] for record in records]
    header = ["name", "kind", "rate", "frames/s", "books", "kbit/s", "licence", "from"]
    click.echo(
        format_table(header, rows) if rows else "no tokenizer is installed; a folder can be given instead"
    )


def _place(record: TokenizerRecord) -> str:
    if record.published is None or record.state == "imported":
        return record.origin
    origin = record.published.origins[0]
    return f"hub: {origin.hub}" if origin.hub else origin.address.split("/")[2]


def _cells(record: TokenizerRecord) -> list[str]:
    spec, published = record.spec, record.published
    if published is not None:
        rates = published.bitrates or (published.bitrate,)
        trade = " (non-commercial)" if published.noncommercial else ""
        codes = _code_cells(published.streams, min(rates), max(rates))
        return [str(published.sample_rate), *codes, published.license + trade]
    if spec is None:
        return ["-"] * 5
    lowest, highest = (
        spec.bitrate(extreme(spec.legal_prefixes)) if spec.legal_prefixes else 0 for extreme in (min, max)
    )
    return [str(spec.sample_rate), *_code_cells(spec.streams, lowest, highest), spec.weights_license or "-"]


def _code_cells(streams: tuple[StreamSpec, ...], lowest: float, highest: float) -> list[str]:
    sizes = [size for stream in streams if stream.frame_rate for size in stream.codebook_sizes]
    if not sizes:
        return ["-", "-", "-"]
    books = f"{len(sizes)} x {sizes[0]}" if len(set(sizes)) == 1 else str(len(sizes))
    frames = dict.fromkeys(f"{float(stream.frame_rate):.4g}" for stream in streams if stream.frame_rate)
    bits = f"{lowest / 1000:.3g} to {highest / 1000:.3g}" if lowest < highest else f"{highest / 1000:.3g}"
    return ["+".join(frames), books, bits]
