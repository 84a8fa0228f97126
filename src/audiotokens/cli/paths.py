"""From arguments to files: what a verb reads, and where what it makes goes."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from audiotokens.errors import AudioTokensError

PIPE = "-"
PIPE_SUFFIXES = (".wav", ".tok")
_NAMED = 4


@dataclass(frozen=True)
class Found:
    """One input.

    Args:
        source: path, or "-" for stdin.
        relative: its place in an output folder, still with the input's suffix.
        in_folder: whether it was found in a folder or by a pattern, not named itself.
    """

    source: str
    relative: PurePath
    in_folder: bool = False


@dataclass(frozen=True)
class Item:
    """One file to work on: where from, and where to ("-" for the pipes; no output for "")."""

    source: str
    output: str = ""


def collect(inputs: Sequence[str], suffixes: Collection[str]) -> list[Found]:
    """Return the files that the arguments name: files, folders (all below them), patterns, "-".

    Args:
        inputs: arguments of the command line.
        suffixes: what counts in a folder, such as {".wav"}; a file named itself is taken whatever its suffix.

    Raises:
        AudioTokensError: a folder or a pattern without any such file, or "-" beside other inputs.
    """
    if "" in inputs:
        raise AudioTokensError("an input is empty text, expected a file, folder or pattern")
    if PIPE in inputs:
        if len(inputs) > 1:
            raise AudioTokensError('"-" (stdin) stands beside other inputs: give it alone')
        return [Found(PIPE, PurePath("stdin"))]
    found: dict[str, Found] = {}
    for argument in inputs:
        for each in _expand(argument, suffixes):
            found.setdefault(each.source, each)
    return list(found.values())


def plan(found: Sequence[Found], output: str | None, *, suffix: str, tag: str = "") -> list[Item]:
    """Say where what is made of each input goes.

    Args:
        found: the inputs.
        output: the option --output; None: beside the input ("-" for "-").
        suffix: of the outputs, such as ".tok".
        tag: put before the suffix of outputs that lie beside their inputs.

    Raises:
        AudioTokensError: one file or the pipe for several inputs, two inputs with one output, or a kind of
            file that stdout does not take.
    """
    into_folder = len(found) > 1 or any(each.in_folder for each in found)
    if output == PIPE or (output is None and found[0].source == PIPE):
        if into_folder:
            raise AudioTokensError(f"-o - takes one input, found {len(found)}: give a folder")
        if suffix not in PIPE_SUFFIXES:
            raise AudioTokensError(f"stdout takes wav, not {suffix[1:]}: leave out --format, or give -o FILE")
        return [Item(found[0].source, PIPE)]
    if output is None:
        items = [Item(each.source, str(Path(each.source).with_suffix(tag + suffix))) for each in found]
    elif into_folder or output.endswith(("/", os.sep)) or os.path.isdir(output):
        if os.path.isfile(output):
            raise AudioTokensError(f"{output} is a file, expected a folder for several outputs")
        items = [Item(each.source, str(Path(output, each.relative.with_suffix(suffix)))) for each in found]
    else:
        items = [Item(found[0].source, output)]
    _check_apart(items)
    return items


def check_free(path: str, force: bool) -> None:
    """Refuse to overwrite, and make the folder that the file goes to.

    Raises:
        AudioTokensError: the file exists and `force` is not given.
    """
    if path == PIPE:
        return
    if os.path.exists(path) and not os.path.isfile(path):
        raise AudioTokensError(f"{path} is no regular file: give a file name, or - for stdout")
    if os.path.lexists(path) and not force:
        raise AudioTokensError(f"{path} exists: give --force to overwrite it, or another --output")
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def _expand(argument: str, suffixes: Collection[str]) -> list[Found]:
    if os.path.isdir(argument):
        return _below(argument, suffixes)
    if os.path.lexists(argument) or not is_pattern(argument):
        return [Found(argument, PurePath(PurePath(argument).name))]
    root = _plain_prefix(argument)
    found: list[Found] = []
    for path in sorted(glob.glob(argument, recursive=True)):
        if os.path.isfile(path):
            found.append(Found(path, PurePath(os.path.relpath(path, root)), in_folder=True))
    if not found:
        raise AudioTokensError(f'no file matches "{argument}"')
    return found


def is_pattern(text: str) -> bool:
    """Whether a text holds *, ? or [."""
    return any(mark in text for mark in "*?[")


def _below(folder: str, suffixes: Collection[str]) -> list[Found]:
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and PurePath(name).suffix.lower() in suffixes:
                path = os.path.join(root, name)
                found.append(Found(path, PurePath(os.path.relpath(path, folder)), in_folder=True))
    if not found:
        ends = [*suffixes]
        named = ", ".join(ends[:_NAMED]) + (", ..." if len(ends) > _NAMED else "")
        raise AudioTokensError(f"folder {folder} holds no file that ends in {named}")
    return found


def _plain_prefix(pattern: str) -> str:
    parts = PurePath(pattern).parts
    plain = next(index for index, part in enumerate(parts) if is_pattern(part))
    return str(PurePath(*parts[:plain])) if plain else "."


def _check_apart(items: Sequence[Item]) -> None:
    makers: dict[str, str] = {}
    for item in items:
        target = os.path.normcase(os.path.abspath(item.output))
        if target in makers:
            raise AudioTokensError(
                f"{makers[target]} and {item.source} would both be written to {item.output}: run them apart"
            )
        makers[target] = item.source
