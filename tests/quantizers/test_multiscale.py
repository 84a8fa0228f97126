"""Residual quantization with strides: rates, windows, masks, and the codes of SNAC."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import (
    GroupedConfig,
    MultiscaleConfig,
    MultiscaleQuantizer,
    ProjectedConfig,
    QuantizerConfig,
    RVQConfig,
    VectorConfig,
    VectorQuantizer,
    build_quantizer,
    merge_statistics,
)

VQ = VectorConfig(codebook_size=16)
FACTORIZED = VectorConfig(codebook_size=16, codebook_dim=4, metric="cosine")
LATENTS = torch.randn(3, 6, 24, generator=torch.Generator().manual_seed(1))


def quantizer(inner: QuantizerConfig = VQ, **changes: object) -> MultiscaleQuantizer:
    torch.manual_seed(0)
    return MultiscaleQuantizer(6, MultiscaleConfig(**{"inner": inner, "strides": (4, 2, 1), **changes}))


def assert_equal(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_every_level_has_codes_at_its_own_rate() -> None:
    multiscale = quantizer(strides=(8, 4, 1))
    assert multiscale.strides == (8, 4, 1)
    for frames in (0, 1, 7, 8, 9, 24):
        codes = multiscale.encode(LATENTS[..., :frames])
        lengths = tuple(part.shape[2] for part in codes)
        assert lengths == multiscale.code_lengths(frames) == (-(-frames // 8), -(-frames // 4), frames)
        assert multiscale.decode(codes).shape == (3, 6, frames)


def test_levels_quantize_means_of_what_is_left() -> None:
    multiscale = quantizer().eval()
    rest, total = LATENTS, torch.zeros_like(LATENTS)
    out, encoded = multiscale(LATENTS), multiscale.encode(LATENTS)
    for level, stride, codes in zip(multiscale.levels, (4, 2, 1), encoded):
        pooled = rest.unflatten(2, (-1, stride)).mean(3)
        assert torch.equal(codes, level.encode(pooled))
        part = level.decode(codes).repeat_interleave(stride, 2)
        rest, total = rest - part, total + part
    assert_equal(out.codes, encoded)
    torch.testing.assert_close(out.latents, total)
    torch.testing.assert_close(multiscale.decode(encoded), total)


@pytest.mark.parametrize("inner", [VQ, FACTORIZED], ids=["plain", "factorized"])
@pytest.mark.parametrize("start", [0, 4, 8])
def test_codes_of_a_block_depend_on_this_block_only(inner: QuantizerConfig, start: int) -> None:
    multiscale = quantizer(inner, gradient="chain").eval()
    whole = multiscale.encode(LATENTS)
    alone = multiscale.encode(LATENTS[1:2, :, start : start + 12])
    for stride, codes, part in zip(multiscale.strides, whole, alone):
        assert torch.equal(part, codes[1:2, :, start // stride : (start + 12) // stride])


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 9, 23])
def test_a_padded_item_has_the_codes_that_it_has_alone(frames: int) -> None:
    multiscale = quantizer().eval()
    mask = torch.arange(24).expand(3, -1) < torch.tensor([24, frames, 12])[:, None]
    noisy = torch.where(mask[:, None], LATENTS, 1e3)
    alone = multiscale.encode(LATENTS[1:2, :, :frames])
    out = multiscale(noisy, mask=mask)
    for codes in (multiscale.encode(noisy, mask=mask), out.codes):
        for part, expected in zip(codes, alone):
            assert torch.equal(part[1:2, :, : expected.shape[2]], expected)
    torch.testing.assert_close(out.latents[1:2, :, :frames], multiscale.decode(alone))


def test_the_mean_of_a_window_at_the_end_is_that_of_its_frames() -> None:
    multiscale = quantizer(strides=(4,)).eval()
    codes = multiscale.encode(LATENTS[..., :6])[0]
    assert torch.equal(codes[..., 1:], multiscale.levels[0].encode(LATENTS[..., 4:6].mean(2, keepdim=True)))
    assert multiscale.decode((codes,)).shape[2] == 8


def test_any_number_of_levels_decodes() -> None:
    multiscale = quantizer().eval()
    assert multiscale.legal_prefixes == (1, 2, 3) and multiscale.codebook_sizes == (16, 16, 16)
    multiscale.initialize(LATENTS.mT.reshape(-1, 6), generator=torch.Generator().manual_seed(0))
    codes = multiscale.encode(LATENTS)
    errors = []
    for books in (1, 2, 3):
        assert_equal(multiscale.encode(LATENTS, num_codebooks=books), codes[:books])
        latents = multiscale.decode(codes[:books])
        torch.testing.assert_close(multiscale(LATENTS, num_codebooks=books).latents, latents)
        errors.append(float((latents - LATENTS).square().mean()))
    assert errors[0] > errors[1] > errors[2]
    out = multiscale(LATENTS, num_codebooks=torch.tensor([1, 3, 2]))
    for item, books in enumerate((1, 3, 2)):
        expected = multiscale.decode([part[item : item + 1] for part in codes[:books]])
        torch.testing.assert_close(out.latents[item : item + 1], expected)


def test_levels_of_several_books_are_decoded_whole() -> None:
    multiscale = quantizer(
        inner=(GroupedConfig(inner=VQ, groups=2), RVQConfig(num_codebooks=3, inner=VQ)), strides=(2, 1)
    )
    assert multiscale.legal_prefixes == (2, 5)
    codes = multiscale.encode(LATENTS)
    assert [part.shape[1:] for part in codes] == [(2, 12), (3, 24)]
    with pytest.raises(ValueError, match="num_codebooks is 3, expected one of 2, 5"):
        multiscale.encode(LATENTS, num_codebooks=3)
    with pytest.raises(ValueError, match="num_codebooks is 1, expected one of 2, 5"):
        multiscale.decode([codes[0][:, :1]])


def test_lengths_that_do_not_belong_together_are_refused() -> None:
    multiscale = quantizer()
    codes = multiscale.encode(LATENTS)
    with pytest.raises(ValueError, match=r"have \(5, 12, 24\) codes, expected \(5, 10, 20\) for 20 frames"):
        multiscale.decode([codes[0][..., :5], *codes[1:]])


def test_gradients_are_the_identity() -> None:
    weight = torch.randn_like(LATENTS)
    for gradient in ("sum", "chain"):
        latents = LATENTS.clone().requires_grad_()
        (quantizer(gradient=gradient)(latents).latents * weight).sum().backward()
        torch.testing.assert_close(latents.grad, weight)


def test_commitment_of_every_level_reaches_the_latents() -> None:
    multiscale = quantizer()
    latents = LATENTS.clone().requires_grad_()
    loss = multiscale(latents).losses["commitment"]
    rest, expected = latents, torch.zeros(())
    for level, stride in zip(multiscale.levels, multiscale.strides):
        pooled = rest.unflatten(2, (-1, stride)).mean(3)
        found = level.decode(level.encode(pooled)).detach()
        expected = expected + 0.25 * (pooled - found).square().mean()
        rest = rest - found.repeat_interleave(stride, 2)
    torch.testing.assert_close(loss, expected)
    (found,) = torch.autograd.grad(loss, latents)
    torch.testing.assert_close(found, torch.autograd.grad(expected, latents)[0])


def test_layers_of_levels_learn_by_the_chain() -> None:
    multiscale = quantizer(FACTORIZED, gradient="chain")
    multiscale(LATENTS).latents.square().sum().backward()
    for name, parameter in multiscale.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    with pytest.raises(ValueError, match="gives levels.0.project_in.weight no gradient"):
        quantizer(FACTORIZED)
    outside = ProjectedConfig(inner=MultiscaleConfig(inner=VQ), inner_dim=4)
    assert [part.shape[2] for part in build_quantizer(outside, 6).encode(LATENTS)] == [6, 12, 24]


def test_statistics_count_the_windows_that_an_item_uses() -> None:
    multiscale = quantizer().train()
    mask = torch.arange(24).expand(3, -1) < torch.tensor([24, 9, 12])[:, None]
    used = torch.tensor([1, 3, 2])
    out = multiscale(LATENTS, num_codebooks=used, mask=mask)
    counts = [int(out.statistics[f"levels.{i}.sum_counts"].sum()) for i in range(3)]
    assert counts == [6 + 3 + 3, 5 + 6, 9]
    noisy = torch.where(mask[:, None], LATENTS, 1e3)
    torch.testing.assert_close(multiscale(noisy, num_codebooks=used, mask=mask).losses, out.losses)
    losses = multiscale(LATENTS, num_codebooks=1).losses
    torch.testing.assert_close(losses, multiscale.levels[0](LATENTS.unflatten(2, (-1, 4)).mean(3)).losses)


def test_statistics_of_halves_are_those_of_the_whole() -> None:
    multiscale, other = (quantizer().train() for _ in range(2))
    multiscale.update(multiscale(LATENTS).statistics)
    other.update(merge_statistics([other(LATENTS[:1]).statistics, other(LATENTS[1:]).statistics]))
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, multiscale.state_dict()[name])
        assert not torch.equal(value, quantizer().state_dict()[name])
    assert sorted(multiscale.state_dict()) == [f"levels.{i}.book" for i in range(3)]


def test_autocast_does_not_change_the_codes() -> None:
    multiscale = quantizer(FACTORIZED, gradient="chain").eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = multiscale(LATENTS)
    assert inside.latents.dtype == torch.float32
    assert_equal(inside.codes, multiscale(LATENTS).codes)


@dataclass(frozen=True)
class Model:
    quantizer: QuantizerConfig


def test_configuration_survives_and_mistakes_are_named() -> None:
    for inner in (VQ, (VQ, FACTORIZED)):
        config = MultiscaleConfig(strides=(2, 1), inner=inner, gradient="chain")
        assert from_dict(Model, {"quantizer": to_dict(config)}) == Model(config)
    for mistake, message in (
        ({"strides": []}, "expected at least one number, each 1 or more"),
        ({"strides": [4, 3, 1]}, "the stride 3 does not divide the largest one, 4"),
        ({"inner": [to_dict(VQ)]}, "inner has 1 entries, expected one per stride, 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            from_dict(Model, {"quantizer": {"kind": "multiscale", **mistake}})


GOLDEN = Path(__file__).parent.parent / "golden" / "snac"


def snac(case: str) -> MultiscaleQuantizer:
    settings = json.loads((GOLDEN / case / "config.json").read_text())
    inner = VectorConfig(
        codebook_size=settings["codebook_size"], codebook_dim=settings["codebook_dim"], metric="cosine"
    )
    weights = load_file(GOLDEN / case / "quantizer.safetensors")
    dim = weights["quantizer.quantizers.0.out_proj.bias"].shape[0]
    config = MultiscaleConfig(strides=tuple(settings["vq_strides"]), inner=inner, gradient="chain")
    multiscale = MultiscaleQuantizer(dim, config).eval()
    for i, level in enumerate(multiscale.levels):
        assert isinstance(level, VectorQuantizer)
        key = f"quantizer.quantizers.{i}"
        level.set_book(weights[f"{key}.codebook.weight"])
        for theirs, ours in (("in_proj", level.project_in), ("out_proj", level.project_out)):
            length, direction = (
                weights[f"{key}.{theirs}.parametrizations.weight.original{n}"] for n in (0, 1)
            )
            folded = length * direction / direction.flatten(1).norm(dim=1)[:, None, None]
            ours.load_state_dict({"weight": folded[..., 0], "bias": weights[f"{key}.{theirs}.bias"]})
    return multiscale


@pytest.mark.parametrize("run", ["short", "tiny"])
@pytest.mark.parametrize("case", ["snac_24khz_style", "snac_44khz_style_attention", "snac_dense_nonoise"])
def test_codes_and_latents_of_snac(case: str, run: str) -> None:
    multiscale = snac(case)
    latents, quantized = (
        torch.from_numpy(np.load(GOLDEN / case / f"{run}.{name}.npy")) for name in ("latents", "quantized")
    )
    expected = tuple(
        torch.from_numpy(np.load(GOLDEN / case / f"{run}.codes_level{i}.npy")).long()[None, None]
        for i in range(len(multiscale.strides))
    )
    assert_equal(multiscale.encode(latents), expected)
    out = multiscale(latents)
    assert_equal(out.codes, expected)
    for found in (out.latents, multiscale.decode(expected)):
        torch.testing.assert_close(found, quantized, rtol=0, atol=1e-5 * float(quantized.abs().max()))
