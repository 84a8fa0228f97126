from __future__ import annotations

import numpy as np
import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.quantizers import (
    AgglomerativeConfig,
    AgglomerativeQuantizer,
    agglomerate,
    build_quantizer,
)


def points(number: int = 60, dim: int = 4) -> torch.Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(0))


def numbered(labels: np.ndarray) -> list[int]:
    order: dict[int, int] = {}
    return [order.setdefault(int(label), len(order)) for label in labels]


def oracle(centroids: np.ndarray, weights: np.ndarray, size: int, linkage: str) -> list[int]:
    """Merge the nearest two of all pairs, with distances from the definitions."""
    members = [[i] for i in range(len(centroids))]

    def apart(a: list[int], b: list[int]) -> float:
        wa, wb = weights[a], weights[b]
        if linkage == "ward":
            between = np.average(centroids[a], 0, wa) - np.average(centroids[b], 0, wb)
            return float(wa.sum() * wb.sum() / (wa.sum() + wb.sum()) * (between**2).sum())
        distances = np.sqrt(((centroids[a][:, None] - centroids[b]) ** 2).sum(2))
        return float((distances * wa[:, None] * wb).sum() / wa.sum() / wb.sum())

    while len(members) > size:
        pairs = [(apart(a, b), i, j) for i, a in enumerate(members) for j, b in enumerate(members) if i < j]
        _, i, j = min(pairs)
        members[i] += members.pop(j)
    labels = np.zeros(len(centroids), dtype=int)
    for name, group in enumerate(members):
        labels[group] = name
    return numbered(labels)


@pytest.mark.parametrize("linkage", ["ward", "average"])
@pytest.mark.parametrize("size", [1, 2, 7, 23, 29, 30])
def test_it_merges_the_nearest_pairs_in_turn(linkage: str, size: int) -> None:
    centroids = points(30)
    counts = torch.randint(1, 50, (30,), generator=torch.Generator().manual_seed(1))
    merged = agglomerate(centroids, size, counts=counts, linkage=linkage)
    expected = oracle(centroids.double().numpy(), counts.double().numpy(), size, linkage)
    assert merged.mapping.tolist() == expected
    for name in range(size):
        own = merged.mapping == name
        mean = (centroids[own] * counts[own, None]).sum(0) / counts[own].sum()
        torch.testing.assert_close(merged.centroids[name], mean)


@pytest.mark.parametrize("linkage", ["ward", "average"])
def test_without_counts_it_agrees_with_scipy(linkage: str) -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    centroids = points(200)
    tree = hierarchy.linkage(centroids.double().numpy(), linkage)
    for size in (2, 10, 50, 150):
        expected = numbered(hierarchy.fcluster(tree, size, "maxclust"))
        assert agglomerate(centroids, size, linkage=linkage).mapping.tolist() == expected


def test_counts_weigh_as_repeated_vectors_do() -> None:
    centroids = points(12)
    counts = torch.randint(1, 6, (12,), generator=torch.Generator().manual_seed(2))
    repeated = agglomerate(centroids.repeat_interleave(counts, 0), 4)
    starts = counts.cumsum(0) - counts
    weighted = agglomerate(centroids, 4, counts=counts)
    assert weighted.mapping.tolist() == repeated.mapping[starts].tolist()
    torch.testing.assert_close(weighted.centroids, repeated.centroids)


def test_unused_centroids_join_their_nearest_and_weigh_nothing() -> None:
    centroids = torch.tensor([[0.0], [10.0], [20.0], [11.0]])
    merged = agglomerate(centroids, 3, counts=torch.tensor([5, 7, 9, 0]))
    assert merged.mapping.tolist() == [0, 1, 2, 1]
    assert merged.centroids[:, 0].tolist() == pytest.approx([0.0, 10.0, 20.0], abs=1e-4)


def test_equal_centroids_and_ties_are_decided_alike_each_time() -> None:
    grid = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0)).repeat(2, 1)
    merged = agglomerate(grid, 36)
    assert merged.mapping.tolist() == [*range(36), *range(36)]
    assert agglomerate(grid, 9).mapping.tolist() == agglomerate(grid, 9).mapping.tolist()
    assert len(agglomerate(grid, 9).mapping.unique()) == 9


def test_codes_are_mapped_and_checked() -> None:
    merged = agglomerate(torch.tensor([[0.0], [9.0], [1.0], [8.0]]), 2)
    codes = torch.tensor([[[0, 1, 2, 3]]])
    assert merged.merge_codes(codes).tolist() == [[[0, 1, 0, 1]]]
    assert merged.merge_codes(codes[..., :0]).shape == (1, 1, 0)
    with pytest.raises(ValueError, match="found codes from 0 to 4, expected 0 to 3"):
        merged.merge_codes(codes + torch.tensor([0, 0, 0, 1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0, expected 1 to the number of centroids, 60"),
        ({"size": 61}, "size is 61, expected 1 to the number of centroids, 60"),
        ({"size": 3, "linkage": "single"}, 'linkage is "single", expected "ward" or "average"'),
        ({"size": 3, "counts": torch.ones(3)}, "found counts of shape \\(3,\\), expected \\(60,\\)"),
        ({"size": 3, "counts": -torch.ones(60)}, "finite and not negative"),
    ],
)
def test_what_cannot_be_merged_is_an_error(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agglomerate(points(), **arguments)


def test_as_a_quantizer_it_merges_the_codes_of_its_centroids() -> None:
    torch.manual_seed(0)
    config = AgglomerativeConfig(num_centroids=24, codebook_size=6)
    quantizer = build_quantizer(config, dim=4)
    if not isinstance(quantizer, AgglomerativeQuantizer):
        raise TypeError(type(quantizer).__name__)
    data = points(900)
    quantizer.initialize(data, generator=torch.Generator().manual_seed(0))
    latents = data.view(3, 300, 4).mT
    near = torch.cdist(data.double(), quantizer.searched.double()).argmin(1)
    expected = quantizer.mapping[near].view(3, 1, 300)
    assert quantizer.codebook_sizes == (6,)
    assert torch.equal(quantizer.encode(latents), expected)
    result = quantizer.train()(latents)
    assert torch.equal(result.codes, expected)
    assert torch.equal(result.latents, quantizer.decode(expected))
    assert not result.losses
    assert not result.statistics
    for name in range(6):
        own = data[expected.flatten() == name]
        torch.testing.assert_close(quantizer.book[name], own.mean(0), atol=0.15, rtol=0)
    assert sorted(quantizer.state_dict()) == ["book", "mapping", "searched"]
    copy = AgglomerativeQuantizer(4, config)
    copy.load_state_dict(quantizer.state_dict())
    assert torch.equal(copy.encode(latents), expected)


def test_its_configuration_survives_and_is_checked() -> None:
    config = AgglomerativeConfig(num_centroids=30, codebook_size=10, linkage="average")
    assert from_dict(AgglomerativeConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match="codebook_size is 31, expected 2 to num_centroids, 30"):
        AgglomerativeConfig(num_centroids=30, codebook_size=31)
