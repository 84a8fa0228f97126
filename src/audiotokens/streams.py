"""The parts that tokens are made of: streams of codes, windows, conditioning.

They are plain, read-only, and correct from the moment they exist: contradictions are refused at construction.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from audiotokens.errors import TokensError

Codes = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]

LARGEST = 1 << 62
LONGEST_TEXT = 200
MOST_CODEBOOKS = 4096


@dataclass(frozen=True)
class Segment:
    """One window of a stream that was encoded in overlapping windows (EnCodec 48 kHz).

    Args:
        start_sample: first sample of the window, at the tokenizer's input rate.
        num_samples: length of the window in samples.
        frames: frames that the window takes up in the stream.
        scale: gain that decoding multiplies with; rounded to float32.
    """

    start_sample: int
    num_samples: int
    frames: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name, minimum in (("start_sample", 0), ("num_samples", 1), ("frames", 0)):
            object.__setattr__(self, name, as_count(getattr(self, name), f"segment: {name}", minimum=minimum))
        if isinstance(self.scale, bool) or not isinstance(self.scale, float | int | np.floating):
            raise TokensError(f"segment: scale is {_brief(self.scale)}, expected a number")
        with np.errstate(over="ignore"):
            scale = float(np.float32(self.scale))
        if not math.isfinite(scale):
            raise TokensError(f"segment: scale is {self.scale}, expected a finite float32 number")
        object.__setattr__(self, "scale", scale)

    @property
    def end_sample(self) -> int:
        """First sample after the window."""
        return self.start_sample + self.num_samples


@dataclass(frozen=True, eq=False)
class CodeStream:
    """One named sequence of codes of one recording.

    Args:
        codes: integers `[K, T]`, K books by T frames; every code in 0 <= code < codebook_sizes[k]. Copied to
            a read-only, C-contiguous int64 array; torch tensors are taken too.
        codebook_sizes: number of entries of each of the K books.
        frame_rate: frames per second; 0: the codes stand for the whole recording (global codes, speaker).
        durations: base frames that each code stands for, positive integers `[T]` (variable rate).
        segments: overlapping windows in order, where the stream was encoded so; their frames sum to T.

    Raises:
        TokensError: the parts contradict each other; the message says which.

    Example:
        >>> CodeStream(np.array([[1, 2, 3]]), (1024,), Fraction(50)).num_frames
        3
    """

    codes: Codes
    codebook_sizes: tuple[int, ...]
    frame_rate: Fraction
    durations: Codes | None = None
    segments: tuple[Segment, ...] | None = None

    def __post_init__(self) -> None:
        codes = _integers(self.codes, "codes", dimensions=2)
        sizes = _codebook_sizes(self.codebook_sizes)
        if codes.shape[0] != len(sizes):
            raise TokensError(
                f"codes have {codes.shape[0]} rows [K, T] but codebook_sizes names {len(sizes)} books: "
                "give one size for every row"
            )
        _check_range(codes, sizes)
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "codebook_sizes", sizes)
        object.__setattr__(self, "frame_rate", _frame_rate(self.frame_rate))
        if self.durations is not None:
            object.__setattr__(self, "durations", self._checked_durations(self.durations))
        if self.segments is not None:
            object.__setattr__(self, "segments", self._checked_segments(self.segments))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CodeStream):
            return NotImplemented
        return (
            self.same_layout(other)
            and self.segments == other.segments
            and np.array_equal(self.codes, other.codes)
            and same_durations(self, other)
        )

    @property
    def num_codebooks(self) -> int:
        """Number of books K."""
        return len(self.codebook_sizes)

    @property
    def num_frames(self) -> int:
        """Number of frames T: columns of `codes`."""
        return int(self.codes.shape[1])

    @property
    def base_frames(self) -> int:
        """Frames at `frame_rate` that the stream spans: the sum of the durations, or T without durations."""
        return self.num_frames if self.durations is None else int(self.durations.sum())

    @property
    def code_bits(self) -> float:
        """Bits of the codes: T times the sum of log2(size) over the books."""
        return self.num_frames * sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def side_bits(self) -> float:
        """Bits beside the codes: durations, each as wide as the longest, and 32 for each window's scale."""
        bits = 0 if self.segments is None else 32 * len(self.segments)
        if self.durations is not None and self.num_frames:
            bits += self.num_frames * int(self.durations.max()).bit_length()
        return float(bits)

    def same_layout(self, other: CodeStream) -> bool:
        """Whether books, rate and the kind of time (fixed, durations, windows) agree."""
        return (
            self.codebook_sizes == other.codebook_sizes
            and self.frame_rate == other.frame_rate
            and (self.durations is None) == (other.durations is None)
            and (self.segments is None) == (other.segments is None)
        )

    def take(self, num_codebooks: int) -> CodeStream:
        """Return the stream with its first `num_codebooks` books."""
        sizes = self.codebook_sizes[:num_codebooks]
        return CodeStream(self.codes[:num_codebooks], sizes, self.frame_rate, self.durations, self.segments)

    def _checked_durations(self, given: Codes) -> Codes:
        durations = _integers(given, "durations", dimensions=1)
        if not self.frame_rate:
            raise TokensError(
                "durations are given for a stream of frame rate 0: global codes have no durations"
            )
        if durations.size != self.num_frames:
            raise TokensError(
                f"found {durations.size} durations for {self.num_frames} frames: give one for each frame"
            )
        if durations.size and durations.min() < 1:
            raise TokensError(f"the smallest duration is {durations.min()}, expected at least 1 base frame")
        if durations.size and int(durations.max()) > LARGEST // durations.size:
            raise TokensError(
                f"the longest duration is {durations.max()} base frames, which no recording has"
            )
        return durations

    def _checked_segments(self, given: tuple[Segment, ...]) -> tuple[Segment, ...]:
        segments = tuple(given)
        if self.durations is not None or not self.frame_rate:
            raise TokensError("segments need a stream of fixed frame rate above 0 without durations")
        if not all(isinstance(segment, Segment) for segment in segments):
            raise TokensError("segments hold something that is not a Segment")
        frames = sum(segment.frames for segment in segments)
        if frames != self.num_frames:
            raise TokensError(
                f"the segments hold {frames} frames and the codes {self.num_frames}: they must agree"
            )
        if segments and segments[0].start_sample:
            raise TokensError(f"the first segment starts at sample {segments[0].start_sample}, expected 0")
        for before, after in pairwise(segments):
            if not before.start_sample < after.start_sample <= before.end_sample:
                raise TokensError(
                    f"a segment starts at sample {after.start_sample} after one of {before.start_sample} to "
                    f"{before.end_sample}: expected a later start without a gap"
                )
        return segments


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What decoding needs beside codes: a timbre vector, prompt features, an F0 track.

    Args:
        values: finite numbers `[D, T]`; copied to a read-only float32 array.
        frame_rate: columns per second; 0: the columns stand for the whole recording.

    Raises:
        TokensError: values are not a finite `[D, T]` array, or the rate is negative.
    """

    values: Values
    frame_rate: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        found = _array(self.values, "conditioning values")
        if found.ndim != 2 or found.dtype.kind not in "fiu":
            raise TokensError(
                f"conditioning values are {found.dtype} of shape {list(found.shape)}, expected numbers [D, T]"
            )
        with np.errstate(over="ignore"):
            values = np.array(found, dtype=np.float32, order="C", copy=True)
        if not np.isfinite(values).all():
            raise TokensError(
                "conditioning values are not all finite float32 numbers: remove NaN and infinity"
            )
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "frame_rate", _frame_rate(self.frame_rate))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Conditioning):
            return NotImplemented
        # Bytes, not numbers: -0.0 and 0.0 are stored apart, so equality tells them apart.
        same_shape = self.frame_rate == other.frame_rate and self.values.shape == other.values.shape
        return same_shape and self.values.tobytes() == other.values.tobytes()

    @property
    def num_frames(self) -> int:
        """Number of columns T."""
        return int(self.values.shape[1])


def same_durations(first: CodeStream, other: CodeStream) -> bool:
    """Whether two streams have equal durations, or both none."""
    if first.durations is None or other.durations is None:
        return first.durations is other.durations
    return np.array_equal(first.durations, other.durations)


def as_count(value: object, what: str, *, minimum: int = 0) -> int:
    """Return `value` as an int of at least `minimum`; `what` begins the error message.

    Raises:
        TokensError: it is not an integer, below `minimum`, or absurdly large.
    """
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TokensError(f"{what} is {_brief(value)}, expected an integer")
    number = operator.index(value)
    if not minimum <= number <= LARGEST:
        raise TokensError(f"{what} is {number}, expected an integer from {minimum} to 2^62")
    return number


def as_text(value: object, what: str, *, empty: bool = False) -> str:
    """Return `value` if it is printable text of at most 200 characters, not empty unless `empty` allows it.

    Raises:
        TokensError: it is something else.
    """
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise TokensError(
            f"{what} is {_brief(value)}, expected printable text of at most {LONGEST_TEXT} characters"
        )
    if not value and not empty:
        raise TokensError(f"{what} is empty, expected a name")
    return value


def _frame_rate(value: object) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, Fraction | int):
        raise TokensError(f"frame_rate is {_brief(value)}, expected a Fraction such as Fraction(25, 2)")
    rate = Fraction(value)
    if rate < 0 or max(rate.numerator, rate.denominator) > LARGEST:
        raise TokensError(f"frame_rate is {_brief(rate)}, expected 0 (whole recording) or frames per second")
    return rate


def _codebook_sizes(given: object) -> tuple[int, ...]:
    if not isinstance(given, Iterable):
        raise TokensError(f"codebook_sizes is {_brief(given)}, expected a tuple of integers")
    sizes = tuple(given)
    if not 1 <= len(sizes) <= MOST_CODEBOOKS:
        raise TokensError(f"codebook_sizes names {len(sizes)} books, expected 1 to {MOST_CODEBOOKS}")
    return tuple(as_count(size, f"codebook_sizes[{k}]", minimum=1) for k, size in enumerate(sizes))


def _check_range(codes: Codes, sizes: tuple[int, ...]) -> None:
    if not codes.size:
        return
    lowest, highest = codes.min(axis=1), codes.max(axis=1)
    for k, size in enumerate(sizes):
        if lowest[k] < 0 or highest[k] >= size:
            found = int(lowest[k] if lowest[k] < 0 else highest[k])
            raise TokensError(f"book {k} holds the code {found}, expected 0 to {size - 1}")


def _integers(given: object, what: str, *, dimensions: int) -> Codes:
    found = _array(given, what)
    shape = "[K, T]" if dimensions == 2 else "[T]"
    if found.ndim != dimensions:
        raise TokensError(f"{what} have the shape {list(found.shape)}, expected {shape}")
    if found.dtype.kind not in "iu" and found.size:
        raise TokensError(f"{what} are of type {found.dtype}, expected integers {shape}")
    if found.dtype == np.uint64 and found.size and int(found.max()) > LARGEST:
        raise TokensError(f"{what} hold {int(found.max())}, which is more than 2^62")
    integers = np.array(found, dtype=np.int64, order="C", copy=True)
    integers.flags.writeable = False
    return integers


def _array(given: Any, what: str) -> npt.NDArray[Any]:
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    try:
        return np.asarray(given)
    except (ValueError, TypeError, OverflowError):
        raise TokensError(f"{what} is {_brief(given)}, expected an array") from None


def _brief(value: object) -> str:
    text = repr(value).replace("\n", " ")
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
