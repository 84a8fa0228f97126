"""`audiotokens catalog`: the tokenizers of two surveys, and what this package does with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import click

from audiotokens.catalog import SORTS, Domain, Entry, Kind, Quantization, Result, entry, find, sources
from audiotokens.cli.options import gathered, json_option, switch
from audiotokens.cli.text import format_facts, format_table, number, print_json
from audiotokens.config import to_dict

_HEADER = ["name", "year", "kind", "quantizer", "kHz", "frames/s", "kbit/s", "streams", "domains", "here"]
_RESULT_HEADER = ["task", "data", "books", "kbit/s", "called", "source", "values"]


@dataclass(frozen=True)
class Filters:
    """What an entry must be, as it is given on the command line; see `catalog.find`."""

    streamable: bool = False
    domain: Domain | None = None
    kind: Kind | None = None
    quantizer: str | None = None
    built: bool = False
    max_bitrate: float | None = None
    sort: str | None = None


def _choice(values: Any) -> click.Choice[str]:
    return click.Choice(list(values), case_sensitive=False)


_filters = gathered(
    Filters,
    "filters",
    switch("--streamable", text="Those that stream, as the surveys or their authors say."),
    click.option("--domain", type=_choice(get_args(Domain)), help="Those made for it."),
    click.option("--kind", type=_choice(get_args(Kind)), help="Acoustic: made for reconstruction."),
    click.option("--quantizer", type=_choice(get_args(Quantization)), help="Those that use it."),
    switch("--built", text="Those that this package builds or imports."),
    click.option("--max-bitrate", type=float, metavar="KBIT/S", help="Those that can do with so little."),
    click.option("--sort", type=_choice(SORTS), help="Order; default: the review's."),
)


@click.command(epilog="Example: audiotokens catalog --streamable --domain speech --sort bitrate")
@click.argument("name", required=False)
@_filters
@json_option
def catalog(name: str | None, filters: Filters, as_json: bool) -> None:
    """Show the tokenizers of two surveys, and what is done with each here.

    Guo et al. 2025 (arXiv 2502.06490) and Mousavi et al. 2025 (arXiv 2506.10274). "here" says whether this
    package builds a tokenizer, imports its checkpoint too, or neither. "-" is what nobody says.
    """
    if name is not None:
        _show(entry(name), as_json)
        return
    found = find(
        streamable=filters.streamable or None,
        domain=filters.domain,
        kind=filters.kind,
        quantizer=filters.quantizer,
        built=filters.built or None,
        max_bitrate=None if filters.max_bitrate is None else 1000 * filters.max_bitrate,
        sort=filters.sort,
    )
    if as_json:
        print_json({"tokenizers": [_record(each) for each in found], "sources": sources()})
    elif found:
        click.echo(format_table(_HEADER, [_cells(each) for each in found]))
    else:
        click.echo("no tokenizer of the catalog is all of that")


def _record(each: Entry) -> dict[str, Any]:
    return {**to_dict(each), "status": each.status, "bitrates": each.bitrates}


def _cells(each: Entry) -> list[str]:
    texts = [
        each.name,
        str(each.year or ""),
        each.kind,
        "+".join(each.quantizers),
        "|".join(f"{rate / 1000:g}" for rate in each.sample_rates),
        "|".join(f"{rate:.4g}" for rate in each.frame_rates),
        _span(each.bitrates),
        {True: "yes", False: "no", None: ""}[each.streamable],
        "+".join(each.domains),
        each.status,
    ]
    return [text or "-" for text in texts]


def _span(bitrates: tuple[float, ...] | None) -> str:
    ends = [f"{rate / 1000:.3g}" for rate in bitrates or ()]
    return " to ".join(dict.fromkeys(ends))


def _show(each: Entry, as_json: bool) -> None:
    used = {key: text for key, text in sources().items() if key in each.sources}
    if as_json:
        print_json({**_record(each), "sources": used})
        return
    click.echo(format_facts(_facts(each)))
    notes = dict.fromkeys(f"{r.source}, {r.system}: {r.remark}" for r in each.results if r.remark)
    sections = {"settings": _setting_lines(each), "remarks": each.remarks}
    if each.results:
        table = format_table(_RESULT_HEADER, [_result_cells(result) for result in each.results])
        sections["published results"] = table.splitlines()
    sections |= {"on these results": list(notes), "sources": [f"{key}: {text}" for key, text in used.items()]}
    for title, lines in sections.items():
        if lines:
            click.echo("\n".join(["", title, *(f"  {line}" for line in lines)]))


def _facts(each: Entry) -> dict[str, Any]:
    shown = to_dict(each)
    for key in (
        "methods",
        "surveyed",
        "adaptive",
        "settings",
        "results",
        "remarks",
        "sources",
        "architecture",
    ):
        del shown[key]
    shown["family"] = ", ".join(filter(None, (each.family, *each.methods)))
    if each.adaptive:
        shown["quantizer"] = f"{each.quantizer}; adaptive bitrate".removeprefix("; ")
    shown["here"] = each.status + (f", architecture {each.architecture}" if each.architecture else "")
    return shown


def _setting_lines(each: Entry) -> list[str]:
    lines = []
    for setting in each.settings:
        books = " + ".join(
            f"{_counts(group.counts)} x {group.size or '?'} at "
            + ("?" if group.frame_rate is None else f"{group.frame_rate:.4g}")
            + "/s"
            for group in setting.books
        )
        parts = [
            setting.name,
            f"{setting.sample_rate} Hz" if setting.sample_rate else "",
            books,
            _span(setting.bitrates or setting.nominal_bitrates),
            f"{number(setting.parameters)} parameters" if setting.parameters else "",
            f"{number(setting.macs)} multiply-adds per second" if setting.macs else "",
        ]
        if parts[3]:
            parts[3] += " kbit/s"
        lines.append(", ".join(filter(None, parts)))
    return [line for line in lines if line]


def _counts(counts: tuple[int, ...]) -> str:
    if len(counts) > 2 and counts == tuple(range(1, len(counts) + 1)):
        return f"1 to {len(counts)}"
    return "|".join(map(str, counts)) or "?"


def _result_cells(result: Result) -> list[str]:
    values = (
        f"{name} {value:g}" + (f"±{result.deviations[name]:g}" if name in result.deviations else "")
        for name, value in result.values.items()
    )
    return [
        result.task,
        result.data or "-",
        str(result.codebooks or "-"),
        "-" if result.bitrate is None else f"{result.bitrate / 1000:.3g}",
        result.system,
        result.source,
        ", ".join(values),
    ]
