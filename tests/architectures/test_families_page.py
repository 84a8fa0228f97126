"""The tables of docs/families.md that follow from the families themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_codecs import family, variants

from audiotokens.errors import NotOfferedError
from audiotokens.published import Published, published
from audiotokens.registry import architectures
from audiotokens.spec import Spec


def full_size() -> Iterator[tuple[str, Any, list[Published]]]:
    """Name, model without weights, and published checkpoints of every variant of full size."""
    for architecture in architectures:
        if architecture == "gain-shape":
            continue
        for name, config in variants(architecture).items():
            if not name.startswith("tiny"):
                with torch.device("meta"):
                    model = family(architecture)(config)
                records = [
                    r for r in published.values() if (r.architecture, r.variant) == (architecture, name)
                ]
                yield name, model, records


def rate(frames: Fraction) -> str:
    return f"{float(frames):.4g}"


def books(spec: Spec) -> str:
    """Books of each stream, or the features of a vocoder."""
    if spec.features is not None:
        return f"none: {spec.features.size} bands of {spec.features.name}"
    sizes = [f"{s.num_codebooks} x {s.codebook_sizes[0]}" for s in spec.streams]
    names = [s.name for s in spec.streams]
    if len(names) == 1:
        return sizes[0]
    if len(names) > 1 and len(set(sizes)) == 1:
        return f"{names[0]} to {names[-1]}: {sizes[0]} each"
    return "; ".join(f"{name}: {size}" for name, size in zip(names, sizes))


def codes_table() -> str:
    """Rates and books."""
    lines = [
        "| variant | Hz | hop | frames/s | books | kbit/s | published weights |",
        "|---" * 7 + "|",
    ]
    for name, model, records in full_size():
        spec = model.spec
        rates = {rate(stream.frame_rate): None for stream in spec.streams} or {rate(spec.frame_rate): None}
        bits = (
            [
                spec.bitrate(books) / 1000
                for books in sorted({min(spec.legal_prefixes), max(spec.legal_prefixes)})
            ]
            if spec.streams
            else []
        )
        cells = [
            f"`{name}`",
            f"{spec.sample_rate}" + (", stereo" if spec.channels == 2 else ""),
            str(spec.hop),
            " + ".join(rates),
            books(spec),
            " to ".join(f"{each:.3g}" for each in bits) or "-",
            ", ".join(sorted({record.license for record in records})) or "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sessions(start: Callable[[], Any], samples: int, rate: int) -> str:
    """Milliseconds of look-ahead, or why there are no sessions."""
    try:
        start()
    except NotOfferedError as error:
        return f"no: {str(error).rpartition('because of ')[2].removeprefix('its ').removeprefix('a ')}"
    return f"{1000 * samples / rate:.3g}"


def sizes_table() -> str:
    """Parameters, and what streams."""
    lines = [
        "| variant | parameters here | published | encoding looks ahead, ms | decoding looks ahead, ms |"
    ]
    lines.append("|---" * 5 + "|")
    for name, model, records in full_size():
        spec = model.spec
        counts = {record.parameters for record in records if record.parameters}
        encode = "no encoder"
        if spec.can_encode:
            encode = sessions(model.encoder, spec.lookahead, spec.sample_rate)
        elif spec.features is not None:
            encode = "-"
        play = model.decoder if spec.streams else model.synthesizer
        cells = [
            f"`{name}`",
            f"{sum(parameter.numel() for parameter in model.parameters()):,}",
            ", ".join(f"{count:,}" for count in counts) or "-",
            encode,
            sessions(play, spec.decoder_lookahead, spec.sample_rate),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@pytest.mark.parametrize(("mark", "table"), [("codes", codes_table), ("sizes", sizes_table)])
def test_the_page_shows_the_variants(mark: str, table: Callable[[], str], root: Path) -> None:
    page = (root / "docs" / "families.md").read_text(encoding="utf-8")
    shown = re.search(rf"<!-- {mark}: [^>]* -->\n(.*?)\n?<!-- end -->", page, re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == table(), f"docs/families.md should show\n\n{table()}\n"


def test_the_page_names_every_family(root: Path) -> None:
    page = (root / "docs" / "families.md").read_text(encoding="utf-8")
    assert not [name for name in architectures if f"`{name}`" not in page]
