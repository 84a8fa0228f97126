from __future__ import annotations

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.quantizers import LatentConfig, LatentQuantizer


def quantizer(config: LatentConfig, dim: int) -> LatentQuantizer:
    torch.manual_seed(0)
    return LatentQuantizer(dim, config)


@pytest.mark.parametrize("levels", [(5, 5, 8), (2,), (3, 2, 4)])
def test_indices_and_vectors_are_a_bijection_over_the_whole_book(levels: tuple[int, ...]) -> None:
    made = quantizer(LatentConfig(levels=levels), len(levels))
    codes = torch.arange(made.codebook_sizes[0]).view(1, 1, -1)
    vectors = made.indices_to_vectors(codes)
    assert torch.equal(made.vectors_to_indices(vectors), codes)
    assert torch.equal(made.encode(vectors), codes)
    assert torch.equal(made.decode(codes), vectors)


def test_nearest_value_wins_and_the_lower_index_in_a_tie() -> None:
    made = quantizer(LatentConfig(levels=(5,)), 1)
    latents = torch.tensor([[[-9.0, -0.375, 0.125, 0.126, 9.0]]])
    assert made.encode(latents).tolist() == made(latents).codes.tolist() == [[[0, 0, 2, 3, 4]]]
    with torch.no_grad():
        made.values_per_latent[0].copy_(torch.tensor([3.0, 1.0, 1.0, -1.0, 3.0]))
    latents = torch.tensor([[[2.0, 1.0, 3.0, -7.0]]]).repeat(1, 1, 100)
    assert made.encode(latents).tolist() == made(latents).codes.tolist() == [[[0, 1, 0, 3] * 100]]


def test_losses_and_their_gradients() -> None:
    config = LatentConfig(levels=(5, 4), num_codebooks=2, commitment=0.3, codebook=0.7)
    made = quantizer(config, 4)
    latents = torch.randn(3, 4, 6, requires_grad=True)
    out = made(latents)
    restored = made.decode(made.encode(latents)).detach()
    error = latents.detach() - restored
    assert torch.equal(out.latents, restored)
    torch.testing.assert_close(out.losses["commitment"], 0.3 * error.square().mean())
    torch.testing.assert_close(out.losses["codebook"], 0.7 * error.square().mean())
    sum(out.losses.values()).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(latents.grad, 0.3 * 2 / error.numel() * error)
    codes = made.encode(latents)
    for dimension, (size, before) in enumerate([(5, 1), (4, 5)]):
        digits = codes // before % size
        errors = error.unflatten(1, (2, 2))[:, :, dimension]
        sums = torch.zeros(size).index_add_(0, digits.flatten(), errors.flatten())
        gradient = made.values_per_latent[dimension].grad
        torch.testing.assert_close(gradient, -0.7 * 2 / error.numel() * sums)


def test_only_the_codebook_loss_moves_the_values() -> None:
    made = quantizer(LatentConfig(levels=(3, 3), codebook=0.0), 5)
    latents = torch.randn(1, 5, 8, requires_grad=True)
    out = made(latents)
    (out.latents.square().sum() + out.losses["commitment"]).backward()
    assert all(values.grad is None or not values.grad.any() for values in made.values_per_latent)
    assert latents.grad is not None and latents.grad.any()


def test_values_descend_to_the_latents() -> None:
    made = quantizer(LatentConfig(levels=(2,), codebook=1.0), 1)
    latents = torch.tensor([[[-3.0, 2.0]]])
    descent = torch.optim.SGD(made.values_per_latent, lr=0.5)
    for _ in range(20):
        descent.zero_grad()
        made(latents).losses["codebook"].backward()
        descent.step()
    torch.testing.assert_close(
        made.values_per_latent[0].detach(), torch.tensor([-3.0, 2.0]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("outer", [False, True])
def test_padded_frames_change_nothing(outer: bool) -> None:
    made = quantizer(LatentConfig(levels=(5, 4), outer_losses=outer), 7)
    latents = torch.randn(2, 7, 9)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    expected = made(torch.cat([latents[:1], latents[1:, :, :4]], 2)).losses
    found = made(torch.where(mask[:, None], latents, 50.0), mask=mask).losses
    for name in ("commitment", "codebook"):
        torch.testing.assert_close(found[name], expected[name])
    assert not any(value.item() for value in made(latents, mask=torch.zeros_like(mask)).losses.values())


def test_outer_losses_compare_input_and_output() -> None:
    made = quantizer(LatentConfig(levels=(5, 4), commitment=0.3, codebook=0.7, outer_losses=True), 7)
    latents = torch.randn(2, 7, 9)
    out = made(latents)
    error = (latents - out.latents).square().mean()
    torch.testing.assert_close(out.losses["commitment"], 0.3 * error)
    torch.testing.assert_close(out.losses["codebook"], 0.7 * error)


def test_forward_and_encode_agree_in_any_batch_and_under_autocast() -> None:
    made = quantizer(LatentConfig(levels=(8, 8), num_codebooks=2), 7).eval()
    latents = torch.randn(3, 7, 40)
    out = made(latents)
    assert torch.equal(out.codes, made.encode(latents))
    assert torch.equal(out.codes[2:], made.encode(latents[2:]))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(latents).codes, out.codes)
    assert not out.losses and not out.statistics


def test_recipes_and_refusals() -> None:
    config = LatentConfig(levels=(7, 7), num_codebooks=2, outer_losses=True)
    assert from_dict(LatentConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match="each 2 or more"):
        LatentConfig(levels=(1, 4))
