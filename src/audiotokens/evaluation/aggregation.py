"""From files to operating points, means with intervals, and paired differences."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations

from audiotokens.audio import RESAMPLER
from audiotokens.evaluation.coding import Outcome, Subject
from audiotokens.evaluation.metrics import EVALUATION_RATE, Metric
from audiotokens.evaluation.results import (
    BookUsage,
    Comparison,
    Difference,
    FileRecord,
    OperatingPoint,
    Point,
    Row,
    Status,
    Summary,
)
from audiotokens.evaluation.statistics import CONFIDENCE, RESAMPLES, mean_interval, paired_interval
from audiotokens.evaluation.usage import UsageCounter

Verdict = tuple[float | None, Status, str]
_PACKAGES = ("audiotokens", "numpy", "soxr", "torch", "pesq", "pystoi")


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

    def add(self, outcomes: Sequence[Outcome], verdicts: Sequence[Sequence[Verdict]]) -> None:
        """Take in outcomes with one verdict for each metric."""
        for outcome, found in zip(outcomes, verdicts, strict=True):
            record = outcome.record
            self.records[record.point].append(record)
            if outcome.tokens is not None:
                self.usage[record.point].add(outcome.tokens)
            for metric, (value, status, reason) in zip(self.metrics, found, strict=True):
                self.rows.append(
                    Row(
                        file=record.file,
                        domain=record.domain,
                        speaker=record.speaker,
                        tokenizer=record.tokenizer,
                        num_codebooks=record.num_codebooks,
                        metric=metric.id,
                        value=value,
                        status=status,
                        reason=reason,
                    )
                )


def aggregate(collected: Collected, subjects: Sequence[Subject], *, threads: int, seed: int) -> Comparison:
    """Turn what came in into a `Comparison`.

    Args:
        collected: of all files.
        subjects: the tokenizers in order.
        threads: that the timed code was allowed.
        seed: of the bootstrap.
    """
    domains = dict.fromkeys(point.domain for point in collected.records)
    points = [Point(domain, s.name, books) for domain in domains for s in subjects for books in s.books]
    by_name = {subject.name: subject for subject in subjects}
    summaries: list[Summary] = []
    differences: list[Difference] = []
    for domain in domains:
        own = [point for point in points if point.domain == domain]
        for metric in collected.metrics:
            values, speakers, total = _values(collected.rows, own, metric.id)
            if any(values.values()):
                summaries += _summaries(values, speakers, total, metric.id, seed)
                differences += _differences(values, speakers, metric.id, seed)
    return Comparison(
        points=tuple(
            _operating_point(collected, by_name[point.tokenizer], point, threads) for point in points
        ),
        rows=tuple(collected.rows),
        records=tuple(record for point in points for record in collected.records[point]),
        summaries=tuple(summaries),
        differences=tuple(differences),
        usage=tuple(_usage(collected, subjects, domains)),
        metrics=tuple(metric.id for metric in collected.metrics),
        settings=_settings(collected.metrics, threads, seed),
        notes=tuple(_notes(collected, subjects, summaries)),
    )


def _values(
    rows: Sequence[Row], points: Sequence[Point], metric: str
) -> tuple[dict[Point, dict[str, float]], dict[str, str], int]:
    """Return ok values by point and file, speakers by file, and the number of files."""
    values: dict[Point, dict[str, float]] = {point: {} for point in points}
    speakers: dict[str, str] = {}
    for row in rows:
        if row.metric == metric and row.point in values:
            speakers[row.file] = row.speaker
            if row.value is not None:
                values[row.point][row.file] = row.value
    return values, speakers, len(speakers)


def _summaries(
    values: Mapping[Point, Mapping[str, float]],
    speakers: Mapping[str, str],
    total: int,
    metric: str,
    seed: int,
) -> list[Summary]:
    # a point where nothing is ok must not empty the means of the others
    alive = [set(found) for found in values.values() if found]
    common = set.intersection(*alive)
    summaries = []
    for point, found in values.items():
        files = [file for file in found if file in common]
        interval = mean_interval(
            [found[file] for file in files], [speakers[file] for file in files], seed=seed
        )
        summaries.append(
            Summary(
                domain=point.domain,
                tokenizer=point.tokenizer,
                num_codebooks=point.num_codebooks,
                metric=metric,
                mean=interval.mean,
                low=interval.low,
                high=interval.high,
                count=interval.count,
                speakers=interval.speakers,
                ok=len(found),
                total=total,
            )
        )
    return summaries


def _differences(
    values: Mapping[Point, Mapping[str, float]], speakers: Mapping[str, str], metric: str, seed: int
) -> list[Difference]:
    differences = []
    for first, second in combinations(values, 2):
        interval = paired_interval(values[first], values[second], speakers, seed=seed)
        differences.append(
            Difference(
                domain=first.domain,
                metric=metric,
                first_tokenizer=first.tokenizer,
                first_codebooks=first.num_codebooks,
                second_tokenizer=second.tokenizer,
                second_codebooks=second.num_codebooks,
                mean=interval.mean,
                low=interval.low,
                high=interval.high,
                count=interval.count,
                speakers=interval.speakers,
            )
        )
    return differences


def _operating_point(collected: Collected, subject: Subject, point: Point, threads: int) -> OperatingPoint:
    spec = subject.tokenizer.spec
    records = collected.records[point]
    ok = [record for record in records if record.status == "ok"]
    seconds = sum(record.duration for record in ok)
    shift = subject.shift
    return OperatingPoint(
        domain=point.domain,
        tokenizer=point.tokenizer,
        num_codebooks=point.num_codebooks,
        fingerprint=subject.tokenizer.fingerprint,
        codes_per_second=_codes_per_second(subject, point.num_codebooks),
        nominal_bitrate=spec.bitrate(point.num_codebooks),
        measured_bitrate=8 * sum(record.file_bytes for record in ok) / seconds if seconds else None,
        entropy_bitrate=collected.usage[point].entropy_bitrate() if ok else None,
        encode_speed=_speed([(r.duration, r.encode_seconds) for r in ok]),
        decode_speed=_speed([(r.duration, r.decode_seconds) for r in ok]),
        threads=threads,
        delay_milliseconds=None if shift is None else 1000 * shift / spec.output_sample_rate,
        confirmed=sum(r.delay is not None and shift is not None and abs(r.delay - shift) <= 1 for r in ok),
        inverted=sum(r.delay is not None and r.polarity < 0 for r in ok),
        files=len(records),
        failed=len(records) - len(ok),
        seconds=seconds,
    )


def _codes_per_second(subject: Subject, num_codebooks: int) -> float:
    left, total = num_codebooks, 0.0
    for stream in subject.tokenizer.spec.streams:
        if stream.frame_rate > 0:
            books = min(left, stream.num_codebooks)
            total += float(stream.frame_rate) * books
            left -= books
    return total


def _speed(timed: Sequence[tuple[float, float | None]]) -> float | None:
    known = [(duration, seconds) for duration, seconds in timed if seconds]
    return sum(d for d, _ in known) / sum(s for _, s in known) if known else None


def _usage(collected: Collected, subjects: Sequence[Subject], domains: Mapping[str, None]) -> list[BookUsage]:
    """Use of every book: once per tokenizer where the codes are nested, else at every point."""
    found: list[BookUsage] = []
    for domain in domains:
        for subject in subjects:
            for books in (subject.most,) if subject.nested else subject.books:
                point = Point(domain, subject.name, books)
                found += collected.usage[point].books(point)
    return found


def _settings(metrics: Sequence[Metric], threads: int, seed: int) -> dict[str, str]:
    settings = {
        "evaluation rate": f"{EVALUATION_RATE} Hz, mono (mean of the channels)",
        "resampler": RESAMPLER,
        "threads": str(threads),
        "intervals": f"{CONFIDENCE:.0%}, bootstrap over speakers, {RESAMPLES} draws, seed {seed}",
        "entropy bitrate": "zero-order entropy of the codes of these files, Miller-Madow",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    settings |= {f"metric {metric.id}": metric.definition for metric in metrics}
    for package in _PACKAGES:
        try:
            settings[f"version {package}"] = version(package)
        except PackageNotFoundError:
            continue
    return settings


def _notes(collected: Collected, subjects: Sequence[Subject], summaries: Sequence[Summary]) -> list[str]:
    notes = []
    for subject in subjects:
        if subject.shift is None:
            notes.append(
                f"{subject.name}: no common delay was found, its files were measured without alignment"
            )
        if not subject.nested and len(subject.books) > 1:
            notes.append(
                f"{subject.name}: fewer books are no prefix of all, each point was encoded by itself"
            )
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
