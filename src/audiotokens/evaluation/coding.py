"""One file through one system: code it and align it; and a few files first, to learn its delay and speed."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiotokens.audio import read_audio, resample
from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.activity import active_frames
from audiotokens.evaluation.alignment import (
    Delay,
    aligned_pair,
    check_lengths,
    common_delay,
    estimate_delay,
    to_mono,
)
from audiotokens.evaluation.metrics import EVALUATION_RATE
from audiotokens.evaluation.systems import UNQUANTIZED, Made, Make, System
from audiotokens.tokens import Tokens

_PROBES = 8
_TIMED = 3

Pair = tuple[np.ndarray, np.ndarray]
"""Reference and reconstruction, both `[T]`, at `EVALUATION_RATE` and aligned."""


@dataclass(frozen=True)
class Timing:
    """Wall times of one file at one setting, with nothing else running.

    Args:
        index: of the file among those that were probed.
        num_codebooks: the setting.
        encode_seconds: None where it means nothing.
        decode_seconds: likewise.
    """

    index: int
    num_codebooks: int
    encode_seconds: float | None
    decode_seconds: float | None


@dataclass(frozen=True)
class Learned:
    """What a few files taught about a system.

    Args:
        shift: its delay in samples at `sample_rate`; None where nothing may be aligned.
        sample_rate: of its output, in Hz; 0 where no file could be coded.
        nested: whether the codes of fewer books were a prefix of those of all books (promise I10).
        timings: of the timed files.
    """

    shift: int | None = None
    sample_rate: int = 0
    nested: bool = False
    timings: tuple[Timing, ...] = ()


@dataclass(frozen=True)
class Facts:
    """How one file went through one system at one setting, whatever its name is; see `FileRecord`."""

    duration: float
    file_bytes: int
    payload_bits: float
    reference_samples: int
    output_samples: int
    delay: int | None
    peak: float
    polarity: int
    gain: float | None
    clipped: float


@dataclass(frozen=True)
class Coded:
    """One file at one setting, ready to be measured; `tokens` and `active` (by stream) of tokenizers only."""

    facts: Facts
    pair: Pair
    tokens: Tokens | None = None
    active: dict[str, np.ndarray] | None = None


@contextlib.contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads, if torch is loaded at all."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


def probed(files: Sequence[Path]) -> list[Path]:
    """Return the at most 8 files, evenly spread, from which `probe` learns."""
    return list(files[:: max(1, len(files) // _PROBES)][:_PROBES])


def probe(system: System, files: Sequence[Path]) -> Learned:
    """Learn a system's delay, and whether its codes are nested, and time it on three of the files.

    The first file warms the system up, and is timed only where there is no other. Files that cannot be coded
    are passed over; the main run records why.
    """
    delays: list[Delay] = []
    timed: list[_Timed] = []
    good: list[int] = []
    sample_rate = 0
    for index, file in enumerate(files):
        try:
            waveform, rate = read_audio(file)
            make = system.start(waveform, rate, nested=False)
            made = make(system.most)
            delays.append(_estimate(waveform, rate, made))
            sample_rate = made.sample_rate
            good.append(index)
            if len(good) > 1 and len(timed) < _TIMED:
                timed.append(_time(system, index, make, made))
        except Exception:
            continue
    if not timed and good:
        # what failed above fails again, and the main run says why
        with contextlib.suppress(Exception):
            make = system.start(*read_audio(files[good[0]]), nested=False)
            timed.append(_time(system, good[0], make, make(system.most)))
    return Learned(
        shift=common_delay(delays) if system.align else None,
        sample_rate=sample_rate,
        nested=bool(timed) and all(one.nested for one in timed),
        timings=tuple(timing for one in timed for timing in one.timings),
    )


def code_file(system: System, learned: Learned, file: Path, books: Sequence[int]) -> dict[int, Coded | str]:
    """Take one file through a system at several settings; what goes wrong becomes a reason."""
    try:
        waveform, rate = read_audio(file)
    except Exception as error:
        return dict.fromkeys(books, one_line(error))
    make = system.start(waveform, rate, nested=learned.nested)
    found: dict[int, Coded | str] = {}
    for number in sorted(books, reverse=True):
        try:
            found[number] = code(make(number), learned, waveform, rate)
        except Exception as error:
            found[number] = one_line(error)
    return found


def one_line(error: BaseException) -> str:
    """Return an error as one line; unexpected kinds are named."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, AudioTokensError) else f"{type(error).__name__}: {text}"


@dataclass(frozen=True)
class _Timed:
    """One timed file, and whether all its codes of fewer books are a prefix of those of all."""

    timings: tuple[Timing, ...]
    nested: bool


def _time(system: System, index: int, make: Make, most: Made) -> _Timed:
    made = {system.most: most}
    for books in system.books:
        if books not in (system.most, UNQUANTIZED):
            made[books] = make(books)
    tokens = most.tokens
    nested = tokens is not None and all(
        one.tokens == tokens.take(books) for books, one in made.items() if books != system.most
    )
    timings = [Timing(index, books, one.encode_seconds, one.decode_seconds) for books, one in made.items()]
    return _Timed(tuple(timings), nested)


def _estimate(waveform: np.ndarray, rate: int, made: Made) -> Delay:
    reference = resample(to_mono(waveform), rate, made.sample_rate)[0]
    return estimate_delay(reference, to_mono(made.waveform)[0], made.sample_rate)


def code(made: Made, learned: Learned, waveform: np.ndarray, rate: int) -> Coded:
    """Align what a system made of float32 `[C, T]` at `rate`, and say how it went.

    Raises:
        MetricError: its length is wrong, or nothing is left of it.
    """
    output_samples = made.waveform.shape[1]
    check_lengths(made.expected, output_samples, made.sample_rate, made.tolerance)
    delay = _estimate(waveform, rate, made)
    pair = aligned_pair(
        to_mono(waveform),
        rate,
        to_mono(made.waveform),
        made.sample_rate,
        shift=learned.shift or 0,
        sample_rate=EVALUATION_RATE,
    )
    facts = Facts(
        duration=waveform.shape[1] / rate,
        file_bytes=made.file_bytes,
        payload_bits=made.payload_bits,
        reference_samples=made.expected,
        output_samples=output_samples,
        delay=delay.samples,
        peak=delay.peak,
        polarity=delay.polarity,
        gain=_gain(*pair),
        clipped=float(np.mean(np.abs(made.waveform) >= 1.0)),
    )
    active = None if made.tokens is None else active_frames(made.tokens, waveform, rate)
    return Coded(facts, pair, made.tokens, active)


def _gain(reference: np.ndarray, output: np.ndarray) -> float | None:
    x = float(np.dot(reference, reference))
    y = float(np.dot(output, output))
    return 10 * math.log10(y / x) if x > 0 and y > 0 else None
