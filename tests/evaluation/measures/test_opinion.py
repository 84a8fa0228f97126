from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from audiotokens.errors import MetricError
from audiotokens.evaluation import METRICS, Metric
from audiotokens.evaluation.loudness import loudness
from audiotokens.evaluation.measures import opinion

Noise = Callable[..., np.ndarray]
Judge = Callable[[str], Metric]

# speechmos 0.0.1.1 on the fixture `voice`, and on its 12.3 s repetition (three windows after rounding):
# dnsmos.run(x, 16000); numpy.random.seed(0); plcmos.run(x, 16000)
BY_SPEECHMOS = {
    5.0: (3.0978557097361312, 2.6010501929685517, 2.139495317561226, 2.4553952, 2.0813018798828127),
    12.3: (3.1076710104789655, 2.5988127592574797, 2.1475570613727393, 2.4164646, 2.0564439137776693),
}


@pytest.mark.parametrize("seconds", BY_SPEECHMOS)
def test_scores_are_those_of_the_package(seconds: float, voice: np.ndarray, judge: Judge) -> None:
    judge("plcmos")
    sound = np.tile(voice, 3)[: int(seconds * 16000)]
    found = (*opinion.dnsmos(sound), opinion.dnsmos_p808(sound), opinion.plcmos(sound))
    assert found == pytest.approx(BY_SPEECHMOS[seconds], abs=2e-4)


def test_scores_are_those_of_the_installed_package(voice: np.ndarray, judge: Judge) -> None:
    judge("plcmos")
    for needed in ("librosa", "requests"):
        pytest.importorskip(needed)
    from speechmos import dnsmos, plcmos

    expected = dnsmos.run(voice, 16000)
    scores = dict(zip(("sig_mos", "bak_mos", "ovrl_mos"), opinion.dnsmos(voice), strict=True))
    scores["p808_mos"] = opinion.dnsmos_p808(voice)
    assert scores == pytest.approx({name: float(expected[name]) for name in scores}, abs=1e-4)
    np.random.seed(0)
    assert opinion.plcmos(voice) == pytest.approx(plcmos.run(voice.copy(), 16000)["plcmos"], abs=1e-4)


@pytest.mark.slow
def test_distillmos_is_that_of_the_package(voice: np.ndarray, judge: Judge) -> None:
    judge("distillmos")
    import torch

    from audiotokens.evaluation.measures.packages import import_without

    package = import_without("distillmos", "torchaudio").ConvTransformerSQAModel().eval()
    for sound in (voice, np.tile(voice, 2)[:150000]):
        with torch.no_grad():
            expected = float(package(torch.from_numpy(sound[None])))
        assert opinion.distillmos(sound) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", [metric.id for metric in opinion.METRICS])
def test_level_changes_nothing(name: str, judge: Judge, voice: np.ndarray) -> None:
    metric, peak = judge(name), np.abs(voice).max()
    scores = [metric(voice, (level / peak * voice).astype(np.float32)) for level in (0.2, 0.8, 3.0)]
    assert scores == pytest.approx([scores[0]] * 3, abs=0.01)


def test_the_package_itself_depends_on_level(judge: Judge, voice: np.ndarray) -> None:
    judge("dnsmos/ovrl")
    quiet, loud = (opinion.dnsmos((factor * voice).astype(np.float32)).ovrl for factor in (0.5, 5.0))
    assert abs(quiet - loud) > 0.02


def test_the_reference_is_not_looked_at(judge: Judge, voice: np.ndarray, noise: Noise) -> None:
    for name in ("dnsmos/ovrl", "plcmos"):
        assert judge(name)(voice, voice) == METRICS[name](noise(len(voice)), voice)


def test_what_lies_below_the_gate_is_silence(judge: Judge, noise: Noise) -> None:
    with pytest.raises(MetricError, match="below -70 LUFS"):
        judge("plcmos")(noise(32000), noise(32000, 1e-6))


def test_loudness_is_the_stated_one(voice: np.ndarray) -> None:
    assert loudness(opinion._levelled(voice), 16000) == pytest.approx(opinion.LOUDNESS, abs=0.01)
    for name in ("dnsmos/ovrl", "plcmos"):
        assert f"{opinion.LOUDNESS:.0f} LUFS" in METRICS[name].definition


@pytest.mark.slow
def test_raters_spread_little(judge: Judge, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    judge("plcmos")
    state, scores = np.random.RandomState, []
    for seed in range(10):
        monkeypatch.setattr(opinion.np.random, "RandomState", lambda _, seed=seed: state(seed))
        scores.append(opinion.plcmos(voice))
    assert 0 < np.std(scores) < 0.06
