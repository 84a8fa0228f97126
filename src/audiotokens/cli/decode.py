"""`audiotokens decode`: token files in, audio out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import numpy as np

from audiotokens.cli import paths
from audiotokens.cli.batch import Record, loaded, run_batch, watch, windowed
from audiotokens.cli.options import (
    BatchOptions,
    batch_options,
    codebooks_option,
    format_option,
    gathered,
    switch,
    window_option,
)
from audiotokens.cli.text import one_line
from audiotokens.errors import TokenizerNotFoundError, TokensError

if TYPE_CHECKING:
    from audiotokens.tokenfile import Span
    from audiotokens.tokenizer import Tokenizer
    from audiotokens.tokens import Tokens


@dataclass(frozen=True)
class Choice:
    """How to decode; the fields are the verb's own options."""

    model: str | None
    codebooks: int | None
    audio_format: str
    native_rate: bool
    salvage: bool
    window: float | None


@click.command(epilog="Example: audiotokens decode tokens/ -o decoded/ --format flac")
@click.argument("inputs", nargs=-1, required=True)
@gathered(
    Choice,
    "choice",
    click.option("-m", "--model", help="Tokenizer: name, folder or hf:org/name; default: the file's own."),
    codebooks_option,
    format_option,
    switch("--native-rate", text="Keep the tokenizer's rate instead of that of the encoded audio."),
    switch("--salvage", text="Decode what is intact in a damaged file, with silence between."),
    window_option,
)
@batch_options
def decode(inputs: tuple[str, ...], choice: Choice, options: BatchOptions) -> None:
    """Turn token files back into audio.

    INPUTS are .tok files, folders (all .tok files below them), quoted patterns, or - for tokens on stdin.
    The audio has the rate and length of what was encoded.
    """
    items = paths.plan(paths.collect(inputs, {".tok"}), options.output, suffix=f".{choice.audio_format}")
    if choice.model is not None:
        loaded(choice.model, options.exact, options.device, engine=options.engine)
    run_batch(items, functools.partial(_decode_file, choice, options), _describe, options)


def _decode_file(choice: Choice, options: BatchOptions, item: paths.Item) -> Record:
    from audiotokens.audio import write_blocks

    spans, report = _read(item.source, choice.salvage)
    tokens = spans[0].tokens
    tokenizer = _tokenizer(choice, options, tokens)
    pieces = _pieces(tokenizer, spans, choice)
    sample_rate, end = pieces[0].sample_rate, max(piece.end for piece in pieces)
    blocks = _placed(pieces, tokenizer.spec.channels)
    written = write_blocks(item.output, blocks, sample_rate, overwrite=options.force, num_samples=end)
    return {
        "tokenizer": tokens.tokenizer,
        "seconds": written / sample_rate,
        "sample_rate": sample_rate,
        "num_samples": written,
        "num_codebooks": choice.codebooks or tokens.num_codebooks,
        **({"warnings": report} if report else {}),
    }


def _tokenizer(choice: Choice, options: BatchOptions, tokens: Tokens) -> Tokenizer:
    """Load what made the tokens, in the windows that they state, or else those that are asked for."""
    from audiotokens.recordings import Windowed, windows_of

    stated = windows_of(tokens.tokenizer)
    name = choice.model or _own_tokenizer(stated[0] if stated else tokens.tokenizer)
    tokenizer = loaded(name, options.exact, options.device, engine=options.engine)
    if stated and tokens.fingerprint != tokenizer.fingerprint:
        return Windowed(tokenizer, window=stated[1], overlap=stated[2])
    return windowed(tokenizer, choice.window)


def _read(source: str, salvage: bool) -> tuple[Sequence[Span], list[str]]:
    from audiotokens.tokenfile import Span, TokenFileError, read_tokens

    if not salvage:
        tokens = read_tokens(source)
        return [Span(0, tokens.num_samples, tokens)], []
    found = read_tokens(source, salvage=True)
    if not found.spans:
        raise TokenFileError(f"nothing is intact: {'; '.join(found.report())}")
    return found.spans, found.report()


@dataclass(frozen=True)
class _Piece:
    """Decoded audio with its place: blocks `[C, N]` of `length` samples in all, from sample `start` on."""

    blocks: Iterator[np.ndarray]
    sample_rate: int
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


def _pieces(tokenizer: Tokenizer, spans: Sequence[Span], choice: Choice) -> list[_Piece]:
    from audiotokens.recordings import decode_blocks, restored_blocks, restored_format

    pieces, done, total = [], 0.0, sum(span.tokens.duration for span in spans)
    for span in spans:

        def progress(seconds: float, _: float | None, before: float = done) -> None:
            watch(before + seconds, total)

        tokens = span.tokens
        blocks = decode_blocks(tokenizer, tokens, num_codebooks=choice.codebooks, progress=progress)
        sample_rate = tokenizer.spec.output_sample_rate
        length = tokenizer.spec.output_length(tokens.num_samples)
        if not choice.native_rate:
            blocks = restored_blocks(tokenizer, tokens, blocks)
            sample_rate, length = restored_format(tokenizer, tokens)
        start = span.start_sample * sample_rate // tokens.sample_rate
        pieces.append(_Piece(blocks, sample_rate, start, length))
        done += tokens.duration
    return pieces


def _placed(pieces: Sequence[_Piece], channels: int) -> Iterator[np.ndarray]:
    """Join what was decoded, each piece where it stood, with silence between them."""
    from audiotokens.audio.reading import MEMORY_LIMIT

    position = 0
    for piece in pieces:
        silence = max(piece.start - position, 0)
        if 4 * silence * channels > MEMORY_LIMIT:
            seconds = piece.start / piece.sample_rate
            raise TokensError(f"what is intact goes on after {seconds:.0f} s, too late to be joined")
        yield np.zeros((channels, silence), np.float32)
        position += silence
        # Lengths are rounded up and starts down, so that neighbours may share a sample.
        shared = position - piece.start
        for block in piece.blocks:
            yield block[:, shared:]
            position += max(block.shape[1] - shared, 0)
            shared = max(shared - block.shape[1], 0)


def _own_tokenizer(name: str) -> str:
    """Return the name in a token file if it is a known one: a file from anyone must not choose folders."""
    from audiotokens.registry import known_names

    if name in known_names():
        return name
    raise TokenizerNotFoundError(
        f'the tokens were made by "{name}", which is not a name that "audiotokens list" shows: '
        "give its folder with --model"
    )


def _describe(record: Record) -> str:
    return one_line(
        f"{record['input']} -> {record['output']}: {record['seconds']:.2f} s at {record['sample_rate']} Hz, "
        f"{record['num_codebooks']} books"
    )
