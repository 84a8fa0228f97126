"""What the verbs print: single lines, JSON, aligned tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

_EMPTY: tuple[object, ...] = (None, "", [], (), {})


def one_line(text: str) -> str:
    """Return `text` as one printable line: names of files may hold anything."""
    joined = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in joined)


def print_json(value: object) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def format_facts(facts: Mapping[str, Any]) -> str:
    """Return a mapping as aligned lines, leaving out what is empty.

    Example:
        >>> print(format_facts({"sample_rate": 16000, "books": [1024, 1024, 1024], "note": ""}))
        sample rate  16000
        books        3 x 1024
    """
    shown = {name.replace("_", " "): fact for name, fact in facts.items() if fact not in _EMPTY}
    width = max(map(len, shown), default=0)
    return "\n".join(f"{name:{width}}  {one_line(_readable(fact))}" for name, fact in shown.items())


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of texts in aligned columns under a header."""
    table = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    return "\n".join(lines)


def size(num_bytes: int) -> str:
    """Return a number of bytes for people.

    Example:
        >>> size(3750)
        '3.8 kB'
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes} B"


def number(count: float) -> str:
    """Return a large number for people.

    Example:
        >>> number(3390400)
        '3.39 M'
    """
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.3g}"


def _readable(fact: object) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, Mapping):
        return ", ".join(f"{name} {_readable(value)}" for name, value in fact.items() if value not in _EMPTY)
    if isinstance(fact, list | tuple):
        return _run(fact) or ", ".join(map(_readable, fact))
    return f"{fact:.6g}" if isinstance(fact, float) else str(fact)


def _run(values: Sequence[object]) -> str:
    """Shorten [1024, 1024, 1024] to "3 x 1024", and 1, 2, ... 12 to "1 to 12"."""
    if len(values) < 3 or not all(isinstance(value, int) for value in values):
        return ""
    if len(set(values)) == 1:
        return f"{len(values)} x {values[0]}"
    first = values[0]
    consecutive = isinstance(first, int) and list(values) == list(range(first, first + len(values)))
    return f"{first} to {values[-1]}" if consecutive else ""
