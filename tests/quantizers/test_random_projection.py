from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import RandomProjectionConfig, RandomProjectionQuantizer


def quantizer(dim: int = 12, **changes: Any) -> RandomProjectionQuantizer:
    torch.manual_seed(0)
    sizes = {"num_codebooks": 3, "codebook_size": 32, "codebook_dim": 3}
    return RandomProjectionQuantizer(dim, RandomProjectionConfig(**{**sizes, **changes}))


def sample(items: int = 3, frames: int = 100, dim: int = 12) -> Tensor:
    return torch.randn(items, dim, frames, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("offsets", [False, True])
def test_codes_have_the_greatest_cosine_with_the_projections(offsets: bool) -> None:
    best, latents = quantizer(offsets=offsets), sample()
    if best.offsets is not None:
        best.offsets.normal_()
    normed = functional.layer_norm(latents.mT.double(), (12,))
    for level, codes in enumerate(best.encode(latents).unbind(1)):
        projected = normed @ best.projections[level].double()
        if best.offsets is not None:
            projected = projected + best.offsets[level]
        cosines = functional.normalize(projected, dim=2) @ best.books[level].double().T
        assert torch.equal(codes, cosines.argmax(2))
    assert torch.equal(best(latents).codes, best.encode(latents))


def test_a_prefix_of_the_books_gives_a_prefix_of_the_codes_in_any_batch() -> None:
    best, latents = quantizer(), sample(4, 257)
    codes = best.encode(latents)
    assert torch.equal(best.encode(latents, num_codebooks=2), codes[:, :2])
    assert torch.equal(best.encode(latents[2:3, :, :5]), codes[2:3, :, :5])
    assert best.encode(latents[:, :, :0]).shape == (4, 3, 0)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_codes_survive_decoding(number: int) -> None:
    best = quantizer()
    codes = best.encode(sample(), num_codebooks=number)
    decoded = best.decode(codes)
    assert torch.equal(best.encode(decoded, num_codebooks=number), codes)
    torch.testing.assert_close(decoded.mean(1), torch.zeros(3, 100))
    torch.testing.assert_close(decoded.var(1, unbiased=False), torch.ones(3, 100))


def test_decoding_comes_nearer_to_the_normalized_latents_with_every_book() -> None:
    best, latents = quantizer(codebook_size=512), sample()
    normed = functional.layer_norm(latents.mT, (12,)).mT
    codes = best.encode(latents)
    cosines = [functional.cosine_similarity(best.decode(codes[:, :k]), normed).mean() for k in (1, 2, 3)]
    assert 0.3 < cosines[0] < cosines[1] < cosines[2]


def test_nothing_is_learned() -> None:
    best, latents = quantizer().train(), sample().requires_grad_()
    before = {key: value.clone() for key, value in best.state_dict().items()}
    out = best(latents)
    assert not out.latents.requires_grad and out.losses == {} and out.statistics == {}
    best.update(out.statistics)
    best.initialize(latents.detach().mT.flatten(0, 1))
    assert all(torch.equal(best.state_dict()[key], value) for key, value in before.items())
    assert list(best.parameters()) == []


def test_autocast_and_ties_change_nothing() -> None:
    best, latents = quantizer(), sample()
    best.books[:, 16:] = best.books[:, :16]
    codes = best.encode(latents)
    assert int(codes.max()) < 16 and torch.equal(best(latents).codes, codes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(best.encode(latents), codes) and torch.equal(best(latents).codes, codes)


def test_level_and_scale_of_the_latents_change_no_code() -> None:
    best, latents = quantizer(), sample()
    assert torch.equal(best.encode(latents * 8 + 3), best.encode(latents))


def test_state_is_fixed_and_drawn_from_the_seed() -> None:
    assert list(quantizer().state_dict()) == ["projections", "books"]
    assert list(quantizer(offsets=True).state_dict()) == ["projections", "books", "offsets"]
    assert all(
        torch.equal(one, other)
        for one, other in zip(quantizer().state_dict().values(), quantizer().state_dict().values())
    )
    assert float(quantizer().projections.abs().max()) <= (6 / 15) ** 0.5


def test_configuration() -> None:
    config = RandomProjectionConfig(num_codebooks=2, codebook_dim=4)
    assert from_dict(RandomProjectionConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="num_codebooks 0"):
        from_dict(RandomProjectionConfig, {"kind": "random-projection", "num_codebooks": 0})
    with pytest.raises(ValueError, match="num_codebooks is 4, expected one of 1, 2, 3"):
        quantizer().encode(sample(), num_codebooks=4)
