"""`audiotokens decode`: token files in, audio out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import numpy as np

from audiotokens.cli import paths
from audiotokens.cli.batch import Record, loaded, run_batch
from audiotokens.cli.options import (
    BatchOptions,
    batch_options,
    codebooks_option,
    format_option,
    gathered,
    switch,
)
from audiotokens.cli.text import one_line
from audiotokens.errors import TokenizerNotFoundError, TokensError

if TYPE_CHECKING:
    from audiotokens.tokenfile import Span
    from audiotokens.tokenizer import Tokenizer
    from audiotokens.tokens import Tokens

_AGREEMENT = 0.1


@dataclass(frozen=True)
class Choice:
    """How to decode; the fields are the verb's own options."""

    model: str | None
    codebooks: int | None
    audio_format: str
    native_rate: bool
    salvage: bool


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
)
@batch_options
def decode(inputs: tuple[str, ...], choice: Choice, options: BatchOptions) -> None:
    """Turn token files back into audio.

    INPUTS are .tok files, folders (all .tok files below them), quoted patterns, or - for tokens on stdin.
    The audio has the rate and length of what was encoded.
    """
    items = paths.plan(paths.collect(inputs, {".tok"}), options.output, suffix=f".{choice.audio_format}")
    if choice.model is not None:
        loaded(choice.model, options.exact, options.device)
    run_batch(items, functools.partial(_decode_file, choice, options), _describe, options)


def restored(waveform: np.ndarray, tokenizer: Tokenizer, tokens: Tokens) -> tuple[np.ndarray, int]:
    """Bring decoded audio to the rate and length of what was encoded.

    Args:
        waveform: `[C, N]` as decoded.
        tokenizer: what decoded it.
        tokens: what was decoded.

    Returns:
        The waveform `[C, M]` and its rate in Hz; unchanged where the tokens do not know their source.
    """
    from audiotokens.audio import resample

    sample_rate, source = tokenizer.spec.output_sample_rate, tokens.source
    if source is None or not waveform.shape[1]:
        return waveform, sample_rate
    length = source.num_samples
    if abs(length / source.sample_rate - tokens.duration) > _AGREEMENT:
        # A file from anyone may say anything about its source; the tokens decide how long it can be.
        length = -(-tokens.num_samples * source.sample_rate // tokens.sample_rate)
    given = resample(waveform, sample_rate, source.sample_rate)[:, :length]
    return np.pad(given, ((0, 0), (0, length - given.shape[1]))), source.sample_rate


def _decode_file(choice: Choice, options: BatchOptions, item: paths.Item) -> Record:
    from audiotokens.audio import write_audio

    spans, report = _read(item.source, choice.salvage)
    tokens = spans[0].tokens
    tokenizer = loaded(choice.model or _own_tokenizer(tokens), options.exact, options.device)
    parts = [_decode_span(tokenizer, span.tokens, choice) for span in spans]
    sample_rate = parts[0][1]
    waveform = _placed([part for part, _ in parts], spans, sample_rate)
    write_audio(item.output, waveform, sample_rate, overwrite=options.force)
    return {
        "tokenizer": tokens.tokenizer,
        "seconds": waveform.shape[1] / sample_rate,
        "sample_rate": sample_rate,
        "num_samples": waveform.shape[1],
        "num_codebooks": choice.codebooks or tokens.num_codebooks,
        **({"warnings": report} if report else {}),
    }


def _read(source: str, salvage: bool) -> tuple[Sequence[Span], list[str]]:
    from audiotokens.tokenfile import Span, TokenFileError, read_tokens

    if not salvage:
        tokens = read_tokens(source)
        return [Span(0, tokens.num_samples, tokens)], []
    found = read_tokens(source, salvage=True)
    if not found.spans:
        raise TokenFileError(f"nothing is intact: {'; '.join(found.report())}")
    return found.spans, found.report()


def _decode_span(tokenizer: Tokenizer, tokens: Tokens, choice: Choice) -> tuple[np.ndarray, int]:
    waveform = tokenizer.decode(tokens, num_codebooks=choice.codebooks)
    if choice.native_rate:
        return waveform, tokenizer.spec.output_sample_rate
    return restored(waveform, tokenizer, tokens)


def _placed(parts: Sequence[np.ndarray], spans: Sequence[Span], sample_rate: int) -> np.ndarray:
    """Join what was decoded, each part where it stood, with silence between them."""
    from audiotokens.audio.reading import MEMORY_LIMIT

    if len(parts) == 1 and not spans[0].start_sample:
        return parts[0]
    starts = [span.start_sample * sample_rate // span.tokens.sample_rate for span in spans]
    length = max(start + part.shape[1] for start, part in zip(starts, parts))
    if 4 * length * parts[0].shape[0] > MEMORY_LIMIT:
        seconds = length / sample_rate
        raise TokensError(f"what is intact ends after {seconds:.0f} s, too late to be joined")
    joined = np.zeros((parts[0].shape[0], length), dtype=np.float32)
    for start, part in zip(starts, parts):
        joined[:, start : start + part.shape[1]] = part
    return joined


def _own_tokenizer(tokens: Tokens) -> str:
    """Return the name in a token file if it is a known one: a file from anyone must not choose folders."""
    from audiotokens.registry import known_names

    if tokens.tokenizer in known_names():
        return tokens.tokenizer
    raise TokenizerNotFoundError(
        f'the tokens were made by "{tokens.tokenizer}", which is not a name that "audiotokens list" shows: '
        "give its folder with --model"
    )


def _describe(record: Record) -> str:
    return one_line(
        f"{record['input']} -> {record['output']}: {record['seconds']:.2f} s at {record['sample_rate']} Hz, "
        f"{record['num_codebooks']} books"
    )
