"""Lookup-free and binary spherical quantization, which share all but the sphere."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from audiotokens.config import from_dict, to_dict
from audiotokens.quantizers import (
    BinarySphericalQuantizer,
    BSQConfig,
    LFQConfig,
    LookupFreeQuantizer,
    build_quantizer,
)
from audiotokens.quantizers.lfq import BinaryConfig, BinaryQuantizer, binary_entropies

CONFIGS = [LFQConfig(bits=6, joint_bits=None, scale=0.5), BSQConfig(bits=6, joint_bits=None)]

each_config = pytest.mark.parametrize("config", CONFIGS, ids=["lfq", "bsq"])


def quantizer(config: BinaryConfig, dim: int | None = None) -> BinaryQuantizer:
    torch.manual_seed(0)
    made = build_quantizer(config, dim or config.bits * config.num_codebooks)
    assert isinstance(made, BinaryQuantizer)
    return made


def whole_book(made: BinaryQuantizer) -> Tensor:
    """All entries `[2^d, d]` of a quantizer with one book."""
    return made.indices_to_vectors(torch.arange(made.codebook_sizes[0]).view(1, 1, -1))[0].T


def by_brute_force(made: BinaryQuantizer, values: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy and entropy of the mean, from distances to all entries, `[N, d]` in float64."""
    book = whole_book(made).double()
    scores = -made.config.inverse_temperature * torch.cdist(values.double(), book).square()
    soft = scores.softmax(1)[kept]
    return torch.special.entr(soft).sum(1).mean(), torch.special.entr(soft.mean(0)).sum()


@each_config
def test_indices_and_vectors_are_a_bijection_over_the_whole_book(config: BinaryConfig) -> None:
    made = quantizer(config)
    codes = torch.arange(64).view(1, 1, -1)
    vectors = made.indices_to_vectors(codes)
    assert torch.equal(made.vectors_to_indices(vectors), codes)
    assert torch.equal(made.encode(vectors), codes)
    assert torch.equal(made.decode(codes), vectors)
    assert vectors.abs().unique().tolist() == pytest.approx([made.scale])
    assert made.codebook_sizes == (64,)


def test_the_first_dimension_is_the_most_significant_bit_and_zero_is_negative() -> None:
    latents = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [-1.0, 2.0, -0.0], [0, 0, 0]]).T[None]
    for config in (LFQConfig(bits=3), BSQConfig(bits=3)):
        assert quantizer(config).encode(latents).tolist() == [[[4, 1, 2, 0]]]
        assert quantizer(config)(latents).codes.tolist() == [[[4, 1, 2, 0]]]


def test_entries_of_bsq_lie_on_the_sphere_and_are_the_nearest_corners() -> None:
    made = quantizer(BSQConfig(bits=6))
    book = whole_book(made)
    torch.testing.assert_close(book.norm(dim=1), torch.ones(64))
    latents = torch.randn(1, 6, 50)
    units = torch.nn.functional.normalize(latents, dim=1)
    assert torch.equal(made.encode(latents)[0, 0], torch.cdist(units[0].T, book).argmin(1))


@each_config
def test_forward_encode_and_decode_agree(config: BinaryConfig) -> None:
    made = quantizer(replace(config, num_codebooks=2), dim=5).eval()
    latents = torch.randn(3, 5, 40)
    out = made(latents)
    assert out.codes.shape == (3, 2, 40) and out.codes.dtype == torch.int64
    assert torch.equal(out.codes, made.encode(latents))
    assert torch.equal(made.encode(latents[1:2]), out.codes[1:2])
    torch.testing.assert_close(made.decode(out.codes), out.latents, rtol=1e-5, atol=1e-6)
    assert not out.losses and not out.statistics


