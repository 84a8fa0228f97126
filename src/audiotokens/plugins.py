"""Tokenizers that other packages offer by entry points."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from audiotokens.errors import AudioTokensError, NotOfferedError, TokenizerNotFoundError, one_line

if TYPE_CHECKING:
    from audiotokens.tokenizer import Tokenizer

ENTRY_POINT_GROUP = "audiotokens.tokenizers"


def load_entry_point(points: list[metadata.EntryPoint], device: str) -> Tokenizer:
    """Load the tokenizer of an entry point.

    Args:
        points: those of one name; more than one cannot be told apart.
        device: torch device.

    Raises:
        TokenizerNotFoundError: it cannot be loaded, or is no tokenizer.
        NotOfferedError: it does not run on this device.
    """
    from audiotokens.tokenizer import Tokenizer

    point = points[0]
    if len(points) > 1:
        origins = " and ".join(origin(each) for each in points)
        raise TokenizerNotFoundError(f'"{point.name}" is offered by {origins}: uninstall all but one')
    try:
        tokenizer = point.load()()
    except AudioTokensError:
        raise
    except Exception as error:
        raise TokenizerNotFoundError(
            f'tokenizer "{point.name}" of {origin(point)} cannot be loaded: '
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    if not isinstance(tokenizer, Tokenizer):
        raise TokenizerNotFoundError(
            f'tokenizer "{point.name}" of {origin(point)} gave a {type(tokenizer).__name__}, expected a '
            "subclass of audiotokens.Tokenizer or a function without arguments that returns one"
        )
    return _moved(tokenizer, device)


def _moved(tokenizer: Tokenizer, device: str) -> Tokenizer:
    if device == "cpu":
        return tokenizer
    move = getattr(tokenizer, "to", None)
    if move is None:
        raise NotOfferedError(f'{tokenizer.spec.name} runs on the device "cpu" only, not on "{device}"')
    moved: Tokenizer = move(device)
    return moved


def entry_points(name: str | None = None) -> list[metadata.EntryPoint]:
    """Return the entry points of all tokenizers or of one name, without importing them."""
    points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    # One distribution can be met twice on sys.path (installed, and as a checkout); equal entries are one.
    unique = {(point.name, point.value): point for point in reversed(tuple(points))}
    chosen = [point for point in unique.values() if name in (None, point.name)]
    return sorted(chosen, key=lambda point: (point.name, origin(point)))


def origin(point: metadata.EntryPoint) -> str:
    """Return distribution, version and object of an entry point."""
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"
    return f"{distribution} ({point.value})"
