from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotokens.audio import read_audio
from audiotokens.errors import AudioTokensError, MetricError
from audiotokens.evaluation.alignment import aligned_pair, estimate_delay, to_mono
from audiotokens.evaluation.anchors import (
    Anchor,
    AnotherUtterance,
    Inverted,
    LowPass,
    Noisy,
    Original,
    Rounded,
    RoundTrip,
    Shift,
    Silence,
)
from audiotokens.evaluation.metrics import METRICS

RATE = 16000
SPEECH = ["pesq-wb", "stoi", "estoi", "si-sdr"]


def measured(anchor: Anchor, waveform: np.ndarray, sample_rate: int = RATE) -> dict[str, float]:
    """The speech measures of what an anchor gives, not aligned."""
    coded = anchor.code(waveform, sample_rate)
    assert coded.num_bytes == 0
    pair = aligned_pair(
        to_mono(waveform), sample_rate, to_mono(coded.waveform), coded.sample_rate, shift=0, sample_rate=RATE
    )
    assert len(pair[0]) == -(-waveform.shape[1] * RATE // sample_rate)
    return {name: METRICS[name](*pair) for name in SPEECH}


@pytest.mark.parametrize("anchor", [Original(), Inverted()], ids=lambda anchor: anchor.name)
def test_original_and_its_inverse_have_the_best_values(speech: np.ndarray, anchor: Anchor) -> None:
    found = measured(anchor, speech)
    assert found["pesq-wb"] == pytest.approx(4.644, abs=0.001)
    assert found["stoi"] == pytest.approx(1, abs=1e-6)
    assert found["estoi"] == pytest.approx(1, abs=1e-6)
    assert found["si-sdr"] == math.inf


def test_inversion_is_reported(speech: np.ndarray) -> None:
    output = Inverted().code(speech, RATE).waveform[0]
    assert estimate_delay(speech[0], output, RATE).polarity == -1
    assert estimate_delay(speech[0], speech[0], RATE).polarity == 1


def test_rounding_and_a_round_trip_are_hardly_seen(speech: np.ndarray) -> None:
    soft = 0.3 * speech
    rounded, resampled = measured(Rounded(), soft), measured(RoundTrip(), speech)
    assert rounded["pesq-wb"] > 4.6 and rounded["si-sdr"] > 40
    assert rounded["si-sdr"] < math.inf
    assert resampled["pesq-wb"] > 4.6 and resampled["estoi"] > 0.999
    assert 20 < resampled["si-sdr"] < math.inf


def correlation(signal: np.ndarray, lag: int) -> float:
    x = signal.astype(np.float64) - signal.mean()
    return float(x[lag:] @ x[:-lag] / (x @ x))


@pytest.mark.parametrize("lag", [1, 8])
def test_a_shift_costs_what_its_correlation_says(speech: np.ndarray, lag: int) -> None:
    anchor = Shift(lag)
    assert not anchor.align
    found = measured(anchor, speech)
    rho = correlation(speech[0], lag)
    assert found["si-sdr"] == pytest.approx(10 * math.log10(rho**2 / (1 - rho**2)), abs=0.1)
    assert found["pesq-wb"] > 4.6 and found["estoi"] > 0.99
    assert estimate_delay(speech[0], anchor.code(speech, RATE).waveform[0], RATE).samples == lag


def test_shifts_of_speech_cost_much(speech: np.ndarray) -> None:
    values = [measured(Shift(lag), speech)["si-sdr"] for lag in (1, 8)]
    assert 4 < values[0] < 16 and values[1] < 0


def test_noise_is_20_db_below_and_the_same_every_time(speech: np.ndarray) -> None:
    assert measured(Noisy(), speech)["si-sdr"] == pytest.approx(20, abs=0.1)
    first = Noisy().code(speech, RATE).waveform
    assert np.array_equal(first, Noisy().code(speech, RATE).waveform)
    shorter = Noisy().code(speech[:, :-1], RATE).waveform - speech[:, :-1]
    assert abs(np.corrcoef(shorter[0], (first - speech)[0, :-1])[0, 1]) < 0.05


@pytest.mark.parametrize("name", [*SPEECH, "pesq-wb"])
def test_silence_is_never_a_score(voice: np.ndarray, name: str) -> None:
    coded = Silence().code(voice, RATE)
    assert not coded.waveform.any() and coded.waveform.shape == voice.shape
    with pytest.raises(MetricError, match="reconstruction is (silent|constant)"):
        METRICS[name](voice[0], coded.waveform[0])


def test_low_pass_ends_at_4_khz(voice: np.ndarray) -> None:
    coded = LowPass().code(voice, RATE)
    power = np.abs(np.fft.rfft(coded.waveform[0])) ** 2
    original = np.abs(np.fft.rfft(voice[0])) ** 2
    edge = len(power) // 2
    assert power[edge + 300 :].sum() < 1e-5 * original[edge + 300 :].sum()
    assert power[: edge - 1500].sum() == pytest.approx(original[: edge - 1500].sum(), rel=1e-3)
    assert LowPass().kind == "anchor" and Noisy().kind == "calibration"


@pytest.mark.parametrize("anchor", [LowPass(), Rounded(), RoundTrip(), Shift(8), Noisy(), Silence()])
@pytest.mark.parametrize(("samples", "rate"), [(1, 16000), (5001, 44100), (333, 8000)])
def test_length(voice: np.ndarray, anchor: Anchor, samples: int, rate: int) -> None:
    coded = anchor.code(np.repeat(voice[:, :samples], 2, axis=0), rate)
    assert coded.waveform.shape == (1, -(-samples * RATE // rate))
    assert coded.waveform.dtype == np.float32


def test_another_utterance_of_speech_scores_by_chance(recordings: list[Path]) -> None:
    anchor = AnotherUtterance(recordings)
    for path in recordings[:3]:
        found = measured(anchor, read_audio(path)[0])
        assert found["estoi"] < 0.3
        assert 1.0 <= found["pesq-wb"] < 1.3
        assert found["si-sdr"] < -15


def write(folder: Path, name: str, value: float, length: int) -> Path:
    path = folder / name
    soundfile.write(path, np.full(length, value, np.float32), RATE, subtype="FLOAT")
    return path


def test_another_utterance_is_the_next_of_another_speaker(tmp_path: Path) -> None:
    names = ["a_1.wav", "a_2.wav", "b_1.wav", "c_1.wav"]
    paths = [write(tmp_path, name, (place + 1) / 10, 100) for place, name in enumerate(names)]
    (tmp_path / "b_0.wav").write_bytes(b"not a sound")
    anchor = AnotherUtterance([*paths[:2], tmp_path / "b_0.wav", *paths[2:]])
    chosen = [anchor.code(read_audio(path)[0], RATE).waveform[0, 0] for path in paths]
    assert chosen == pytest.approx([0.3, 0.3, 0.4, 0.1])


def test_another_utterance_is_cut_or_repeated(tmp_path: Path) -> None:
    long, short = write(tmp_path, "a_1.wav", 0.1, 250), write(tmp_path, "a_2.wav", 0.2, 100)
    anchor = AnotherUtterance([long, short])
    assert np.all(anchor.code(read_audio(long)[0], RATE).waveform == np.float32(0.2))
    assert anchor.code(read_audio(long)[0], RATE).waveform.shape == (1, 250)
    assert anchor.code(read_audio(short)[0], RATE).waveform.shape == (1, 100)


def test_another_utterance_needs_a_list_that_holds_it(tmp_path: Path) -> None:
    paths = [write(tmp_path, "a_1.wav", 0.1, 100), write(tmp_path, "b_1.wav", 0.1, 100)]
    with pytest.raises(AudioTokensError, match="needs two files at least, found 1"):
        AnotherUtterance(paths[:1])
    anchor = AnotherUtterance(paths)
    with pytest.raises(AudioTokensError, match="this recording is none of the 2 files given"):
        anchor.code(np.ones((1, 50), np.float32), RATE)
    with pytest.raises(AudioTokensError, match="all files given hold the same recording"):
        anchor.code(read_audio(paths[0])[0], RATE)
