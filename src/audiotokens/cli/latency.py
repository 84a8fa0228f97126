"""`audiotokens latency`: how late a tokenizer is, declared and measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from audiotokens.cli.batch import loaded
from audiotokens.cli.options import (
    DEFAULT_MODEL,
    choice,
    device_option,
    engine_option,
    exact_option,
    json_option,
)
from audiotokens.cli.text import format_table, print_json

if TYPE_CHECKING:
    from audiotokens.engines import Engine
    from audiotokens.latency import Latency, StepTimes
    from audiotokens.tokenizer import Tokenizer

_WRONG = 1

threads_option = choice(
    "--threads", default=1, kind=click.IntRange(min=1), text="Threads that torch may take for a step."
)
chunk_option = click.option(
    "--chunk",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="Milliseconds per step; default: one frame.",
)


def streaming(name: str, exact: bool, device: str, engine: Engine, threads: int) -> Tokenizer:
    """Load a tokenizer for steps on so many threads.

    Raises:
        NotOfferedError: it is a vocoder.
    """
    from audiotokens.errors import NotOfferedError
    from audiotokens.tokenizer import Tokenizer

    tokenizer = loaded(name, exact, device, engine=engine)
    if not isinstance(tokenizer, Tokenizer):
        raise NotOfferedError(f"{name} is a vocoder: it has no codes")
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
    return tokenizer


@click.command(epilog="Example: audiotokens latency speech-16k-stream --chunk 20")
@click.argument("tokenizer", default=DEFAULT_MODEL)
@chunk_option
@choice(
    "--seconds", default=5.0, kind=click.FloatRange(min=0.1), text="Of sound to time steps with; 0.1 or more."
)
@threads_option
@device_option
@engine_option
@exact_option
@json_option
def latency(
    tokenizer: str,
    chunk: float | None,
    seconds: float,
    threads: int,
    device: str,
    engine: Engine,
    exact: bool,
    as_json: bool,
) -> None:
    """Tell how late a tokenizer is, declared and measured.

    TOKENIZER is a name, a folder or hf:org/name. What is measured is found by changing sound and codes and
    watching what comes out; then steps are timed. The exit code is 1 if sessions wait longer than declared,
    or if more is read.
    """
    from audiotokens.config import to_dict
    from audiotokens.latency import measure_latency, measure_steps

    subject = streaming(tokenizer, exact, device, engine, threads)
    found = measure_latency(subject)
    rate = subject.spec.sample_rate
    size = None if chunk is None else max(round(chunk * rate / 1000), 1)
    times = measure_steps(subject, chunk=size, seconds=seconds)
    if as_json:
        print_json(
            {"latency": to_dict(found), "agrees": found.agrees, "threads": threads, "steps": to_dict(times)}
        )
    else:
        click.echo(f"{found.name}: {found.hop} samples or {found.milliseconds(found.hop):g} ms per frame\n")
        click.echo(_table(found))
        click.echo(
            f"\nsteps of {found.milliseconds(times.chunk):g} ms, {threads} thread{'s' * (threads > 1)}\n"
        )
        click.echo(_times(times))
    if not found.agrees:
        raise click.exceptions.Exit(_WRONG)


def _table(found: Latency) -> str:
    """Waiting behind the end of a frame, and the whole of it, which a frame's own samples are part of."""
    rows = []
    for side in ("encoder", "decoder", "round_trip"):
        delay = getattr(found, side)
        name = side.replace("_", " ")
        if delay is None:
            reason = found.not_offered.get(side)
            rows += [[name, f"not offered: {reason}"]] if reason else []
            continue
        whole = found.milliseconds(delay.session + found.hop)
        numbers = (delay.declared, delay.changed, delay.later, delay.session)
        rows.append([name, *map(str, numbers), f"{whole:g} ms"])
    field = found.receptive_field
    if field is not None:
        shown = ["-" if value is None else str(value) for value in (field.declared, field.changed)]
        rows.append(["receptive field", *shown])
    header = [
        "samples",
        "declared",
        "measured",
        "beyond the beginning",
        "in sessions",
        "with its frame",
    ]
    widest = max(map(len, rows))
    return format_table(header[:widest], [row + [""] * (widest - len(row)) for row in rows])


def _times(times: StepTimes) -> str:
    rows: list[list[Any]] = []
    for side, steps in (("encoder", times.encoder), ("decoder", times.decoder)):
        if steps is not None:
            low, high, highest = (f"{value:.2f}" for value in steps.milliseconds)
            rows.append([side, low, high, highest, f"{steps.real_time_factor:.1f}", str(steps.count)])
    return format_table(["ms per step", "p50", "p95", "p99", "x real time", "steps"], rows)
