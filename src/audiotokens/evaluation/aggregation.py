"""From files to operating points: what came in, what each point costs, how its books are used."""

from __future__ import annotations

import dataclasses
import platform
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from audiotokens.audio import RESAMPLER
from audiotokens.evaluation.cache import Found, metric_key
from audiotokens.evaluation.coding import Learned, Timing
from audiotokens.evaluation.contrasts import contrasts, summarize
from audiotokens.evaluation.files import AudioFile
from audiotokens.evaluation.machine import package_version, processor_name
from audiotokens.evaluation.metrics import EVALUATION_RATE, Metric
from audiotokens.evaluation.results import (
    BookUsage,
    Comparison,
    FileRecord,
    OperatingPoint,
    Point,
    Reference,
    Row,
    Summary,
    Table,
)
from audiotokens.evaluation.statistics import CONFIDENCE, RESAMPLES
from audiotokens.evaluation.systems import UNQUANTIZED, System
from audiotokens.evaluation.usage import UsageCounter

_PACKAGES = ("audiotokens", "numpy", "soxr", "torch")


@dataclass
class Collected:
    """What came in, file by file.

    Args:
        metrics: what is measured, in order.
        rows: every measure of every file.
        records: of every file, by operating point.
        usage: counts of codes, by operating point.
    """

    metrics: tuple[Metric, ...]
    rows: list[Row] = field(default_factory=list)
    records: dict[Point, list[FileRecord]] = field(default_factory=lambda: defaultdict(list))
    usage: dict[Point, UsageCounter] = field(default_factory=lambda: defaultdict(UsageCounter))

    def add(
        self,
        system: System,
        file: AudioFile,
        books: int,
        found: Found,
        learned: Learned,
        timing: Timing | None,
    ) -> None:
        """Take in what was found for one file at one setting of a system."""
        record = _record(system, file, books, found, learned, timing)
        self.records[record.point].append(record)
        tokens = found.read_tokens()
        if tokens is not None:
            self.usage[record.point].add(tokens, found.active_frames())
        self.rows += [_row(record, metric, found, file.transcript) for metric in self.metrics]


def aggregate(
    collected: Collected,
    systems: Sequence[System],
    learned: Sequence[Learned],
    *,
    threads: int,
    seed: int,
    reference: Reference | None = None,
    notes: Sequence[str] = (),
) -> Comparison:
    """Turn what came in into a `Comparison`.

    Args:
        collected: of all files.
        systems: in order.
        learned: about each of them.
        threads: that the timed code was allowed.
        seed: of the bootstrap.
        reference: what every point is compared with.
        notes: sentences to put before those about the files.
    """
    tables = dict.fromkeys(point.table for point in collected.records)
    known = dict(zip((system.name for system in systems), zip(systems, learned, strict=True), strict=True))
    points: list[OperatingPoint] = []
    for table in tables:
        own = [
            _operating_point(
                collected, *known[s.name], Point(table.domain, s.name, books, table.group), threads
            )
            for s in systems
            for books in s.books
        ]
        points += sorted(own, key=_place)
    summaries = summarize(points, collected.rows, collected.metrics, seed)
    return Comparison(
        points=tuple(points),
        rows=tuple(collected.rows),
        records=tuple(record for point in points for record in collected.records[point.point]),
        summaries=tuple(summaries),
        differences=tuple(contrasts(points, collected.rows, collected.metrics, seed, reference)),
        usage=tuple(_usage(collected, known.values(), tables)),
        metrics=tuple(metric.id for metric in collected.metrics),
        settings=_settings(collected.metrics, threads, seed),
        notes=(*notes, *_notes(collected, known.values(), summaries)),
        reference=reference,
    )


def _record(
    system: System, file: AudioFile, books: int, found: Found, learned: Learned, timing: Timing | None
) -> FileRecord:
    record = FileRecord(
        file=file.key,
        domain=file.domain,
        speaker=file.speaker,
        tokenizer=system.name,
        num_codebooks=books,
        group=file.corpus,
    )
    if found.facts is None:
        return dataclasses.replace(record, status="failed", reason=found.reason)
    return dataclasses.replace(
        record,
        **dataclasses.asdict(found.facts),
        shift=learned.shift,
        encode_seconds=timing.encode_seconds if timing else None,
        decode_seconds=timing.decode_seconds if timing else None,
    )


def _row(record: FileRecord, metric: Metric, found: Found, transcript: str) -> Row:
    row = Row(
        file=record.file,
        domain=record.domain,
        speaker=record.speaker,
        tokenizer=record.tokenizer,
        num_codebooks=record.num_codebooks,
        metric=metric.id,
        value=None,
        status="failed",
        reason=record.reason or "not measured",
        group=record.group,
    )
    if reason := metric.why_not(record.domain, transcript):
        return dataclasses.replace(row, status="skipped", reason=reason)
    if found.facts is None:
        return row
    value = found.values[metric_key(metric, transcript)]
    if value.value is None:
        return dataclasses.replace(row, reason=value.reason)
    return dataclasses.replace(row, value=value.value, status="ok", reason="", weight=value.weight)


