from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from audiotokens.errors import MetricError
from audiotokens.evaluation import Metric
from audiotokens.evaluation.measures.speaker import speaker_embedding

Noise = Callable[..., np.ndarray]
Judge = Callable[[str], Metric]


def test_embedding_is_that_of_the_package(voice: np.ndarray, judge: Judge) -> None:
    judge("speaker/resemblyzer")
    embedding = speaker_embedding(voice)
    # resemblyzer 0.1.4 with librosa 0.11: embed_utterance(preprocess_wav(voice, 16000))
    expected = [0.0193255, 0, 0.03464508, 0, 0, 0.00212615, 0, 0.00546429]
    assert embedding[:8] == pytest.approx(expected, abs=1e-5)
    assert np.argsort(-embedding)[:5].tolist() == [246, 36, 158, 243, 218]
    assert np.linalg.norm(embedding) == pytest.approx(1)


def test_embedding_is_that_of_the_installed_package(utterances: list[np.ndarray], judge: Judge) -> None:
    judge("speaker/resemblyzer")
    pytest.importorskip("librosa")
    import resemblyzer

    for sound in utterances[:3]:
        expected = resemblyzer.VoiceEncoder("cpu", verbose=False).embed_utterance(
            resemblyzer.preprocess_wav(sound, 16000)
        )
        assert speaker_embedding(sound) == pytest.approx(expected, abs=1e-5)


def test_a_speaker_resembles_herself_most(utterances: list[np.ndarray], judge: Judge) -> None:
    judge("speaker/resemblyzer")
    embeddings = np.stack([speaker_embedding(each) for each in utterances])
    closeness = embeddings @ embeddings.T - np.eye(len(embeddings))
    nearest = closeness.argmax(axis=1)  # files come in pairs of one speaker
    assert np.mean(nearest // 2 == np.arange(len(nearest)) // 2) > 0.8


def test_no_voice_no_speaker(judge: Judge, voice: np.ndarray) -> None:
    click = np.zeros(32000, np.float32)
    click[16000:16010] = 0.5
    with pytest.raises(MetricError, match=r"reconstruction: found 0\.\d\d s of voice, 0\.5 s are needed"):
        judge("speaker/resemblyzer")(voice[:32000], click)


def test_samples_beyond_full_scale_are_clipped(judge: Judge, voice: np.ndarray) -> None:
    judge("speaker/resemblyzer")
    loud = 20 * voice
    assert np.abs(loud).max() > 2
    assert speaker_embedding(loud) == pytest.approx(speaker_embedding(np.clip(loud, -1, 1)), abs=1e-6)
