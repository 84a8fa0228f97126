"""What a comparison found, as plain frozen data that travels through JSON unchanged.

Rules for numbers: a row with status "ok" has a value, every other row has None and a reason; NaN is never a
value. Infinite values (SI-SDR of two equal signals) are legal and are written as the texts "inf" and "-inf",
because JSON has no infinity; everything else is an ordinary JSON number at full precision.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from audiotokens import config
from audiotokens.errors import AudioTokensError

Status = Literal["ok", "skipped", "failed"]
_NUMBERS = frozenset({"value", "mean", "low", "high"})


class Point(NamedTuple):
    """Key of one operating point: a tokenizer, at a number of books, on one domain."""

    domain: str
    tokenizer: str
    num_codebooks: int


@dataclass(frozen=True)
class Row:
    """One measure of one file at one operating point.

    Args:
        file: path below the compared folder; the key that pairs files between tokenizers.
        domain: "speech", "music", "sound", or "unknown" where nobody said.
        speaker: speaker or source recording, the unit of the intervals.
        tokenizer: name.
        num_codebooks: books used.
        metric: definition id, such as "mel/dac-eval".
        value: the measure; None unless `status` is "ok".
        status: "ok", "skipped" (not defined here, nothing went wrong) or "failed".
        reason: one sentence for everything that is not "ok".
    """

    file: str
    domain: str
    speaker: str
    tokenizer: str
    num_codebooks: int
    metric: str
    value: float | None
    status: Status = "ok"
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.status == "ok") != (self.value is not None):
            raise ValueError(f"{self.metric} of {self.file}: status {self.status} with value {self.value}")
        if self.value is not None and math.isnan(self.value):
            raise ValueError(f"{self.metric} of {self.file}: NaN is not a value")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"{self.metric} of {self.file}: status {self.status} without a reason")

    @property
    def point(self) -> Point:
        """The operating point that the row belongs to."""
        return Point(self.domain, self.tokenizer, self.num_codebooks)


@dataclass(frozen=True)
class FileRecord:
    """How one file went through one operating point, before any measure.

    Args:
        file, domain, speaker, tokenizer, num_codebooks: as in `Row`.
        status: "failed" when the file could not be read, encoded or decoded; the numbers below are then zero.
        reason: why it failed.
        duration: of the input, in seconds.
        file_bytes: size of the whole `.tok`.
        reference_samples: length of the reference at the tokenizer's output rate, before alignment.
        output_samples: length of the reconstruction at that rate, before alignment.
        delay: samples at that rate by which this reconstruction is late (negative: early); None: peak too
            weak.
        shift: the tokenizer's delay, which was removed before measuring; None: nothing could be aligned.
        peak: normalized height of the correlation peak, 0 to 1.
        polarity: -1 where the reconstruction is inverted, else 1.
        gain: of the reconstruction against the reference, in dB (ratio of root mean squares); None for
            silence.
        clipped: share of reconstructed samples at or above full scale.
        encode_seconds: wall time of encoding; None where it was not timed at this point.
        decode_seconds: wall time of decoding.
    """

    file: str
    domain: str
    speaker: str
    tokenizer: str
    num_codebooks: int
    status: Status = "ok"
    reason: str = ""
    duration: float = 0.0
    file_bytes: int = 0
    reference_samples: int = 0
    output_samples: int = 0
    delay: int | None = None
    shift: int | None = None
    peak: float = 0.0
    polarity: int = 1
    gain: float | None = None
    clipped: float = 0.0
    encode_seconds: float | None = None
    decode_seconds: float | None = None

    @property
    def point(self) -> Point:
        """The operating point that the record belongs to."""
        return Point(self.domain, self.tokenizer, self.num_codebooks)


@dataclass(frozen=True)
class OperatingPoint:
    """One tokenizer at one number of books on one domain: its cost. All bit rates are in bits per second.

    Args:
        domain, tokenizer, num_codebooks: the key.
        fingerprint: of the tokenizer.
        codes_per_second: frames per second times books, summed over the streams.
        nominal_bitrate: from book sizes and frame rates alone.
        measured_bitrate: bits of the whole `.tok` files over the duration of the input; None without any ok
            file.
        entropy_bitrate: the same content with every book at its zero-order entropy on these files
            (Miller-Madow).
        encode_speed: audio seconds per wall second; None where nothing was timed.
        decode_speed: likewise.
        threads: threads that the timed code was allowed.
        delay_milliseconds: the delay that was removed, in ms (negative: early); None: nothing could be
            aligned.
        confirmed: number of files whose own correlation peak confirms that delay within one sample.
        inverted: number of files whose reconstruction has the opposite sign.
        files: number of files given.
        failed: number of them that could not be read, encoded or decoded.
        seconds: audio of the ok files.
    """

    domain: str
    tokenizer: str
    num_codebooks: int
    fingerprint: str
    codes_per_second: float
    nominal_bitrate: float
    measured_bitrate: float | None
    entropy_bitrate: float | None
    encode_speed: float | None
    decode_speed: float | None
    threads: int
    delay_milliseconds: float | None = None
    confirmed: int = 0
    inverted: int = 0
    files: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def point(self) -> Point:
        """The key of this operating point."""
        return Point(self.domain, self.tokenizer, self.num_codebooks)

    @property
    def flagged(self) -> bool:
        """Whether more than 1 % of the files failed."""
        return self.failed > 0.01 * self.files


@dataclass(frozen=True)
class Summary:
    """Mean of one measure at one operating point, over the files that are ok at every compared point.

    Args:
        domain, tokenizer, num_codebooks, metric: the key.
        mean: None where no file is ok.
        low: lower end of the 95 % interval (bootstrap over speakers); None with fewer than two speakers.
        high: upper end.
        count: number of files in the mean.
        speakers: number of speakers in the mean.
        ok: number of files that are ok at this point, whether or not at the others.
        total: number of files given.
    """

    domain: str
    tokenizer: str
    num_codebooks: int
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    count: int
    speakers: int
    ok: int
    total: int

    @property
    def point(self) -> Point:
        """The operating point that the mean belongs to."""
        return Point(self.domain, self.tokenizer, self.num_codebooks)

    @property
    def flagged(self) -> bool:
        """Whether more than 1 % of the files are missing from the mean."""
        return self.total - self.count > 0.01 * self.total


@dataclass(frozen=True)
class Difference:
    """Paired difference `first - second` of one measure, on the files that are ok at both points.

    Args:
        domain, metric: the key.
        first_tokenizer, first_codebooks, second_tokenizer, second_codebooks: the two operating points.
        mean, low, high: of the per-file differences, with their 95 % interval (bootstrap over speakers).
        count: number of files.
        speakers: number of speakers.
    """

    domain: str
    metric: str
    first_tokenizer: str
    first_codebooks: int
    second_tokenizer: str
    second_codebooks: int
    mean: float | None
    low: float | None
    high: float | None
    count: int
    speakers: int

    @property
    def tie(self) -> bool:
        """Whether the interval includes 0, or there is none: the two points cannot be ranked."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


