from __future__ import annotations

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.quantizers import ScalarConfig, ScalarQuantizer


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_rounds_the_hyperbolic_tangent(steps: int) -> None:
    made = ScalarQuantizer(3, ScalarConfig(steps=steps))
    latents = torch.randn(2, 3, 50)
    expected = (steps * latents.tanh()).round()
    out = made(latents)
    assert torch.equal(out.codes, expected.long() + steps)
    torch.testing.assert_close(out.latents, expected / steps)
    assert torch.equal(made.encode(latents), out.codes)
    assert torch.equal(made.decode(out.codes), out.latents)
    assert made.codebook_sizes == (2 * steps + 1,) * 3
    assert not out.losses and not made.state_dict()


def test_gradient_is_that_of_the_hyperbolic_tangent() -> None:
    latents = torch.randn(2, 3, 5, requires_grad=True)
    ScalarQuantizer(3, ScalarConfig())(latents).latents.sum().backward()
    torch.testing.assert_close(latents.grad, 1 - latents.detach().tanh() ** 2)


def test_several_dimensions_in_one_code() -> None:
    single = ScalarQuantizer(6, ScalarConfig(steps=1))
    joined = ScalarQuantizer(6, ScalarConfig(steps=1, dims_per_codebook=3))
    latents = torch.randn(2, 6, 50)
    assert joined.codebook_sizes == (27, 27)
    digits = single.encode(latents).unflatten(1, (2, 3))
    codes = joined.encode(latents)
    assert torch.equal(codes, digits[:, :, 0] + 3 * digits[:, :, 1] + 9 * digits[:, :, 2])
    assert torch.equal(joined.decode(codes), single.decode(digits.flatten(1, 2)))
    whole = torch.arange(27).view(1, 1, -1).expand(1, 2, -1)
    assert torch.equal(joined.vectors_to_indices(joined.indices_to_vectors(whole)), whole)


def test_recipes_and_refusals() -> None:
    config = ScalarConfig(steps=2, dims_per_codebook=4)
    assert from_dict(ScalarConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match="expected a divisor of the 6 dimensions"):
        ScalarQuantizer(6, config)
    with pytest.raises(ValueError, match="steps is 0"):
        ScalarConfig(steps=0)
