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
from typing import Any, Literal

from audiotokens import config
from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.points import (
    FileRecord,
    OperatingPoint,
    Point,
    Row,
    Status,
    SystemKind,
    Table,
)

__all__ = [
    "BookUsage",
    "Comparison",
    "Difference",
    "FileRecord",
    "OperatingPoint",
    "Point",
    "Reference",
    "Row",
    "Status",
    "Summary",
    "SystemKind",
    "Table",
    "Verdict",
]

Verdict = Literal["better", "worse", "tie"]
_NUMBERS = frozenset({"value", "mean", "low", "high"})


@dataclass(frozen=True)
class Summary:
    """Mean of one measure at one operating point, over the files that are ok at every compared point.

    Calibrations are not among the compared points: they never take a file away from the others.

    Args:
        domain, tokenizer, num_codebooks, metric: the key.
        mean: None where no file is ok.
        low: lower end of the 95 % interval (bootstrap over speakers); None with fewer than two speakers.
        high: upper end.
        count: number of files in the mean.
        speakers: number of speakers in the mean.
        ok: number of files that are ok at this point, whether or not at the others.
        total: number of files given.
        group: corpus that the tables are split by, or empty.
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
    group: str = ""

    @property
    def point(self) -> Point:
        """The operating point that the mean belongs to."""
        return Point(self.domain, self.tokenizer, self.num_codebooks, self.group)

    @property
    def flagged(self) -> bool:
        """Whether more than 1 % of the files are missing from the mean."""
        return self.total - self.count > 0.01 * self.total


@dataclass(frozen=True)
class Difference:
    """Paired difference `first - second` of one measure, on the files that are ok at both points.

    Args:
        domain, metric: the key, with `group`.
        first_tokenizer, first_codebooks, second_tokenizer, second_codebooks: the two operating points.
        mean, low, high: of the per-file differences, with their 95 % interval (bootstrap over speakers).
        count: number of files.
        speakers: number of speakers.
        group: corpus that the tables are split by, or empty.
        verdict: whether the first point is better or worse in the measure's own direction; "tie": they cannot
            be ranked. None only in files of older versions.
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
    group: str = ""
    verdict: Verdict | None = None

    @property
    def first(self) -> Point:
        """The first operating point."""
        return Point(self.domain, self.first_tokenizer, self.first_codebooks, self.group)

    @property
    def second(self) -> Point:
        """The second operating point."""
        return Point(self.domain, self.second_tokenizer, self.second_codebooks, self.group)

    @property
    def tie(self) -> bool:
        """Whether the interval includes 0, or there is none: the two points cannot be ranked."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


@dataclass(frozen=True)
class Reference:
    """The system at one setting that every point is compared with; `num_codebooks` is 0 for an anchor."""

    tokenizer: str
    num_codebooks: int = 0


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
        group: corpus that the tables are split by, or empty.
        active_codes: number of codes of active frames: within 40 dB of the file's loudest 20 ms.
        active_entropy: as `entropy`, of the active frames alone; None without any.
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
    group: str = ""
    active_codes: int = 0
    active_entropy: float | None = None

    @property
    def point(self) -> Point:
        """The operating point whose codes were counted."""
        return Point(self.domain, self.tokenizer, self.num_codebooks, self.group)

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

    @property
    def active_share(self) -> float | None:
        """`active_entropy` as a share of log2 of the size; None without active frames or a choice."""
        if self.active_entropy is None or self.size == 1:
            return None
        return self.active_entropy / math.log2(self.size)


@dataclass(frozen=True)
class Comparison:
    """Everything that `compare` found.

    Args:
        points: operating points table by table: tokenizers as given, by books, each followed by itself
            without quantizer; then anchors by bit rate; then calibrations.
        rows: every measure of every file.
        records: how every file went through every point.
        summaries: means with intervals.
        differences: paired differences between the tokenizers' points, of each to every anchor, and of every
            point to the reference.
        usage: use of every book.
        metrics: ids in the order in which they are shown.
        settings: evaluation rate, resampler, threads, bootstrap, seed and versions, as texts.
        notes: sentences that a reader of any table must see.
        reference: what every point was compared with, if that was asked for.
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
    reference: Reference | None = None

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains in the order of the points; tables never mix them."""
        return tuple(dict.fromkeys(point.domain for point in self.points))

    @property
    def tables(self) -> tuple[Table, ...]:
        """Domains, or corpora of domains, in the order of the points; nothing is averaged over two."""
        return tuple(dict.fromkeys(point.point.table for point in self.points))

    @property
    def against(self) -> tuple[Difference, ...]:
        """The differences of every point to the reference, which is the second of each."""
        if self.reference is None:
            return ()
        second = (self.reference.tokenizer, self.reference.num_codebooks)
        return tuple(d for d in self.differences if (d.second_tokenizer, d.second_codebooks) == second)

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
