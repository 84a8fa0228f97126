"""What was found for one file at one setting, and a folder that remembers it.

An entry is keyed by content: the bytes of the audio file, everything that fixes what the system makes of
them, and the version of the code below. In it, a value is keyed by the measure's id, definition and package
versions, so that another definition or version is measured anew and nothing else is. An entry is one small
JSON file with its own checksum: written as a whole or not at all, and one that is damaged counts as absent.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from audiotokens import config
from audiotokens.cache import cache_folder
from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.coding import Coded, Facts, Learned
from audiotokens.evaluation.machine import package_version
from audiotokens.evaluation.metrics import EVALUATION_RATE, Metric
from audiotokens.tokenfile import read_tokens, write_tokens
from audiotokens.tokens import Tokens

CODE_VERSION = 1
"""Part of every key: to be raised where coding, alignment or activity give something else for equal input."""
T = TypeVar("T")


@dataclass(frozen=True)
class Value:
    """What one measure gave.

    Args:
        value: None where it failed.
        reason: why it failed.
        weight: in the mean over files.
        settled: whether measuring again would give the same: not so after an unexpected error.
    """

    value: float | None
    reason: str = ""
    weight: float = 1.0
    settled: bool = True


@dataclass(frozen=True)
class Found:
    """What came out for one file at one setting.

    Args:
        facts: None where the file could not be coded.
        reason: why not.
        tokens: the `.tok` file in base64; empty without tokens.
        active: by stream, "1" for every active frame and "0" for every silent one.
        values: by the key of the measure.
    """

    facts: Facts | None
    reason: str = ""
    tokens: str = ""
    active: dict[str, str] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    @classmethod
    def of(cls, coded: Coded | str, values: Mapping[str, Value]) -> Found:
        """Put together what coding and measuring gave."""
        if isinstance(coded, str):
            return cls(None, coded)
        active = {
            name: "".join("01"[int(a)] for a in frames) for name, frames in (coded.active or {}).items()
        }
        return cls(coded.facts, "", _to_text(coded.tokens), active, dict(values))

    def read_tokens(self) -> Tokens | None:
        """Return the tokens, if there are any."""
        return read_tokens(io.BytesIO(base64.b64decode(self.tokens))) if self.tokens else None

    def active_frames(self) -> dict[str, np.ndarray]:
        """Return bool `[T]` by stream."""
        return {
            name: np.frombuffer(text.encode(), np.uint8) == ord("1") for name, text in self.active.items()
        }


class Cache:
    """A folder of entries.

    Args:
        folder: is created where needed; None: nothing is remembered.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def get(self, kind: type[T], key: Mapping[str, object]) -> T | None:
        """Return what `put` wrote under an equal key; None where nothing is there or it is damaged."""
        if self.folder is None:
            return None
        try:
            entry = json.loads(self._path(key).read_text(encoding="utf-8"))
            if entry["sha256"] != _digest(entry["content"]):
                return None
            return config.from_dict(kind, entry["content"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError, AudioTokensError):
            return None

    def put(self, key: Mapping[str, object], content: Any) -> None:
        """Remember a dataclass instance.

        Raises:
            AudioTokensError: the folder cannot be written.
        """
        if self.folder is None:
            return
        path = self._path(key)
        values = config.to_dict(content)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({"sha256": _digest(values), "content": values}), encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise AudioTokensError(
                f"{self.folder}: cannot write the cache ({error.strerror or error}): name another folder"
            ) from None

    def _path(self, key: Mapping[str, object]) -> Path:
        name = _digest({**key, "code": CODE_VERSION, "evaluation rate": EVALUATION_RATE})
        return Path(self.folder or "") / name[:2] / f"{name[2:]}.json"


def default_folder() -> Path:
    """Return the folder for comparisons in the user's cache, or in that which AUDIOTOKENS_CACHE names."""
    return cache_folder() / "compare"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def metric_key(metric: Metric, transcript: str = "") -> str:
    """Return the key of a measure's value: id, and a digest of definition, versions and transcript."""
    versions = {package: package_version(package) for package in metric.packages}
    spoken = transcript if metric.needs_transcript else ""
    facts = {"definition": metric.definition, "versions": versions, "transcript": spoken}
    return f"{metric.id} {_digest(facts)[:16]}"


def entry_key(system: str, learned: Learned, audio: str, books: int) -> dict[str, object]:
    """Return the key of one file at one setting.

    Args:
        system: identity of the system.
        learned: its delay changes what is measured.
        audio: digest of the audio file.
        books: the setting.
    """
    facts = {"shift": learned.shift, "nested": learned.nested}
    return {"system": system, "audio": audio, "books": books, **facts}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _to_text(tokens: Tokens | None) -> str:
    if tokens is None:
        return ""
    buffer = io.BytesIO()
    write_tokens(buffer, tokens)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
