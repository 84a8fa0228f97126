from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audiotokens.errors import MetricError
from audiotokens.evaluation import METRICS, Metric
from audiotokens.evaluation.measures import recognition
from audiotokens.evaluation.measures.recognition import (
    LONGEST,
    WordErrors,
    normalized_words,
    quiet_cuts,
    recognised,
    word_errors,
)
from audiotokens.evaluation.metrics import Measured

Noise = Callable[..., np.ndarray]
Judge = Callable[[str], Metric]
RATE = 16000


@pytest.mark.parametrize(
    ("reference", "output", "expected"),
    [
        ("a b c", "a b c", (0, 0, 0)),
        ("a b c", "", (0, 3, 0)),
        ("", "a b", (0, 0, 2)),
        ("a b c d", "a x c", (1, 1, 0)),
        ("a b", "x a y b z", (0, 0, 3)),
        ("the cat sat on the mat", "cat sat on a mat today", (1, 1, 1)),
    ],
)
def test_edits_are_counted(reference: str, output: str, expected: tuple[int, int, int]) -> None:
    found = word_errors(reference.split(), output.split())
    assert found == WordErrors(*expected, words=len(reference.split()))
    assert found.total == sum(expected)


def test_edits_are_a_distance() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        one, two = (list(map(str, generator.integers(0, 4, generator.integers(1, 9)))) for _ in range(2))
        there, back = word_errors(one, two), word_errors(two, one)
        assert there.total == back.total
        assert there.deletions - there.insertions == len(one) - len(two)
        assert there.total <= max(len(one), len(two))


def test_words_are_normalized() -> None:
    assert normalized_words("It’s 2 o'clock -- 'Now', she SAID.") == [
        "it's",
        "2",
        "o'clock",
        "now",
        "she",
        "said",
    ]
    assert normalized_words("... !") == []


def test_hallucination_is_flagged() -> None:
    assert not WordErrors(0, 0, 9, words=2).hallucinated
    assert not WordErrors(9, 0, 20, words=20).hallucinated
    assert WordErrors(0, 0, 21, words=20).hallucinated
    assert WordErrors(0, 0, 10, words=9).hallucinated


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> dict[float, str]:
    """A recogniser that hears what this dictionary has for the first sample of a signal."""
    texts: dict[float, str] = {}
    monkeypatch.setattr(recognition, "recognised", lambda signal: texts[float(signal[0])])
    monkeypatch.setattr(recognition, "_decoder", lambda: None)
    return texts


def test_rates_and_their_weights(heard: dict[float, str]) -> None:
    heard |= {1.0: "the cat sat on a mat", 2.0: "the cat sat in mat", 3.0: "", 4.0: "x " * 12}
    one, two, three, four = (np.full(RATE, value, np.float32) for value in (1, 2, 3, 4))
    difference, increase = METRICS["dwer/pocketsphinx"], METRICS["wer/pocketsphinx-difference"]
    assert difference.measure(one, two) == Measured(pytest.approx(100 * 2 / 6), 6)
    assert increase.measure(one, two, transcript="The cat sat on the mat!") == Measured(
        pytest.approx(100 * (2 - 1) / 6), 6
    )
    assert increase(two, one, transcript="the cat sat on the mat") == pytest.approx(-100 / 6)
    assert difference(one, three) == 100
    with pytest.raises(MetricError, match="there are no words to compare with"):
        difference(three, one)
    heard[4.0] = heard[1.0] + " x" * 10
    with pytest.raises(MetricError, match="10 words were invented where 6 were said: the recogniser hallu"):
        difference(one, four)
    with pytest.raises(MetricError, match="a transcript is needed"):
        increase(one, two)
    with pytest.raises(MetricError, match="no words to compare with"):
        increase(one, two, transcript="?")


def test_the_weighted_mean_is_the_rate_of_the_corpus(heard: dict[float, str]) -> None:
    heard |= {1.0: "a b c d e f g h", 2.0: "a b c d e f g x", 3.0: "a b", 4.0: "y z"}
    signals = {value: np.full(RATE, value, np.float32) for value in heard}
    pairs = [(signals[1.0], signals[2.0]), (signals[3.0], signals[4.0])]
    found = [METRICS["dwer/pocketsphinx"].measure(*pair) for pair in pairs]
    weighted = sum(value * weight for value, weight in found) / sum(weight for _, weight in found)
    assert weighted == pytest.approx(100 * 3 / 10)


def test_cuts_are_quiet_and_parts_short(noise: Noise) -> None:
    sound = noise(75 * RATE)
    for pause in (22.0, 41.5, 60.0):
        sound[round(pause * RATE) : round((pause + 0.3) * RATE)] = 0
    cuts = quiet_cuts(sound, RATE)
    assert max(np.diff([0, *cuts, len(sound)])) <= LONGEST * RATE
    assert [cut / RATE for cut in cuts[:2]] == pytest.approx([22.1, 41.6], abs=0.11)
    assert quiet_cuts(sound[: 30 * RATE], RATE) == []
    assert len(quiet_cuts(sound[: 30 * RATE + 1], RATE)) == 1


def test_long_recordings_are_heard_in_parts(heard: dict[float, str], noise: Noise) -> None:
    sound = noise(45 * RATE)
    sound[25 * RATE : 25 * RATE + 8000] = 0
    sound[0] = 1.0
    (cut,) = quiet_cuts(sound, RATE)
    assert 25 * RATE < cut < 25.5 * RATE
    heard |= {1.0: "one two", 0.0: "three four five"}
    assert METRICS["dwer/pocketsphinx"].measure(sound, sound) == Measured(0.0, 5)


@pytest.mark.slow
def test_a_long_recording_is_as_good_as_its_parts(judge: Judge, utterances: list[np.ndarray]) -> None:
    metric = judge("dwer/pocketsphinx")
    pause = np.zeros(RATE // 2, np.float32)
    long = np.concatenate([part for each in (2, 7, 8, 5) for part in (utterances[each], pause)])
    assert len(long) > 45 * RATE
    rough = (np.round(long * 60) / 60).astype(np.float32)
    cuts = quiet_cuts(long, RATE)
    assert len(cuts) == 1
    parts = [metric.measure(x, y) for x, y in zip(np.split(long, cuts), np.split(rough, cuts), strict=True)]
    whole = metric.measure(long, rough)
    assert whole.weight == sum(part.weight for part in parts)
    errors = sum(part.value * part.weight for part in parts)
    assert whole.value * whole.weight == pytest.approx(errors, abs=2 * 100)
    assert 0 < whole.value < 100


@pytest.mark.slow
def test_what_was_heard_before_changes_nothing(judge: Judge, utterances: list[np.ndarray]) -> None:
    judge("dwer/pocketsphinx")
    plain = recognised.__wrapped__  # type: ignore[attr-defined]
    first = plain(utterances[1])
    plain(0.1 * utterances[2])
    assert plain(utterances[1]) == first
    assert len(first.split()) > 5


@pytest.mark.slow
def test_words_are_heard(judge: Judge, shared: Path, utterances: list[np.ndarray]) -> None:
    judge("dwer/pocketsphinx")
    with (shared / "data" / "manifest.csv").open(encoding="utf-8") as file:
        rows = sorted(
            (row for row in csv.DictReader(file) if "librispeech" in row["path"]), key=lambda r: r["path"]
        )
    found = [
        word_errors(normalized_words(row["transcript"]), normalized_words(recognised(sound)))
        for row, sound in zip(rows[:6], utterances)
    ]
    assert sum(each.total for each in found) < 0.6 * sum(each.words for each in found)
