"""Entropies of known counts, their bias, and the information that independent books seem to share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audiotokens.entropy import (
    chance_information,
    corrected_entropy,
    coverage,
    coverage_entropy,
    expected_used,
    mutual_information,
    plugin_entropy,
)


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


def test_few_codes_in_a_large_book_tell_its_entropy() -> None:
    rng = np.random.default_rng(4)
    shares = rng.dirichlet(np.full(4096, 1.0))
    truth = float(-(shares * np.log2(shares)).sum())
    counts = rng.multinomial(3000, shares)
    assert truth - corrected_entropy(counts) > 0.4
    assert coverage_entropy(counts) == pytest.approx(truth, abs=0.15)
    assert coverage_entropy(np.array([40, 0])) == pytest.approx(0.0)
    assert coverage_entropy(np.ones(8, np.int64)) <= 3.0
    assert coverage_entropy(np.zeros(8, np.int64)) == 0.0


def test_expected_use_is_that_of_random_codes() -> None:
    rng = np.random.default_rng(1)
    used = np.mean([len(np.unique(rng.integers(0, 1024, 1500))) for _ in range(200)])
    assert expected_used(1024, 1500) == pytest.approx(used, rel=0.01)
    assert expected_used(1, 5) == 1.0
    assert expected_used(1024, 0) == 0.0


def test_coverage_foretells_how_often_a_new_code_is_known() -> None:
    rng = np.random.default_rng(2)
    shares = rng.dirichlet(np.full(512, 0.5))
    seen, more = rng.choice(512, 600, p=shares), rng.choice(512, 20000, p=shares)
    counts = np.bincount(seen, minlength=512)
    assert coverage(counts) == pytest.approx(np.isin(more, seen).mean(), abs=0.05)
    assert coverage(np.zeros(4, np.int64)) == 0.0


def test_independent_books_seem_to_share_as_much_as_chance_says() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 64, 2000), rng.integers(0, 64, 2000) ** 2 // 64
    counts = np.bincount(first, minlength=64), np.bincount(second, minlength=64)
    found = mutual_information(*counts, np.unique(first * 64 + second, return_counts=True)[1])
    assert found > 0.5
    assert chance_information(*counts) == pytest.approx(found, rel=0.05)


def test_information_of_books_that_are_known_to_share_some() -> None:
    codes = np.arange(4096) % 16
    halves = np.bincount(codes // 4), np.bincount(codes % 4)
    table = np.full(16, 256)
    assert mutual_information(*halves, table) == 0.0
    assert mutual_information(np.bincount(codes), halves[0], table) == 2.0
    assert mutual_information(np.bincount(codes), np.bincount(codes), table) == 4.0
