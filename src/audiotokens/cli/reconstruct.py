"""`audiotokens reconstruct`: audio in, the same audio through tokens out."""

from __future__ import annotations

import functools
import time

import click

from audiotokens.cli import paths
from audiotokens.cli.batch import Record, loaded, run_batch
from audiotokens.cli.decode import restored
from audiotokens.cli.options import (
    BatchOptions,
    batch_options,
    codebooks_option,
    format_option,
    model_option,
    search_option,
)
from audiotokens.cli.text import one_line


@click.command(epilog="Example: audiotokens reconstruct speech.wav -k 6 -o speech-6.wav")
@click.argument("inputs", nargs=-1, required=True)
@model_option
@codebooks_option
@search_option
@format_option
@batch_options
def reconstruct(
    inputs: tuple[str, ...],
    model: str,
    codebooks: int | None,
    search_width: int,
    audio_format: str,
    options: BatchOptions,
) -> None:
    """Pass audio through tokens and back, to hear what they keep.

    INPUTS are audio files, folders (all audio below them), quoted patterns, or - for audio on stdin. The
    result has the rate and length of the input.
    """
    from audiotokens.audio import AUDIO_SUFFIXES

    found = paths.collect(inputs, AUDIO_SUFFIXES)
    items = paths.plan(found, options.output, suffix=f".{audio_format}", tag=".reconstructed")
    loaded(model, options.exact, options.device, search_width).spec.check_prefix(codebooks)
    work = functools.partial(_reconstruct_file, model, codebooks, search_width, options)
    run_batch(items, work, _describe, options)


def _reconstruct_file(
    model: str, codebooks: int | None, search_width: int, options: BatchOptions, item: paths.Item
) -> Record:
    from audiotokens.audio import read_audio, write_audio

    given, given_rate = read_audio(item.source)
    tokenizer = loaded(model, options.exact, options.device, search_width)
    started = time.perf_counter()
    tokens = tokenizer.encode(given, given_rate, num_codebooks=codebooks)
    waveform = tokenizer.decode(tokens)
    elapsed = time.perf_counter() - started
    waveform, sample_rate = restored(waveform, tokenizer, tokens)
    write_audio(item.output, waveform, sample_rate, overwrite=options.force)
    return {
        "tokenizer": tokens.tokenizer,
        "seconds": tokens.duration,
        "sample_rate": sample_rate,
        "num_codebooks": tokens.num_codebooks,
        "bitrate": tokens.bitrate,
        "elapsed": elapsed,
        "speed": tokens.duration / elapsed,
    }


def _describe(record: Record) -> str:
    return one_line(
        f"{record['input']} -> {record['output']}: {record['seconds']:.2f} s, "
        f"{record['num_codebooks']} books, {record['bitrate'] / 1000:.2f} kbit/s, "
        f"{record['speed']:.0f}x real time"
    )
