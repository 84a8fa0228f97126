"""Which files are compared, with their domain and speaker, from a `manifest.csv` or from their names."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audiotokens.audio import AUDIO_SUFFIXES
from audiotokens.errors import AudioError

UNKNOWN = "unknown"
MANIFEST = "manifest.csv"
_LIBRISPEECH = re.compile(r"(\d+)-\d+-\d+")
_LEVELS = 6


@dataclass(frozen=True)
class AudioFile:
    """One file to compare on.

    Args:
        path: where it is.
        key: name in the results, the same for every tokenizer: its path below the data folder
            (below the common folder, where two data folders have equal paths).
        domain: "speech", "music", "sound", or "unknown".
        speaker: speaker or source recording; the intervals resample these.
        corpus: that the manifest names; may be empty.
        transcript: the words that are spoken, as the manifest gives them; may be empty.
    """

    path: Path
    key: str
    domain: str = UNKNOWN
    speaker: str = ""
    corpus: str = ""
    transcript: str = ""


def find_files(inputs: str | Path | Sequence[str | Path], *, domain: str | None = None) -> list[AudioFile]:
    """List the audio files of files and folders, with their domain and speaker.

    A folder stands for all audio files below it. A `manifest.csv` in a folder above a file, with the columns
    `path` and `source_id` (and `domain`, `corpus`, `transcript`), says who speaks. Where there is none, the
    speaker is the first number of a LibriSpeech name ("121-123859-0003"), else the parent folder with the
    name up to its first "-", "_" or ".".

    Args:
        inputs: paths.
        domain: of the files that no manifest knows; default: "unknown".

    Raises:
        AudioError: nothing was found.
    """
    paths = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    found = dict.fromkeys(_absolute(path) for given in paths for path in _expanded(Path(given)))
    if not found:
        raise AudioError(
            f"found no audio file in {', '.join(map(str, paths)) or 'nothing'}: give files or folders"
        )
    root = Path(os.path.commonpath([path.parent for path in found]))
    manifests: dict[Path, dict[str, dict[str, str]]] = {}
    files = [_described(path, root, domain or UNKNOWN, manifests) for path in found]
    if len({file.key for file in files}) < len(files):
        return [replace(file, key=file.path.relative_to(root).as_posix()) for file in files]
    return files


def _expanded(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _described(
    path: Path, root: Path, domain: str, manifests: dict[Path, dict[str, dict[str, str]]]
) -> AudioFile:
    for folder in list(path.parents)[:_LEVELS]:
        if folder not in manifests:
            manifests[folder] = _read_manifest(folder / MANIFEST)
        key = path.relative_to(folder).as_posix()
        row = manifests[folder].get(key)
        if row is not None:
            facts = (row.get("domain") or domain, row["source_id"])
            return AudioFile(path, key, *facts, row.get("corpus") or "", row.get("transcript") or "")
    return AudioFile(path, path.relative_to(root).as_posix(), domain, _speaker_from_name(path))


def _read_manifest(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not {"path", "source_id"} <= set(reader.fieldnames or ()):
                return {}
            return {row["path"]: row for row in reader if row["source_id"]}
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}


def _speaker_from_name(path: Path) -> str:
    match = _LIBRISPEECH.fullmatch(path.stem)
    if match:
        return match.group(1)
    return f"{path.parent.name}/{re.split(r'[-_.]', path.name, maxsplit=1)[0]}"
