"""Choosing files of a data folder by the columns of its manifest."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from audiotokens.errors import AudioTokensError

T = TypeVar("T")


@dataclass(frozen=True)
class Condition:
    """What a row must have: `column` matches `pattern` (with *, ? and | for "or"), or not if not `equal`."""

    column: str
    pattern: str
    equal: bool = True

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read "column=pattern" or "column!=pattern".

        Raises:
            AudioTokensError: the text is neither.
        """
        column, sign, pattern = text.partition("=")
        if not sign or not column.strip("! "):
            raise AudioTokensError(
                f'found the condition "{text}", expected "column=pattern" or "column!=pattern"'
            )
        return cls(column.rstrip("! ").strip(), pattern.strip(), not column.endswith("!"))

    def holds(self, row: dict[str, str]) -> bool:
        """Whether a row has what is asked."""
        patterns = self.pattern.split("|")
        return any(fnmatchcase(row[self.column], pattern.strip()) for pattern in patterns) == self.equal


def select(data: str, conditions: Sequence[Condition], limit: int | None = None) -> list[Path]:
    """Return the files of a data folder that its manifest names and the conditions choose.

    Args:
        data: a manifest in CSV with a column "path", or a folder with such a `manifest.csv`.
        conditions: all must hold.
        limit: at most so many files, spread evenly over the chosen rows.

    Raises:
        AudioTokensError: no manifest, an unknown column, or no row left.
    """
    manifest = Path(data)
    if manifest.is_dir():
        manifest = manifest / "manifest.csv"
    rows = _read(manifest)
    for condition in conditions:
        if condition.column not in rows[0]:
            known = ", ".join(rows[0])
            raise AudioTokensError(f'{manifest}: no column "{condition.column}"; it has {known}')
    chosen = [row for row in rows if all(condition.holds(row) for condition in conditions)]
    if not chosen:
        asked = ", ".join(f"{c.column}{'=' if c.equal else '!='}{c.pattern}" for c in conditions)
        raise AudioTokensError(f"{manifest}: none of its {len(rows)} rows has {asked}")
    return [manifest.parent / row["path"] for row in spread(chosen, limit)]


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most `limit` items, evenly spread from the first on.

    Example:
        >>> spread("abcdef", 3)
        ['a', 'c', 'e']
    """
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


def _read(manifest: Path) -> list[dict[str, str]]:
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            rows = [{key: text or "" for key, text in row.items() if key} for row in csv.DictReader(file)]
    except OSError as error:
        raise AudioTokensError(
            f"{manifest}: {error.strerror}; expected a folder with a manifest.csv, or a manifest"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise AudioTokensError(f"{manifest}: not a manifest in CSV ({error})") from None
    if not rows or "path" not in rows[0]:
        raise AudioTokensError(f'{manifest}: expected rows with a column "path"')
    return rows
