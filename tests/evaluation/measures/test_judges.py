"""What holds for every measure of the group."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation import JUDGES, METRICS, Metric, get_metrics, register
from audiotokens.evaluation.alignment import aligned_pair
from audiotokens.evaluation.measures import opinion, packages, pitch, recognition, speaker, visqol

IDS = [metric.id for metric in JUDGES]
WITH_REFERENCE = ["visqol/speech", "speaker/resemblyzer", "dwer/pocketsphinx", "wer/pocketsphinx-difference"]
WITH_REFERENCE += ["f0/gpe", "f0/vde", "f0/ffe", "f0/correlation"]
RATE = 16000
WORDS = "love is a babe then might i not say so to give full growth to that which still doth grow"

each = pytest.mark.parametrize("name", IDS)
Noise = Callable[..., np.ndarray]
Judge = Callable[[str], Metric]


@each
def test_failures_never_become_scores(name: str, judge: Judge, noise: Noise) -> None:
    metric, sound, silence = judge(name), noise(2 * RATE), np.zeros(2 * RATE, np.float32)
    with pytest.raises(MetricError, match="the reconstruction is silent"):
        metric(sound, silence, transcript=WORDS)
    with pytest.raises(MetricError, match=r"0\.100 s is too short"):
        metric(sound[:1600], sound[:1600], transcript=WORDS)
    if name in WITH_REFERENCE:
        with pytest.raises(MetricError, match="the reference is silent"):
            metric(silence, sound, transcript=WORDS)


@each
def test_one_rate(name: str, judge: Judge, noise: Noise) -> None:
    metric = judge(name)
    with pytest.raises(MetricError, match="found a sample rate of 24000 Hz, expected 16000 Hz"):
        metric.function(noise(48000), noise(48000), 24000, *[WORDS] * metric.needs_transcript)


@each
def test_missing_packages_name_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("visqol", "speechmos", "resemblyzer", "distillmos", "pocketsphinx", "swift_f0"):
        monkeypatch.setitem(sys.modules, package, None)
    loaders = (opinion._session, opinion._distillmos_model, speaker._package, speaker._encoder)
    for loader in (*loaders, visqol._api, pitch._tracker, recognition._decoder):
        loader.cache_clear()
    metric, nothing = METRICS[name], np.ones(8000, np.float32)
    with pytest.raises(MissingExtraError, match=rf"audiotokens\[{metric.extra}\]") as caught:
        metric(nothing, nothing, transcript="nothing")
    plain = metric.id not in {"distillmos", "speaker/resemblyzer"}
    assert ("and then pip install --no-deps" in str(caught.value)) != plain


def test_onnxruntime_alone_may_be_missing(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    judge("plcmos")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    opinion._session.cache_clear()
    with pytest.raises(MissingExtraError, match=r"audiotokens\[mos\]"):
        METRICS["plcmos"](np.ones(800, np.float32), np.ones(800, np.float32))


def test_what_is_measured_by_default_needs_no_judge() -> None:
    default, judges = get_metrics(), get_metrics(["judges"])
    assert {metric.extra for metric in default} <= {"", "metrics"}
    assert judges == JUDGES
    assert set(get_metrics(["all"])) == {*default, *judges}
    mixed = get_metrics(["plcmos", "default", "judges"])
    assert mixed[0] == METRICS["plcmos"]
    assert len(mixed) == len(set(mixed)) == len(default) + len(judges)
    with pytest.raises(MetricError, match="named twice"):
        get_metrics(["judges", "judges"])


def test_one_configuration_has_one_id() -> None:
    for known in JUDGES:
        with pytest.raises(MetricError, match=f'measures the same as "{known.id}"'):
            register(replace(known, id="another"))
    assert "another" not in METRICS


def test_every_judge_says_what_decides_its_numbers() -> None:
    for metric in JUDGES:
        assert metric.packages and metric.extra and metric.group == "judges", metric.id
        assert "16 kHz" in metric.definition, metric.id
        again = pickle.loads(pickle.dumps(metric))
        assert (again.id, again.definition) == (metric.id, metric.definition)
    assert len({metric.definition for metric in JUDGES}) == len(JUDGES)


@pytest.mark.parametrize(
    "name", [pytest.param(WITH_REFERENCE[0], marks=pytest.mark.slow), *WITH_REFERENCE[1:]]
)
def test_equal_signals_are_best(name: str, judge: Judge, utterances: list[np.ndarray]) -> None:
    clip = utterances[2][: 4 * RATE]
    assert METRICS[name].best == pytest.approx(judge(name)(clip, clip, transcript=WORDS), abs=1e-6)


@pytest.mark.slow
@each
def test_direction(name: str, judge: Judge, utterances: list[np.ndarray], noise: Noise) -> None:
    clip = utterances[2]
    light, heavy = clip + noise(len(clip), 0.0003), clip + noise(len(clip), 0.03)
    if name.startswith("f0/"):  # the tracker hears through that noise
        heavy = utterances[7][: len(clip)]
    good, bad = (judge(name)(clip, each, transcript=WORDS) for each in (light, heavy))
    assert good > bad if METRICS[name].larger_is_better else good < bad


@pytest.mark.slow
def test_no_order_changes_anything(
    judge: Judge, utterances: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_REMEMBERED", 0)
    for metric in JUDGES:
        judge(metric.id)
    clip = utterances[2][None, : 3 * RATE]
    rough = np.round(clip * 40) / 40
    pair = aligned_pair(clip, 24000, rough, 24000, shift=0, sample_rate=RATE)
    names = ["dnsmos/ovrl", "plcmos", "dwer/pocketsphinx", "f0/ffe", "speaker/resemblyzer"]
    orders = list(permutations(names))
    found = [{name: METRICS[name](*pair) for name in order} for order in orders[::40]]
    assert all(again == found[0] for again in found[1:])


@each
def test_runs_repeat(name: str, judge: Judge, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in {"visqol/speech", "dwer/pocketsphinx", "wer/pocketsphinx-difference"}:
        pytest.skip("takes seconds on what is no speech; test_no_order_changes_anything repeats them")
    monkeypatch.setattr(packages, "_REMEMBERED", 0)
    rough = np.round(voice * 200) / 200
    judge(name)
    np.random.seed(1)
    first = METRICS[name](voice, rough)
    np.random.seed(2)
    assert METRICS[name](voice, rough) == first
