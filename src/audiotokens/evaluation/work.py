"""The work on one file through one system, here or in other processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from audiotokens.errors import AudioTokensError, MetricError
from audiotokens.evaluation.cache import Found, Value
from audiotokens.evaluation.coding import Coded, Learned, Pair, code_file, one_line
from audiotokens.evaluation.metrics import Metric
from audiotokens.evaluation.systems import System

_AHEAD = 4


@dataclass(frozen=True)
class Task:
    """One file through one system.

    Args:
        system: index of the system.
        learned: about it.
        file: path.
        transcript: of the file; may be empty.
        wanted: by number of books, the keys of the measures with their indices.
    """

    system: int
    learned: Learned
    file: Path
    transcript: str
    wanted: Mapping[int, Mapping[str, int]]


Result = dict[int, Found]
"""What a task gave, by number of books."""


def run_tasks(
    tasks: Sequence[Task], systems: Sequence[System], metrics: Sequence[Metric], *, jobs: int, threads: int
) -> Iterator[tuple[int, Result]]:
    """Work on tasks, and give the index of each with its result as it is done.

    Systems that no other process can load are coded in this one, while the others measure.

    Args:
        tasks: what to do.
        systems: that the tasks name.
        metrics: that the tasks name.
        jobs: processes; 1: this one.
        threads: of torch, in each other process.

    Raises:
        AudioTokensError: a process died.
    """
    if jobs == 1 or not tasks:
        for index, task in enumerate(tasks):
            yield index, _whole(task, systems[task.system], metrics)
        return
    sent = [system.sent() for system in systems]
    away = [index for index, task in enumerate(tasks) if sent[task.system] is not None]
    here = {index: None for index, task in enumerate(tasks) if sent[task.system] is None}
    context = multiprocessing.get_context("spawn")
    setup = (tuple(sent), tuple(metrics), threads)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_set_up, initargs=setup) as pool:
        try:
            futures = {pool.submit(_work, tasks[index]): index for index in away}
            for index in here:
                task = tasks[index]
                coded = code_file(systems[task.system], task.learned, task.file, list(task.wanted))
                futures[pool.submit(_measured, task, coded)] = index
                # what waits to be measured is held in memory
                while sum(waiting in here for waiting in futures.values()) > _AHEAD * jobs:
                    yield from _finished(futures)
            while futures:
                yield from _finished(futures)
        except BrokenProcessPool:
            raise AudioTokensError(
                "a process of the comparison died, perhaps for want of memory: run again with fewer jobs; "
                "with a cache it goes on from here"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _finished(futures: dict[Future[Result], int]) -> Iterator[tuple[int, Result]]:
    done, _ = wait(futures, return_when=FIRST_COMPLETED)
    for future in done:
        yield futures.pop(future), future.result()


_systems: tuple[System | None, ...] = ()
_metrics: tuple[Metric, ...] = ()


def _set_up(systems: tuple[System | None, ...], metrics: tuple[Metric, ...], threads: int) -> None:
    global _systems, _metrics
    _systems, _metrics = systems, metrics
    # read when torch is imported, which a tokenizer does
    os.environ["OMP_NUM_THREADS"] = str(threads)


def _work(task: Task) -> Result:
    system = _systems[task.system]
    if system is None:
        raise AudioTokensError("this process was not given the system of its task")
    return _whole(task, system, _metrics)


def _whole(task: Task, system: System, metrics: Sequence[Metric]) -> Result:
    coded = code_file(system, task.learned, task.file, list(task.wanted))
    return _results(task, coded, metrics)


def _measured(task: Task, coded: dict[int, Coded | str]) -> Result:
    return _results(task, coded, _metrics)


def _results(task: Task, coded: Mapping[int, Coded | str], metrics: Sequence[Metric]) -> Result:
    results = {}
    for books, wanted in task.wanted.items():
        one = coded[books]
        values = {}
        if isinstance(one, Coded):
            values = {key: _measure(metrics[i], one.pair, task.transcript) for key, i in wanted.items()}
        results[books] = Found.of(one, values)
    return results


def _measure(metric: Metric, pair: Pair, transcript: str) -> Value:
    try:
        measured = metric.measure(*pair, transcript=transcript)
        return Value(measured.value, weight=measured.weight)
    except MetricError as error:
        return Value(None, one_line(error))
    except Exception as error:
        return Value(None, one_line(error), settled=False)
