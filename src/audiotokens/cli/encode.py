"""`audiotokens encode`: audio in, token files out."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

import click

from audiotokens.cli import paths
from audiotokens.cli.batch import Record, loaded, run_batch
from audiotokens.cli.options import BatchOptions, batch_options, codebooks_option, model_option, search_option
from audiotokens.cli.text import one_line, size


@click.command(epilog="Example: audiotokens encode recordings/ -o tokens/ -k 6 -j 2")
@click.argument("inputs", nargs=-1, required=True)
@model_option
@codebooks_option
@search_option
@batch_options
def encode(
    inputs: tuple[str, ...], model: str, codebooks: int | None, search_width: int, options: BatchOptions
) -> None:
    """Turn audio into token files.

    INPUTS are audio files, folders (all audio below them), quoted patterns, or - for audio on stdin.
    """
    from audiotokens.audio import AUDIO_SUFFIXES

    items = paths.plan(paths.collect(inputs, AUDIO_SUFFIXES), options.output, suffix=".tok")
    loaded(model, options.exact, options.device, search_width).spec.check_prefix(codebooks)
    work = functools.partial(_encode_file, model, codebooks, search_width, options)
    run_batch(items, work, _describe, options)


def _encode_file(
    model: str, codebooks: int | None, search_width: int, options: BatchOptions, item: paths.Item
) -> Record:
    from audiotokens.audio import read_audio
    from audiotokens.tokenfile import write_tokens

    waveform, sample_rate = read_audio(item.source)
    started = time.perf_counter()
    tokenizer = loaded(model, options.exact, options.device, search_width)
    tokens = tokenizer.encode(waveform, sample_rate, num_codebooks=codebooks)
    elapsed = time.perf_counter() - started
    write_tokens(item.output, tokens, overwrite=options.force)
    return {
        "tokenizer": tokens.tokenizer,
        "seconds": tokens.duration,
        "num_codebooks": tokens.num_codebooks,
        "frames": {name: stream.num_frames for name, stream in tokens.streams.items()},
        "bytes": None if item.output == paths.PIPE else os.path.getsize(item.output),
        "bitrate": tokens.bitrate,
        "elapsed": elapsed,
    }


def _describe(record: dict[str, Any]) -> str:
    return one_line(
        f"{record['input']} -> {record['output']}: {record['seconds']:.2f} s, {size(record['bytes'])}, "
        f"{record['num_codebooks']} books, {record['bitrate'] / 1000:.2f} kbit/s"
    )
