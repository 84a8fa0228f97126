"""Ways to run an exported tokenizer without torch, and the same tokenizer in another engine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from audiotokens.engines.graphs import has_graphs
from audiotokens.errors import MissingExtraError
from audiotokens.tokenizer import Tokenizer

__all__ = ["Engine", "has_graphs", "other_engine"]

Engine = Literal["auto", "torch", "onnx"]
"""What `load` runs a tokenizer with; "auto" takes torch if it is installed, else exported graphs."""


def other_engine(
    engine: Literal["torch", "onnx"], fingerprint: str, folder: Path | None, *, exact: bool
) -> dict[str, Tokenizer]:
    """Load the same tokenizer in another engine.

    Args:
        engine: the other one.
        fingerprint: that the tokenizer must have.
        folder: where the first one came from; None: it was built in memory.
        exact: as for `load`.

    Returns:
        The tokenizer by the name of its engine; empty where the engine is not installed, or the folder does
        not hold this tokenizer for it.
    """
    from audiotokens.registry import load_folder

    if folder is None or (engine == "onnx" and not has_graphs(folder)):
        return {}
    try:
        other = load_folder(folder, exact=exact, engine=engine)
    except MissingExtraError:
        return {}
    return {engine: other} if other.fingerprint == fingerprint else {}
