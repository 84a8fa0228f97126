"""`audiotokens encode`: audio in, token files out."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from audiotokens.cli import paths
from audiotokens.cli.batch import Record, disagreement, disagreement_text, loaded, run_batch, watch, windowed
from audiotokens.cli.options import (
    BatchOptions,
    batch_options,
    codebooks_option,
    gathered,
    model_option,
    search_option,
    switch,
    window_option,
)
from audiotokens.cli.text import one_line, size
from audiotokens.errors import AudioTokensError, TokensError

if TYPE_CHECKING:
    from audiotokens.recordings import Checkpoint
    from audiotokens.tokenizer import Tokenizer
    from audiotokens.tokens import Tokens


@dataclass(frozen=True)
class Choice:
    """How to encode; the fields are the verb's own options."""

    model: str
    codebooks: int | None
    search_width: int
    window: float | None
    resume: bool


@click.command(epilog="Example: audiotokens encode recordings/ -o tokens/ -k 6 -j 2")
@click.argument("inputs", nargs=-1, required=True)
@gathered(
    Choice,
    "choice",
    model_option,
    codebooks_option,
    search_option,
    window_option,
    switch("--resume", text="Keep finished outputs, and go on with the one that was interrupted."),
)
@batch_options
def encode(inputs: tuple[str, ...], choice: Choice, options: BatchOptions) -> None:
    """Turn audio into token files.

    INPUTS are audio files, folders (all audio below them), quoted patterns, or - for audio on stdin. While a
    long file is encoded, what is done is kept in OUTPUT.partial.
    """
    from audiotokens.audio import AUDIO_SUFFIXES

    items = paths.plan(paths.collect(inputs, AUDIO_SUFFIXES), options.output, suffix=".tok")
    if choice.resume and any(paths.PIPE in (item.source, item.output) for item in items):
        raise AudioTokensError("--resume needs files, found a pipe: leave it out")
    _tokenizer(choice, options).spec.check_prefix(choice.codebooks)
    # With --resume existing outputs are looked into instead of refused.
    started = dataclasses.replace(options, force=options.force or choice.resume)
    run_batch(items, functools.partial(_encode_file, choice, options), _describe, started)


def _tokenizer(choice: Choice, options: BatchOptions) -> Tokenizer:
    tokenizer = loaded(choice.model, options.exact, options.device, choice.search_width, options.engine)
    return windowed(tokenizer, choice.window)


def _encode_file(choice: Choice, options: BatchOptions, item: paths.Item) -> Record:
    from audiotokens.recordings import encode_file
    from audiotokens.tokenfile import write_tokens

    tokenizer = _tokenizer(choice, options)
    if choice.resume and not options.force and os.path.exists(item.output):
        return _kept(tokenizer, choice, item)
    started = time.perf_counter()
    encoder = tokenizer.encoder(num_codebooks=choice.codebooks) if choice.window else None
    checkpoint = _checkpoint(choice, options, item)
    tokens = encode_file(
        tokenizer,
        item.source,
        num_codebooks=choice.codebooks,
        encoder=encoder,
        progress=watch,
        checkpoint=checkpoint,
    )
    elapsed = time.perf_counter() - started
    write_tokens(item.output, tokens, overwrite=options.force)
    if checkpoint:
        checkpoint.remove()
    return {
        **_facts(tokens, item),
        "elapsed": elapsed,
        **({"window": choice.window} if choice.window else {}),
        **disagreement(encoder),
    }


def _checkpoint(choice: Choice, options: BatchOptions, item: paths.Item) -> Checkpoint | None:
    from audiotokens.recordings import Checkpoint

    if item.output == paths.PIPE or not os.path.isfile(item.source):
        return None
    mode = "exact" if options.exact else "fast"
    settings = f"{mode} on {options.device}, engine {options.engine}, search width {choice.search_width}"
    return Checkpoint(f"{item.output}.partial", resume=choice.resume, settings=settings)


def _kept(tokenizer: Tokenizer, choice: Choice, item: paths.Item) -> Record:
    """Describe an output that is there already; it was written in one go, so it is complete."""
    from audiotokens.tokenfile import read_tokens

    tokens = read_tokens(item.output)
    books = tokenizer.spec.check_prefix(choice.codebooks)
    if (tokens.fingerprint, tokens.num_codebooks) != (tokenizer.fingerprint, books):
        found = f'"{tokens.tokenizer}" ({tokens.fingerprint[:8]}) with {tokens.num_codebooks} books'
        expected = f'"{tokenizer.spec.name}" ({tokenizer.fingerprint[:8]}) with {books}'
        raise TokensError(
            f"{item.output} is of {found}, expected {expected}: "
            "give --force to encode again, or another --output"
        )
    return {**_facts(tokens, item), "elapsed": 0.0, "kept": True}


def _facts(tokens: Tokens, item: paths.Item) -> Record:
    return {
        "tokenizer": tokens.tokenizer,
        "seconds": tokens.duration,
        "num_codebooks": tokens.num_codebooks,
        "frames": {name: stream.num_frames for name, stream in tokens.streams.items()},
        "bytes": None if item.output == paths.PIPE else os.path.getsize(item.output),
        "bitrate": tokens.bitrate,
    }


def _describe(record: Record) -> str:
    return one_line(
        f"{record['input']} -> {record['output']}: {record['seconds']:.2f} s, {size(record['bytes'])}, "
        f"{record['num_codebooks']} books, {record['bitrate'] / 1000:.2f} kbit/s"
        f"{', kept' if 'kept' in record else ''}{disagreement_text(record)}"
    )
