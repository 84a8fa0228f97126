"""Makes the test vectors of the `.tok` format: `python tests/golden/tok/make_vectors.py` rewrites them all.

Their contents follow from formulas, so that anyone can make them again; `vectors.json` says what they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from audiotokens.tokenfile import write_tokens
from audiotokens.tokens import CodeStream, Conditioning, Segment, Source, Tokens

FOLDER = Path(__file__).resolve().parent


def pattern(sizes: tuple[int, ...], frames: int) -> np.ndarray:
    """Code of book k at frame t: (7 t + 3 k + t t) mod size."""
    time = np.arange(frames)
    return np.array([(7 * time + 3 * k + time * time) % size for k, size in enumerate(sizes)], np.int64)


def stream(sizes: tuple[int, ...], frames: int, rate: Fraction, **more: Any) -> CodeStream:
    """A stream filled by `pattern`."""
    return CodeStream(pattern(sizes, frames), sizes, rate, **more)


def minimal() -> Tokens:
    """One book of eight codes, eight frames, one chunk."""
    return Tokens({"codes": stream((8,), 8, Fraction(50))}, 2560, 16000, 1, "example", "00" * 32)


def rates() -> Tokens:
    """Three streams at their own rates in two chunks each, a global one, conditioning, a source."""
    streams = {
        "level0": stream((1000,), 8, Fraction(25, 24)),
        "level1": stream((1000, 1000, 2), 16, Fraction(25, 12)),
        "speaker": stream((65536, 3), 1, Fraction(0)),
    }
    pitch = (np.arange(16)[None] / 3).astype(np.float32)
    conditioning = {
        "timbre": Conditioning(np.array([[0.5], [-0.0], [1e-45]], np.float32)),
        "pitch": Conditioning(pitch, Fraction(25, 12)),
    }
    source = Source(44100, 338700, 2, "soxr-vhq", "2 to 1")
    return Tokens(streams, 122880, 16000, 1, "tä-15k", "ab" * 32, source, conditioning)


def windows() -> Tokens:
    """Stereo in three overlapping windows, the last one shorter."""
    segments = (Segment(0, 48000, 3, 0.1), Segment(47520, 48000, 3, 2.0), Segment(95040, 4960, 1, 1e-8))
    made = stream((16, 16), 7, Fraction(3), segments=segments)
    return Tokens({"codes": made}, 100000, 48000, 2, "windows", "cd" * 32, Source(48000, 100000, 2))


def durations() -> Tokens:
    """Units with durations, in three chunks."""
    lengths = np.arange(12) % 5 + 1
    made = stream((500,), 12, Fraction(1), durations=lengths)
    return Tokens({"units": made}, 16000 * int(lengths.sum()), 16000, 1, "units", "ef" * 32)


def empty() -> Tokens:
    """No frames and no samples: what a streaming session may give."""
    return Tokens({"codes": stream((8, 8), 0, Fraction(50))}, 0, 16000, 1, "example", "00" * 32)


VECTORS: dict[str, Callable[[], Tokens]] = {
    made.__name__: made for made in (minimal, rates, windows, durations, empty)
}


def described(tokens: Tokens) -> dict[str, Any]:
    """The content as plain values; float32 numbers as their bits."""
    return {
        "num_samples": tokens.num_samples,
        "streams": {name: described_stream(stream) for name, stream in tokens.streams.items()},
        "conditioning": {
            name: item.values.view(np.uint32).tolist() for name, item in tokens.conditioning.items()
        },
    }


def described_stream(stream: CodeStream) -> dict[str, Any]:
    """Codes, durations and windows as lists."""
    windows = None
    if stream.segments is not None:
        bits = [int(np.float32(window.scale).view(np.uint32)) for window in stream.segments]
        windows = [
            [w.start_sample, w.num_samples, w.frames, b] for w, b in zip(stream.segments, bits, strict=True)
        ]
    return {
        "codes": stream.codes.tolist(),
        "durations": None if stream.durations is None else stream.durations.tolist(),
        "segments": windows,
    }


def main() -> None:
    """Write every vector and `vectors.json`."""
    for name, make in VECTORS.items():
        write_tokens(FOLDER / f"{name}.tok", make(), overwrite=True)
    contents = {name: described(make()) for name, make in VECTORS.items()}
    lines = [f"{json.dumps(name)}: {json.dumps(content)}" for name, content in contents.items()]
    (FOLDER / "vectors.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
