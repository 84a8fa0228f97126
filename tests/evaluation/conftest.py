"""A tokenizer whose figures are known, and sounds to code with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotokens.spec import Spec, StreamSpec
from audiotokens.tokenizer import Streams, Tokenizer
from audiotokens.tokens import CodeStream, Conditioning, Tokens

RATE, SIZE, BOOKS = 8000, 12, 3


class Digits(Tokenizer):
    """Every sample as digits in base 12, of 4 bits each in a file; nested; it counts its calls."""

    def __init__(self, name: str = "digits", *, seed: int = 0) -> None:
        self.name, self.seed = name, seed
        self.encoded = self.decoded = 0
        self.fails_after: int | None = None

    @property
    def spec(self) -> Spec:
        stream = StreamSpec("codes", (SIZE,) * BOOKS, Fraction(RATE))
        return Spec(self.name, RATE, RATE, (stream,), legal_prefixes=(1, 2, 3))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.name} {self.seed}".encode()).hexdigest()

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        self.encoded += 1
        if self.fails_after is not None and self.encoded > self.fails_after:
            raise KeyboardInterrupt
        levels = SIZE**BOOKS
        number = np.clip(((waveform[0].astype(np.float64) + 1) / 2 * levels).astype(np.int64), 0, levels - 1)
        digits = [number // SIZE ** (BOOKS - 1 - k) % SIZE for k in range(num_codebooks)]
        return {"codes": CodeStream(np.stack(digits), (SIZE,) * num_codebooks, Fraction(RATE))}, {}

    def _decode(self, tokens: Tokens) -> np.ndarray:
        self.decoded += 1
        place = sum(row / float(SIZE) ** (k + 1) for k, row in enumerate(tokens.codes))
        return (2 * (place + 0.5 / SIZE ** len(tokens.codes)) - 1).astype(np.float32)[None]

    def features(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:  # type: ignore[override]
        return self.prepare(waveform, sample_rate)[0]

    def decode_features(self, features: np.ndarray) -> np.ndarray:
        return features


@pytest.fixture
def digits() -> Digits:
    return Digits()


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Six noises of three speakers in two corpora, of 0.5 s at 8 kHz."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    rows = ["path,source_id,domain,corpus"]
    for number in range(6):
        name = f"s{number}.wav"
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, RATE // 2)
        soundfile.write(folder / name, noise, RATE, subtype="FLOAT")
        rows.append(f"{name},p{number % 3},sound,{'clean' if number < 4 else 'other'}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


Browse = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def browse(run_browser: Callable[..., Any]) -> Browse:
    """Run a script of this folder on pages in headless Chromium: `browse("report_browser.js", page)`."""

    def run(script: str, *pages: Path) -> dict[str, Any]:
        result: dict[str, Any] = run_browser(Path(__file__).parent / script, *map(str, pages))
        return result

    return run
