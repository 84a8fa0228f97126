from __future__ import annotations

import math

import pytest
import torch

from audiotokens.quantizers import FiniteScalarQuantizer, FSQConfig

LEVELS = [(8, 5, 5, 5), (4, 4, 4), (3,), (2, 7, 6)]


def quantizer(levels: tuple[int, ...]) -> FiniteScalarQuantizer:
    torch.manual_seed(0)
    return FiniteScalarQuantizer(6, FSQConfig(levels=levels)).eval()


@pytest.mark.parametrize("levels", LEVELS)
def test_every_code_is_reached_and_decodes_to_its_own_vector(levels: tuple[int, ...]) -> None:
    fsq = quantizer(levels)
    size = math.prod(levels)
    codes = torch.arange(size)
    index = codes[:, None] // fsq.radix % fsq.levels
    rounded = index - fsq.levels // 2
    assert torch.equal(fsq.level_codes(rounded), codes)
    assert fsq.decode(codes.view(1, 1, -1)).unique(dim=2).shape[2] == size


@pytest.mark.parametrize("levels", LEVELS)
def test_bounded_values_round_to_each_level_and_no_other(levels: tuple[int, ...]) -> None:
    fsq = quantizer(levels)
    values = torch.linspace(-20, 20, 4001)[:, None].expand(-1, len(levels))
    rounded = fsq.bound(values).round()
    for dimension, count in enumerate(levels):
        expected = torch.arange(count) - count // 2
        assert rounded[:, dimension].unique().long().tolist() == expected.tolist()


@pytest.mark.parametrize("levels", LEVELS)
def test_forward_and_encode_agree(levels: tuple[int, ...]) -> None:
    fsq = quantizer(levels)
    latents = torch.randn(2, 6, 40)
    out = fsq(latents)
    codes = fsq.encode(latents)
    assert torch.equal(out.codes, codes)
    assert int(codes.max()) < fsq.codebook_sizes[0]
    torch.testing.assert_close(fsq.decode(codes), out.latents, rtol=0, atol=1e-5)


def test_gradients_reach_the_latents() -> None:
    fsq = quantizer((8, 5, 5, 5))
    latents = torch.randn(1, 6, 5, requires_grad=True)
    fsq(latents).latents.sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0


def test_one_level_is_refused() -> None:
    with pytest.raises(ValueError, match="each 2 or more"):
        FSQConfig(levels=(8, 1))
