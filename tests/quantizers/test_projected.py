"""A quantizer between two linear maps."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import (
    FSQConfig,
    ProjectedConfig,
    ProjectedQuantizer,
    QuantizerConfig,
    RVQConfig,
    VectorConfig,
    build_quantizer,
    merge_statistics,
)

RVQ = RVQConfig(num_codebooks=3, inner=VectorConfig(codebook_size=16))
LATENTS = torch.randn(3, 12, 50, generator=torch.Generator().manual_seed(1))


def quantizer(inner: QuantizerConfig = RVQ, **changes: object) -> ProjectedQuantizer:
    torch.manual_seed(0)
    return ProjectedQuantizer(12, ProjectedConfig(**{"inner": inner, "inner_dim": 5, **changes}))


def test_codes_are_those_of_the_projected_latents() -> None:
    projected = quantizer().eval()
    inside = projected.project_in(LATENTS.mT).mT
    codes = projected.encode(LATENTS)
    assert torch.equal(codes, projected.inner.encode(inside))
    assert torch.equal(projected(LATENTS).codes, codes)
    outside = projected.project_out(projected.inner.decode(codes).mT).mT
    torch.testing.assert_close(projected.decode(codes), outside)
    torch.testing.assert_close(projected(LATENTS).latents, outside)


def test_prefixes_are_those_of_the_inner_quantizer() -> None:
    projected = quantizer().eval()
    assert projected.legal_prefixes == (1, 2, 3)
    assert projected.codebook_sizes == (16, 16, 16)
    codes = projected.encode(LATENTS)
    assert torch.equal(projected.encode(LATENTS, num_codebooks=2), codes[:, :2])
    used = torch.tensor([1, 2, 3])
    latents = projected(LATENTS, num_codebooks=used).latents
    for item, number in enumerate(used.tolist()):
        expected = projected.decode(codes[item : item + 1, :number])[0]
        torch.testing.assert_close(latents[item], expected)


@pytest.mark.parametrize("frames", [1, 2, 7, 33])
def test_codes_and_latents_do_not_depend_on_the_batch(frames: int) -> None:
    projected = quantizer(FSQConfig(levels=(8, 5, 5))).eval()
    codes = projected.encode(LATENTS)
    assert torch.equal(projected.encode(LATENTS[1:2, :, :frames]), codes[1:2, :, :frames])
    rvq = quantizer().eval()
    codes = rvq.encode(LATENTS)
    assert torch.equal(rvq.encode(LATENTS[1:2, :, :frames]), codes[1:2, :, :frames])
    assert torch.equal(rvq.decode(codes[1:2, :, :frames]), rvq.decode(codes)[1:2, :, :frames])


def test_gradients_pass_both_maps() -> None:
    projected = quantizer()
    latents = LATENTS.clone().requires_grad_()
    weight = torch.randn_like(latents)
    (projected(latents).latents * weight).sum().backward()
    maps = projected.project_out.weight @ projected.project_in.weight
    torch.testing.assert_close(latents.grad, (weight.mT @ maps).mT)
    assert projected.project_out.bias is not None and projected.project_out.bias.grad is not None
    torch.testing.assert_close(projected.project_out.bias.grad, weight.sum((0, 2)))


def test_autocast_does_not_change_the_codes() -> None:
    projected = quantizer().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = projected(LATENTS)
    assert inside.latents.dtype == torch.float32
    assert torch.equal(inside.codes, projected(LATENTS).codes)


def test_statistics_of_halves_are_those_of_the_whole_and_reach_the_inner_books() -> None:
    projected = quantizer().train()
    whole = projected(LATENTS).statistics
    parts = merge_statistics([projected(LATENTS[:1]).statistics, projected(LATENTS[1:]).statistics])
    sums = [name for name in whole if name.rpartition(".")[2].startswith("sum_")]
    assert sums and all(name.startswith("inner.") for name in whole)
    for name in sums:
        if "candidates" not in name:
            torch.testing.assert_close(parts[name], whole[name])
    before = {name: value.clone() for name, value in projected.state_dict().items()}
    projected.update(whole)
    changed = {name for name, value in projected.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("inner.") for name in changed)


def test_padded_frames_are_ignored() -> None:
    projected = quantizer().train()
    mask = torch.arange(50).expand(3, -1) < torch.tensor([50, 20, 35])[:, None]
    noisy = torch.where(mask[:, None], LATENTS, 1e3)
    losses = [projected(latents, mask=mask).losses["commitment"] for latents in (LATENTS, noisy)]
    torch.testing.assert_close(losses[0], losses[1])


def test_books_are_initialized_from_projections() -> None:
    projected = quantizer()
    projected.initialize(LATENTS.mT.reshape(-1, 12), generator=torch.Generator().manual_seed(0))
    other = build_quantizer(RVQ, 5)
    rows = projected.project_in(LATENTS.mT.reshape(-1, 12)).detach()
    other.initialize(rows, generator=torch.Generator().manual_seed(0))
    for name, value in other.state_dict().items():
        torch.testing.assert_close(projected.inner.state_dict()[name], value)


def test_state_dict_holds_the_maps_and_the_inner_quantizer() -> None:
    inner = [f"inner.{name}" for name in build_quantizer(RVQ, 5).state_dict()]
    maps = [f"project_{side}.{part}" for side in ("in", "out") for part in ("weight", "bias")]
    assert sorted(quantizer().state_dict()) == sorted(inner + maps)
    plain = [name for name in maps if name.endswith("weight")]
    assert sorted(quantizer(bias=False).state_dict()) == sorted(inner + plain)


@dataclass(frozen=True)
class Model:
    quantizer: QuantizerConfig


def test_configuration_survives_and_mistakes_are_named() -> None:
    config = ProjectedConfig(inner=ProjectedConfig(inner=RVQ, inner_dim=4), inner_dim=6, bias=False)
    plain = to_dict(config)
    assert from_dict(Model, {"quantizer": plain}) == Model(config)
    with pytest.raises(ConfigError, match=r'quantizer\.inner\.kind: .*"rvqq".*did you mean "rvq"'):
        from_dict(Model, {"quantizer": {"kind": "projected", "inner": {"kind": "rvqq"}}})
    with pytest.raises(ConfigError, match='quantizer: the key "inner" is missing'):
        from_dict(Model, {"quantizer": {"kind": "projected"}})
    with pytest.raises(ConfigError, match="inner_dim is 0, expected at least 1"):
        from_dict(Model, {"quantizer": {**plain, "inner_dim": 0}})
