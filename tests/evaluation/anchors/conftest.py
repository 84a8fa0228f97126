"""Sounds and folders that the tests of anchors share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audiotokens.audio import read_audio

RATE = 16000


@pytest.fixture(scope="session")
def voice() -> np.ndarray:
    """Three seconds `[1, T]` of a buzz with a slow envelope and hiss up to 8 kHz in its gaps."""
    time = np.arange(3 * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * 140 * k * time + k * k) / k for k in range(1, 25))
    drift = np.sin(2 * np.pi * 1.5 * time + 3 * time**2) ** 2
    hiss = np.random.default_rng(0).normal(0, 0.3, len(time))
    return (0.1 * (buzz * drift + hiss * (1 - drift)))[None].astype(np.float32)


@pytest.fixture(scope="session")
def recordings(shared: Path) -> list[Path]:
    """Six LibriSpeech recordings of several speakers."""
    return sorted((shared / "data" / "test" / "speech" / "librispeech").glob("*.flac"))[1:31:5]


@pytest.fixture(scope="session")
def speech(recordings: list[Path]) -> np.ndarray:
    """One of them, `[1, T]` at 16 kHz."""
    waveform, sample_rate = read_audio(recordings[0])
    assert sample_rate == RATE
    return waveform


@pytest.fixture(scope="session")
def lyra_folder(shared: Path) -> Path:
    """The files of Lyra V2; skips without, and without the interpreter."""
    pytest.importorskip("ai_edge_litert")
    folder = shared / "weights" / "lyra_v2"
    if not folder.is_dir():
        pytest.skip("the files of Lyra V2 are not here")
    return folder
