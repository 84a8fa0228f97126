"""From a published checkpoint's record to a tokenizer folder: files found on this machine, or fetched.

In the user's cache, `tokenizers/NAME` holds what was imported, and `originals/NAME` the authors' files.
Both appear there as a whole or not at all, whoever else is at work; nothing is written elsewhere.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from audiotokens import download, hub
from audiotokens.cache import ENVIRONMENT, cache_folder
from audiotokens.errors import (
    AudioTokensError,
    CheckpointError,
    MissingExtraError,
    TokenizerNotFoundError,
    one_line,
)
from audiotokens.published import File, Origin, Published

State = Literal["imported", "here", "not here"]

_IMPORTER = "audiotokens.checkpoints.engine:run_import"


@dataclass(frozen=True)
class Originals:
    """The authors' files of one checkpoint, on this machine.

    Args:
        weights: in the order of `Origin.weights`.
        config: the configuration beside them, if there is one.
    """

    weights: tuple[Path, ...]
    config: Path | None = None


def tokenizer_folder(record: Published, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the tokenizer folder of a published checkpoint: imported before, or now.

    Args:
        record: of the checkpoint.
        cache_dir: folder to use instead of the user's cache; the hub's cache is looked for in it too.

    Raises:
        TokenizerNotFoundError: the files are neither here nor to be had; says what to put where.
        CheckpointError: a file is not what was published, or does not fit its family.
        MissingExtraError: torch is not installed.
        AudioTokensError: the cache cannot be written.
    """
    folder = _imported(record, cache_dir)
    if _is_tokenizer(folder):
        return folder
    importer = _importer(record)
    damage: list[str] = []
    found = find(record, cache_dir, damage) or _fetch(record, cache_dir, damage)
    if record.noncommercial:
        notice = f"{record.name}: the licence of the weights, {record.license}, forbids commercial use"
        warnings.warn(notice, stacklevel=3)
    try:
        _import(importer, record, found, folder)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder


def find(
    record: Published, cache_dir: str | os.PathLike[str] | None = None, damage: list[str] | None = None
) -> Originals | None:
    """Return the authors' files if some place on this machine has them all.

    Places are this package's cache, the hub's, and those of the authors' own packages.

    Args:
        record: of the checkpoint.
        cache_dir: folder to use instead of the user's cache.
        damage: files are checked, and a sentence on each that is not what was published is added; None: they
            are not even opened.
    """
    for origin, folder in _places(record, cache_dir):
        paths = [_locate(folder, file) for file in origin.files]
        present = [path for path in paths if path is not None]
        if len(present) < len(paths):
            continue
        problems = [] if damage is None else list(_problems(origin, present))
        if problems and damage is not None:
            damage += problems
            continue
        count = len(origin.weights)
        return Originals(tuple(present[:count]), present[count] if origin.config else None)
    return None


def state(record: Published, cache_dir: str | os.PathLike[str] | None = None) -> State:
    """Return whether a checkpoint was imported, or else whether its files are on this machine."""
    if _is_tokenizer(_imported(record, cache_dir)):
        return "imported"
    return "here" if find(record, cache_dir) else "not here"


