from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from audiotokens.evaluation import Metric

Noise = Callable[..., np.ndarray]
Judge = Callable[[str], Metric]


@pytest.mark.slow
def test_more_noise_is_never_better(judge: Judge, utterances: list[np.ndarray], noise: Noise) -> None:
    metric, clip = judge("visqol/speech"), utterances[1]
    levels = [0.0, 1e-4, 1e-3, 1e-2, 5e-2]
    scores = [metric(clip, clip + noise(len(clip), level)) for level in levels]
    assert scores[0] == 5.0
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 2.5


@pytest.mark.slow
def test_another_utterance_is_bad(judge: Judge, utterances: list[np.ndarray]) -> None:
    assert judge("visqol/speech")(utterances[1], utterances[2][: len(utterances[1])]) < 2


@pytest.mark.slow
def test_lateness_costs_little(judge: Judge, utterances: list[np.ndarray]) -> None:
    clip = utterances[1][: 2 * 16000]
    late = np.concatenate([np.zeros(80, np.float32), clip[:-80]])
    assert judge("visqol/speech")(clip, late) > 4.5
