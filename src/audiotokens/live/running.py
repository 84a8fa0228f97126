"""What runs between the ends of a live stream: resamplers, sessions, and a stopwatch."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from audiotokens.audio import Resampler, Waveform
from audiotokens.errors import AudioError, NotOfferedError
from audiotokens.latency import Steps
from audiotokens.tokenizer import Tokenizer
from audiotokens.tokens import Tokens


@dataclass(frozen=True)
class Summary:
    """How a live stream went.

    Args:
        audio_seconds: of sound that went through.
        steps: times of its steps, each from a chunk to what came out of it; None: there were none.
        first_output: seconds from the first chunk to the first output; None: there was none.
        underruns: how often a player that starts one frame after the first output would have run dry.
    """

    audio_seconds: float
    steps: Steps | None
    first_output: float | None
    underruns: int


class Stopwatch:
    """Times of steps, and what a player of the output would have heard.

    Args:
        frame_seconds: that the player waits before it starts.
        clock: seconds since some moment.
    """

    def __init__(self, frame_seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._frame = clock, frame_seconds
        self._times: list[float] = []
        self._began: float | None = None
        self._first: float | None = None
        self._dry_at = 0.0
        self._audio = 0.0
        self._underruns = 0

    @contextlib.contextmanager
    def step(self, seconds: float) -> Iterator[None]:
        """Time a step through so many seconds of sound."""
        start = self._clock()
        self._began = start if self._began is None else self._began
        yield
        self._times.append(self._clock() - start)
        self._audio += seconds

    def output(self, seconds: float) -> None:
        """Note that so many seconds of sound came out."""
        now = self._clock()
        if not seconds:
            return
        if self._first is None:
            self._first, self._dry_at = now, now + self._frame
        if now > self._dry_at:
            self._underruns += 1
            self._dry_at = now + self._frame
        self._dry_at += seconds

    def summary(self) -> Summary:
        """What was measured so far."""
        waited = None if self._first is None or self._began is None else self._first - self._began
        steps = Steps.of(self._times, self._audio) if self._times else None
        return Summary(self._audio, steps, waited, self._underruns)


def run_stream(
    tokenizer: Tokenizer,
    source: Iterable[Waveform] | Iterable[Tokens],
    sink: Callable[[Any], None],
    watch: Stopwatch,
    *,
    encode: bool = True,
    decode: bool = True,
    sample_rate: int | None = None,
    num_codebooks: int | None = None,
) -> None:
    """Carry a live stream from its source to its sink, step by step.

    It ends with its source, with Ctrl-C (what is left still goes out), or when the sink is a closed pipe.

    Args:
        tokenizer: one with sessions.
        source: chunks float32 `[C, T]`, or tokens if nothing is encoded.
        sink: takes waveforms float32 `[C, T]`, or tokens if nothing is decoded.
        watch: measures.
        encode: whether the source gives sound.
        decode: whether the sink takes sound.
        sample_rate: of the sound at both ends, in Hz; default: the tokenizer's own.
        num_codebooks: a legal prefix; default: all books.

    Raises:
        AudioTokensError: there are no such sessions, or the rate, the books or the tokens do not fit.
    """
    spec = tokenizer.spec
    rates = Fraction(sample_rate or spec.sample_rate), Fraction(sample_rate or spec.output_sample_rate)
    coding = _Encoding(tokenizer, int(rates[0]), num_codebooks) if encode else None
    decoding = _Decoding(tokenizer, int(rates[1]), num_codebooks) if decode else None
    received = given = 0

    def advance(piece: Any) -> None:
        """Take the next piece; None ends the stream."""
        nonlocal given
        tokens = piece if coding is None else coding.step(piece)
        if decoding is None:
            if tokens is not None:
                sink(tokens)
                watch.output(tokens.duration)
            return
        for waveform in decoding.steps(tokens, final=piece is None):
            if coding is not None and piece is None:
                # Two resamplers may round up twice; as much goes out as came in.
                waveform = waveform[:, : max(math.ceil(received * rates[1] / rates[0]) - given, 0)]
            given += waveform.shape[1]
            sink(waveform)
            watch.output(waveform.shape[1] / float(rates[1]))

    with contextlib.suppress(BrokenPipeError):
        with contextlib.suppress(KeyboardInterrupt):
            _warm_up(tokenizer, decode=decode)
            for piece in source:
                samples = 0 if isinstance(piece, Tokens) else piece.shape[1]
                received += samples
                with watch.step(piece.duration if isinstance(piece, Tokens) else samples / float(rates[0])):
                    advance(piece)
        advance(None)


def _warm_up(tokenizer: Tokenizer, *, decode: bool) -> None:
    """Let the first steps, which are slow, be those of other sessions."""
    spec = tokenizer.spec
    if spec.can_encode:
        silence = np.zeros((spec.channels, 4 * int(spec.hop) + spec.lookahead), np.float32)
        with contextlib.suppress(NotOfferedError):
            tokenizer.encoder().push(silence)
        if decode:
            tokenizer.decoder().push(tokenizer.encode(silence, spec.sample_rate))


class _Encoding:
    """Sound at any rate to tokens."""

    def __init__(self, tokenizer: Tokenizer, sample_rate: int, num_codebooks: int | None) -> None:
        spec = tokenizer.spec
        self._session = tokenizer.encoder(num_codebooks=num_codebooks)
        self._resampler = Resampler(spec.channels, sample_rate, spec.sample_rate)
        self._begun = False

    def step(self, chunk: Waveform | None) -> Tokens | None:
        """Take a chunk; None ends the stream. Return the tokens that are final."""
        samples = self._resampler.finish() if chunk is None else self._resampler.push(chunk)
        self._begun = self._begun or samples.shape[1] > 0
        tokens = self._session.push(samples) if samples.shape[1] else None
        if chunk is not None:
            return tokens
        if not self._begun:
            raise AudioError("the stream ended before any sample came: expected PCM on stdin")
        rest = self._session.finish()
        return rest if tokens is None else Tokens.concatenate([tokens, rest])


class _Decoding:
    """Tokens to sound at any rate."""

    def __init__(self, tokenizer: Tokenizer, sample_rate: int, num_codebooks: int | None) -> None:
        spec = tokenizer.spec
        self._session = tokenizer.decoder(num_codebooks=num_codebooks)
        self._resampler = Resampler(spec.channels, spec.output_sample_rate, sample_rate)

    def steps(self, tokens: Tokens | None, *, final: bool) -> Iterator[Waveform]:
        """Take tokens, if there are any; give the sound that is final."""
        parts: list[np.ndarray] = []
        if tokens is not None and tokens.num_samples:
            parts.append(self._resampler.push(self._session.push(tokens)))
        if final:
            parts += [self._resampler.push(self._session.finish()), self._resampler.finish()]
        yield from (part for part in parts if part.shape[1])