@each_config
def test_losses_are_those_over_the_whole_book(config: BinaryConfig) -> None:
    config = replace(config, commitment=0.3, entropy=0.2, diversity=1.7, inverse_temperature=3.0)
    made = quantizer(config)
    latents = 0.3 * torch.randn(2, 6, 30, dtype=torch.float64)
    values = (torch.nn.functional.normalize(latents, dim=1) if config.kind == "bsq" else latents).mT
    sure, even = by_brute_force(made, values.reshape(-1, 6), torch.ones(60, dtype=torch.bool))
    error = (values.mT - made.decode(made.encode(latents))).square().mean()
    losses = made(latents).losses
    torch.testing.assert_close(losses["entropy"].double(), 0.2 * (sure - 1.7 * even), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses["commitment"].double(), 0.3 * error, rtol=1e-5, atol=0)


@pytest.mark.parametrize("pieces", [False, True])
@each_config
def test_gradient_of_the_entropy_is_that_over_the_whole_book(
    config: BinaryConfig, pieces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pieces:
        monkeypatch.setattr("audiotokens.quantizers.lfq._PIECE", 100)
    made = quantizer(replace(config, inverse_temperature=2.0))
    values = (0.5 * torch.randn(60, 6, dtype=torch.float64)).requires_grad_()
    expected = by_brute_force(made, values, torch.ones(60, dtype=torch.bool))
    logits = 4 * 2.0 * made.scale * values[None]
    for found, one in zip(binary_entropies(logits, joint_bits=6), expected):
        torch.testing.assert_close(found[0], one)
        (expected_gradient,) = torch.autograd.grad(one, values, retain_graph=True)
        (gradient,) = torch.autograd.grad(found.sum(), values, retain_graph=True)
        torch.testing.assert_close(gradient, expected_gradient)


def test_groups_of_bits_bound_the_entropy_of_all() -> None:
    logits = 2 * torch.randn(3, 40, 7, dtype=torch.float64) + torch.randn(3, 40, 1, dtype=torch.float64)
    found = [binary_entropies(logits, joint_bits=count)[1] for count in (7, 4, 2, 1)]
    assert all((looser > tighter).all() for tighter, looser in zip(found, found[1:]))
    means = logits.sigmoid().mean(1)
    alone = torch.special.entr(means) + torch.special.entr(1 - means)
    torch.testing.assert_close(found[-1], alone.sum(1))


def test_groups_of_independent_bits_are_exact() -> None:
    logits = torch.randn(1, 1, 6, dtype=torch.float64).expand(1, 9, 6)
    for joint_bits in (1, 2, 5):
        sure, even = binary_entropies(logits, joint_bits=joint_bits)
        torch.testing.assert_close(even, sure)


def test_entropies_of_known_distributions() -> None:
    undecided = torch.zeros(1, 5, 4)
    for found in binary_entropies(undecided, joint_bits=4):
        assert found.item() == pytest.approx(4 * math.log(2))
    all_entries = (torch.arange(16)[:, None] >> torch.arange(4) & 1) * 2000.0 - 1000.0
    sure, even = binary_entropies(all_entries[None], joint_bits=4)
    assert (sure.item(), even.item()) == (0.0, pytest.approx(math.log(16)))


def test_sure_bits_have_finite_gradients() -> None:
    logits = torch.full((1, 8, 10), 1e4).requires_grad_()
    sure, even = binary_entropies(logits, joint_bits=10)
    (sure - even).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_twenty_bits_need_no_number_per_frame_and_entry() -> None:
    made = quantizer(LFQConfig(bits=20))
    latents = 0.01 * torch.randn(1, 20, 512)
    entropy = made(latents).losses["entropy"]
    assert -0.1 * 20 * math.log(2) < entropy.item() < 0


@each_config
def test_padded_frames_change_nothing(config: BinaryConfig) -> None:
    made = quantizer(replace(config, commitment=0.5, num_codebooks=2))
    latents = torch.randn(2, 12, 9)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    expected = made(torch.cat([latents[:1], latents[1:, :, :4]], 2)).losses
    found = made(torch.where(mask[:, None], latents, 50.0), mask=mask).losses
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    empty = made(latents, mask=torch.zeros_like(mask)).losses
    assert all(value == 0 for value in empty.values())


@each_config
def test_gradients_pass_the_signs(config: BinaryConfig) -> None:
    made = quantizer(replace(config, entropy=0.0, commitment=0.0))
    latents = torch.randn(2, 6, 5, requires_grad=True)
    weights = torch.randn(2, 6, 5)
    (made(latents).latents * weights).sum().backward()
    values = latents.detach().requires_grad_()
    through = torch.nn.functional.normalize(values, dim=1) if config.kind == "bsq" else values
    (through * weights).sum().backward()
    torch.testing.assert_close(latents.grad, values.grad)


@each_config
def test_gradient_of_the_commitment(config: BinaryConfig) -> None:
    made = quantizer(replace(config, entropy=0.0, commitment=0.3))
    latents = torch.nn.functional.normalize(torch.randn(2, 6, 5), dim=1).requires_grad_()
    made(latents).losses["commitment"].backward()
    expected = 2 * 0.3 / 60 * (latents - made.decode(made.encode(latents))).detach()
    if config.kind == "bsq":
        expected = expected - latents.detach() * (expected * latents.detach()).sum(1, keepdim=True)
    torch.testing.assert_close(latents.grad, expected)


@each_config
def test_autocast_does_not_change_codes_or_losses(config: BinaryConfig) -> None:
    made = quantizer(config, dim=5)
    latents = torch.randn(1, 5, 300)
    expected = made(latents)
    with torch.autocast("cpu", torch.bfloat16):
        out = made(latents)
        assert torch.equal(made.encode(latents), expected.codes)
    assert torch.equal(out.codes, expected.codes)
    assert out.losses == expected.losses


def test_fifty_bits_are_exact() -> None:
    made = quantizer(LFQConfig(bits=50, joint_bits=1))
    codes = torch.randint(1 << 50, (1, 1, 100))
    latents = made.decode(codes)
    assert torch.equal(made(latents).codes, codes)
    assert torch.equal(made.encode(latents), codes)


def test_state_is_that_of_the_maps() -> None:
    assert not quantizer(LFQConfig(bits=4, num_codebooks=2), dim=8).state_dict()
    assert len(quantizer(BSQConfig(bits=4), dim=8).state_dict()) == 4


def test_recipes_name_the_kind() -> None:
    for config in (LFQConfig(bits=3, scale=2.0), BSQConfig(bits=5, joint_bits=2)):
        assert from_dict(type(config), to_dict(config)) == config
    assert isinstance(build_quantizer(LFQConfig(), 4), LookupFreeQuantizer)
    assert isinstance(build_quantizer(BSQConfig(), 4), BinarySphericalQuantizer)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="bits is 0, expected 1 to 53"):
        LFQConfig(bits=0)
    with pytest.raises(ValueError, match="joint distribution of 30 bits .* set joint_bits"):
        LFQConfig(bits=30)
    with pytest.raises(ValueError, match="scale is 0, expected more than 0"):
        LFQConfig(scale=0)
    with pytest.raises(ValueError, match="inverse_temperature is -1"):
        BSQConfig(inverse_temperature=-1)
    with pytest.raises(ValueError, match="num_codebooks is 0"):
        BSQConfig(num_codebooks=0)


def test_a_floor_of_the_logarithms_is_that_of_both_entropies(monkeypatch: pytest.MonkeyPatch) -> None:
    values = 0.02 * torch.randn(1, 50, 6)
    bits = torch.stack([(-400 * values).sigmoid(), (400 * values).sigmoid()], -1).double()
    codes = torch.cartesian_prod(*[torch.arange(2)] * 6)
    soft = torch.stack([bits[0, :, torch.arange(6), code].prod(1) for code in codes], 1)
    expected = [-(p * p.clamp(min=0.01).log()).sum(-1).mean() for p in (soft, soft.mean(0))]
    for piece in (1 << 22, 1 << 9):
        monkeypatch.setattr("audiotokens.quantizers.lfq._PIECE", piece)
        found = binary_entropies(400 * values, joint_bits=6, floor=0.01)
        torch.testing.assert_close(torch.cat(found), torch.stack(expected).float())
