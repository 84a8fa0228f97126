from __future__ import annotations

import numpy as np
import pytest

from audiotokens.audio import resample
from audiotokens.errors import MetricError
from audiotokens.evaluation.alignment import (
    Delay,
    aligned_pair,
    check_lengths,
    common_delay,
    estimate_delay,
    to_mono,
)
from audiotokens.evaluation.metrics import METRICS

SI_SDR = METRICS["si-sdr"]


def noise(seed: int, count: int = 16000) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)


def voice(sample_rate: int) -> np.ndarray:
    """Two seconds of a buzzing tone below 4 kHz with a slow envelope, the same sound at every rate."""
    time = np.arange(2 * sample_rate) / sample_rate
    buzz = sum(np.sin(2 * np.pi * 140 * k * time + k * k) / k for k in range(1, 28))
    drift = np.sin(2 * np.pi * 3 * time + 5 * time**2) ** 2
    return (0.1 * buzz * drift).astype(np.float32)


def moved(signal: np.ndarray, delay: int) -> np.ndarray:
    """Late (or early) by `delay` samples, at the same length, as a tokenizer would give it."""
    if delay >= 0:
        return np.pad(signal, (delay, 0))[: len(signal)]
    return np.pad(signal[-delay:], (0, -delay))


@pytest.mark.parametrize("delay", range(-8, 9))
def test_a_shift_is_found_exactly_and_costs_nothing(delay: int) -> None:
    reference = noise(0)
    output = moved(reference + 0.1 * noise(1), delay)
    found = estimate_delay(reference, output, 16000)
    assert found.samples == delay
    assert found.peak > 0.9
    x, y = aligned_pair(reference[None], 16000, output[None], 16000, shift=delay, sample_rate=16000)
    assert len(x) == len(y) == 16000 - abs(delay)
    assert SI_SDR(x, y) == pytest.approx(20.0, abs=0.1)


@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_an_output_early_by_8_samples_at_any_rate_is_repaired(rate: int) -> None:
    reference = voice(rate)
    rough = resample(noise(2, 32000)[None], 16000, rate)[0]
    output = moved(reference + 0.05 * rough, -8)[:-8]
    in_place = aligned_pair(
        reference[None], rate, (reference + 0.05 * rough)[None], rate, shift=0, sample_rate=16000
    )
    delay = estimate_delay(reference, output, rate)
    assert delay.samples == -8
    repaired = aligned_pair(reference[None], rate, output[None], rate, shift=-8, sample_rate=16000)
    broken = aligned_pair(reference[None], rate, output[None], rate, shift=0, sample_rate=16000)
    assert SI_SDR(*repaired) == pytest.approx(SI_SDR(*in_place), abs=0.1)
    assert SI_SDR(*broken) < SI_SDR(*in_place) - 10


def test_an_inverted_output_is_noticed() -> None:
    reference = noise(0)
    found = estimate_delay(reference, -moved(reference, 5), 16000)
    assert (found.samples, found.polarity) == (5, -1)


def test_a_weak_peak_says_nothing() -> None:
    found = estimate_delay(noise(0), noise(1), 16000)
    assert found.samples is None
    assert found.peak < 0.3
    assert estimate_delay(noise(0), np.zeros(16000, np.float32), 16000) == Delay(None, 0.0, 1)
    assert estimate_delay(noise(0, 1), noise(0, 1), 16000).samples == 0


def test_a_delay_beyond_50_ms_is_not_searched_for() -> None:
    assert estimate_delay(noise(0), moved(noise(0), 800), 16000).samples == 800
    assert estimate_delay(noise(0), moved(noise(0), 801), 16000).samples is None


def test_files_must_agree_on_the_delay() -> None:
    def delays(*samples: int | None) -> list[Delay]:
        return [Delay(number, 0.5, 1) for number in samples]

    assert common_delay(delays(8, 8, None, 9)) == 8
    assert common_delay(delays(8, 8, 8, 8, 8, 8, 200)) == 8
    assert common_delay(delays(0, 40, 80, 120)) is None
    assert common_delay(delays(None, None)) is None
    assert common_delay([]) is None


def test_lengths_may_differ_by_a_hop_or_20_ms_only() -> None:
    check_lengths(16000, 15680, 16000, 0.0)
    check_lengths(16000, 15000, 16000, 1000.0)
    with pytest.raises(MetricError, match="15679 samples, expected 16000"):
        check_lengths(16000, 15679, 16000, 320.0)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(MetricError, match="too short"):
        aligned_pair(noise(0, 5)[None], 16000, noise(0, 5)[None], 16000, shift=5, sample_rate=16000)


def test_channels_are_averaged() -> None:
    assert np.array_equal(to_mono(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)), [[0.5, 0.5]])
