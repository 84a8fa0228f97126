from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation import metrics
from audiotokens.evaluation.alignment import aligned_pair
from audiotokens.evaluation.metrics import METRICS, Metric, get_metrics, register
from audiotokens.evaluation.spectral import MelScale, mel_filters

PERCEPTUAL = ("pesq-wb", "stoi", "estoi")
SIMPLE = ("si-sdr", "mel/dac-eval", "mel/vocos", "stft/parallel-wavegan")
OWN = [METRICS[name] for name in (*PERCEPTUAL, *SIMPLE)]


@pytest.fixture(scope="module")
def speech(shared: Path) -> np.ndarray:
    path = sorted((shared / "data" / "test" / "speech" / "librispeech").glob("*.flac"))[2]
    waveform, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    return np.asarray(waveform[: 3 * 16000], np.float32)


def noise(count: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, count).astype(np.float32)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Metric]:
    copy = dict(METRICS)
    monkeypatch.setattr(metrics, "METRICS", copy)
    return copy


def plain(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
    return 1.0


@pytest.mark.parametrize("name", PERCEPTUAL)
def test_failures_never_become_scores(name: str) -> None:
    silence, sound = np.zeros(16000, np.float32), noise(16000)
    with pytest.raises(MetricError, match="reference is silent"):
        METRICS[name](silence, sound)
    with pytest.raises(MetricError, match="reconstruction is silent"):
        METRICS[name](sound, silence)
    with pytest.raises(MetricError, match=r"0\.100 s is too short"):
        METRICS[name](sound[:1600], sound[:1600])


def test_stoi_says_that_too_little_sound_is_left() -> None:
    burst = noise(16000)
    burst[3200:] *= 1e-6
    for name in ("stoi", "estoi"):
        with pytest.raises(MetricError, match="fewer than 30 frames are left"):
            METRICS[name](burst, burst)


def test_every_metric_refuses_what_it_cannot_measure() -> None:
    for metric in OWN:
        with pytest.raises(MetricError, match="of one length"):
            metric(noise(8000), noise(8001))
        with pytest.raises(MetricError, match="NaN or infinity"):
            metric(noise(8000), np.full(8000, np.nan, np.float32))
        with pytest.raises(MetricError, match="empty"):
            metric(noise(0), noise(0))


def test_short_signals_have_no_spectral_distance() -> None:
    for name in ("mel/dac-eval", "stft/parallel-wavegan"):
        with pytest.raises(MetricError, match="needs more than 1024"):
            METRICS[name](noise(1024), noise(1024))


def test_direction_and_best_value_of_every_metric(speech: np.ndarray) -> None:
    light, heavy = speech + noise(len(speech), 0.001), speech + noise(len(speech), 0.02)
    for metric in OWN:
        good, bad = metric(speech, light), metric(speech, heavy)
        assert good > bad if metric.larger_is_better else good < bad, metric.id
        assert metric(speech, speech) == pytest.approx(metric.best, abs=1e-3), metric.id


def test_si_sdr_is_the_ratio_that_was_mixed() -> None:
    reference, error = noise(160000), noise(160000, 0.01, seed=1)
    si_sdr = METRICS["si-sdr"]
    assert si_sdr(reference, reference + error) == pytest.approx(20.0, abs=0.1)
    assert si_sdr(reference, 0.3 * (reference + error) + 0.5) == pytest.approx(20.0, abs=0.1)
    assert si_sdr(reference, -0.5 * reference) == math.inf
    assert si_sdr(np.array([1, -1, 1, -1], np.float32), np.array([1, 1, -1, -1], np.float32)) == -math.inf
    assert si_sdr(reference, error) < -20
    with pytest.raises(MetricError, match="reconstruction is constant"):
        si_sdr(reference, np.full(160000, 0.25, np.float32))


def test_spectral_distances_of_a_doubled_signal_are_known() -> None:
    x = noise(48000)
    double = (x, 2 * x)
    assert METRICS["mel/vocos"](*double) == pytest.approx(math.log(2), rel=1e-4)
    assert METRICS["stft/parallel-wavegan"](*double) == pytest.approx(1 + math.log(2), rel=1e-3)
    # 2 scales times 2 log10(2), and the linear term, which is the mean mel magnitude of x
    linear = METRICS["mel/dac-eval"](*double) - 4 * math.log10(2)
    four = METRICS["mel/dac-eval"](x, 4 * x) - 8 * math.log10(2)
    assert linear > 0
    assert four == pytest.approx(3 * linear, rel=1e-3)


def test_mel_filters_peak_where_they_should() -> None:
    slaney, htk = (
        mel_filters(MelScale(80, 512, 128), 16000),
        mel_filters(MelScale(100, 1024, 256, htk=True), 16000),
    )
    assert slaney.shape == (80, 257)
    assert htk.shape == (100, 513)
    assert htk.max() <= 1.0
    # equal areas: 2 / width in Hz, so 31.25 Hz bins sum to about 1
    assert (slaney[40:].sum(axis=1) * 31.25).tolist() == pytest.approx([1.0] * 40, abs=0.1)


def test_order_of_metrics_changes_nothing(speech: np.ndarray) -> None:
    pair = aligned_pair(
        speech[None], 24000, (speech + noise(len(speech), 0.01))[None], 24000, shift=0, sample_rate=16000
    )
    alone = {metric.id: metric(*pair) for metric in OWN}
    for order in list(permutations(["si-sdr", "mel/dac-eval", "pesq-wb", "estoi"]))[::5]:
        assert {name: METRICS[name](*pair) for name in order} == pytest.approx(
            {name: alone[name] for name in order}
        )


def test_another_rate_is_resampled_and_not_relabelled() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(24000) / 24000).astype(np.float32)[None]
    reference, _ = aligned_pair(tone, 24000, tone, 24000, shift=0, sample_rate=16000)
    assert len(reference) == 16000
    assert np.argmax(np.abs(np.fft.rfft(reference))) == 1000