@dataclass(frozen=True)
class BookUsage:
    """How one book is used on the evaluated files of one domain. Never pooled over books.

    Args:
        domain, tokenizer, num_codebooks: the operating point whose codes were counted.
        stream: name of the stream.
        book: index within the stream.
        counts: how often each code occurred; its length is the size of the book.
        used: number of codes that occurred.
        expected_used: what uniform use would give for this many codes.
        entropy: zero-order entropy in bits per code, Miller-Madow corrected, at most log2 of the size.
        plugin_entropy: without the correction (too small where codes are few against the size).
        perplexity: 2 to the power of `entropy`.
    """

    domain: str
    tokenizer: str
    num_codebooks: int
    stream: str
    book: int
    counts: tuple[int, ...]
    used: int
    expected_used: float
    entropy: float
    plugin_entropy: float
    perplexity: float

    @property
    def size(self) -> int:
        """Entries of the book."""
        return len(self.counts)

    @property
    def codes(self) -> int:
        """Number of codes counted."""
        return sum(self.counts)

    @property
    def dead(self) -> int:
        """Entries that never occurred; compare with `size - expected_used`."""
        return self.size - self.used

    @property
    def utilisation(self) -> float:
        """Share of the entries that occurred."""
        return self.used / self.size


@dataclass(frozen=True)
class Comparison:
    """Everything that `compare` found.

    Args:
        points: operating points in the order of domain, tokenizer (as given), books.
        rows: every measure of every file.
        records: how every file went through every point.
        summaries: means with intervals.
        differences: paired differences between all points of a domain.
        usage: use of every book.
        metrics: ids in the order in which they are shown.
        settings: evaluation rate, resampler, threads, bootstrap, seed and versions, as texts.
        notes: sentences that a reader of any table must see.
    """

    points: tuple[OperatingPoint, ...]
    rows: tuple[Row, ...]
    records: tuple[FileRecord, ...] = ()
    summaries: tuple[Summary, ...] = ()
    differences: tuple[Difference, ...] = ()
    usage: tuple[BookUsage, ...] = ()
    metrics: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains in the order of the points; tables never mix them."""
        return tuple(dict.fromkeys(point.domain for point in self.points))

    @property
    def failed_files(self) -> tuple[str, ...]:
        """Files that failed at some operating point."""
        return tuple(dict.fromkeys(record.file for record in self.records if record.status == "failed"))

    def summary(self, point: Point, metric: str) -> Summary | None:
        """Return the mean of one measure at one point, or None where it was not measured."""
        found = (s for s in self.summaries if s.point == point and s.metric == metric)
        return next(found, None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that strict JSON can hold; infinities become "inf" and "-inf"."""
        values: dict[str, Any] = _walk(config.to_dict(self), _infinity_to_text)
        return values

    @classmethod
    def from_dict(cls, values: object) -> Comparison:
        """Rebuild a comparison from `to_dict`.

        Raises:
            ConfigError: an unknown, missing or ill-typed key.
        """
        return config.from_dict(cls, _walk(values, _text_to_infinity), where="comparison")

    def write_json(self, path: str | Path) -> None:
        """Write the comparison as one strict JSON file (UTF-8)."""
        text = json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False, indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read_json(cls, path: str | Path) -> Comparison:
        """Read what `write_json` wrote.

        Raises:
            AudioTokensError: the file cannot be read or is not such a JSON file.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AudioTokensError(
                f"{path}: not a readable comparison, expected the JSON of compare: {error}"
            ) from None
        return cls.from_dict(values)


def _walk(value: Any, convert: Any) -> Any:
    if isinstance(value, dict):
        return {k: convert(v) if k in _NUMBERS else _walk(v, convert) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_walk(item, convert) for item in value]
    return value


def _infinity_to_text(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _text_to_infinity(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf") else value
