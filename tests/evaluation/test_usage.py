from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from audiotokens.errors import TokensError
from audiotokens.evaluation.results import Point
from audiotokens.evaluation.usage import UsageCounter
from audiotokens.tokens import CodeStream, Conditioning, Tokens

POINT = Point("speech", "t", 2)


def tokens(codes: np.ndarray, sizes: tuple[int, ...], **more: Conditioning) -> Tokens:
    stream = CodeStream(codes, sizes, Fraction(50))
    return Tokens({"codes": stream}, codes.shape[1] * 320, 16000, 1, "t", "0" * 64, conditioning=more)


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
