from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from audiotokens.errors import TokensError
from audiotokens.evaluation.results import Point
from audiotokens.evaluation.usage import UsageCounter, corrected_entropy, expected_used, plugin_entropy
from audiotokens.tokens import CodeStream, Conditioning, Tokens

POINT = Point("speech", "t", 2)


def tokens(codes: np.ndarray, sizes: tuple[int, ...], **more: Conditioning) -> Tokens:
    stream = CodeStream(codes, sizes, Fraction(50))
    return Tokens({"codes": stream}, codes.shape[1] * 320, 16000, 1, "t", "0" * 64, conditioning=more)


def test_entropy_of_known_counts() -> None:
    assert plugin_entropy(np.array([4, 4, 0, 0])) == 1.0
    assert plugin_entropy(np.array([7, 0])) == 0.0
    assert corrected_entropy(np.array([8, 8, 8, 8])) == 2.0
    assert corrected_entropy(np.array([6, 2, 0, 0])) == pytest.approx(
        plugin_entropy(np.array([6, 2])) + 1 / (16 * math.log(2))
    )
    assert corrected_entropy(np.zeros(4, np.int64)) == 0.0


def test_the_correction_takes_away_most_of_the_bias() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(256, 2.0))
    truth = float(-(shares * np.log2(shares)).sum())
    draws = [rng.multinomial(1000, shares) for _ in range(50)]
    plugin = truth - np.mean([plugin_entropy(counts) for counts in draws])
    corrected = truth - np.mean([corrected_entropy(counts) for counts in draws])
    assert plugin > 0.1
    assert abs(corrected) < 0.25 * plugin


def test_expected_use_is_that_of_random_codes() -> None:
    rng = np.random.default_rng(1)
    used = np.mean([len(np.unique(rng.integers(0, 1024, 1500))) for _ in range(200)])
    assert expected_used(1024, 1500) == pytest.approx(used, rel=0.01)
    assert expected_used(1, 5) == 1.0
    assert expected_used(1024, 0) == 0.0


def test_books_are_never_pooled() -> None:
    counter = UsageCounter()
    collapsed = np.stack([np.arange(64) % 8, np.zeros(64, np.int64)])
    counter.add(tokens(collapsed, (8, 8)))
    counter.add(tokens(collapsed, (8, 8)))
    lively, dead = counter.books(POINT)
    assert (lively.used, lively.dead, lively.perplexity, lively.codes) == (8, 0, 8.0, 128)
    assert (dead.used, dead.dead, dead.perplexity, dead.entropy) == (1, 7, 1.0, 0.0)
    assert counter.entropy_bitrate() == pytest.approx(150.0)


def test_conditioning_is_paid_for() -> None:
    counter = UsageCounter()
    counter.add(tokens(np.zeros((1, 50), np.int64), (8,), voice=Conditioning(np.ones((2, 1)))))
    assert counter.entropy_bitrate() == pytest.approx(64.0)
    assert UsageCounter().entropy_bitrate() is None


def test_a_book_keeps_its_size() -> None:
    counter = UsageCounter()
    counter.add(tokens(np.zeros((1, 5), np.int64), (8,)))
    with pytest.raises(TokensError, match="16 entries, it had 8"):
        counter.add(tokens(np.zeros((1, 5), np.int64), (16,)))
