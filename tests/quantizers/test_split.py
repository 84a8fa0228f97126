"""A semantic quantizer beside an acoustic one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import (
    FSQConfig,
    GroupedConfig,
    ProjectedConfig,
    QuantizerConfig,
    RVQConfig,
    SplitConfig,
    SplitQuantizer,
    VectorConfig,
    merge_statistics,
)

VQ = ProjectedConfig(inner=VectorConfig(codebook_size=16), inner_dim=6, bias=False)
RVQ = ProjectedConfig(
    inner=RVQConfig(num_codebooks=3, inner=VectorConfig(codebook_size=16)), inner_dim=6, bias=False
)
LATENTS = torch.randn(3, 12, 50, generator=torch.Generator().manual_seed(1))


def quantizer(semantic: QuantizerConfig = VQ, acoustic: QuantizerConfig = RVQ) -> SplitQuantizer:
    torch.manual_seed(0)
    return SplitQuantizer(12, SplitConfig(semantic=semantic, acoustic=acoustic))


def test_both_see_the_same_latents_and_are_added() -> None:
    split = quantizer().eval()
    codes = split.encode(LATENTS)
    assert torch.equal(codes[:, :1], split.semantic.encode(LATENTS))
    assert torch.equal(codes[:, 1:], split.acoustic.encode(LATENTS))
    assert torch.equal(split.encode(LATENTS[1:2, :, 5:8]), codes[1:2, :, 5:8])
    out = split(LATENTS)
    assert torch.equal(out.codes, codes)
    expected = split.semantic.decode(codes[:, :1]) + split.acoustic.decode(codes[:, 1:])
    torch.testing.assert_close(out.latents, expected)
    assert torch.equal(split.decode(codes), expected)


def test_prefixes_are_the_semantic_codes_and_some_acoustic_ones() -> None:
    split = quantizer().eval()
    assert split.legal_prefixes == (1, 2, 3, 4) and split.codebook_sizes == (16, 16, 16, 16)
    codes = split.encode(LATENTS)
    for books in split.legal_prefixes:
        assert torch.equal(split.encode(LATENTS, num_codebooks=books), codes[:, :books])
        decoded = split.decode(codes[:, :books])
        torch.testing.assert_close(split(LATENTS, num_codebooks=books).latents, decoded)
    out = split(LATENTS, num_codebooks=torch.tensor([1, 4, 2]))
    for item, books in enumerate((1, 4, 2)):
        torch.testing.assert_close(out.latents[item], split.decode(codes[item : item + 1, :books])[0])
    torch.testing.assert_close(split.decode(codes[:, :1]), split.semantic.decode(codes[:, :1]))


def test_prefixes_where_not_every_number_can_be_decoded() -> None:
    grouped = GroupedConfig(groups=2, inner=VectorConfig(codebook_size=8))
    split = quantizer(semantic=grouped, acoustic=grouped).eval()
    assert split.legal_prefixes == (2, 4)
    with pytest.raises(ValueError, match="num_codebooks is 3, expected one of 2, 4"):
        split.encode(LATENTS, num_codebooks=3)
    with pytest.raises(ValueError, match="num_codebooks is 1, expected one of 2, 4"):
        split.decode(torch.zeros(1, 1, 5, dtype=torch.long))


def test_an_item_without_acoustic_codes_leaves_no_acoustic_statistics() -> None:
    split = quantizer().train()
    mask = torch.arange(50).expand(3, -1) < torch.tensor([50, 20, 35])[:, None]
    used = torch.tensor([1, 4, 2])
    out = split(LATENTS, num_codebooks=used, mask=mask)
    counts = {name: int(value.sum()) for name, value in out.statistics.items() if name.endswith("sum_counts")}
    assert counts["semantic.inner.sum_counts"] == 105
    assert sum(value for name, value in counts.items() if name.startswith("acoustic.")) == 20 * 3 + 35
    noisy = torch.where(mask[:, None], LATENTS, 1e3)
    torch.testing.assert_close(split(noisy, num_codebooks=used, mask=mask).losses, out.losses)


def test_semantic_codes_alone_have_the_semantic_loss_only() -> None:
    split = quantizer(acoustic=VQ).train()
    latents = LATENTS.clone().requires_grad_()
    out = split(latents, num_codebooks=1)
    torch.testing.assert_close(out.losses, split.semantic(LATENTS).losses)
    (out.latents.sum() + sum(out.losses.values())).backward()
    assert latents.grad is not None and latents.grad.isfinite().all()
    (expected,) = torch.autograd.grad(split.semantic(latents).latents.sum(), latents)
    (found,) = torch.autograd.grad(split(latents, num_codebooks=1).latents.sum(), latents)
    torch.testing.assert_close(found, expected)


def test_losses_and_gradients_are_the_sums_of_both() -> None:
    split = quantizer().train()
    latents = LATENTS.clone().requires_grad_()
    out = split(latents)
    weight = torch.randn_like(latents)
    (found,) = torch.autograd.grad((out.latents * weight).sum(), latents)
    parts = [inner(latents) for inner in (split.semantic, split.acoustic)]
    both = sum((part.latents * weight).sum() for part in parts)
    torch.testing.assert_close(found, torch.autograd.grad(both, latents)[0])
    expected = parts[0].losses["commitment"] + parts[1].losses["commitment"]
    torch.testing.assert_close(out.losses["commitment"], expected)


def test_statistics_of_halves_are_those_of_the_whole() -> None:
    split, other = (quantizer().train() for _ in range(2))
    whole = split(LATENTS).statistics
    parts = merge_statistics([split(LATENTS[:1]).statistics, split(LATENTS[1:]).statistics])
    split.update(whole)
    other.update(parts)
    changed = 0
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, split.state_dict()[name])
        changed += not torch.equal(value, quantizer().state_dict()[name])
    assert changed >= 2


def test_both_are_initialized() -> None:
    split = quantizer(
        VectorConfig(codebook_size=64), RVQConfig(num_codebooks=3, inner=VectorConfig(codebook_size=64))
    )
    split.initialize(LATENTS.mT.reshape(-1, 12), generator=torch.Generator().manual_seed(0))
    for inner in (split.semantic, split.acoustic):
        assert (inner(LATENTS).latents - LATENTS).square().mean() < 0.6 * LATENTS.square().mean()


def test_state_dict_holds_both() -> None:
    names = quantizer().state_dict()
    assert {name.partition(".")[0] for name in names} == {"semantic", "acoustic"}
    assert {"acoustic.inner.levels.2.book", "semantic.inner.book", "semantic.project_in.weight"} <= set(names)


@dataclass(frozen=True)
class Model:
    quantizer: QuantizerConfig


def test_configuration_survives_and_mistakes_are_named() -> None:
    config = SplitConfig(semantic=FSQConfig(), acoustic=RVQ)
    assert from_dict(Model, {"quantizer": to_dict(config)}) == Model(config)
    with pytest.raises(ConfigError, match=r'quantizer\.acoustic: the key "kind" is missing'):
        from_dict(Model, {"quantizer": {"kind": "split", "semantic": {"kind": "fsq"}, "acoustic": {}}})
    with pytest.raises(ConfigError, match=r'quantizer\.semantic\.kind: no quantizer is of the kind "fsk"'):
        from_dict(Model, {"quantizer": {"kind": "split", "semantic": {"kind": "fsk"}}})
