"""Usage reports of codes whose statistics are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from audiotokens.quantizers import (
    FSQConfig,
    MultiscaleConfig,
    UsageCounter,
    build_quantizer,
    usage_report,
)

RNG = np.random.default_rng(0)


def counted(codes: np.ndarray, *sizes: int) -> UsageCounter:
    counter = UsageCounter(sizes)
    counter.add(codes)
    return counter


def test_a_book_in_even_use_and_a_collapsed_one() -> None:
    even = np.tile(np.arange(16), 8)
    report = counted(np.stack([even, even // 8]), 16, 16).report(frame_rate=50.0)
    lively, collapsed = report.books
    assert (lively.used, lively.dead, lively.entropy, lively.perplexity) == (16, (), 4.0, 16.0)
    assert (collapsed.used, collapsed.dead) == (2, tuple(range(2, 16)))
    assert collapsed.utilisation == 0.125
    assert collapsed.entropy == pytest.approx(1 + 1 / (2 * 128 * math.log(2)))
    assert report.nominal_bits == 8.0
    assert report.bitrate(report.entropy_bits) == pytest.approx(50 * (4 + collapsed.entropy))


def test_uniform_use_touches_as_many_entries_as_expected() -> None:
    book = counted(RNG.integers(0, 4096, (1, 3000)), 4096).report().books[0]
    assert book.utilisation < 0.55
    assert book.relative_utilisation == pytest.approx(1.0, abs=0.03)


def test_redundancy_of_equal_and_of_independent_books() -> None:
    codes = RNG.integers(0, 64, (2, 4000))
    report = counted(np.stack([codes[0], codes[0], codes[1]]), 64, 64, 64).report()
    same, apart, _ = report.pairs
    assert (same.first, same.second, apart.second) == (0, 1, 2)
    assert same.redundancy == pytest.approx(1.0)
    assert apart.redundancy == pytest.approx(0.0, abs=0.01)
    assert apart.information == pytest.approx(0.0, abs=0.03)


def test_joint_entropy_is_that_of_the_tuples_where_the_sample_tells_it() -> None:
    codes = RNG.integers(0, 8, 5000)
    report = counted(np.stack([codes, (codes + 1) % 8]), 8, 8).report()
    assert report.joint_entropy == pytest.approx(report.books[0].entropy, abs=1e-3)
    assert report.entropy_bits == pytest.approx(2 * report.books[0].entropy)
    assert counted(RNG.integers(0, 1024, (2, 500)), 1024, 1024).report().joint_entropy is None


def test_joint_entropy_of_more_tuples_than_an_integer_counts_is_not_known() -> None:
    assert counted(np.zeros((7, 20), np.int64), *[1024] * 7).report().joint_entropy is None


def test_batches_count_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiotokens.quantizers.usage._PENDING", 64)
    codes = RNG.integers(0, 32, (3, 2, 400))
    parts = UsageCounter((32, 32))
    for piece in np.array_split(codes, 7, axis=2):
        parts.add(torch.from_numpy(piece))
    whole = UsageCounter((32, 32))
    whole.add(codes)
    assert parts.report() == whole.report()


def test_masked_frames_are_not_counted() -> None:
    codes = torch.tensor([[[1, 2, 0, 0]], [[3, 0, 0, 0]]])
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    counter = UsageCounter((4,))
    counter.add(codes, mask=mask)
    assert counter.report().books[0].dead == (0,)
    assert counter.report().frames == 3


def test_codes_that_do_not_fit_are_refused() -> None:
    counter = UsageCounter((4, 4))
    with pytest.raises(ValueError, match=r"shape \(1, 3, 5\), expected \[B, 2, T\]"):
        counter.add(np.zeros((1, 3, 5), np.int64))
    with pytest.raises(ValueError, match="book 1 has codes 0 to 4, expected 0 to 3"):
        counter.add(np.array([[0, 0], [0, 4]]))


def test_report_of_a_quantizer() -> None:
    torch.manual_seed(0)
    quantizer = build_quantizer(FSQConfig(levels=(3, 3)), dim=4)
    report = usage_report(quantizer, torch.randn(2, 4, 50), frame_rate=25.0)
    assert report.frames == 100
    assert report.joint_entropy == report.books[0].entropy
    assert json.loads(json.dumps(report.to_dict()))["nominal_bitrate"] == pytest.approx(25 * math.log2(9))
    assert f"effective bit rate: {25 * report.entropy_bits:.0f} bit/s of 79" in str(report)


def test_books_of_several_rates_count_at_their_own() -> None:
    torch.manual_seed(0)
    config = MultiscaleConfig(strides=(4, 2, 2), inner=FSQConfig(levels=(4, 4)))
    quantizer = build_quantizer(config, dim=2)
    mask = torch.arange(40) < torch.tensor([[40], [13]])
    report = usage_report(quantizer, torch.randn(2, 2, 40), mask=mask, frame_rate=50.0)
    assert [book.codes for book in report.books] == [10 + 4, 20 + 7, 20 + 7]
    assert report.nominal_bits == 4 / 4 + 4 / 2 + 4 / 2
    assert report.entropy_bits == pytest.approx(
        sum(book.entropy / book.stride for book in report.books), abs=1e-12
    )
    assert [(pair.first, pair.second) for pair in report.pairs] == [(1, 2)]
    assert report.joint_entropy is None


def test_nothing_counted_is_no_use() -> None:
    report = UsageCounter((8, 8)).report(frame_rate=50.0)
    assert [book.relative_utilisation for book in report.books] == [0.0, 0.0]
    assert report.joint_entropy is None
    assert "frames: 0" in str(report)
