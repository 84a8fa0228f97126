"""`audiotokens reconstruct`: audio in, the same audio through tokens out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from audiotokens.cli import paths
from audiotokens.cli.batch import Record, disagreement, disagreement_text, loaded, run_batch, watch, windowed
from audiotokens.cli.options import (
    BatchOptions,
    batch_options,
    codebooks_option,
    format_option,
    model_option,
    search_option,
    window_option,
)
from audiotokens.cli.text import one_line

if TYPE_CHECKING:
    from audiotokens.tokenizer import Tokenizer


@click.command(epilog="Example: audiotokens reconstruct speech.wav -k 6 -o speech-6.wav")
@click.argument("inputs", nargs=-1, required=True)
@model_option
@codebooks_option
@search_option
@window_option
@format_option
@batch_options
def reconstruct(
    inputs: tuple[str, ...],
    model: str,
    codebooks: int | None,
    search_width: int,
    window: float | None,
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
    load = functools.partial(loaded, model, options.exact, options.device, search_width, options.engine)
    windowed(load(), window).spec.check_prefix(codebooks)
    work = functools.partial(_reconstruct_file, load, codebooks, window, options)
    run_batch(items, work, _describe, options)


def _reconstruct_file(
    load: Callable[[], Tokenizer],
    codebooks: int | None,
    window: float | None,
    options: BatchOptions,
    item: paths.Item,
) -> Record:
    from audiotokens.audio import write_blocks
    from audiotokens.recordings import decode_blocks, encode_file, restored_blocks, restored_format

    def encoded(seconds: float, length: float | None) -> None:
        watch(seconds / 2, length)

    def decoded(seconds: float, length: float | None) -> None:
        watch((tokens.duration + seconds) / 2, length)

    tokenizer = windowed(load(), window)
    started = time.perf_counter()
    encoder = tokenizer.encoder(num_codebooks=codebooks) if window else None
    tokens = encode_file(tokenizer, item.source, num_codebooks=codebooks, encoder=encoder, progress=encoded)
    blocks = restored_blocks(tokenizer, tokens, decode_blocks(tokenizer, tokens, progress=decoded))
    sample_rate, num_samples = restored_format(tokenizer, tokens)
    write_blocks(item.output, blocks, sample_rate, overwrite=options.force, num_samples=num_samples)
    elapsed = time.perf_counter() - started
    return {
        "tokenizer": tokens.tokenizer,
        "seconds": tokens.duration,
        "sample_rate": sample_rate,
        "num_codebooks": tokens.num_codebooks,
        "bitrate": tokens.bitrate,
        "elapsed": elapsed,
        "speed": tokens.duration / elapsed,
        **disagreement(encoder),
    }


def _describe(record: Record) -> str:
    return one_line(
        f"{record['input']} -> {record['output']}: {record['seconds']:.2f} s, "
        f"{record['num_codebooks']} books, {record['bitrate'] / 1000:.2f} kbit/s, "
        f"{record['speed']:.0f}x real time{disagreement_text(record)}"
    )
