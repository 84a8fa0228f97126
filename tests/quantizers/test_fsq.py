from __future__ import annotations

import math

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.quantizers import FiniteScalarQuantizer, FSQConfig, build_quantizer

LEVELS = [(8, 5, 5, 5), (4, 4, 4), (3,), (2, 7, 6), (2, 2)]
BOUNDS = ["tanh", "symmetric", "clamp"]

each_levels = pytest.mark.parametrize("levels", LEVELS)
each_bound = pytest.mark.parametrize("bound", BOUNDS)


def quantizer(
    levels: tuple[int, ...], bound: str = "tanh", num_codebooks: int = 1, dim: int = 6
) -> FiniteScalarQuantizer:
    torch.manual_seed(0)
    config = from_dict(
        FSQConfig, {"kind": "fsq", "levels": levels, "num_codebooks": num_codebooks, "bound": bound}
    )
    return FiniteScalarQuantizer(dim, config).eval()


@each_bound
@each_levels
def test_indices_and_vectors_are_a_bijection_over_the_whole_book(levels: tuple[int, ...], bound: str) -> None:
    fsq = quantizer(levels, bound)
    codes = torch.arange(math.prod(levels)).view(1, 1, -1)
    vectors = fsq.indices_to_vectors(codes)
    assert torch.equal(fsq.vectors_to_indices(vectors), codes)
    assert torch.equal(fsq.vectors_to_indices(vectors + 1e-3), codes)
    assert vectors.unique(dim=2).shape == (1, len(levels), math.prod(levels))
    assert fsq.codebook_sizes == (math.prod(levels),)


def test_vectors_beyond_the_book_go_to_its_edge() -> None:
    fsq = quantizer((8, 5))
    assert fsq.vectors_to_indices(torch.tensor([[[-9.0, 9.0], [9.0, -9.0]]])).tolist() == [[[32, 7]]]


def test_first_dimension_changes_fastest() -> None:
    digits = torch.tensor([[0, 0], [1, 0], [2, 0], [0, 1], [2, 4]])
    vectors = quantizer((3, 5), "symmetric").indices_to_vectors(torch.tensor([[[0, 1, 2, 3, 14]]]))
    assert torch.equal(vectors[0].T, digits / torch.tensor([1.0, 2.0]) - 1)


@pytest.mark.parametrize("bound", ["symmetric", "clamp"])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_symmetric_entries_divide_the_range_evenly(count: int, bound: str) -> None:
    vectors = quantizer((count,), bound).indices_to_vectors(torch.arange(count).view(1, 1, -1))
    torch.testing.assert_close(vectors[0, 0], torch.linspace(-1, 1, count))


@pytest.mark.parametrize(("count", "lowest", "highest"), [(2, -1, 0), (5, -1, 1), (8, -1, 0.75)])
def test_entries_of_the_paper_have_one_at_zero(count: int, lowest: float, highest: float) -> None:
    vectors = quantizer((count,)).indices_to_vectors(torch.arange(count).view(1, 1, -1))[0, 0]
    assert vectors.tolist() == torch.linspace(lowest, highest, count).tolist()
    assert (vectors == 0).sum() == 1


@each_bound
@each_levels
def test_every_code_is_reached_and_none_beyond(levels: tuple[int, ...], bound: str) -> None:
    fsq = quantizer(levels, bound, dim=len(levels))
    values = torch.linspace(-20, 20, 40001).expand(1, len(levels), -1)
    codes = fsq.encode(values)[0, 0]
    digits = codes[:, None] // fsq.radix % fsq.levels
    assert int(codes.max()) == math.prod(levels) - 1
    for dimension, count in enumerate(levels):
        assert digits[:, dimension].unique().tolist() == list(range(count))
        assert (digits[:, dimension].diff() >= 0).all()


@each_bound
@each_levels
def test_forward_encode_and_decode_agree(levels: tuple[int, ...], bound: str) -> None:
    fsq = quantizer(levels, bound, num_codebooks=2)
    latents = torch.randn(3, 6, 40)
    out = fsq(latents)
    assert out.codes.shape == (3, 2, 40) and out.codes.dtype == torch.int64
    assert torch.equal(out.codes, fsq.encode(latents))
    assert torch.equal(out.codes[1:2], fsq.encode(latents[1:2]))
    torch.testing.assert_close(fsq.decode(out.codes), out.latents, rtol=1e-5, atol=1e-6)
    assert not out.losses and not out.statistics


