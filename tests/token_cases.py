"""The hardest shapes that tokens take: one small made-up recording for each kind of published tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np

from audiotokens.tokens import CodeStream, Conditioning, Segment, Source, Tokens

FINGERPRINT = "0123456789abcdef" * 4


def random_codes(books: int, frames: int, size: int, seed: int = 0) -> np.ndarray:
    """Codes `[K, T]` that hold the lowest and the highest code."""
    codes = np.random.default_rng([seed, books, frames]).integers(0, size, (books, frames))
    codes.flat[0], codes.flat[-1] = 0, size - 1
    return codes


def make(
    streams: Mapping[str, CodeStream],
    num_samples: int,
    sample_rate: int,
    *,
    channels: int = 1,
    name: str = "example",
    source: Source | None = None,
    conditioning: Mapping[str, Conditioning] | None = None,
) -> Tokens:
    """Tokens of a tokenizer with a made-up fingerprint."""
    given = conditioning or {}
    return Tokens(streams, num_samples, sample_rate, channels, name, FINGERPRINT, source, given)


def plain(seconds: float = 13, books: int = 3) -> Tokens:
    """One stream of 50 frames a second at 16 kHz, whole frames, several chunks."""
    stream = CodeStream(random_codes(books, round(50 * seconds), 1024), (1024,) * books, Fraction(50))
    samples = round(16000 * seconds)
    return make({"codes": stream}, samples, 16000, source=Source(16000, samples, 1))


def snac(frames: int = 48) -> Tokens:
    """Three levels, each at its rate, of a 24 kHz recording (hop 512, strides 4, 2, 1)."""
    rates = [Fraction(24000, 512 * stride) for stride in (4, 2, 1)]
    streams = {
        f"level{i}": CodeStream(random_codes(1, frames >> (2 - i), 4096, i), (4096,), rate)
        for i, rate in enumerate(rates)
    }
    return make(streams, 512 * frames - 100, 24000)


def facodec() -> Tokens:
    """Prosody, content and residual books, a timbre vector, and 37 samples that no frame covers."""
    books = {"prosody": 1, "content": 2, "residual": 3}
    streams = {
        name: CodeStream(random_codes(count, 32, 1024, count), (1024,) * count, Fraction(80))
        for name, count in books.items()
    }
    timbre = np.random.default_rng(5).standard_normal((256, 1)).astype(np.float32)
    return make(streams, 6437, 16000, conditioning={"timbre": Conditioning(timbre)})


def ticodec() -> Tokens:
    """Four residual books and eight global codes for the speaker."""
    streams = {
        "codes": CodeStream(random_codes(4, 75, 1024), (1024,) * 4, Fraction(75)),
        "global": CodeStream(random_codes(8, 1, 1024), (1024,) * 8, Fraction(0)),
    }
    return make(streams, 24000, 24000)


def encodec() -> Tokens:
    """Stereo in windows of 48,000 samples every 47,520, each with its gain; the last is shorter."""
    windows = (Segment(0, 48000, 150, 0.1), Segment(47520, 48000, 150, 0.2), Segment(95040, 4960, 16, 1e-8))
    stream = CodeStream(random_codes(4, 316, 1024), (1024,) * 4, Fraction(150), segments=windows)
    return make({"codes": stream}, 100000, 48000, channels=2)


def mimi() -> Tokens:
    """A semantic book and acoustic books at 12.5 Hz; the last frame is not full."""
    streams = {
        "semantic": CodeStream(random_codes(1, 20, 2048), (2048,), Fraction(25, 2)),
        "acoustic": CodeStream(random_codes(7, 20, 2048), (2048,) * 7, Fraction(25, 2)),
    }
    return make(streams, 37001, 24000)


def neucodec() -> Tokens:
    """One book of 65,536 codes at 16 kHz (decoded at 24 kHz), fed with 44.1 kHz stereo."""
    stream = CodeStream(random_codes(1, 50, 65536), (65536,), Fraction(50))
    source = Source(44100, 44100, 2, "soxr-vhq", "2 to 1")
    return make({"codes": stream}, 16000, 16000, source=source)


def units() -> Tokens:
    """Speech units with durations, and a pitch track at its own rate."""
    durations = np.random.default_rng(2).integers(1, 30, 90)
    frames = int(durations.sum())
    stream = CodeStream(random_codes(1, 90, 500), (500,), Fraction(50), durations=durations)
    pitch = np.random.default_rng(3).uniform(80, 300, (1, 2 * frames)).astype(np.float32)
    conditioning = {"pitch": Conditioning(pitch, Fraction(100))}
    return make({"units": stream}, 320 * frames, 16000, conditioning=conditioning)


CASES: dict[str, Callable[[], Tokens]] = {
    case.__name__: case for case in (plain, snac, facodec, ticodec, encodec, mimi, neucodec, units)
}
