"""Statistics of a batch in parts and as a whole, and samples that do not depend on the parts."""

from __future__ import annotations

import pytest
import torch

from audiotokens.quantizers import merge_statistics
from audiotokens.quantizers.statistics import drawn, nest, sample, select

VECTORS = torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))


def test_sums_are_added_and_others_are_put_behind_one_another() -> None:
    parts = [
        {"levels.0.sum_counts": torch.tensor([1, 2]), "levels.0.ranks": torch.tensor([4])},
        {"levels.0.sum_counts": torch.tensor([5, 0]), "levels.0.ranks": torch.tensor([3])},
    ]
    merged = merge_statistics(parts)
    assert merged["levels.0.sum_counts"].tolist() == [6, 2]
    assert merged["levels.0.ranks"].tolist() == [4, 3]


@pytest.mark.parametrize("cut", [1, 300, 990])
def test_sample_of_a_union_is_the_sample_of_the_samples(cut: int) -> None:
    parts = [sample(VECTORS[:cut], 64), sample(VECTORS[cut:], 64)]
    merged, number = drawn(torch.cat([ranks for ranks, _ in parts]), torch.cat([rows for _, rows in parts]))
    assert torch.equal(merged[:64], sample(VECTORS, 64)[1])
    assert 64 <= int(number) <= 128


def test_a_sample_under_a_mask_is_that_of_the_chosen() -> None:
    valid = torch.arange(1000) % 3 == 0
    for found, expected in zip(sample(VECTORS, 400, valid), sample(VECTORS[valid], 400), strict=True):
        assert torch.equal(found, expected)


def test_sample_takes_each_vector_once() -> None:
    ranks, vectors = sample(VECTORS[:3].repeat(5, 1), 8)
    again = torch.cat([ranks, ranks]), torch.cat([vectors, vectors])
    for merged, number in (drawn(ranks, vectors), drawn(*again)):
        assert int(number) == 3
        assert torch.equal(merged[:3], vectors[:3])
    assert vectors.unique(dim=0).shape == (4, 16) and not vectors[3:].any()


def test_sample_favours_no_part_of_the_batch() -> None:
    _, vectors = sample(VECTORS, 200)
    early = (vectors[:, None] == VECTORS[:500]).all(2).any(1).float().mean()
    assert 0.4 < early < 0.6


def test_select_reverses_nest() -> None:
    statistics = {"sum_counts": torch.ones(2)}
    assert select({**nest(statistics, "levels.1"), **nest({}, "levels.10")}, "levels.1") == statistics


def test_names_that_begin_alike_are_kept_apart() -> None:
    one, ten = {"sum_counts": torch.ones(2)}, {"sum_counts": torch.zeros(2)}
    both = {**nest(one, "levels.1"), **nest(ten, "levels.10")}
    assert select(both, "levels.1")["sum_counts"].tolist() == [1, 1]