def test_one_resampler_for_both_sides(speech: np.ndarray) -> None:
    pair = aligned_pair(speech[None], 24000, speech[None], 24000, shift=0, sample_rate=16000)
    assert METRICS["pesq-wb"](*pair) == pytest.approx(4.644, abs=0.001)


def test_pesq_survives_what_breaks_its_package() -> None:
    gate = np.arange(45 * 16000) % 8000 < 4000
    bursts = noise(45 * 16000) * gate
    assert 1 < METRICS["pesq-wb"](bursts, bursts + noise(len(bursts), 0.001, seed=1)) < 4.7


def test_missing_packages_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    monkeypatch.setitem(sys.modules, "pystoi", None)
    for name in PERCEPTUAL:
        with pytest.raises(MissingExtraError, match=r"audiotokens\[metrics\]"):
            METRICS[name](noise(16000), noise(16000))


def test_one_configuration_has_one_id(registry: dict[str, Metric]) -> None:
    for known in OWN:
        with pytest.raises(MetricError, match=f'measures the same as "{known.id}"'):
            register(replace(known, id="another", title="Another"))
    stoi = registry["stoi"]
    again = partial(metrics.short_time_intelligibility, extended=False)
    with pytest.raises(MetricError, match="measures the same"):
        register(replace(stoi, id="another", function=again))
    with pytest.raises(MetricError, match="exists already"):
        register(replace(stoi, function=plain))
    assert register(stoi) is stoi


def test_unknown_and_repeated_names() -> None:
    with pytest.raises(MetricError, match='no metric "pesq"; known: pesq-wb'):
        get_metrics(["pesq"])
    with pytest.raises(MetricError, match="named twice"):
        get_metrics(["stoi", "stoi"])
    assert [metric.id for metric in get_metrics(["stoi", "pesq-wb"])] == ["stoi", "pesq-wb"]


class Entry:
    """Stands for an installed package's entry point."""

    name = "plain"

    def __init__(self, loaded: object) -> None:
        self.loaded = loaded

    def load(self) -> object:
        return self.loaded


def test_other_packages_add_metrics(registry: dict[str, Metric], monkeypatch: pytest.MonkeyPatch) -> None:
    own = Metric("plain", "Plain", "always one", plain, larger_is_better=True)
    monkeypatch.setattr(
        metrics, "entry_points", lambda group: [Entry(own)] if group == metrics.ENTRY_POINTS else []
    )
    metrics._load_entry_points.cache_clear()
    assert get_metrics(["plain"]) == (own,)
    monkeypatch.setattr(metrics, "entry_points", lambda group: [Entry(plain)])
    metrics._load_entry_points.cache_clear()
    with pytest.raises(MetricError, match="expected a Metric object"):
        get_metrics()
    metrics._load_entry_points.cache_clear()


def test_a_result_that_is_no_number_is_refused() -> None:
    broken = Metric("broken", "Broken", "NaN", lambda x, y, rate: math.nan, larger_is_better=True)
    with pytest.raises(MetricError, match="not a number"):
        broken(noise(10), noise(10))
