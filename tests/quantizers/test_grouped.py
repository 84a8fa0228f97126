"""Groups of channels, each with its own quantizer or all with one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import (
    FSQConfig,
    GroupedConfig,
    GroupedQuantizer,
    QuantizerConfig,
    RVQConfig,
    VectorConfig,
    build_quantizer,
    merge_statistics,
)

VQ = VectorConfig(codebook_size=16)
RVQ = RVQConfig(num_codebooks=3, inner=VectorConfig(codebook_size=16))
LATENTS = torch.randn(3, 12, 50, generator=torch.Generator().manual_seed(1))
each_sharing = pytest.mark.parametrize("shared", [False, True])


def quantizer(inner: QuantizerConfig = VQ, dim: int = 12, **changes: object) -> GroupedQuantizer:
    torch.manual_seed(0)
    return GroupedQuantizer(dim, GroupedConfig(**{"inner": inner, "groups": 3, **changes}))


@each_sharing
def test_each_group_is_quantized_on_its_own(shared: bool) -> None:
    grouped = quantizer(shared=shared).eval()
    codes = grouped.encode(LATENTS)
    out = grouped(LATENTS)
    assert grouped.codebook_sizes == (16, 16, 16) and grouped.legal_prefixes == (3,)
    assert torch.equal(out.codes, codes)
    for group, part in enumerate(LATENTS.split(4, 1)):
        inner = grouped.inner[0 if shared else group]
        assert torch.equal(codes[:, group : group + 1], inner.encode(part))
        torch.testing.assert_close(out.latents.split(4, 1)[group], inner(part).latents)
    assert torch.equal(grouped.decode(codes), out.latents)
    alone = grouped.encode(LATENTS[2:, :, 7:9])
    assert torch.equal(alone, codes[2:, :, 7:9])


@each_sharing
def test_merge_reverses_split(shared: bool) -> None:
    grouped = quantizer(shared=shared)
    assert torch.equal(grouped._merge(grouped._split(LATENTS)), LATENTS)
    codes = torch.arange(3 * 3 * 50).view(3, 3, 50)
    assert torch.equal(grouped._per_group(grouped._per_inner(codes)), codes)


def test_the_last_group_takes_the_channels_that_are_left_over() -> None:
    grouped = quantizer(dim=14).eval()
    assert grouped.sizes == (4, 4, 6)
    latents = torch.randn(2, 14, 9)
    assert torch.equal(grouped._merge(grouped._split(latents)), latents)
    assert torch.equal(grouped.decode(grouped.encode(latents)), grouped(latents).latents)


@each_sharing
def test_codes_of_residual_quantizers_are_ordered_by_book_then_group(shared: bool) -> None:
    grouped = quantizer(RVQ, shared=shared).eval()
    codes = grouped.encode(LATENTS)
    assert codes.shape == (3, 9, 50) and grouped.legal_prefixes == (3, 6, 9)
    for group, part in enumerate(LATENTS.split(4, 1)):
        assert torch.equal(codes[:, group::3], grouped.inner[0 if shared else group].encode(part))
    for books in grouped.legal_prefixes:
        assert torch.equal(grouped.encode(LATENTS, num_codebooks=books), codes[:, :books])
        out = grouped(LATENTS, num_codebooks=books)
        torch.testing.assert_close(out.latents, grouped.decode(codes[:, :books]))
    with pytest.raises(ValueError, match="num_codebooks is 4, expected one of 3, 6, 9"):
        grouped.encode(LATENTS, num_codebooks=4)
    with pytest.raises(ValueError, match="num_codebooks is 8"):
        grouped.decode(codes[:, :8])


@each_sharing
def test_items_use_their_own_number_of_books(shared: bool) -> None:
    grouped = quantizer(RVQ, shared=shared).eval()
    codes = grouped.encode(LATENTS)
    latents = grouped(LATENTS, num_codebooks=torch.tensor([3, 9, 6])).latents
    for item, books in enumerate((3, 9, 6)):
        expected = grouped.decode(codes[item : item + 1, :books])[0]
        torch.testing.assert_close(latents[item], expected)


@each_sharing
@pytest.mark.parametrize("inner", [VQ, RVQ])
def test_nested_dropout_zeroes_the_groups_that_are_missing(shared: bool, inner: QuantizerConfig) -> None:
    grouped = quantizer(inner, shared=shared, nested_dropout=True).train()
    books = len(grouped.codebook_sizes) // 3
    assert grouped.legal_prefixes == (books, 2 * books, 3 * books)
    codes = grouped.encode(LATENTS)
    latents = LATENTS.clone().requires_grad_()
    out = grouped(latents, num_codebooks=torch.tensor([1, 3, 2]) * books)
    for item, groups in enumerate((1, 3, 2)):
        prefix = grouped.encode(LATENTS[item : item + 1], num_codebooks=groups * books)
        assert torch.equal(prefix[0], codes[item, : groups * books])
        decoded = grouped.decode(prefix)[0]
        assert not decoded[4 * groups :].any() and decoded[: 4 * groups].all()
        torch.testing.assert_close(out.latents[item], decoded)
    out.latents.sum().backward()
    kept = torch.tensor([[1, 0, 0], [1, 1, 1], [1, 1, 0]]).repeat_interleave(4, 1)
    assert latents.grad is not None
    assert torch.equal(latents.grad != 0, kept.bool()[..., None].expand(3, 12, 50))


@each_sharing
def test_missing_groups_and_padded_frames_leave_no_statistics(shared: bool) -> None:
    grouped = quantizer(shared=shared, nested_dropout=True).train()
    mask = torch.arange(50).expand(3, -1) < torch.tensor([50, 20, 35])[:, None]
    used = torch.tensor([1, 3, 2])
    out = grouped(LATENTS, num_codebooks=used, mask=mask)
    found = [int(out.statistics[f"inner.{i}.sum_counts"].sum()) for i in range(len(grouped.inner))]
    assert found == ([50 + 2 * 35 + 3 * 20] if shared else [105, 55, 20])
    noisy = torch.where(mask[:, None], LATENTS, 1e3)
    noisy[0, 4:] = 1e3
    again = grouped(noisy, num_codebooks=used, mask=mask)
    torch.testing.assert_close(again.losses, out.losses)


@pytest.mark.parametrize("inner", [VQ, RVQ])
def test_a_group_that_no_item_uses_has_no_loss(inner: QuantizerConfig) -> None:
    grouped = quantizer(inner, nested_dropout=True).train()
    latents = LATENTS.clone().requires_grad_()
    out = grouped(latents, num_codebooks=grouped.legal_prefixes[0])
    first = grouped.inner[0](LATENTS[:, :4]).losses["commitment"]
    torch.testing.assert_close(out.losses["commitment"], first / 3)
    out.losses["commitment"].backward()
    assert latents.grad is not None and latents.grad.isfinite().all()


@each_sharing
def test_losses_are_those_of_the_whole_vector(shared: bool) -> None:
    grouped = quantizer(dim=12 if shared else 14, shared=shared)
    latents = torch.randn(2, grouped.dim, 30)
    out = grouped(latents)
    error = (latents - out.latents.detach()).square().mean()
    torch.testing.assert_close(out.losses["commitment"], 0.25 * error)


@each_sharing
def test_statistics_of_halves_are_those_of_the_whole(shared: bool) -> None:
    grouped, other = (quantizer(shared=shared).train() for _ in range(2))
    whole = grouped(LATENTS).statistics
    parts = merge_statistics([grouped(LATENTS[:1]).statistics, grouped(LATENTS[1:]).statistics])
    grouped.update(whole)
    other.update(parts)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, grouped.state_dict()[name])
        assert not torch.equal(value, quantizer(shared=shared).state_dict()[name])


def test_a_shared_book_learns_from_all_groups_at_once() -> None:
    shared = quantizer(shared=True).train()
    alone = build_quantizer(VQ, 4).train()
    alone.load_state_dict(shared.inner[0].state_dict())
    rows = LATENTS.unflatten(1, (3, 4)).flatten(0, 1)
    shared.update(shared(LATENTS).statistics)
    alone.update(alone(rows).statistics)
    for name, value in alone.state_dict().items():
        assert torch.equal(shared.inner[0].state_dict()[name], value)


@each_sharing
def test_gradients_are_straight_through(shared: bool) -> None:
    grouped = quantizer(shared=shared)
    latents = LATENTS.clone().requires_grad_()
    weight = torch.randn_like(latents)
    (grouped(latents).latents * weight).sum().backward()
    torch.testing.assert_close(latents.grad, weight)


@each_sharing
def test_books_are_initialized_from_their_channels(shared: bool) -> None:
    grouped = quantizer(shared=shared)
    offsets = torch.tensor([0.0, 100.0, 200.0]).repeat_interleave(4)[None, :, None]
    grouped.initialize((LATENTS + offsets).mT.reshape(-1, 12), generator=torch.Generator().manual_seed(0))
    error = (grouped(LATENTS + offsets).latents - LATENTS - offsets).square().mean()
    assert error < 1.0


def test_state_dict_holds_one_part_per_inner_quantizer() -> None:
    assert sorted(quantizer().state_dict()) == [f"inner.{i}.book" for i in range(3)]
    assert sorted(quantizer(shared=True).state_dict()) == ["inner.0.book"]


@dataclass(frozen=True)
class Model:
    quantizer: QuantizerConfig


def test_configuration_survives_and_mistakes_are_named() -> None:
    config = GroupedConfig(groups=4, inner=RVQ, shared=True, nested_dropout=True)
    plain = to_dict(config)
    assert from_dict(Model, {"quantizer": plain}) == Model(config)
    with pytest.raises(ConfigError, match=r'quantizer\.inner: unknown key "level"; did you mean "levels"'):
        from_dict(Model, {"quantizer": {"kind": "grouped", "inner": {"kind": "fsq", "level": [3]}}})
    with pytest.raises(ConfigError, match="groups is 0, expected at least 1"):
        from_dict(Model, {"quantizer": {**plain, "groups": 0}})


def test_impossible_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="dim is 14, expected a multiple of groups = 3"):
        quantizer(dim=14, shared=True)
    with pytest.raises(ValueError, match="dim is 2, expected at least groups = 3"):
        quantizer(FSQConfig(), dim=2)
