"""Compare tokenizers on files: every figure from tokens that were written, read back and decoded."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from audiotokens.errors import AudioTokensError, MetricError, NotOfferedError
from audiotokens.evaluation.aggregation import Collected, Verdict, aggregate
from audiotokens.evaluation.coding import Outcome, Subject, code_file, limited_threads, one_line, probe
from audiotokens.evaluation.files import find_files
from audiotokens.evaluation.metrics import EVALUATION_RATE, Metric, get_metrics
from audiotokens.evaluation.results import Comparison, FileRecord
from audiotokens.tokenizer import Tokenizer

TokenizerLike = str | Path | Tokenizer
Progress = Callable[[int, int, str], None]
Pair = tuple[np.ndarray, np.ndarray]
_CHUNK = 16
_PARTS = (1, 2, 3, 4, 6, 12)


def compare(
    tokenizers: TokenizerLike | Sequence[TokenizerLike],
    files: str | Path | Sequence[str | Path],
    *,
    num_codebooks: Sequence[int] | None = None,
    metrics: Sequence[str] | None = None,
    domain: str | None = None,
    threads: int = 1,
    jobs: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Measure tokenizers at several numbers of books on audio files.

    Every file is encoded, written as `.tok`, read back, decoded from what was read, aligned and measured. A
    file that fails becomes failed rows with a reason, and the run goes on. Where fewer books give a prefix of
    all books (checked on a few files), each file is encoded once. Encoding with fewer books is then timed on
    those few files only.

    Args:
        tokenizers: names, folders or `Tokenizer` objects.
        files: files and folders; see `find_files` for speakers and domains.
        num_codebooks: operating points; default: at most six, down from all books. Tokenizers for which one
            is not legal leave it out.
        metrics: ids; default: all.
        domain: of files that no manifest knows, such as "speech"; speech measures are skipped elsewhere.
        threads: for torch, in the timed encoding and decoding.
        jobs: processes for the measures; they rest while encoding and decoding are timed. With more than 1, a
            script needs the usual `if __name__ == "__main__"`.
        seed: of the bootstrap.
        progress: called with (done, total, what) after every file of every tokenizer.

    Raises:
        AudioTokensError: a tokenizer, metric or number of books does not exist, or no file was found.

    Example:
        >>> found = compare("speech-16k", "recordings", domain="speech")  # doctest: +SKIP
        >>> print(format_table(found))  # doctest: +SKIP
    """
    chosen = get_metrics(None if metrics is None else list(metrics))
    _check_extras(chosen)
    audio = find_files(files, domain=domain)
    subjects = _subjects(tokenizers, num_codebooks)
    collected = Collected(chosen)
    done, total = 0, len(subjects) * len(audio)
    with limited_threads(threads), _measuring(chosen, jobs) as measure:
        for subject in subjects:
            probe(subject, audio)
            for start in range(0, len(audio), _CHUNK):
                outcomes: list[Outcome] = []
                for file in audio[start : start + _CHUNK]:
                    outcomes += code_file(subject, file)
                    done += 1
                    if progress:
                        progress(done, total, f"{subject.name}: {file.key}")
                collected.add(outcomes, measure(outcomes))
    return aggregate(collected, subjects, threads=threads, seed=seed)


def default_prefixes(legal: Sequence[int]) -> tuple[int, ...]:
    """Return at most six legal numbers of books: all, a half, a third, a quarter, a sixth and a twelfth."""
    most = max(legal)
    return tuple(
        sorted({max((k for k in legal if k <= most // part), default=min(legal)) for part in _PARTS})
    )


def _subjects(
    tokenizers: TokenizerLike | Sequence[TokenizerLike], num_codebooks: Sequence[int] | None
) -> list[Subject]:
    given = [tokenizers] if isinstance(tokenizers, str | Path | Tokenizer) else list(tokenizers)
    if not given:
        raise AudioTokensError("no tokenizer to compare: give a name, a folder or a Tokenizer")
    if num_codebooks is not None and not num_codebooks:
        raise AudioTokensError("num_codebooks is empty: name at least one number of books")
    subjects: list[Subject] = []
    for item in given:
        tokenizer = item if isinstance(item, Tokenizer) else _load(item)
        spec = tokenizer.spec
        if not (spec.can_encode and spec.can_decode):
            raise NotOfferedError(f"{spec.name} does not both encode and decode, which a comparison needs")
        wanted = default_prefixes(spec.legal_prefixes) if num_codebooks is None else num_codebooks
        books = tuple(sorted(set(wanted) & set(spec.legal_prefixes)))
        if not books:
            spec.check_prefix(wanted[0])
        subjects.append(Subject(_unique_name(tokenizer, subjects), tokenizer, books))
    legal = {books for subject in subjects for books in subject.books}
    for number in num_codebooks or ():
        if number not in legal:
            raise AudioTokensError(f"num_codebooks {number} is legal for none of the tokenizers")
    return subjects


def _load(name: str | Path) -> Tokenizer:
    from audiotokens.registry import load

    return load(name)


def _unique_name(tokenizer: Tokenizer, before: list[Subject]) -> str:
    name, fingerprint = tokenizer.spec.name, tokenizer.fingerprint
    if any(subject.tokenizer.fingerprint == fingerprint for subject in before):
        raise AudioTokensError(f"{name} ({fingerprint[:8]}) is given twice: name each tokenizer once")
    taken = any(subject.name == name for subject in before)
    return f"{name} ({fingerprint[:8]})" if taken else name


def _check_extras(metrics: tuple[Metric, ...]) -> None:
    """Let a missing extra be an error before hours of work instead of after."""
    noise = np.random.default_rng(0).standard_normal(EVALUATION_RATE // 2).astype(np.float32)
    for metric in metrics:
        if metric.extra:
            with contextlib.suppress(MetricError):
                metric(noise, noise)


@contextlib.contextmanager
def _measuring(
    metrics: tuple[Metric, ...], jobs: int
) -> Iterator[Callable[[list[Outcome]], list[list[Verdict]]]]:
    """Give the function that measures a list of outcomes, in this process or in `jobs` others."""
    if jobs == 1:
        yield lambda outcomes: [_measure(metrics, outcome.record, outcome.pair) for outcome in outcomes]
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:

        def spread(outcomes: list[Outcome]) -> list[list[Verdict]]:
            records, pairs = [o.record for o in outcomes], [o.pair for o in outcomes]
            return list(pool.map(_measure, [metrics] * len(outcomes), records, pairs))

        yield spread


def _measure(metrics: tuple[Metric, ...], record: FileRecord, pair: Pair | None) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for metric in metrics:
        if metric.domains and record.domain not in metric.domains:
            reason = (
                f"defined for {', '.join(metric.domains)} only, the domain of this file is {record.domain}"
            )
            verdicts.append((None, "skipped", reason))
        elif pair is None:
            verdicts.append((None, "failed", record.reason))
        else:
            verdicts.append(_measure_one(metric, pair))
    return verdicts


def _measure_one(metric: Metric, pair: Pair) -> Verdict:
    try:
        return metric(*pair), "ok", ""
    except Exception as error:
        return None, "failed", one_line(error)
