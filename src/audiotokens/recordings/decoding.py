"""Decoding block by block, and back to the rate and length of what was encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

from audiotokens.audio import Resampler, Waveform
from audiotokens.errors import NotOfferedError
from audiotokens.recordings.encoding import Progress
from audiotokens.splice import common_frame
from audiotokens.tokenizer import Decoder, Tokenizer
from audiotokens.tokens import Tokens

_AGREEMENT = 0.1


def decode_blocks(
    tokenizer: Tokenizer,
    tokens: Tokens,
    *,
    num_codebooks: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Waveform]:
    """Decode tokens of any length, in memory for a few seconds of audio.

    Joined, the blocks are what `tokenizer.decode` gives, within 1e-5 of full scale. A tokenizer without
    streaming decoder gives one block.

    Args:
        tokenizer: what decodes.
        tokens: of this tokenizer.
        num_codebooks: a legal prefix of theirs.
        progress: called after every piece.

    Returns:
        Iterator of float32 `[C, N]` at `spec.output_sample_rate`.

    Raises:
        TokensError: as in `Tokenizer.decode`.

    Example:
        >>> for block in decode_blocks(tokenizer, tokens):  # doctest: +SKIP
        ...     player.write(block)
    """
    tokens = tokenizer.checked(tokens, num_codebooks)
    try:
        session = tokenizer.decoder(num_codebooks=num_codebooks)
    except NotOfferedError:
        session = None
    if session is None or not tokens.num_samples:
        return iter([tokenizer.decode(tokens)])
    return _streamed(session, tokens, tokenizer.block_seconds, progress)


def restored_format(tokenizer: Tokenizer, tokens: Tokens) -> tuple[int, int]:
    """Return the rate in Hz and the samples per channel of what was encoded.

    Those of the decoded audio where the tokens do not know their source.
    """
    source = tokens.source
    if source is None:
        return tokenizer.spec.output_sample_rate, tokenizer.spec.output_length(tokens.num_samples)
    if abs(source.num_samples / source.sample_rate - tokens.duration) > _AGREEMENT:
        # A file from anyone may say anything about its source; the tokens decide how long it can be.
        return source.sample_rate, -(-tokens.num_samples * source.sample_rate // tokens.sample_rate)
    return source.sample_rate, source.num_samples


def restored_blocks(tokenizer: Tokenizer, tokens: Tokens, blocks: Iterable[Waveform]) -> Iterator[Waveform]:
    """Bring decoded blocks to the rate and length of what was encoded; see `restored_format`.

    Args:
        tokenizer: what decoded them.
        tokens: what was decoded.
        blocks: of `decode_blocks`.

    Returns:
        Iterator of float32 `[C, N]`.
    """
    rate, length = restored_format(tokenizer, tokens)
    resampler = Resampler(tokenizer.spec.channels, tokenizer.spec.output_sample_rate, rate)
    for block in blocks:
        made = resampler.push(block)[:, :length]
        length -= made.shape[1]
        yield made
    rest = resampler.finish()[:, :length]
    yield np.pad(rest, ((0, 0), (0, length - rest.shape[1])))


def token_pieces(tokens: Tokens, seconds: float) -> Iterator[Tokens]:
    """Cut tokens where all their frames end, into pieces of about so many seconds; each has a frame."""
    rates = [stream.frame_rate for stream in tokens.streams.values()]
    rates += [item.frame_rate for item in tokens.conditioning.values()]
    unit = common_frame(tokens.sample_rate / rate for rate in rates if rate)
    step = max(round(seconds * tokens.sample_rate / unit), 1) * unit
    framed = min(
        int(s.base_frames * tokens.sample_rate / s.frame_rate)
        for s in tokens.streams.values()
        if s.frame_rate
    )
    cuts = [0, *range(step, min(tokens.num_samples, framed), step), tokens.num_samples]
    for start, end in zip(cuts, cuts[1:], strict=False):
        yield tokens.clip(Fraction(start, tokens.sample_rate), Fraction(end, tokens.sample_rate))


def _streamed(
    session: Decoder, tokens: Tokens, seconds: float, progress: Progress | None
) -> Iterator[Waveform]:
    done = 0.0
    for piece in token_pieces(tokens, seconds):
        yield session.push(piece)
        done += piece.duration
        if progress:
            progress(done, tokens.duration)
    yield session.finish()
