"""One file through one tokenizer: encode, save, read back, decode from what was read, align, and time it."""

from __future__ import annotations

import contextlib
import io
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from audiotokens.audio import read_audio, resample
from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.alignment import (
    Delay,
    aligned_pair,
    check_lengths,
    common_delay,
    estimate_delay,
    to_mono,
)
from audiotokens.evaluation.files import AudioFile
from audiotokens.evaluation.metrics import EVALUATION_RATE
from audiotokens.evaluation.results import FileRecord
from audiotokens.tokenfile import read_tokens, write_tokens
from audiotokens.tokenizer import Tokenizer
from audiotokens.tokens import Tokens

_PROBES = 8
_TIMED_PROBES = 3


@dataclass
class Subject:
    """A tokenizer under comparison, with what a few files taught about it.

    Args:
        name: unique name in the results.
        tokenizer: the tokenizer.
        books: numbers of books to compare, rising.
        shift: its delay in samples at its output rate; None where nothing may be aligned.
        nested: whether the codes of fewer books were a prefix of those of all on the probed files (promise
            I10).
        encode_seconds: wall time by (file key, books), where encoding was timed beside the main run.
    """

    name: str
    tokenizer: Tokenizer
    books: tuple[int, ...]
    shift: int | None = None
    nested: bool = False
    encode_seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """The largest number of books."""
        return self.books[-1]


@dataclass(frozen=True)
class Outcome:
    """One file at one operating point: the record, and where it is ok the tokens and the aligned pair."""

    record: FileRecord
    tokens: Tokens | None = None
    pair: tuple[np.ndarray, np.ndarray] | None = None


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


def probe(subject: Subject, files: Sequence[AudioFile]) -> None:
    """Warm the tokenizer up and learn its delay, and whether its codes are nested, from at most 8 files.

    Files that cannot be coded are passed over; the main run records why.
    """
    delays: list[Delay] = []
    nested: list[bool] = []
    step = max(1, len(files) // _PROBES)
    for file in files[::step][:_PROBES]:
        try:
            waveform, rate = read_audio(file.path)
            tokens = subject.tokenizer.encode(waveform, rate, num_codebooks=subject.most)
            delays.append(_estimate(subject, waveform, rate, subject.tokenizer.decode(tokens)))
            if len(nested) < _TIMED_PROBES:
                nested.append(_fewer_books(subject, file, (waveform, rate), tokens))
        except Exception:
            continue
    subject.shift = common_delay(delays)
    subject.nested = bool(nested) and all(nested)


def code_file(subject: Subject, file: AudioFile) -> list[Outcome]:
    """Take one file through every operating point of a tokenizer; what goes wrong becomes failed records."""
    try:
        waveform, rate = read_audio(file.path)
    except Exception as error:
        return [_failed(subject, file, books, error) for books in subject.books]
    outcomes: dict[int, Outcome] = {}
    encoded: Tokens | None = None
    for books in reversed(subject.books):
        try:
            seconds = subject.encode_seconds.get((file.key, books))
            if encoded is None or not subject.nested:
                encoded, seconds = _timed_encode(subject.tokenizer, waveform, rate, books)
            tokens = encoded.take(books) if books < encoded.num_codebooks else encoded
            outcomes[books] = _decoded(subject, file, books, tokens, seconds, (waveform, rate))
        except Exception as error:
            outcomes[books] = _failed(subject, file, books, error)
    return [outcomes[books] for books in subject.books]


def one_line(error: BaseException) -> str:
    """Return an error as one line; unexpected kinds are named."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, AudioTokensError) else f"{type(error).__name__}: {text}"


def through_file(tokens: Tokens) -> tuple[Tokens, int]:
    """Write tokens as `.tok`, read them back, and return what was read with the size in bytes."""
    buffer = io.BytesIO()
    write_tokens(buffer, tokens)
    size = buffer.tell()
    buffer.seek(0)
    return read_tokens(buffer), size


def _fewer_books(subject: Subject, file: AudioFile, source: tuple[np.ndarray, int], tokens: Tokens) -> bool:
    """Time encoding with fewer books, and say whether it always gives a prefix of `tokens`."""
    nested = True
    for books in subject.books[:-1]:
        fewer, seconds = _timed_encode(subject.tokenizer, *source, books)
        subject.encode_seconds[file.key, books] = seconds
        nested = nested and fewer == tokens.take(books)
    return nested


def _timed_encode(tokenizer: Tokenizer, waveform: np.ndarray, rate: int, books: int) -> tuple[Tokens, float]:
    start = time.perf_counter()
    tokens = tokenizer.encode(waveform, rate, num_codebooks=books)
    return tokens, time.perf_counter() - start


def _estimate(subject: Subject, waveform: np.ndarray, rate: int, output: np.ndarray) -> Delay:
    output_rate = subject.tokenizer.spec.output_sample_rate
    reference = resample(to_mono(waveform), rate, output_rate)[0]
    return estimate_delay(reference, to_mono(output)[0], output_rate)


def _decoded(
    subject: Subject,
    file: AudioFile,
    books: int,
    tokens: Tokens,
    encode_seconds: float | None,
    source: tuple[np.ndarray, int],
) -> Outcome:
    waveform, rate = source
    spec = subject.tokenizer.spec
    read, size = through_file(tokens)
    start = time.perf_counter()
    output = subject.tokenizer.decode(read)
    decode_seconds = time.perf_counter() - start
    expected = spec.output_length(read.num_samples)
    hop = spec.hop * spec.output_sample_rate / spec.sample_rate if spec.frame_rate else 0
    check_lengths(expected, output.shape[1], spec.output_sample_rate, float(hop))
    delay = _estimate(subject, waveform, rate, output)
    pair = aligned_pair(
        to_mono(waveform),
        rate,
        to_mono(output),
        spec.output_sample_rate,
        shift=subject.shift or 0,
        sample_rate=EVALUATION_RATE,
    )
    record = FileRecord(
        file=file.key,
        domain=file.domain,
        speaker=file.speaker,
        tokenizer=subject.name,
        num_codebooks=books,
        duration=waveform.shape[1] / rate,
        file_bytes=size,
        reference_samples=expected,
        output_samples=output.shape[1],
        delay=delay.samples,
        shift=subject.shift,
        peak=delay.peak,
        polarity=delay.polarity,
        gain=_gain(*pair),
        clipped=float(np.mean(np.abs(output) >= 1.0)),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )
    return Outcome(record, read, pair)


def _gain(reference: np.ndarray, output: np.ndarray) -> float | None:
    x = float(np.dot(reference, reference))
    y = float(np.dot(output, output))
    return 10 * math.log10(y / x) if x > 0 and y > 0 else None


def _failed(subject: Subject, file: AudioFile, books: int, error: BaseException) -> Outcome:
    record = FileRecord(
        file=file.key,
        domain=file.domain,
        speaker=file.speaker,
        tokenizer=subject.name,
        num_codebooks=books,
        status="failed",
        reason=one_line(error),
    )
    return Outcome(record)
