"""Compare tokenizers on files, beside anchors: every figure from tokens that were written and read back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from audiotokens.errors import MetricError
from audiotokens.evaluation.aggregation import Collected, aggregate
from audiotokens.evaluation.anchors.base import Anchor
from audiotokens.evaluation.cache import Cache, Found, entry_key, file_digest, metric_key
from audiotokens.evaluation.choosing import (
    TokenizerLike,
    choose_anchors,
    choose_reference,
    choose_tokenizers,
    default_prefixes,
)
from audiotokens.evaluation.coding import Learned, limited_threads, probe, probed
from audiotokens.evaluation.files import AudioFile, find_files
from audiotokens.evaluation.machine import processor_name
from audiotokens.evaluation.metrics import EVALUATION_RATE, Metric, get_metrics
from audiotokens.evaluation.results import Comparison
from audiotokens.evaluation.systems import System
from audiotokens.evaluation.work import Task, run_tasks

__all__ = ["Progress", "TokenizerLike", "compare", "default_prefixes"]

Progress = Callable[[int, int, str], None]
Entries = dict[tuple[int, int, int], Found]
"""What was found, by index of the system, index of the file, and number of books."""


def compare(
    tokenizers: TokenizerLike | Sequence[TokenizerLike],
    files: str | Path | Sequence[str | Path],
    *,
    num_codebooks: Sequence[int] | None = None,
    metrics: Sequence[str] | None = None,
    anchors: str | Anchor | Sequence[str | Anchor] = (),
    lyra: str | Path | None = None,
    unquantized: bool = False,
    against: str | None = None,
    domain: str | None = None,
    by: Literal["domain", "corpus"] = "domain",
    threads: int = 1,
    jobs: int = 1,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Measure tokenizers at several numbers of books, beside anchors, on audio files.

    Every file is encoded, written as `.tok`, read back, decoded from what was read, aligned and measured. A
    file that fails becomes failed rows with a reason, and the run goes on. A few files are coded before, to
    learn delay, speed, and whether fewer books give a prefix of all: each file is then encoded once.

    Args:
        tokenizers: names, folders, `Named` or `Tokenizer` objects; the latter are coded in this process only.
        files: files and folders; see `find_files` for speakers, domains and corpora.
        num_codebooks: operating points; default: at most six, down from all books. Tokenizers for which one
            is not legal leave it out.
        metrics: ids and groups, as `get_metrics` takes them; default: the group "default".
        anchors: names and groups, as `get_anchors` takes them, and `Anchor` objects.
        lyra: folder with the files of Lyra, for its anchors.
        unquantized: measure each tokenizer also without its quantizer, where it can decode its latents.
        against: the system that every point is compared with, as "lyra-3.2k" or "speech-16k:6".
        domain: of files that no manifest knows; speech measures are skipped elsewhere.
        by: "corpus" gives every corpus of the manifest a table of its own.
        threads: for torch, in every process.
        jobs: processes. With more than 1, a script needs the usual `if __name__ == "__main__"`.
        cache: folder that remembers what was found, such as `default_folder()`; None remembers nothing.
        seed: of the bootstrap.
        progress: called with (done, total, what) after every file of every system.

    Raises:
        AudioTokensError: a tokenizer, anchor, metric or number of books does not exist, or no file was found.

    Example:
        >>> found = compare("speech-16k", "recordings", domain="speech")  # doctest: +SKIP
    """
    chosen = get_metrics(None if metrics is None else list(metrics))
    audio = find_files(files, domain=domain)
    systems: list[System] = [*choose_tokenizers(tokenizers, num_codebooks, unquantized)]
    added, notes = choose_anchors(anchors, systems, lyra=lyra, files=[file.path for file in audio])
    systems += added
    reference = None if against is None else choose_reference(against, systems)
    run = _Run(systems, audio, chosen, Cache(cache), threads, jobs, progress)
    run.go()
    collected = run.collected(by)
    return aggregate(
        collected, systems, run.learned, threads=threads, seed=seed, reference=reference, notes=notes
    )