@pytest.mark.parametrize(("bound", "zero"), [("tanh", 4), ("symmetric", 3), ("clamp", 3)])
def test_the_lower_index_wins_a_tie(bound: str, zero: int) -> None:
    fsq = quantizer((8,), bound, dim=1)
    latents = torch.zeros(1, 1, 1)
    assert fsq.encode(latents).item() == fsq(latents).codes.item() == zero
    quarter = quantizer((5,), "clamp", dim=1)
    assert quarter.encode(torch.tensor([[[-0.75, -0.25, 0.25, 0.75]]])).tolist() == [[[0, 1, 2, 3]]]


@each_levels
def test_gradient_is_that_of_the_bound(levels: tuple[int, ...]) -> None:
    latents = torch.randn(2, len(levels), 7, requires_grad=True)
    weights = torch.randn(2, len(levels), 7)
    count = torch.tensor(levels, dtype=torch.float32)[:, None]
    half = (count - 1) / 2
    shift = torch.where(count % 2 == 0, 0.5 / (half * 1.001), 0.0).atanh()
    slope = {
        "tanh": half * 1.001 * (1 - (latents + shift).tanh() ** 2) / (count // 2),
        "symmetric": 1 - latents.tanh() ** 2,
        "clamp": (latents.abs() < 1).float(),
    }
    for bound, expected in slope.items():
        (quantizer(levels, bound, dim=len(levels))(latents).latents * weights).sum().backward()
        torch.testing.assert_close(latents.grad, expected.detach() * weights)
        latents.grad = None


def test_maps_are_there_only_where_dimensions_differ() -> None:
    assert not quantizer((8, 5), num_codebooks=3, dim=6).state_dict()
    names = ["project_in.weight", "project_in.bias", "project_out.weight", "project_out.bias"]
    assert list(quantizer((8, 5), num_codebooks=2, dim=6).state_dict()) == names


def test_books_of_one_vector_are_independent() -> None:
    fsq = quantizer((8, 5), num_codebooks=3)
    latents = torch.randn(1, 6, 9)
    single = quantizer((8, 5), dim=2)
    expected = [single.encode(latents[:, 2 * book : 2 * book + 2]) for book in range(3)]
    assert torch.equal(fsq.encode(latents), torch.cat(expected, 1))


def test_autocast_does_not_change_codes() -> None:
    fsq = quantizer((64, 64), dim=5)
    latents = torch.randn(1, 5, 500)
    expected = fsq(latents)
    with torch.autocast("cpu", torch.bfloat16):
        out = fsq(latents)
        assert torch.equal(fsq.encode(latents), expected.codes)
    assert torch.equal(out.codes, expected.codes)
    assert torch.equal(out.latents, expected.latents)


def test_books_too_large_for_float32_are_exact() -> None:
    fsq = quantizer((5,) * 13, dim=13)
    codes = torch.randint(5**13, (1, 1, 200))
    latents = fsq.indices_to_vectors(codes)
    assert torch.equal(fsq(latents * 9).codes, fsq.encode(latents * 9))
    assert torch.equal(fsq.vectors_to_indices(latents), codes)


def test_decodes_in_the_type_of_the_module() -> None:
    codes = torch.tensor([[[0, 7, 39]]])
    for dim in (2, 3):
        assert quantizer((8, 5), dim=dim).to(torch.float64).decode(codes).dtype == torch.float64


def test_recipes_name_every_field() -> None:
    config = FSQConfig(levels=(7, 7), num_codebooks=2, bound="clamp")
    assert from_dict(FSQConfig, to_dict(config)) == config
    assert isinstance(build_quantizer(config, 4), FiniteScalarQuantizer)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="each 2 or more"):
        FSQConfig(levels=(8, 1))
    with pytest.raises(ValueError, match="each 2 or more"):
        FSQConfig(levels=())
    with pytest.raises(ValueError, match="use more num_codebooks"):
        FSQConfig(levels=(16,) * 14)
    with pytest.raises(ValueError, match="num_codebooks is 0"):
        FSQConfig(num_codebooks=0)
    with pytest.raises(ValueError, match="num_codebooks is 1, expected one of 2"):
        quantizer((8, 5), num_codebooks=2).encode(torch.zeros(1, 6, 1), num_codebooks=1)
