from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.quantizers import (
    LFQConfig,
    Quantizer,
    QuantizerConfig,
    ResidualFSQConfig,
    ResidualLFQ,
    ResidualLFQConfig,
    build_quantizer,
)

FSQ = ResidualFSQConfig(levels=(5, 4, 2), num_codebooks=3)
LFQ = ResidualLFQConfig(inner=LFQConfig(bits=3), num_codebooks=5)

each_config = pytest.mark.parametrize("config", [FSQ, LFQ], ids=["fsq", "lfq"])


def quantizer(config: QuantizerConfig, dim: int = 3) -> Quantizer:
    torch.manual_seed(0)
    return build_quantizer(config, dim)


@each_config
def test_any_prefix_decodes_and_is_that_of_all(config: QuantizerConfig) -> None:
    made = quantizer(config, dim=7).eval()
    latents = torch.randn(2, 7, 20)
    codes = made.encode(latents)
    assert torch.equal(codes, made(latents).codes)
    assert made.legal_prefixes == tuple(range(1, codes.shape[1] + 1))
    for count in made.legal_prefixes:
        assert torch.equal(made.encode(latents, num_codebooks=count), codes[:, :count])
        assert torch.equal(made.encode(latents[1:], num_codebooks=count), codes[1:, :count])
        torch.testing.assert_close(made(latents, num_codebooks=count).latents, made.decode(codes[:, :count]))


def test_fsq_halves_the_error_as_often_as_levels_say() -> None:
    """After K books a bounded latent is off by at most half a step of the last one, L^-(K-1) / (L - 1)."""
    made = quantizer(replace(FSQ, soft_clamp=False))
    latents = 2 * torch.rand(1, 3, 500) - 1
    levels = torch.tensor(FSQ.levels)[:, None]
    for count in (1, 2, 3):
        error = (latents - made.decode(made.encode(latents, num_codebooks=count))).abs()[0]
        bound = 1 / (levels - 1) / levels.double() ** (count - 1)
        # A step of the level before is wider than the range of the next by L / (L - 1).
        assert (error <= bound * (levels / (levels - 1)) ** (count - 1) + 1e-6).all()


def test_lfq_is_a_binary_expansion() -> None:
    made = quantizer(LFQ)
    latents = 4 * torch.rand(1, 3, 500) - 2
    codes = made.encode(latents)
    error = (latents - made.decode(codes)).abs()
    assert error.max() <= 2.0**-4
    assert made.decode(codes).unique().numel() == 32


def test_fsq_bounds_its_input_smoothly() -> None:
    made = quantizer(FSQ)
    latents = torch.tensor([1e3, -1e3]).expand(3, 2)[None]
    assert torch.equal(made.decode(made.encode(latents, num_codebooks=1)), latents.sign())
    limits = 1 + 1 / (torch.tensor(FSQ.levels) - 1.0)[:, None]
    inside = (latents[..., :1] / 1e3).requires_grad_()
    made(inside).latents.sum().backward()
    torch.testing.assert_close(inside.grad[0], 1 - (1 / limits).tanh() ** 2)  # type: ignore[index]


def test_losses_of_lfq_are_those_of_levels_with_half_the_scale_each() -> None:
    made = quantizer(LFQ)
    assert isinstance(made, ResidualLFQ)
    latents = torch.randn(2, 3, 30)
    expected, rest = torch.zeros(()), latents
    for level in range(5):
        part = quantizer(LFQConfig(bits=3, scale=0.5**level))(rest)
        expected = expected + sum(part.losses.values())
        rest = rest - part.latents
    torch.testing.assert_close(sum(made(latents).losses.values()), expected)


@pytest.mark.parametrize(("gradient", "factor"), [("sum", 1.0), ("chain", 1.0), ("levels", 5.0)])
def test_gradients_of_lfq(gradient: str, factor: float) -> None:
    config = from_dict(ResidualLFQConfig, {**to_dict(LFQ), "gradient": gradient})
    latents = torch.randn(1, 3, 4, requires_grad=True)
    quantizer(config)(latents).latents.sum().backward()
    torch.testing.assert_close(latents.grad, torch.full((1, 3, 4), factor))


@each_config
def test_the_number_of_books_may_differ_by_item(config: QuantizerConfig) -> None:
    made = quantizer(config, dim=7)
    latents = torch.randn(3, 7, 20)
    counts = torch.tensor([1, 3, 2])
    out = made(latents, num_codebooks=counts)
    for item, count in enumerate(counts.tolist()):
        alone = made.decode(made.encode(latents[item : item + 1], num_codebooks=count))
        torch.testing.assert_close(out.latents[item : item + 1], alone)


@each_config
def test_padded_frames_change_no_loss(config: QuantizerConfig) -> None:
    made = quantizer(config)
    latents = torch.randn(2, 3, 9)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    expected = made(torch.cat([latents[:1], latents[1:, :, :4]], 2)).losses
    found = made(torch.where(mask[:, None], latents, 7.0), mask=mask).losses
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@each_config
def test_autocast_does_not_change_codes(config: QuantizerConfig) -> None:
    made = quantizer(config, dim=7)
    latents = torch.randn(1, 7, 200)
    expected = made(latents)
    with torch.autocast("cpu", torch.bfloat16):
        out = made(latents)
        assert torch.equal(made.encode(latents), expected.codes)
    assert torch.equal(out.codes, expected.codes)
    assert torch.equal(out.latents, expected.latents)


@each_config
def test_state_is_that_of_the_maps(config: QuantizerConfig) -> None:
    assert not quantizer(config).state_dict()
    names = ["project_in.weight", "project_in.bias", "project_out.weight", "project_out.bias"]
    assert sorted(quantizer(config, dim=7).state_dict()) == sorted(names)


@each_config
def test_recipes_name_every_field(config: QuantizerConfig) -> None:
    assert from_dict(type(config), to_dict(config)) == config


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="each 2 or more"):
        ResidualFSQConfig(levels=(1,))
    with pytest.raises(ValueError, match="num_codebooks is 0"):
        ResidualFSQConfig(num_codebooks=0)
    with pytest.raises(ValueError, match="each level has one book"):
        ResidualLFQConfig(inner=LFQConfig(num_codebooks=2))
    with pytest.raises(ValueError, match="num_codebooks is 9, expected one of 1, 2, 3"):
        quantizer(FSQ).encode(torch.zeros(1, 3, 1), num_codebooks=9)
