"""Write packed audio: decode every file once, resample, and put the samples into one file."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiotokens.errors import AudioError, ConfigError
from audiotokens.training.data import HEAD, MAGIC, SCALE, PackedAudio, open_pack

Progress = Callable[[int, int], None]


def pack(
    sources: Sequence[str | Path],
    output: str | Path,
    sample_rate: int,
    *,
    where: Sequence[str] = (),
    max_mib: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PackedAudio:
    """Decode audio into one file that trains without any audio library.

    Args:
        sources: audio files, folders (searched for audio files), and manifests: CSV files with a column
            "path", relative to the manifest.
        output: file to write; it appears only when complete.
        sample_rate: in Hz; channels are mixed to mono.
        where: conditions "column=value" or "column!=value" on the rows of manifests, all of which must hold.
            Where a manifest has a column "split" and no condition names it, only its train rows are taken.
        max_mib: largest size in MiB. Files then come in the order of the SHA-256 of their names, which is the
            same everywhere and mixes all sources, up to the first that does not fit.
        overwrite: whether an existing file may be replaced.
        progress: called with files done and files in all.

    Returns:
        The packed file, opened.

    Raises:
        ConfigError: nothing to pack, or nothing that fits; a bad condition; an unknown column; an existing
            output.
        AudioError: a file cannot be decoded.

    Example:
        >>> pack(["data/manifest.csv"], "speech.pack", 16000, where=["domain=speech"])  # doctest: +SKIP
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise ConfigError(f"{output}: already exists; choose another name, or allow overwriting")
    files = list(find_files(sources, where=where))
    if not files:
        raise ConfigError(
            f"found no audio in {', '.join(map(str, sources))}; expected files, folders or manifests"
        )
    if max_mib is not None:
        files.sort(key=lambda file: hashlib.sha256(file[0].encode()).digest())
    partial = output.with_name(output.name + ".partial")
    try:
        _write(files, partial, sample_rate, max_mib, progress)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    return open_pack(output, check_samples=False)


def find_files(sources: Sequence[str | Path], *, where: Sequence[str] = ()) -> Iterator[tuple[str, Path]]:
    """Yield name and path of every audio file of files, folders and manifests, in a fixed order.

    Raises:
        ConfigError: a source is missing, a bad condition, or an unknown column.
    """
    from audiotokens.audio import AUDIO_SUFFIXES

    for source in map(Path, sources):
        if source.is_dir():
            found = sorted(path for path in source.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
            yield from ((path.relative_to(source).as_posix(), path) for path in found)
        elif source.suffix.lower() == ".csv":
            yield from _manifest_files(source, where)
        elif source.is_file():
            yield source.name, source
        else:
            raise ConfigError(
                f"{source}: no such file or folder; expected audio, a folder or a manifest (CSV)"
            )


def _manifest_files(manifest: Path, where: Sequence[str]) -> Iterator[tuple[str, Path]]:
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{manifest}: cannot be read as a manifest in CSV ({error})") from None
    columns = list(rows[0]) if rows else ["path"]
    conditions = [_parse_condition(text) for text in where]
    if "split" in columns and all(column != "split" for column, _, _ in conditions):
        conditions.append(("split", True, "train"))
    for column in ("path", *(column for column, _, _ in conditions)):
        if column not in columns:
            raise ConfigError(f'{manifest}: no column "{column}"; it has {", ".join(columns)}')
    for row in rows:
        if all((row[column] == value) is equal for column, equal, value in conditions):
            yield row["path"], manifest.parent / row["path"]


def _parse_condition(text: str) -> tuple[str, bool, str]:
    column, sign, value = text.partition("=")
    if not sign or not column.rstrip("!"):
        raise ConfigError(f'found the condition "{text}", expected "column=value" or "column!=value"')
    return column.rstrip("!").strip(), not column.endswith("!"), value.strip()


def _write(
    files: Sequence[tuple[str, Path]],
    path: Path,
    sample_rate: int,
    max_mib: float | None,
    progress: Progress | None,
) -> None:
    limit = math.inf if max_mib is None else max_mib * 2**20
    digest = hashlib.sha256()
    index: list[tuple[str, int]] = []
    header_size = len(_header(sample_rate, digest.hexdigest(), []))
    with path.open("wb") as file:
        file.write(bytes(HEAD.size))
        for done, (name, source) in enumerate(files, start=1):
            samples = read_samples(source, sample_rate)
            data = samples.tobytes()
            index.append((name, len(samples)))
            header_size += len(json.dumps(index[-1:], ensure_ascii=False).encode())
            if file.tell() + len(data) + header_size > limit:
                index.pop()
                break
            file.write(data)
            digest.update(data)
            if progress is not None:
                progress(done, len(files))
        if not index:
            raise ConfigError(
                f"{files[0][0]} alone is larger than {max_mib} MiB; allow more, or choose other files"
            )
        place = file.tell()
        text = _header(sample_rate, digest.hexdigest(), index)
        file.write(text)
        file.seek(0)
        file.write(HEAD.pack(MAGIC, place, len(text), hashlib.sha256(text).digest()))
        file.flush()
        os.fsync(file.fileno())


def _header(sample_rate: int, digest: str, index: Iterable[tuple[str, int]]) -> bytes:
    header = {"sample_rate": sample_rate, "sha256": digest, "files": list(index)}
    return json.dumps(header, ensure_ascii=False).encode()


def read_samples(path: Path, sample_rate: int) -> NDArray[np.int16]:
    """Decode one file to mono int16 `[N]` at `sample_rate`.

    Raises:
        AudioError: it cannot be decoded.
    """
    from audiotokens.audio import mix_to_channels, read_audio, resample

    waveform, rate = read_audio(path)
    mono = resample(mix_to_channels(waveform, 1), rate, sample_rate)[0]
    if not len(mono):
        raise AudioError(f"{path}: no samples after resampling to {sample_rate} Hz; leave the file out")
    samples: NDArray[np.int16] = np.clip(np.round(mono * SCALE), -32768, 32767).astype("<i2")
    return samples
