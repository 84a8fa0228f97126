"""Nearest entries against direct differences in float64, on data made to mislead a product."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from audiotokens.nn import scores
from audiotokens.nn.exact import first_equal, nearest, nearest_float64
from audiotokens.nn.search import Searcher

has_int8 = scores.has_int8_products(torch.device("cpu"))
each_product = pytest.mark.parametrize("eight_bits", [False, True] if has_int8 else [False])


def oracle(vectors: Tensor, book: Tensor) -> Tensor:
    """The lowest index of the smallest sum of squared differences in float64."""
    rows = max(1, (1 << 21) // book.numel())
    parts = [
        (part[:, None] - book.double()).square().sum(2).min(1).indices
        for part in vectors.double().split(rows)
    ]
    return torch.cat(parts)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(rows: int, dim: int, seed: int) -> Tensor:
    scales = torch.linspace(0, 4, dim, dtype=torch.float64).neg().exp()
    return (normal(rows, dim, seed=seed) * scales) @ normal(dim, dim, seed=99)


def planted_ties() -> tuple[Tensor, Tensor]:
    """Pairs of entries a few units in the last place of float32 apart, and vectors near them."""
    first = normal(256, 96).float()
    second = torch.nextafter(first, first + 1)
    book = torch.stack([first, second], 1).flatten(0, 1)[torch.randperm(512)]
    return book[::3].double() + 1e-3 * normal(171, 96, seed=1), book


def midpoints() -> tuple[Tensor, Tensor]:
    """Vectors exactly between two entries, both at the same distance in float64."""
    whole = (normal(300, 64) * 50).round()
    return (whole[:100] + whole[100:200]) / 2, whole


def equal_entries() -> tuple[Tensor, Tensor]:
    book = normal(500, 64)
    book[250:] = book[:250].clone()
    return normal(80, 64, seed=1), book


def huge() -> tuple[Tensor, Tensor]:
    return normal(70, 64, seed=1) * 1e22, normal(300, 64) * 1e22


def one_huge_entry() -> tuple[Tensor, Tensor]:
    book = normal(300, 64)
    book[17] *= 1e9
    return normal(70, 64, seed=1), book


def one_loud_vector() -> tuple[Tensor, Tensor]:
    vectors = normal(200, 64, seed=1)
    vectors[13] *= 1e4
    return vectors, normal(300, 64)


def offset() -> tuple[Tensor, Tensor]:
    return normal(70, 64, seed=1) + 1e4, normal(300, 64) + 1e4


def far_vectors() -> tuple[Tensor, Tensor]:
    return normal(70, 64, seed=1) + 1e5, normal(300, 64)


def zeros() -> tuple[Tensor, Tensor]:
    return torch.zeros(70, 64, dtype=torch.float64), torch.zeros(300, 64, dtype=torch.float64)


def silence_among_unit_vectors() -> tuple[Tensor, Tensor]:
    vectors = normal(70, 64, seed=1)
    vectors[::2] = 0
    return vectors, torch.nn.functional.normalize(normal(300, 64), dim=1)


def coarse_grid() -> tuple[Tensor, Tensor]:
    """Entries that 8 bits cannot tell apart, since one coordinate is much larger than the others."""
    book, vectors = normal(400, 64), normal(90, 64, seed=1)
    book[:, 0] = 1e3 * normal(400, seed=2).sign()
    vectors[:, 0] = 1e3 * normal(90, seed=3).sign()
    return vectors, book


def silence_at_intervals() -> tuple[Tensor, Tensor]:
    """Silent wherever the scale of vectors is asked."""
    vectors = normal(640, 64, seed=1)
    vectors[::10] = 0
    return vectors, normal(300, 64)


def loud_minority() -> tuple[Tensor, Tensor]:
    vectors = normal(640, 64, seed=1)
    vectors[5::7] *= 1e12
    return vectors, normal(300, 64)


def correlated_pair() -> tuple[Tensor, Tensor]:
    return correlated(300, 128, 1), correlated(1024, 128, 2)


HARD = [planted_ties, midpoints, equal_entries, huge, one_huge_entry, one_loud_vector, offset, far_vectors]
HARD += [zeros, silence_among_unit_vectors, coarse_grid, correlated_pair]
HARD += [silence_at_intervals, loud_minority]


@each_product
@pytest.mark.parametrize("make", HARD)
def test_hard_cases(make: Callable[[], tuple[Tensor, Tensor]], eight_bits: bool) -> None:
    vectors, book = make()
    assert torch.equal(Searcher(book, eight_bits=eight_bits).nearest(vectors), oracle(vectors, book))


SHAPES = [(1, 2, 1), (40, 2, 1), (40, 3, 2), (300, 65, 8), (33, 1000, 17), (50, 4096, 24), (7, 2100, 5)]
SHAPES += [(64, 300, 768), (3, 1024, 128), (2100, 256, 64)]


@each_product
@pytest.mark.parametrize(("rows", "size", "dim"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes(rows: int, size: int, dim: int, dtype: torch.dtype, eight_bits: bool) -> None:
    vectors, book = normal(rows, dim, seed=1).to(dtype), normal(size, dim).to(dtype)
    expected = oracle(vectors, book)
    assert torch.equal(Searcher(book, eight_bits=eight_bits).nearest(vectors), expected)
    assert torch.equal(nearest_float64(vectors.double(), book.double()), expected)
    assert (nearest(vectors, book) != expected).sum() <= 1 + rows // 1000


def test_large_book() -> None:
    book, vectors = normal(65536, 8).float(), normal(64, 8, seed=1).float()
    assert torch.equal(Searcher(book).nearest(vectors), oracle(vectors, book))
    assert torch.equal(nearest(vectors, book), oracle(vectors, book))


@each_product
def test_a_vector_alone_in_parts_and_in_any_batch(eight_bits: bool) -> None:
    vectors, book = correlated_pair()
    book[500:600] = book[:100] + 1e-9
    searcher = Searcher(book, eight_bits=eight_bits)
    whole = searcher.nearest(vectors)
    for size in (1, 7, 31, 32, 100, 299):
        assert torch.equal(torch.cat([searcher.nearest(part) for part in vectors.split(size)]), whole)
    shuffled = torch.randperm(len(vectors))
    assert torch.equal(searcher.nearest(vectors[shuffled]), whole[shuffled])


@pytest.mark.skipif(not has_int8, reason="the processor has no exact products of 8 bits")
@pytest.mark.parametrize("make", [planted_ties, correlated_pair])
def test_eight_bits_alone_would_be_wrong(make: Callable[[], tuple[Tensor, Tensor]]) -> None:
    vectors, book = make()
    searcher = Searcher(book, eight_bits=True)
    assert torch.equal(searcher.nearest(vectors), oracle(vectors, book))
    coarse = searcher._coarse
    assert coarse is not None, "8 bits were given up"
    left, length, _ = searcher._float.prepare(vectors)
    whole, offsets, _, _ = coarse.prepare(left[:, :-1], length)
    groups, _ = coarse.product(whole, offsets, 0, len(book))
    assert (groups.flatten(1).argmin(1) != oracle(vectors, book)).any()


@pytest.mark.skipif(not has_int8, reason="the processor has no exact products of 8 bits")
@pytest.mark.parametrize("make", HARD)
def test_bounds_of_scores_hold(make: Callable[[], tuple[Tensor, Tensor]]) -> None:
    vectors, book = make()
    mean = book.double().mean(0)
    vectors, book = vectors - mean, book.double() - mean
    exact = 0.5 * book.square().sum(1) - vectors @ book.T
    exactly = scores.FloatScores(book)
    left, length, margin = exactly.prepare(vectors)
    if not float(margin.amax()) < exactly.largest_margin:
        return
    groups, _ = exactly.product(left, 0, exactly.size)
    error = (groups.flatten(1)[:, : len(book)] - 2 * exact).abs().amax(1)
    assert (error <= 0.5 * margin).all()
    coarse = scores.Int8Scores(book)
    whole, offsets, unit, above = coarse.prepare(left[:, :-1], length)
    groups, _ = coarse.product(whole, offsets, 0, coarse.size)
    bounds = (groups.flatten(1)[:, : len(book)] >> 6).double()
    slack = (0.5 * margin / unit + 4e-7 * bounds.abs().amax(1))[:, None]
    assert (bounds <= exact / unit + above[:, None] + slack).all()


def test_not_a_number_and_infinity_find_some_entry() -> None:
    vectors, book = normal(40, 16), normal(70, 16)
    vectors[3], vectors[5, 2] = torch.nan, torch.inf
    found, expected = Searcher(book).nearest(vectors), oracle(vectors, book)
    rest = [i for i in range(40) if i not in (3, 5)]
    assert torch.equal(found[rest], expected[rest])
    assert 0 <= found[3] < 70 and 0 <= found[5] < 70


def test_no_vectors() -> None:
    book = normal(70, 16)
    assert Searcher(book).nearest(book[:0]).shape == (0,)
    assert nearest(book[:0], book).shape == (0,)


def test_lowest_of_equal_scores_in_training() -> None:
    book = torch.ones(5000, 4)
    assert nearest(torch.randn(100, 4), book).eq(0).all()


def test_autocast_changes_nothing() -> None:
    vectors, book = correlated_pair()
    vectors, book = vectors.float(), book.float()
    searcher, expected = Searcher(book), nearest(vectors, book)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest(vectors, book), expected)
        assert torch.equal(searcher.nearest(vectors), oracle(vectors, book))


def test_a_lower_precision_of_float32_products_changes_nothing() -> None:
    vectors, book = correlated_pair()
    former = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = Searcher(book, eight_bits=False).nearest(vectors)
    finally:
        torch.set_float32_matmul_precision(former)
    assert torch.equal(found, oracle(vectors, book))


class Watch(TorchDispatchMode):
    """Remembers the size of the largest tensor that an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        given = func(*args, **(kwargs or {}))
        for tensor in given if isinstance(given, tuple | list) else (given,):
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return given


