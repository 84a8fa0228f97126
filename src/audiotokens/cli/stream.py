"""`audiotokens stream`: sound to tokens to sound, live."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from audiotokens.cli.latency import chunk_option, streaming, threads_option
from audiotokens.cli.options import (
    choice,
    codebooks_option,
    device_option,
    engine_option,
    exact_option,
    gathered,
    switch,
)

if TYPE_CHECKING:
    from audiotokens.engines import Engine
    from audiotokens.live import Summary
    from audiotokens.tokenizer import Tokenizer

_DEFAULT = "speech-16k-stream"


@dataclass(frozen=True)
class Ends:
    """What goes in and comes out.

    Args:
        encode: only encode, to lines of codes.
        decode: only decode, from lines of codes.
        microphone: read it instead of stdin.
        play: on the loudspeaker instead of stdout.
        rate: of the sound, in Hz; None: the tokenizer's own.
        pcm_format: of stdin and stdout.
        chunk: milliseconds per step; None: one frame.
    """

    encode: bool
    decode: bool
    microphone: bool
    play: bool
    rate: int | None
    pcm_format: str
    chunk: float | None


@click.command(epilog="Example: audiotokens stream --microphone --play -k 6")
@click.argument("tokenizer", default=_DEFAULT)
@gathered(
    Ends,
    "ends",
    switch("--encode", text="Only encode: PCM on stdin becomes lines of codes on stdout."),
    switch("--decode", text="Only decode: lines of codes on stdin become PCM on stdout."),
    switch("--microphone", text="Read the microphone instead of stdin (extra live)."),
    switch("--play", text="Play instead of writing to stdout (extra live)."),
    click.option("--rate", type=click.IntRange(min=1), help="Of the sound, in Hz; default: the tokenizer's."),
    choice(
        "--format", "pcm_format", default="s16le", kind=click.Choice(["s16le", "f32le"]), text="Of the PCM."
    ),
    chunk_option,
)
@codebooks_option
@threads_option
@device_option
@engine_option
@exact_option
@switch("--json", "as_json", text="Print the statistics as one JSON document, on stderr too.")
def stream(
    tokenizer: str,
    ends: Ends,
    codebooks: int | None,
    threads: int,
    device: str,
    engine: Engine,
    exact: bool,
    as_json: bool,
) -> None:
    """Pass live sound through tokens and back.

    TOKENIZER is a name, a folder or hf:org/name. Raw PCM comes on stdin, with as many interleaved channels as
    the tokenizer has, and goes to stdout; what is final is written at once. Ctrl-C ends the stream.
    Statistics go to stderr.
    """
    from audiotokens.errors import AudioTokensError
    from audiotokens.live import Stopwatch, run_stream

    if ends.encode and ends.decode:
        raise AudioTokensError("--encode and --decode are both given; leave both out to do both")
    if (ends.decode and ends.microphone) or (ends.encode and ends.play):
        raise AudioTokensError("--microphone gives sound and --play takes it, not codes; leave one out")
    subject = streaming(tokenizer, exact, device, engine, threads)
    watch = Stopwatch(1 / float(subject.spec.frame_rate))
    sink = _sink(subject, ends)
    source = _source(subject, ends)
    run_stream(
        subject,
        source,
        sink,
        watch,
        encode=not ends.decode,
        decode=not ends.encode,
        sample_rate=ends.rate,
        num_codebooks=codebooks,
    )
    if ends.play:
        sink.close()
    _drop_closed_stdout()
    lost = getattr(source, "overflows", 0), getattr(sink, "underflows", None)
    summary = watch.summary()
    click.echo(_as_json(summary, lost) if as_json else _report(summary, lost), err=True)


def _source(tokenizer: Tokenizer, ends: Ends) -> Any:
    from audiotokens.live import LineReader, Microphone, PcmReader

    spec = tokenizer.spec
    rate = ends.rate or spec.sample_rate
    chunk = round(rate * ends.chunk / 1000) if ends.chunk else round(rate / spec.frame_rate)
    if ends.microphone:
        return Microphone(rate, spec.channels, max(chunk, 1))
    stdin = sys.stdin.buffer
    if ends.decode:
        return LineReader(stdin, tokenizer)
    return PcmReader(stdin, ends.pcm_format, spec.channels, max(chunk, 1))


def _sink(tokenizer: Tokenizer, ends: Ends) -> Any:
    from audiotokens.errors import AudioTokensError
    from audiotokens.live import CodeLines, PcmWriter, Speaker

    if ends.play:
        return Speaker(ends.rate or tokenizer.spec.output_sample_rate, tokenizer.spec.channels)
    stdout = sys.stdout.buffer
    if ends.encode:
        return CodeLines(stdout, tokenizer)
    if sys.stdout.isatty():
        raise AudioTokensError("stdout is a terminal: give --play, or pipe the PCM into a file or program")
    return PcmWriter(stdout, ends.pcm_format)


def _drop_closed_stdout() -> None:
    """Let what could not be written to a closed pipe go nowhere, so that nothing complains at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(summary: Summary, lost: tuple[int, int | None]) -> str:
    parts = [f"{summary.audio_seconds:.1f} s of sound"]
    if summary.first_output is not None:
        parts.append(f"first output after {1000 * summary.first_output:.0f} ms")
    if summary.steps is not None:
        low, high, highest = summary.steps.milliseconds
        parts.append(f"steps {low:.1f} ms (p95 {high:.1f}, p99 {highest:.1f})")
        parts.append(f"{summary.steps.real_time_factor:.1f} x real time")
    overflows, underflows = lost
    parts.append(f"{summary.underruns if underflows is None else underflows} underruns")
    parts += [f"{overflows} overruns"] if overflows else []
    return ", ".join(parts)


def _as_json(summary: Summary, lost: tuple[int, int | None]) -> str:
    from audiotokens.config import to_dict

    overruns, underflows = lost
    underruns = summary.underruns if underflows is None else underflows
    return json.dumps(to_dict(summary) | {"underruns": underruns, "overruns": overruns})