def _place(point: OperatingPoint) -> tuple[int, float]:
    """Where a point stands in its table: tokenizers as given, anchors by bit rate, calibrations as given."""
    if point.kind == "anchor":
        return (1, float("inf") if point.measured_bitrate is None else point.measured_bitrate)
    return (2 if point.kind == "calibration" else 0, 0.0)


def _operating_point(
    collected: Collected, system: System, learned: Learned, point: Point, threads: int
) -> OperatingPoint:
    records = collected.records[point]
    ok = [record for record in records if record.status == "ok"]
    seconds = sum(record.duration for record in ok)
    written = sum(record.file_bytes for record in ok)
    shift, books = learned.shift, point.num_codebooks
    # speed belongs to the system and not to one table, in which no timed file may stand
    timed = _timed(collected, point)
    return OperatingPoint(
        domain=point.domain,
        tokenizer=point.tokenizer,
        num_codebooks=books,
        group=point.group,
        kind=system.kind(books),
        title=_title(system, books),
        definition=system.definition,
        fingerprint=system.fingerprint,
        codes_per_second=system.codes_per_second(books),
        nominal_bitrate=system.nominal_bitrate(books),
        measured_bitrate=8 * written / seconds if written else None,
        payload_bitrate=sum(record.payload_bits for record in ok) / seconds if written else None,
        entropy_bitrate=collected.usage[point].entropy_bitrate() if point in collected.usage else None,
        encode_speed=_speed([(r.duration, r.encode_seconds) for r in timed]),
        decode_speed=_speed([(r.duration, r.decode_seconds) for r in timed]),
        timed=len(timed),
        threads=threads,
        processor=system.processor or processor_name(),
        delay_milliseconds=None if shift is None else 1000 * shift / learned.sample_rate,
        confirmed=sum(r.delay is not None and shift is not None and abs(r.delay - shift) <= 1 for r in ok),
        inverted=sum(r.delay is not None and r.polarity < 0 for r in ok),
        files=len(records),
        failed=len(records) - len(ok),
        seconds=seconds,
    )


def _title(system: System, books: int) -> str:
    if system.kind(books) == "unquantized":
        return f"{system.title or system.name} without quantizer"
    return system.title


def _timed(collected: Collected, point: Point) -> list[FileRecord]:
    return [
        record
        for other, records in collected.records.items()
        if (other.tokenizer, other.num_codebooks) == (point.tokenizer, point.num_codebooks)
        for record in records
        if record.decode_seconds is not None and record.status == "ok"
    ]


def _speed(timed: Sequence[tuple[float, float | None]]) -> float | None:
    known = [(duration, seconds) for duration, seconds in timed if seconds]
    return sum(d for d, _ in known) / sum(s for _, s in known) if known else None


def _usage(
    collected: Collected, known: Iterable[tuple[System, Learned]], tables: Iterable[Table]
) -> list[BookUsage]:
    """Use of every book: once per tokenizer where the codes are nested, else at every point."""
    found: list[BookUsage] = []
    systems = list(known)
    for table in tables:
        for system, learned in systems:
            books = [number for number in system.books if number != UNQUANTIZED]
            for number in books[-1:] if learned.nested else books:
                point = Point(table.domain, system.name, number, table.group)
                found += collected.usage[point].books(point)
    return found


def _settings(metrics: Sequence[Metric], threads: int, seed: int) -> dict[str, str]:
    settings = {
        "evaluation rate": f"{EVALUATION_RATE} Hz, mono (mean of the channels)",
        "resampler": RESAMPLER,
        "threads": str(threads),
        "intervals": f"{CONFIDENCE:.0%}, bootstrap over speakers, {RESAMPLES} draws, seed {seed}",
        "entropy bitrate": "zero-order entropy of the codes of these files, Miller-Madow",
        "speed": f"a few files one at a time, nothing else running, after a warm-up, on {processor_name()}",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    settings |= {f"metric {metric.id}": metric.definition for metric in metrics}
    packages = dict.fromkeys((*_PACKAGES, *(package for metric in metrics for package in metric.packages)))
    found = {package: package_version(package) for package in packages}
    return settings | {f"version {package}": version for package, version in found.items() if version}


def _notes(
    collected: Collected, known: Iterable[tuple[System, Learned]], summaries: Sequence[Summary]
) -> list[str]:
    notes = []
    for system, learned in known:
        if learned.shift is None and system.align:
            notes.append(
                f"{system.name}: no common delay was found, its files were measured without alignment"
            )
        if not learned.nested and sum(books != UNQUANTIZED for books in system.books) > 1:
            notes.append(f"{system.name}: fewer books are no prefix of all, each point was encoded by itself")
    records = [record for found in collected.records.values() for record in found]
    failed = dict.fromkeys(record.file for record in records if record.status == "failed")
    if failed:
        total = len({record.file for record in records})
        notes.append(
            f"{len(failed)} of {total} files failed at some point, the first is {next(iter(failed))}"
        )
    if any(summary.count < summary.ok for summary in summaries):
        notes.append("means are over the files that are ok at every compared point; N says how many")
    return notes