def imported_folder(record: Published, cache_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the tokenizer folder of a checkpoint that was imported before; None if it was not."""
    folder = _imported(record, cache_dir)
    return folder if _is_tokenizer(folder) else None


def originals_folder(record: Published, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the cache for the authors' files; it may not exist."""
    return _root(cache_dir) / "originals" / record.name


def _root(cache_dir: str | os.PathLike[str] | None) -> Path:
    return Path(cache_dir) if cache_dir is not None else cache_folder()


def _imported(record: Published, cache_dir: str | os.PathLike[str] | None) -> Path:
    return _root(cache_dir) / "tokenizers" / record.name


def _is_tokenizer(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _places(record: Published, cache_dir: str | os.PathLike[str] | None) -> Iterator[tuple[Origin, Path]]:
    own = originals_folder(record, cache_dir)
    caches = [hub.cache_folder()] if cache_dir is None else [Path(cache_dir), hub.cache_folder()]
    for origin in record.origins:
        yield origin, own
        if origin.hub:
            yield from ((origin, folder) for cache in caches for folder in hub.snapshots(origin.hub, cache))
        yield from ((origin, folder) for pattern in origin.elsewhere if (folder := _expand(pattern)))


def _expand(pattern: str) -> Path | None:
    """Put the user's folders and environment variables where braces stand; None where one is not set."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    known = {"home": str(Path.home()), "torch": os.environ.get("TORCH_HOME") or str(user / "torch")}
    values = {name: known.get(name) or os.environ.get(name) for name in re.findall(r"\{(\w+)\}", pattern)}
    if not all(values.values()):
        return None
    return Path(pattern.format_map(values)).expanduser()


def _locate(folder: Path, file: File) -> Path | None:
    candidates = (folder / name for name in dict.fromkeys((file.name, file.base, *file.aliases)))
    return next((path for path in candidates if path.is_file()), None)


def _problems(origin: Origin, paths: list[Path]) -> Iterator[str]:
    for file, path in zip(origin.files, paths, strict=True):
        problem = _problem(file, path)
        if problem:
            yield f"{path} {problem}"


def _problem(file: File, path: Path) -> str:
    """Return the second half of a sentence on what is wrong with a file; empty: nothing."""
    try:
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            return f"has {size} bytes, expected {file.size}"
        if not file.sha256:
            return ""
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return "" if digest.startswith(file.sha256) else download.wrong_hash(digest, file.sha256)


def _fetch(record: Published, cache_dir: str | os.PathLike[str] | None, damage: list[str]) -> Originals:
    """Download the files of the first origin that can be reached."""
    if hub.offline():
        raise _not_here(record, cache_dir, damage, "the network is switched off")
    folder = originals_folder(record, cache_dir)
    reasons = []
    for origin in record.origins:
        try:
            for file in origin.files:
                target = folder / file.base
                if not target.is_file() or _problem(file, target):
                    address, headers = _request(origin, file)
                    download.download(address, target, file.sha256, file.size, headers)
        except download.UnreachableError as error:
            reasons.append(str(error))
            continue
        found = find(record, cache_dir, damage)
        if found:
            return found
    raise _not_here(
        record, cache_dir, damage, " and ".join(dict.fromkeys(reasons)) or "the files were removed"
    )


def _request(origin: Origin, file: File) -> tuple[str, dict[str, str]]:
    return hub.file_request(origin.hub, file.name) if origin.hub else (origin.address + file.name, {})


def _not_here(
    record: Published, cache_dir: str | os.PathLike[str] | None, damage: list[str], reason: str
) -> AudioTokensError:
    wanted = ", or ".join(
        f"{_listed([file.base for file in origin.files])} from {origin.page}" for origin in record.origins
    )
    remedy = f"put {wanted} into {originals_folder(record, cache_dir)}"
    if damage:
        return CheckpointError(f"{'; '.join(damage)}: {remedy} ({reason})")
    return TokenizerNotFoundError(
        f'the files of "{record.name}" are not on this machine and cannot be fetched ({reason}): {remedy}'
    )


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _importer(record: Published) -> Callable[..., Any]:
    """Return the import engine, which stands on a higher floor; first of all see that it can run."""
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError:
        raise MissingExtraError(f'Importing "{record.name}"', "torch") from None
    module, _, name = _IMPORTER.partition(":")
    importer: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return importer


def _import(importer: Callable[..., Any], record: Published, found: Originals, folder: Path) -> None:
    """Import beside the final folder, and move the result there unless another process was faster."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    config = found.config if found.config is not None else record.variant
    try:
        importer(
            record.architecture,
            found.weights,
            config=config,
            output=partial,
            name=record.name,
            record=record,
        )
        os.replace(partial, folder)
    except OSError:
        if not _is_tokenizer(folder):
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> AudioTokensError:
    return AudioTokensError(
        f"{folder.parent}: cannot write the cache ({one_line(error)}): let {ENVIRONMENT} name another folder"
    )