@each_product
def test_memory_does_not_grow_with_entries_times_vectors(eight_bits: bool) -> None:
    book, vectors = normal(16384, 48).float(), normal(4096, 48, seed=1).float()
    searcher = Searcher(book, eight_bits=eight_bits)
    with Watch() as watch:
        searcher.nearest(vectors)
        nearest(vectors[:1024], book)
    # All scores would be 256 MiB; a tile is 8 MiB, the book in float64 6 MiB.
    assert watch.largest <= 17 * 2**20


@each_product
def test_memory_of_many_near_ties(eight_bits: bool) -> None:
    book = torch.ones(8192, 16, dtype=torch.float64)
    book[-1] = 0.5
    searcher = Searcher(book, eight_bits=eight_bits)
    with Watch() as watch:
        assert searcher.nearest(torch.full((128, 16), 1.25, dtype=torch.float64)).eq(0).all()
    assert watch.largest <= 34 * 2**20


def test_a_book_of_equal_entries_is_searched_as_one_of_different_ones() -> None:
    # A level that never learned is all zeros: every entry would be a candidate of every vector.
    book = torch.zeros(1024, 64)
    book[5:9] = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    book[700:704] = book[5:9]
    searcher = Searcher(book.double())
    assert len(searcher.book) == 5
    vectors = torch.cat([book[700:704], -0.0 * book[:1]]).double()
    assert searcher.nearest(vectors).tolist() == [5, 6, 7, 8, 0]


def test_first_equal_finds_entries_whose_first_elements_agree() -> None:
    book = torch.zeros(6, 12)
    book[:, 10] = torch.tensor([1.0, 2.0, 1.0, 0.0, -0.0, 2.0])
    assert first_equal(book).tolist() == [0, 1, 0, 3, 3, 1]
