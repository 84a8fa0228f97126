"""Running one verb over many files: failures are recorded, the rest goes on, the exit code tells."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import click

from audiotokens.cli.options import BatchOptions
from audiotokens.cli.paths import PIPE, Item, check_free
from audiotokens.cli.progress import ProgressBar
from audiotokens.cli.text import one_line, print_json
from audiotokens.errors import AudioTokensError, DamagedError

if TYPE_CHECKING:
    from audiotokens.engines import Engine
    from audiotokens.recordings import Progress
    from audiotokens.tokenizer import Encoder, Tokenizer

Record = dict[str, Any]
Work = Callable[[Item], Record]


_watcher: ContextVar[Progress | None] = ContextVar("watcher", default=None)


def watch(seconds: float, length: float | None) -> None:
    """Show how far the file is that is worked on; in another process, which has no bar, do nothing."""
    watcher = _watcher.get()
    if watcher:
        watcher(seconds, length)


@contextlib.contextmanager
def _watched(watcher: Progress) -> Iterator[None]:
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@functools.lru_cache(maxsize=2)
def loaded(name: str, exact: bool, device: str, search_width: int = 1, engine: Engine = "auto") -> Tokenizer:
    """Load a tokenizer once in each process."""
    from audiotokens import registry

    return registry.load(name, exact=exact, device=device, search_width=search_width, engine=engine)


def windowed(tokenizer: Tokenizer, window: float | None) -> Tokenizer:
    """Return the tokenizer in windows of so many seconds; itself for None."""
    if window is None:
        return tokenizer
    from audiotokens.recordings import Windowed

    return Windowed(tokenizer, window=window, overlap=min(2.0, window / 4))


def disagreement(encoder: Encoder | None) -> Record:
    """What a session in windows says of them, as a part of a record; nothing for other sessions."""
    from audiotokens.recordings import WindowEncoder

    found = encoder.disagreement if isinstance(encoder, WindowEncoder) else None
    return {"disagreement": dataclasses.asdict(found)} if found else {}


def disagreement_text(record: Record) -> str:
    """Return how a line about a record ends, if windows have disagreed in it."""
    found = record.get("disagreement")
    if not found:
        return ""
    overlaps, cuts = f"{found['overlaps']:.2%}", f"{found['cuts']:.2%}"
    return f"; windows disagree on {overlaps} of the codes in their overlaps, {cuts} beside the cuts"


def run_batch(
    items: Sequence[Item], work: Work, describe: Callable[[Record], str], options: BatchOptions
) -> None:
    """Work on every item, report, and end with the exit code that the failures ask for.

    Args:
        items: what to read and write.
        work: makes one output and returns its record; a module-level function or a `functools.partial` of
            one, since other processes may run it.
        describe: what is printed for a record.
        options: of the command line.

    Raises:
        AudioTokensError: "-o -" with --json, or with a terminal.
        Exit: an item failed: code 3 if all failures are damaged data, 1 if one is unexpected, else 2.
    """
    if options.as_json and any(item.output == PIPE for item in items):
        raise AudioTokensError("--json and -o - both write to stdout: give one of them")
    if any(item.output == PIPE for item in items) and sys.stdout.isatty():
        raise AudioTokensError("stdout is a terminal: give -o FILE, or pipe it into a file or program")
    records: list[Record] = []
    traces: set[str] = set()
    attempt = functools.partial(_attempt, work, options.force)
    bar = ProgressBar(options.progress)

    def within(seconds: float, length: float | None) -> None:
        name = os.path.basename(items[len(records)].source)
        bar.within(len(records), len(items), seconds, length, name)

    with bar, _watched(within):
        for item, record in zip(items, _outcomes(attempt, items, options.jobs)):
            records.append(record)
            bar.update(len(records), len(items), os.path.basename(item.source))
            _report_trace(record.pop("trace", ""), traces)
            _report(record, describe, options.as_json or item.output == PIPE)
    failed = [record for record in records if record["status"] == "failed"]
    if options.as_json:
        print_json({"results": records, "succeeded": len(records) - len(failed), "failed": len(failed)})
    _finish(failed, len(records))


def _attempt(work: Work, force: bool, item: Item) -> Record:
    record: Record = {"input": item.source}
    try:
        if item.output:
            record["output"] = item.output
            check_free(item.output, force)
        return record | {"status": "ok"} | work(item)
    except (AudioTokensError, OSError) as error:
        code = error.exit_code if isinstance(error, AudioTokensError) else AudioTokensError.exit_code
        return record | {"status": "failed", "error": _reason(error), "exit_code": code}
    except Exception as error:
        reason = f"unexpected {type(error).__name__}: {one_line(str(error))}"
        return record | {"status": "failed", "error": reason, "exit_code": 1, "trace": traceback.format_exc()}


def _reason(error: AudioTokensError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return one_line(str(error))


def _outcomes(attempt: Callable[[Item], Record], items: Sequence[Item], jobs: int) -> Iterator[Record]:
    if min(jobs, len(items)) == 1:
        yield from map(attempt, items)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    workers = min(jobs, len(items))
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
        yield from pool.map(attempt, items)


def _start_worker() -> None:
    # Several processes with several threads each only wait for one another. Read when torch is imported.
    os.environ["OMP_NUM_THREADS"] = "1"


def _report_trace(trace: str, seen: set[str]) -> None:
    """Print a trace unless an earlier file failed in the same way."""
    if trace and trace not in seen:
        seen.add(trace)
        click.echo(trace, nl=False, err=True)


def _report(record: Record, describe: Callable[[Record], str], quiet: bool) -> None:
    for warning in record.get("warnings", ()):
        click.echo(f"warning: {one_line(record['input'])}: {one_line(warning)}", err=True)
    if record["status"] == "failed":
        named = record["input"] in record["error"] or record["input"] == PIPE
        click.echo(f"error: {'' if named else one_line(record['input']) + ': '}{record['error']}", err=True)
    elif not quiet:
        click.echo(describe(record))


def _finish(failed: Sequence[Record], total: int) -> None:
    if not failed:
        return
    if total > 1:
        click.echo(f"error: {len(failed)} of {total} failed", err=True)
    codes = {record["exit_code"] for record in failed}
    code = 1 if 1 in codes else DamagedError.exit_code if codes == {DamagedError.exit_code} else 2
    raise click.exceptions.Exit(code)
