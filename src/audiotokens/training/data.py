"""Packed audio: one file of int16 samples that trains anywhere, and the crops drawn from it.

Layout: 64 bytes of head (magic with version; place, length and SHA-256 of the header), the samples of all
files one after another (int16, little endian, mono), the header in JSON (sample rate, SHA-256 of the samples,
name and length of each file). Reading needs numpy only. `audiotokens.training.pack` writes such files.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import struct
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiotokens.errors import AudioTokensError, CheckpointError, ConfigError
from audiotokens.training.config import DataConfig

MAGIC = b"audiotok-pack\x00\x00\x01"
HEAD = struct.Struct("<16sQQ32s")
HEADER_LIMIT = 1 << 30
HASH_BLOCK = 1 << 22
SCALE = 32768.0
SPEED_MARGIN = 256


@dataclass(frozen=True)
class PackedAudio:
    """A packed file, mapped into memory.

    Args:
        path: of the file.
        sample_rate: in Hz.
        samples: all files one after another, int16 `[N]`.
        names: of the files.
        lengths: samples of each file, `[F]`.
        digest: hexadecimal SHA-256 of the samples.
    """

    path: Path
    sample_rate: int
    samples: NDArray[np.int16]
    names: tuple[str, ...]
    lengths: NDArray[np.int64]
    digest: str

    @property
    def seconds(self) -> float:
        """Duration of all files together."""
        return float(self.lengths.sum()) / self.sample_rate


def open_pack(path: str | Path, *, check_samples: bool = True) -> PackedAudio:
    """Map a packed file into memory after checking it.

    Args:
        path: what `pack` wrote.
        check_samples: also compare the hash of all samples (about 1 s for 10 hours).

    Raises:
        AudioTokensError: there is no such file.
        CheckpointError: not a packed file, cut or changed.
    """
    path = Path(path)
    try:
        header, place = _read_header(path)
    except OSError as error:
        raise AudioTokensError(
            f"{path}: cannot be read ({error.strerror}); expected a file made by pack"
        ) from None
    names, lengths = _read_index(header, path)
    total = int(lengths.sum())
    if place != HEAD.size + 2 * total:
        raise CheckpointError(
            f"{path}: holds {place - HEAD.size} bytes of samples, its index says {2 * total}; pack again"
        )
    samples = np.memmap(path, dtype="<i2", mode="r", offset=HEAD.size, shape=(total,))
    if check_samples and sample_digest(samples) != header["sha256"]:
        raise CheckpointError(f"{path}: the samples do not match their SHA-256; pack or copy the file again")
    return PackedAudio(path, header["sample_rate"], samples, names, lengths, header["sha256"])


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD.size)
        if len(head) < HEAD.size or head[:16] != MAGIC:
            raise CheckpointError(f"{path}: not packed audio of this version; make it with pack")
        _, place, length, digest = HEAD.unpack(head)
        if place < HEAD.size or length > HEADER_LIMIT or place + length != size:
            raise CheckpointError(
                f"{path}: {size} bytes, expected {place + length}: the file was cut; pack or copy again"
            )
        file.seek(place)
        text = file.read(length)
    if hashlib.sha256(text).digest() != digest:
        raise CheckpointError(f"{path}: the header does not match its SHA-256; pack or copy the file again")
    header: dict[str, Any] = json.loads(text)
    return header, place


def _read_index(header: dict[str, Any], path: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    try:
        names = tuple(str(name) for name, _ in header["files"])
        lengths = np.array([int(length) for _, length in header["files"]], dtype=np.int64)
        valid = isinstance(header["sample_rate"], int) and isinstance(header["sha256"], str)
    except (KeyError, TypeError, ValueError):
        valid = False
    if not valid or not len(lengths) or lengths.min() < 1:
        raise CheckpointError(f"{path}: the header lacks a valid index; pack again")
    return names, lengths


def sample_digest(samples: NDArray[np.int16]) -> str:
    """Hexadecimal SHA-256 of int16 samples, read in blocks."""
    digest = hashlib.sha256()
    for start in range(0, len(samples), HASH_BLOCK):
        digest.update(samples[start : start + HASH_BLOCK].tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Batch:
    """Crops of one step: `waveform` float32 `[B, T]` and the number of books of each crop `[B]`."""

    waveform: NDArray[np.float32]
    num_codebooks: NDArray[np.int64]


class Crops:
    """Training crops as a pure function of (seed, step): nothing to store for an exact resume.

    A file is drawn in proportion to its length times its weight; gain, sign, speed and number of books are
    drawn per crop.

    Args:
        audio: the packed file.
        config: how to draw.
        prefixes: legal numbers of books of the codec; the largest is all of them.
        seed: of the run.
        held_out: draw from the validation files instead of the training files.

    Raises:
        ConfigError: there are not enough files.
    """

    def __init__(
        self,
        audio: PackedAudio,
        config: DataConfig,
        *,
        prefixes: Sequence[int],
        seed: int,
        held_out: bool = False,
    ) -> None:
        count = len(audio.lengths)
        if config.validation_files >= count:
            raise ConfigError(
                f"validation_files is {config.validation_files}, but {audio.path} holds only {count} files"
            )
        chosen = np.linspace(0, count - 1, config.validation_files).round().astype(np.int64)
        mask = np.zeros(count, dtype=bool)
        mask[chosen] = True
        files = np.flatnonzero(mask if held_out else ~mask)
        starts = np.cumsum(audio.lengths) - audio.lengths
        self._samples = audio.samples
        self._starts, self._lengths = starts[files], audio.lengths[files]
        weights = _file_weights([audio.names[file] for file in files], config.weights)
        self._ends = np.cumsum(self._lengths * weights)
        self._config, self._prefixes = config, np.array(sorted(prefixes), dtype=np.int64)
        self._seed = (seed, int(held_out))

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        config = self._config
        random = np.random.default_rng((*self._seed, step))
        waveform = np.empty((config.batch_size, config.crop_samples), dtype=np.float32)
        for row in waveform:
            row[:] = self._crop(random)
        draws = random.random((2, config.batch_size))
        some = self._prefixes[(draws[1] * len(self._prefixes)).astype(np.int64)]
        books = np.where(draws[0] < config.all_books_share, self._prefixes[-1], some)
        return Batch(waveform, books)

    def _crop(self, random: np.random.Generator) -> NDArray[np.float32]:
        config = self._config
        while True:
            where, place, keep, gain, sign = random.random(5)
            crop = self._at_speed(where, place, random)
            rms = float(np.sqrt(np.mean(np.square(crop))))
            if rms >= config.quiet_rms or keep < config.quiet_share:
                break
        low, high = config.gain
        factor = 10 ** ((low + (high - low) * gain) / 20)
        peak = float(np.abs(crop).max())
        factor = min(factor, config.peak / peak) if peak > 0 else factor
        return crop * np.float32(factor if sign < 0.5 else -factor)

    def _at_speed(self, where: float, place: float, random: np.random.Generator) -> NDArray[np.float32]:
        low, high = self._config.speed
        size = self._config.crop_samples
        if low == high == 1.0:
            return self._read(where, place, size)
        # In steps of 64 samples, so that the transforms have small factors; the ends ring and are cut off.
        longer = size + 2 * SPEED_MARGIN
        source = 64 * round(longer * (low + (high - low) * float(random.random())) / 64)
        spectrum = np.fft.rfft(self._read(where, place, source))
        kept = np.zeros(longer // 2 + 1, dtype=spectrum.dtype)
        count = min(len(kept), len(spectrum)) - 1
        kept[:count] = spectrum[:count]
        resampled = np.fft.irfft(kept, longer) * (longer / source)
        return resampled[SPEED_MARGIN : SPEED_MARGIN + size].astype(np.float32)

    def _read(self, where: float, place: float, size: int) -> NDArray[np.float32]:
        """Cut `size` samples at relative `place` of the file at `where`; a short file stands among zeros."""
        file = int(np.searchsorted(self._ends, where * self._ends[-1], side="right"))
        start, spare = int(self._starts[file]), int(self._lengths[file]) - size
        if spare >= 0:
            first = start + int(place * (spare + 1))
            return self._samples[first : first + size].astype(np.float32) / np.float32(SCALE)
        crop = np.zeros(size, dtype=np.float32)
        first = int(place * (1 - spare))
        crop[first : first + size + spare] = self._samples[start : start + size + spare] / np.float32(SCALE)
        return crop


def _file_weights(names: Sequence[str], patterns: dict[str, float]) -> NDArray[np.float64]:
    """Weight of each file: that of the first pattern which fits its name, else 1.

    Raises:
        ConfigError: a pattern fits no file.
    """
    weights = np.ones(len(names))
    for pattern, weight in reversed(patterns.items()):
        fits = np.array([fnmatch.fnmatchcase(name, pattern) for name in names])
        if not fits.any():
            raise ConfigError(f'data.weights: no file fits "{pattern}"; the first file is {names[0]}')
        weights[fits] = weight
    return weights


class Ahead:
    """Draws the batch of the next step in a thread while the present one trains; for GPUs.

    Args:
        crops: what draws.
    """

    def __init__(self, crops: Crops) -> None:
        self._crops = crops
        self._pool = ThreadPoolExecutor(1)
        self._next: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        present = self._next.get(step) or self._pool.submit(self._crops, step)
        self._next = {step + 1: self._pool.submit(self._crops, step + 1)}
        return present.result()
