"""Encoding block by block: mixing, resampling and the streaming encoder, with what is done kept on disk."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from audiotokens.audio import RESAMPLER, Resampler, Waveform, as_waveform, check_sample_rate, mix_to_channels
from audiotokens.audio.decoders import AudioPath, open_audio
from audiotokens.audio.reading import MEMORY_LIMIT, join_chunks
from audiotokens.audio.waveforms import regrouped
from audiotokens.errors import AudioError, NotOfferedError
from audiotokens.recordings.checkpoint import Checkpoint, Saved
from audiotokens.spec import Spec
from audiotokens.tokenfile import read_tokens, write_tokens
from audiotokens.tokenizer import Encoder, Tokenizer
from audiotokens.tokens import Source, Tokens

_SAVE_SECONDS = 60
_SAVE_SHARE = 60
Progress = Callable[[float, float | None], None]
"""Called with the seconds of audio that are done and their number in all (None: unknown)."""


def encode_file(
    tokenizer: Tokenizer,
    path: AudioPath,
    *,
    num_codebooks: int | None = None,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Tokens:
    """Encode a sound file of any length, in memory for a few seconds of it and its tokens.

    Equal to `tokenizer.encode(*read_audio(path))` where codes do not depend on chunks, as in exact mode. A
    tokenizer without streaming encoder reads the whole file instead.

    Args:
        tokenizer: what encodes.
        path: as in `read_audio`.
        num_codebooks: a legal prefix; default: all books.
        encoder: a new session of this tokenizer to use, for who wants to ask it something afterwards.
        progress: called after every piece.
        checkpoint: where to keep what is done, to go on from after an interruption.

    Raises:
        AudioError: as in `read_audio`; or the tokenizer reads whole recordings, and this one is too long.
        TokensError: `num_codebooks` is not a legal prefix, or the checkpoint is of something else.

    Example:
        >>> tokens = encode_file(tokenizer, "lecture.flac")  # doctest: +SKIP
    """
    books = tokenizer.spec.check_prefix(num_codebooks)
    if checkpoint is not None:
        checkpoint = checkpoint.of(path, tokenizer, books)
    with open_audio(path, pipes=True) as file:
        return encode_blocks(
            tokenizer,
            (chunk.T for chunk in file.chunks()),
            file.sample_rate,
            num_codebooks=books,
            encoder=encoder,
            progress=progress,
            checkpoint=checkpoint,
            duration=None if file.num_samples is None else file.num_samples / file.sample_rate,
        )


def encode_blocks(
    tokenizer: Tokenizer,
    blocks: Iterable[Waveform],
    sample_rate: int,
    *,
    num_codebooks: int | None = None,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    duration: float | None = None,
) -> Tokens:
    """Encode a recording that comes block by block; see `encode_file`.

    Args:
        tokenizer: what encodes.
        blocks: `[C, N]` of any lengths N, all of one number of channels.
        sample_rate: of the blocks, in Hz.
        num_codebooks: a legal prefix; default: all books.
        encoder: a new session of this tokenizer to use.
        progress: called after every piece.
        checkpoint: where to keep what is done; the blocks must then come again from the start.
        duration: seconds in all, where they are known.

    Raises:
        AudioError: no samples came, they are not finite, or the channels change or cannot be mixed.
        TokensError: `num_codebooks` is not a legal prefix, or the checkpoint is of something else.
    """
    books = tokenizer.spec.check_prefix(num_codebooks)
    session = encoder or _session(tokenizer, books)
    if session is None:
        return tokenizer.encode(_whole(tokenizer, blocks, duration), sample_rate, num_codebooks=books)
    feed = _Feed(tokenizer.spec, sample_rate)
    parts = _Parts()
    saved = checkpoint.load() if checkpoint else None
    start = saved.position if saved else 0
    if saved:
        session.restore(saved.session)
        parts.packed = list(saved.packed)
    position = kept = start
    rate = tokenizer.spec.sample_rate
    size = tokenizer.block_seconds * rate
    for index, piece in enumerate(feed.pieces(blocks, size)):
        if index * size < start:
            continue  # encoded before the interruption
        parts.add(session.push(piece))
        position += piece.shape[1]
        if position - kept >= max(_SAVE_SECONDS * rate, position // _SAVE_SHARE):
            parts.pack()
            kept = position
            if checkpoint:
                checkpoint.save(Saved(position, parts.packed, session.save()))
        if progress:
            progress(position / rate, duration)
    if not position:
        raise AudioError("no samples came; expected at least one")
    parts.add(session.finish())
    return replace(parts.joined(), source=feed.source)


def _session(tokenizer: Tokenizer, num_codebooks: int) -> Encoder | None:
    try:
        return tokenizer.encoder(num_codebooks=num_codebooks)
    except NotOfferedError:
        return None


def _whole(tokenizer: Tokenizer, blocks: Iterable[Waveform], duration: float | None) -> Waveform:
    """Join the blocks for a tokenizer that needs them all."""
    chunks, values = [], 0
    for block in blocks:
        chunks.append(as_waveform(block).T)
        values += block.size
        if 4 * values > MEMORY_LIMIT:
            length = "the recording" if duration is None else f"the recording of {duration:,.0f} s"
            raise AudioError(
                f"{tokenizer.spec.name} reads whole recordings, and {length} takes more than "
                f"{MEMORY_LIMIT >> 20:,} MiB: encode it in windows (--window, or recordings.Windowed)"
            )
    if not chunks:
        raise AudioError("no samples came; expected at least one")
    return join_chunks(chunks)


class _Feed:
    """What `Tokenizer.prepare` does to a whole recording, block by block."""

    def __init__(self, spec: Spec, sample_rate: int) -> None:
        self._spec = spec
        self._rate = check_sample_rate(sample_rate)
        self._channels = self._samples = 0

    def pieces(self, blocks: Iterable[Waveform], size: int) -> Iterator[Waveform]:
        """Give the recording at the tokenizer's rate and channels, in pieces `[C, size]`."""
        return regrouped(self._prepared(blocks), size)

    def _prepared(self, blocks: Iterable[Waveform]) -> Iterator[Waveform]:
        spec = self._spec
        resampler = Resampler(spec.channels, self._rate, spec.sample_rate)
        for block in blocks:
            given = as_waveform(block)
            if self._channels not in (0, len(given)):
                raise AudioError(
                    f"a block has {len(given)} channels, expected {self._channels} as in the first one"
                )
            self._channels = len(given)
            self._samples += given.shape[1]
            yield resampler.push(mix_to_channels(given, spec.channels))
        yield resampler.finish()

    @property
    def source(self) -> Source:
        """What the recording was; complete once all pieces were taken."""
        changed = self._channels != self._spec.channels
        return Source(
            sample_rate=self._rate,
            num_samples=self._samples,
            channels=self._channels,
            resampler=RESAMPLER if self._rate != self._spec.sample_rate else "",
            mixdown=f"{self._channels} to {self._spec.channels}" if changed else "",
        )


class _Parts:
    """The tokens so far: the last ones as they came, those before as packed `.tok` files."""

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self._last: list[Tokens] = []

    def add(self, tokens: Tokens | None) -> None:
        if tokens is not None:
            self._last.append(tokens)

    def pack(self) -> None:
        if self._last:
            file = io.BytesIO()
            write_tokens(file, Tokens.concatenate(self._last))
            self.packed.append(file.getvalue())
            self._last = []

    def joined(self) -> Tokens:
        return Tokens.concatenate([*(read_tokens(io.BytesIO(part)) for part in self.packed), *self._last])
