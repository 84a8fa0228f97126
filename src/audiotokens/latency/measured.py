"""Latency of a tokenizer, declared and measured, and the times of its steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from audiotokens.errors import NotOfferedError
from audiotokens.latency.probe import Delay, Field, Probe
from audiotokens.tokenizer import Tokenizer

Piece = TypeVar("Piece")


@dataclass(frozen=True)
class Latency:
    """How late a tokenizer is, at best on an infinitely fast machine.

    Args:
        name: of the tokenizer.
        sample_rate: of the input, in Hz, in which all samples are counted.
        hop: samples per frame, the slowest stream's; a sample waits for the end of its own.
        encoder: look-ahead of the encoder.
        decoder: look-ahead of the decoder, in whole frames.
        round_trip: of both together; declared is their sum, which streams whose first frames look ahead
            farther than the others do not reach.
        receptive_field: of the encoder.
        not_offered: why a direction ("encoder", "decoder") has no sessions.
    """

    name: str
    sample_rate: int
    hop: int
    encoder: Delay | None
    decoder: Delay | None
    round_trip: Delay | None
    receptive_field: Field | None
    not_offered: dict[str, str]

    @property
    def agrees(self) -> bool:
        """Whether all parts agree with what is declared; the round trip must not take more."""
        both = self.round_trip
        within = both is None or both.changed <= both.session <= both.declared
        parts = (self.encoder, self.decoder, self.receptive_field)
        return within and all(part is None or part.agrees for part in parts)

    def milliseconds(self, samples: int) -> float:
        """Return the duration of a number of samples at the input rate."""
        return 1000 * samples / self.sample_rate


@dataclass(frozen=True)
class Steps:
    """How long the steps of one direction take.

    Args:
        milliseconds: median, 95th and 99th percentile of one push.
        real_time_factor: seconds of sound per second of computing.
        count: measured pushes.
    """

    milliseconds: tuple[float, float, float]
    real_time_factor: float
    count: int

    @classmethod
    def of(cls, seconds: list[float], audio_seconds: float) -> Steps:
        """Summarize the times of steps through so many seconds of sound."""
        low, high, highest = (float(1000 * value) for value in np.percentile(seconds, (50, 95, 99)))
        return cls((low, high, highest), audio_seconds / max(sum(seconds), 1e-9), len(seconds))


@dataclass(frozen=True)
class StepTimes:
    """Times of the steps of both directions; None where there are no sessions.

    Args:
        chunk: samples per push.
        encoder: of pushes of sound.
        decoder: of pushes of the tokens of as much sound.
    """

    chunk: int
    encoder: Steps | None
    decoder: Steps | None


def measure_latency(tokenizer: Tokenizer, *, seed: int = 0) -> Latency:
    """Measure by perturbation how far each direction looks ahead, and compare with what the spec declares.

    Args:
        tokenizer: one with sessions, in at least one direction.
        seed: of the sounds and codes.

    Raises:
        NotOfferedError: neither direction has sessions.

    Example:
        >>> measure_latency(tokenizer).round_trip.declared  # doctest: +SKIP
        320
    """
    reasons = _reasons(tokenizer)
    spec = tokenizer.spec
    if len(reasons) == 2:
        raise NotOfferedError(reasons["encoder"])
    probe = Probe(tokenizer, seed)
    encoder = None if "encoder" in reasons else probe.encoder()
    decoder = None if "decoder" in reasons else probe.decoder()
    return Latency(
        name=spec.name,
        sample_rate=spec.sample_rate,
        hop=probe.hop,
        encoder=encoder,
        decoder=decoder,
        round_trip=probe.round_trip() if encoder and decoder else None,
        receptive_field=probe.field(encoder.later) if encoder else None,
        not_offered=reasons,
    )


def measure_steps(
    tokenizer: Tokenizer, *, chunk: int | None = None, seconds: float = 5.0, seed: int = 0
) -> StepTimes:
    """Time the pushes of a session of each direction; threads are those of the process.

    Args:
        tokenizer: one with sessions, in at least one direction.
        chunk: samples per push at the input rate; default: one frame. The decoder gets as many whole frames,
            at least one.
        seconds: of sound to push; the first fifth, or second, is not counted.
        seed: of the sound.

    Raises:
        NotOfferedError: neither direction has sessions.
    """
    reasons = _reasons(tokenizer)
    if len(reasons) == 2:
        raise NotOfferedError(reasons["encoder"])
    probe, rate = Probe(tokenizer, seed), tokenizer.spec.sample_rate
    size = chunk or probe.hop
    frames = max(size // probe.hop, 1)
    encoder = decoder = None
    if "encoder" not in reasons:
        sound = probe.sound(max(round(seconds * rate), 4 * size), 0)
        chunks = [sound[:, start : start + size] for start in range(0, sound.shape[1] - size + 1, size)]
        encoder = _timed(tokenizer.encoder().push, chunks, size / rate)
    if "decoder" not in reasons:
        count = max(math.ceil(seconds * rate / probe.hop / frames), 4)
        pieces = [probe.codes(frames, variant) for variant in range(count)]
        decoder = _timed(tokenizer.decoder().push, pieces, frames * probe.hop / rate)
    return StepTimes(size, encoder, decoder)


def _timed(push: Callable[[Piece], object], pieces: list[Piece], duration: float) -> Steps:
    """Push pieces of so many seconds; those of the first second at most warm up."""
    warm = min(math.ceil(1 / duration), max(len(pieces) // 5, 1))
    times = []
    for piece in pieces:
        start = time.perf_counter()
        push(piece)
        times.append(time.perf_counter() - start)
    return Steps.of(times[warm:], duration * (len(pieces) - warm))


def _reasons(tokenizer: Tokenizer) -> dict[str, str]:
    """Why a direction has no sessions, for those that have none."""
    found = {}
    for side, start in (("encoder", tokenizer.encoder), ("decoder", tokenizer.decoder)):
        try:
            start()
        except NotOfferedError as error:
            found[side] = str(error)
    return found
