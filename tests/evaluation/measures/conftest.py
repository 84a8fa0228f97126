from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation.metrics import METRICS, Metric

RATE = 16000
Noise = Callable[..., np.ndarray]
Judge = Callable[[str], Metric]


@pytest.fixture
def noise() -> Noise:
    def make(count: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).normal(0, level, count).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def voice() -> np.ndarray:
    """Five seconds of harmonics, moving in pitch, three syllables a second: the same everywhere."""
    time = np.arange(5 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    harmonics = np.sum([np.sin(k * phase) / k for k in range(1, 20)], axis=0)
    sound = harmonics * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)) ** 2 * 0.1
    return (sound + np.random.default_rng(0).normal(0, 0.002, len(time))).astype(np.float32)


@pytest.fixture(scope="session")
def utterances(shared: Path) -> list[np.ndarray]:
    """The first 18 files of LibriSpeech, float32 `[T]` at 16 kHz."""
    paths = sorted((shared / "data" / "test" / "speech" / "librispeech").glob("*.flac"))[:18]
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


@pytest.fixture
def judge() -> Judge:
    """Return a measure by id, or skip where its packages are not installed."""

    def get(name: str) -> Metric:
        metric, nothing = METRICS[name], np.zeros(0, np.float32)
        try:
            metric.function(nothing, nothing, RATE, *[""] * metric.needs_transcript)
        except MissingExtraError as error:
            pytest.skip(str(error))
        except MetricError:  # as it must, of nothing
            pass
        return metric

    return get