class _Run:
    """One comparison at work."""

    def __init__(
        self,
        systems: Sequence[System],
        files: Sequence[AudioFile],
        metrics: Sequence[Metric],
        cache: Cache,
        threads: int,
        jobs: int,
        progress: Progress | None,
    ) -> None:
        self.systems, self.files, self.metrics = systems, files, metrics
        self.cache, self.threads, self.jobs = cache, threads, jobs
        self.progress = progress or (lambda done, total, what: None)
        self.total = len(systems) * len(files)
        self.identities = [system.identity() for system in systems]
        self.learned: list[Learned] = []
        self.entries: Entries = {}
        self.digests = [file_digest(file.path) if cache.folder else "" for file in files]

    def go(self) -> None:
        """Learn, then work."""
        with limited_threads(self.threads):
            self.learn()
            self.work()

    def learn(self) -> None:
        """Learn about every system from a few files, with nothing else running."""
        digests = dict(zip((file.path for file in self.files), self.digests, strict=True))
        few = probed([file.path for file in self.files])
        for system, identity in zip(self.systems, self.identities, strict=True):
            key = {
                "system": identity,
                "books": list(system.books),
                "audio": [digests[path] for path in few],
                "align": system.align,
                "threads": self.threads,
                "processor": system.processor or processor_name(),
            }
            learned = self.cache.get(Learned, key)
            if learned is None:
                self.progress(0, self.total, f"{system.name}: delay and speed")
                learned = probe(system, few)
                if learned.sample_rate:
                    self.cache.put(key, learned)
            self.learned.append(learned)

    def work(self) -> None:
        """Take every file through every system, as far as the cache does not know it."""
        tasks: list[Task] = []
        places: list[tuple[int, int]] = []
        for place in range(len(self.systems)):
            for index in range(len(self.files)):
                task = self._task(place, index)
                if task is not None:
                    tasks.append(task)
                    places.append((place, index))
        done = self.total - len(tasks)
        if tasks:
            _check_extras(self.metrics)
        for number, results in run_tasks(
            tasks, self.systems, self.metrics, jobs=self.jobs, threads=self.threads
        ):
            place, index = places[number]
            for books, found in results.items():
                self._keep(place, index, books, found)
            done += 1
            self.progress(done, self.total, f"{self.systems[place].name}: {self.files[index].key}")

    def _task(self, place: int, index: int) -> Task | None:
        """Return what is missing of one file through one system; None where nothing is."""
        file, learned = self.files[index], self.learned[place]
        keys = {
            metric_key(metric, file.transcript): number
            for number, metric in enumerate(self.metrics)
            if not metric.why_not(file.domain, file.transcript)
        }
        wanted = {}
        for books in self.systems[place].books:
            known = None
            if self.digests[index]:
                known = self.cache.get(Found, self._key(place, index, books))
            if known is not None:
                self.entries[place, index, books] = known
            missing = {key: n for key, n in keys.items() if known is None or key not in known.values}
            if known is None or missing:
                wanted[books] = missing
        return Task(place, learned, file.path, file.transcript, wanted) if wanted else None

    def _keep(self, place: int, index: int, books: int, found: Found) -> None:
        """Take in what was found, beside what was known, and remember what will not change."""
        known = self.entries.get((place, index, books))
        if known is not None and found.facts is not None:
            found = replace(known, values={**known.values, **found.values})
        self.entries[place, index, books] = found
        if found.facts is not None and self.digests[index]:
            settled = {key: value for key, value in found.values.items() if value.settled}
            self.cache.put(self._key(place, index, books), replace(found, values=settled))

    def _key(self, place: int, index: int, books: int) -> dict[str, object]:
        return entry_key(self.identities[place], self.learned[place], self.digests[index], books)

    def collected(self, by: Literal["domain", "corpus"]) -> Collected:
        """Return everything in the order of systems, files and books."""
        collected = Collected(tuple(self.metrics))
        few = probed([file.path for file in self.files])
        for place, system in enumerate(self.systems):
            learned = self.learned[place]
            times = {(few[t.index], t.num_codebooks): t for t in learned.timings}
            for index, file in enumerate(self.files):
                for books in system.books:
                    found = self.entries[place, index, books]
                    shown = file if by == "corpus" else replace(file, corpus="")
                    collected.add(system, shown, books, found, learned, times.get((file.path, books)))
        return collected


def _check_extras(metrics: Sequence[Metric]) -> None:
    """Let a missing extra be an error before hours of work instead of after."""
    noise = np.random.default_rng(0).standard_normal(EVALUATION_RATE // 2).astype(np.float32)
    for metric in metrics:
        if metric.extra:
            with contextlib.suppress(MetricError):
                metric(noise, noise, transcript="one")
