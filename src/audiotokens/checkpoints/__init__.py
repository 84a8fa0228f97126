"""Original checkpoints in, house tokenizers out. Names are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiotokens.checkpoints.conversion import Match, MismatchError, convert, fold_weight_norm, match
    from audiotokens.checkpoints.engine import Imported, describe_match, run_import
    from audiotokens.checkpoints.importing import import_checkpoint

__all__ = [
    "Imported",
    "Match",
    "MismatchError",
    "convert",
    "describe_match",
    "fold_weight_norm",
    "import_checkpoint",
    "match",
    "run_import",
]

_HOMES = {
    "Imported": "engine",
    "Match": "conversion",
    "MismatchError": "conversion",
    "convert": "conversion",
    "describe_match": "engine",
    "fold_weight_norm": "conversion",
    "import_checkpoint": "importing",
    "match": "conversion",
    "run_import": "engine",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value
