from __future__ import annotations

from typing import Any

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.nn.exact import first_equal, nearest, nearest_float64
from audiotokens.quantizers import (
    FSQConfig,
    GradientLearning,
    LFQConfig,
    QuantizerConfig,
    ResidualQuantizer,
    RVQConfig,
    VectorConfig,
    merge_statistics,
)
from audiotokens.quantizers.beam import _smallest
from audiotokens.quantizers.statistics import select


def quantizer(*, codebook_size: int = 32, **changes: Any) -> ResidualQuantizer:
    torch.manual_seed(0)
    inner = VectorConfig(codebook_size=codebook_size)
    return ResidualQuantizer(6, RVQConfig(**{"num_codebooks": 4, "inner": inner, **changes}))


def trained(latents: torch.Tensor, **changes: Any) -> ResidualQuantizer:
    rvq = quantizer(**changes)
    rvq.initialize(latents.mT.reshape(-1, 6), generator=torch.Generator().manual_seed(0))
    return rvq.eval()


def sample(items: int = 3, frames: int = 200) -> torch.Tensor:
    return torch.randn(items, 6, frames, generator=torch.Generator().manual_seed(1))


def test_nearest_agrees_with_distances_and_equal_entries_have_one_index() -> None:
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(50, 4, generator=random, dtype=torch.float64)
    book = torch.randn(20, 4, generator=random, dtype=torch.float64)
    expected = torch.cdist(vectors, book).argmin(1)
    assert torch.equal(nearest(vectors, book), expected)
    twice = torch.cat([book, book])
    assert torch.equal(first_equal(twice), torch.arange(20).repeat(2))
    assert torch.equal(first_equal(twice)[nearest(vectors, twice)], expected)


@pytest.mark.parametrize("gap", [0.0, 1e-15, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3])
def test_the_fast_search_gives_the_index_of_float64_also_in_near_ties(gap: float) -> None:
    random = torch.Generator().manual_seed(3)
    book = torch.randn(64, 24, generator=random, dtype=torch.float64) * 3
    direction = torch.randn(500, 24, generator=random, dtype=torch.float64)
    pairs = torch.randint(64, (500, 2), generator=random)
    # Halfway between two entries, moved by `gap` towards the first.
    first, second = book[pairs[:, 0]], book[pairs[:, 1]]
    vectors = (first + second) / 2 + gap * (first - second) + 1e-3 * direction
    expected = torch.cdist(vectors, book, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    found = nearest_float64(vectors, book)
    close = torch.cdist(vectors, book).gather(1, torch.stack([expected, found], 1))
    assert torch.equal(found, nearest(vectors, book))
    assert (close[:, 0] - close[:, 1]).abs().max() < 1e-12


def test_encode_takes_the_nearest_entry_of_each_book_in_turn() -> None:
    latents = sample()
    rvq = trained(latents)
    residual = latents.mT.double()
    for level, codes in enumerate(rvq.encode(latents).unbind(1)):
        distances = torch.cdist(residual, rvq.levels[level].book.double().expand(3, -1, -1))
        assert torch.equal(codes, distances.argmin(2))
        residual = residual - rvq.levels[level].book.double()[codes]


def test_any_prefix_decodes_and_residual_energy_falls() -> None:
    latents = sample()
    rvq = trained(latents)
    codes = rvq.encode(latents)
    errors = [(rvq.decode(codes[:, :k]) - latents).square().mean() for k in (1, 2, 3, 4)]
    assert all(later < earlier for earlier, later in zip(errors, errors[1:]))
    for k in (1, 2, 3):
        assert torch.equal(rvq.encode(latents, num_codebooks=k), codes[:, :k])


def test_beam_search_is_never_worse_and_width_one_is_greedy() -> None:
    latents = sample()
    rvq = trained(latents)
    greedy, beam = rvq.encode(latents), rvq.encode(latents, search_width=8)
    assert torch.equal(rvq.encode(latents, search_width=1), greedy)
    error = [(rvq.decode(codes) - latents).square().sum(1) for codes in (greedy, beam)]
    assert error[1].mean() < 0.95 * error[0].mean()


def test_a_full_beam_finds_the_best_of_all_combinations() -> None:
    rvq = quantizer(num_codebooks=2, codebook_size=5).eval()
    latents = sample(1, 30)
    sums = (rvq.levels[0].book[:, None] + rvq.levels[1].book[None]).reshape(-1, 6)
    best = torch.cdist(latents[0].mT, sums).min(1).values
    found = (rvq.decode(rvq.encode(latents, search_width=5)) - latents).square().sum(1).sqrt()[0]
    torch.testing.assert_close(found, best, rtol=0, atol=1e-5)


def test_gradients_are_straight_through_plus_commitment() -> None:
    latents = sample(2, 10).requires_grad_()
    rvq = trained(latents.detach())
    out = rvq(latents)
    weight = torch.randn_like(latents)
    (straight,) = torch.autograd.grad((out.latents * weight).sum(), latents, retain_graph=True)
    torch.testing.assert_close(straight, weight)
    error = (latents - out.latents.detach()).square().mean()
    variance = latents.transpose(0, 1).flatten(1).var(1, unbiased=False).mean()
    torch.testing.assert_close(out.losses["commitment"], 0.25 * error / variance)
    # Latents that grow are not rewarded: the variance is a constant to the gradient.
    (by_hand,) = torch.autograd.grad(0.25 * error / variance.detach(), latents, retain_graph=True)
    (found,) = torch.autograd.grad(out.losses["commitment"], latents)
    torch.testing.assert_close(found, by_hand)


def test_items_use_their_own_number_of_books() -> None:
    latents = sample()
    rvq = trained(latents)
    out = rvq(latents, num_codebooks=torch.tensor([1, 4, 2]))
    for item, books in enumerate((1, 4, 2)):
        alone = rvq(latents[item : item + 1], num_codebooks=books)
        torch.testing.assert_close(out.latents[item : item + 1], alone.latents)


def test_unused_books_and_padded_frames_leave_no_statistics() -> None:
    latents = sample()
    rvq = trained(latents).train()
    mask = torch.ones(3, 200, dtype=torch.bool)
    mask[0, 50:] = False
    out = rvq(latents, num_codebooks=torch.tensor([4, 2, 1]), mask=mask)
    counts = [int(out.statistics[f"levels.{level}.sum_counts"].sum()) for level in range(4)]
    assert counts == [450, 250, 50, 50]
    noisy = latents.clone()
    noisy[0, :, 50:] = 1e3
    again = rvq(noisy, num_codebooks=torch.tensor([4, 2, 1]), mask=mask)
    torch.testing.assert_close(again.losses["commitment"], out.losses["commitment"])


def test_update_moves_books_to_the_means_of_their_vectors() -> None:
    latents = sample()
    rvq = trained(latents).train()
    index = rvq(latents).codes[:, 0].flatten()
    for _ in range(400):
        rvq.update(rvq(latents, num_codebooks=1).statistics)
    vectors = latents.mT.reshape(-1, 6)
    moved = rvq(latents).codes[:, 0].flatten()
    entry = int(torch.bincount(moved).argmax())
    torch.testing.assert_close(rvq.levels[0].book[entry], vectors[moved == entry].mean(0), rtol=0, atol=2e-2)
    assert (index == moved).float().mean() > 0.5


def test_expired_entries_are_revived_within_one_update_and_stay() -> None:
    latents = sample()
    rvq = trained(latents).train()
    dead = torch.arange(0, 32, 2)
    first = rvq.levels[0]
    first.book[dead], first.sums[dead], first.counts[dead] = 100.0, 100.0 * 1e-3, 1e-3
    for _ in range(2):
        rvq.update(rvq(latents).statistics)
        assert first.book[dead].abs().max() < 10


def test_autocast_does_not_change_the_codes() -> None:
    latents = sample()
    rvq = trained(latents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = rvq(latents).codes
    assert torch.equal(inside, rvq(latents).codes)


def test_empty_input_gives_empty_codes() -> None:
    assert quantizer().encode(torch.zeros(1, 6, 0)).shape == (1, 4, 0)
    assert quantizer().decode(torch.zeros(1, 4, 0, dtype=torch.long)).shape == (1, 6, 0)


def test_impossible_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="num_codebooks is 0"):
        RVQConfig(num_codebooks=0)


def test_the_lowest_of_equal_entries_wins_whatever_the_batch_shape() -> None:
    rvq = quantizer().eval()
    for level in rvq.levels:
        level.book[16:] = level.book[:16]
    latents = sample(4, 257)
    codes = rvq.encode(latents)
    assert int(codes.max()) < 16
    for frames in (1, 3, 64, 257):
        assert torch.equal(rvq.encode(latents[:1, :, :frames]), codes[:1, :, :frames])
    for level in rvq.levels:
        level.book[16:] += 5.0
    assert int(rvq.encode(latents + 5.0).max()) >= 16


def test_prefix_offsets_tell_how_many_books_were_used() -> None:
    rvq = quantizer(prefix_offsets=True).eval()
    with torch.no_grad():
        rvq.offsets += torch.arange(1.0, 4.0)[:, None]
    plain = quantizer().eval()
    latents = sample(items=4)
    codes = rvq.encode(latents)
    assert torch.equal(codes, plain.encode(latents))
    for number in (1, 2, 3, 4):
        added = rvq.decode(codes[:, :number]) - plain.decode(codes[:, :number])
        assert torch.allclose(added, torch.tensor(float(number % 4)).expand(added.shape), atol=1e-6)
    used = torch.tensor([1, 4, 2, 3])
    quantized = rvq(latents.requires_grad_(), num_codebooks=used)
    for item, number in enumerate(used.tolist()):
        expected = rvq.decode(codes[item : item + 1, :number])[0]
        assert torch.allclose(quantized.latents[item], expected, atol=1e-5)
    quantized.latents.sum().backward()
    assert rvq.offsets.grad is not None and torch.equal(rvq.offsets.grad, torch.full((3, 6), 200.0))


def test_a_single_book_has_no_offset() -> None:
    one = quantizer(num_codebooks=1, prefix_offsets=True)
    codes = one.encode(sample())
    assert torch.equal(one.decode(codes), one.levels[0].book[codes[:, 0]].mT)


@pytest.mark.parametrize("count", [1, 4, 7])
def test_the_smallest_scores_are_found_by_groups(count: int) -> None:
    scores = torch.rand(300, 512, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    scores[:, :40] -= 0.5
    assert torch.equal(_smallest(scores, count), scores.topk(count, largest=False).indices)


def test_a_very_wide_search_takes_one_vector_at_a_time() -> None:
    rvq = trained(sample())
    latents = sample(items=1, frames=3)
    assert rvq.encode(latents, search_width=300).shape == (1, 4, 3)


def test_residual_energy_never_grows_over_the_vectors_that_books_were_made_from() -> None:
    """A mean m of a cell is as near to its vectors as 0 is or nearer: sum ||r - m||^2 <= sum ||r||^2."""
    latents = sample()
    rvq = trained(latents)
    rest = latents
    for level in rvq.levels:
        codes = level.encode(rest)
        vectors, index = rest.mT.reshape(-1, 6), codes.flatten()
        counts = torch.bincount(index, minlength=32).clamp(min=1)
        level.set_book(torch.zeros(32, 6).index_add_(0, index, vectors) / counts[:, None])
        # In each cell of the search by the new book the energy is at most that in the cells of the means.
        after = rest - level.decode(level.encode(rest))
        assert after.square().sum() <= rest.square().sum()
        rest = after


def test_prefixes_decode_to_partial_sums_of_the_levels() -> None:
    rvq = trained(sample())
    codes = rvq.encode(sample())
    total = torch.zeros(3, 6, 200)
    for number, level in enumerate(rvq.levels, 1):
        total = total + level.decode(codes[:, number - 1 : number])
        assert torch.equal(rvq.decode(codes[:, :number]), total)
    assert torch.equal(rvq(sample()).latents, total)


@pytest.mark.parametrize(("gradient", "factor"), [("sum", 1.0), ("levels", 4.0), ("chain", 1.0)])
def test_how_gradients_add_up_over_straight_through_levels(gradient: str, factor: float) -> None:
    rvq = trained(sample(), gradient=gradient)
    latents = sample(1, 20).requires_grad_()
    weight = torch.randn(1, 6, 20)
    (found,) = torch.autograd.grad((rvq(latents).latents * weight).sum(), latents)
    torch.testing.assert_close(found, factor * weight)


def test_layers_inside_the_levels_learn_in_a_chain_and_are_refused_in_a_sum() -> None:
    inner = VectorConfig(codebook_size=16, codebook_dim=2, learning=GradientLearning(), commitment=0.5)
    rvq = quantizer(inner=inner, gradient="chain", commitment=0.0)
    out = rvq(sample())
    assert set(out.losses) == {"commitment", "codebook"}
    (out.latents.square().sum() + sum(out.losses.values())).backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in rvq.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in rvq.parameters())
    with pytest.raises(ValueError, match=r'levels\.0\.project_in\.weight no gradient; choose "chain"'):
        quantizer(inner=inner)


def test_losses_of_the_levels_are_added_from_the_items_that_use_them() -> None:
    rvq = trained(sample(), commitment=0.0, inner=VectorConfig(codebook_size=32, commitment=0.5))
    latents, used = sample(), torch.tensor([1, 3, 2])
    out, rest, expected = rvq(latents, num_codebooks=used), latents, torch.zeros(())
    for index, level in enumerate(rvq.levels):
        active = used > index
        after = rest - level.decode(level.encode(rest)) * active[:, None, None]
        if bool(active.any()):
            expected = expected + 0.5 * after[active].square().mean()
        rest = after
    torch.testing.assert_close(out.losses["commitment"], expected)


@pytest.mark.parametrize("way", ["merged", "in-turn"])
def test_one_shared_book_serves_all_levels(way: str) -> None:
    latents = sample()
    rvq = trained(latents, shared=True, shared_update=way).train()
    assert list(rvq.state_dict()) == ["levels.0.book"]
    level = rvq.levels[0]
    before, codes = (level.counts.clone(), level.sums.clone()), rvq.encode(latents)
    assert rvq.codebook_sizes == (32,) * 4
    rvq.update(rvq(latents).statistics)
    book, found, rest = before[1] / before[0][:, None], [], latents
    for index in codes.unbind(1):
        sums = torch.zeros(32, 6).index_add_(0, index.flatten(), rest.mT.reshape(-1, 6))
        found.append((torch.bincount(index.flatten(), minlength=32).float(), sums))
        rest = rest - book[index].mT
    if way == "merged":
        found = [(sum(c for c, _ in found), sum(s for _, s in found))]
    counts, sums = before
    for new_counts, new_sums in found:
        counts, sums = 0.98 * counts + 0.02 * new_counts, 0.98 * sums + 0.02 * new_sums
    torch.testing.assert_close(level.counts, counts)
    torch.testing.assert_close(level.sums, sums, rtol=1e-4, atol=1e-4)


def test_statistics_of_halves_merge_into_those_of_the_batch() -> None:
    latents = sample(4)
    for shared in (False, True):
        whole, halves = (trained(sample(), shared=shared).train() for _ in range(2))
        whole.update(whole(latents).statistics)
        halves.update(merge_statistics([halves(part).statistics for part in latents.split(2)]))
        for one, other in zip(whole.buffers(), halves.buffers(), strict=True):
            torch.testing.assert_close(one, other)


def test_a_level_that_no_item_uses_learns_nothing() -> None:
    rvq = trained(sample()).train()
    before = [buffer.clone() for buffer in rvq.levels[2].buffers()]
    out = rvq(sample(), num_codebooks=torch.tensor([1, 2, 1]))
    assert int(select(out.statistics, "levels.2")["sum_counts"].sum()) == 0
    rvq.update(out.statistics)
    assert all(torch.equal(old, new) for old, new in zip(before, rvq.levels[2].buffers(), strict=True))
    assert not torch.equal(rvq.levels[1].counts, torch.ones(32))


def test_scales_make_levels_finer() -> None:
    rvq = ResidualQuantizer(
        6, RVQConfig(num_codebooks=4, inner=LFQConfig(bits=6), scales=(1, 0.5, 0.25, 0.125))
    )
    latents = sample().clamp(-1.8, 1.8)
    codes = rvq.eval().encode(latents)
    # Signs of halving scales are the binary digits of a number between -2 and 2.
    assert (rvq.decode(codes) - latents).abs().max() <= 0.125 + 1e-6
    assert torch.equal(rvq(latents).codes, codes)
    for number in (1, 2, 3):
        assert torch.equal(rvq.encode(latents, num_codebooks=number), codes[:, :number])


def test_levels_of_different_kinds() -> None:
    inner: tuple[QuantizerConfig, ...] = (VectorConfig(codebook_size=32), FSQConfig(levels=(3,) * 6))
    mixed = quantizer(num_codebooks=2, inner=inner)
    assert mixed.codebook_sizes == (32, 729) and mixed.legal_prefixes == (1, 2)
    assert not mixed.can_search_wide and quantizer().can_search_wide
    latents = sample()
    mixed.initialize(latents.mT.reshape(-1, 6), generator=torch.Generator().manual_seed(0))
    assert torch.equal(mixed.eval()(latents).codes, mixed.encode(latents))
    with pytest.raises(ValueError, match="search_width is 4, expected 1"):
        mixed.encode(latents, search_width=4)


def test_a_level_of_several_books_is_used_whole() -> None:
    inner = RVQConfig(num_codebooks=2, inner=VectorConfig(codebook_size=8))
    nested = quantizer(num_codebooks=3, inner=inner).eval()
    assert nested.legal_prefixes == (2, 4, 6)
    codes = nested.encode(sample())
    assert codes.shape == (3, 6, 200)
    out = nested(sample(), num_codebooks=torch.tensor([2, 6, 4]))
    torch.testing.assert_close(out.latents[:1], nested.decode(codes[:1, :2]))
    with pytest.raises(ValueError, match="num_codebooks is 3, expected one of 2, 4, 6"):
        nested.decode(codes[:, :3])


def test_the_sum_of_errors_keeps_prefixes_of_a_wide_search_good() -> None:
    rvq = trained(sample())
    latents = sample()
    by_error, by_sum = (rvq.encode(latents, search_width=8, criterion=name) for name in ("error", "summed"))
    errors = [
        [float((rvq.decode(codes[:, :k]) - latents).square().mean()) for k in (1, 4)]
        for codes in (by_error, by_sum)
    ]
    assert errors[0][0] > errors[1][0] and errors[0][1] < errors[1][1]
    for frames in (1, 33):
        assert torch.equal(rvq.encode(latents[:1, :, :frames], search_width=8), by_error[:1, :, :frames])


def test_books_of_a_list_are_read_and_mistakes_named() -> None:
    config = RVQConfig(num_codebooks=2, inner=(VectorConfig(), FSQConfig()), scales=(1.0, 0.5))
    assert from_dict(RVQConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match=r'config\.inner: unknown key "codebooksize"; did you mean'):
        from_dict(RVQConfig, {"kind": "rvq", "inner": {"kind": "vector", "codebooksize": 8}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": (VectorConfig(),)}, "inner has 1 entries, expected num_codebooks, 4"),
        ({"scales": (1.0,)}, "scales has 1 entries, expected num_codebooks, 4"),
        ({"scales": (1.0, 0.0, 1.0, 1.0)}, "expected numbers greater than 0"),
        ({"inner": (VectorConfig(),) * 4, "shared": True}, "shared levels cannot have"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantizer(**changes)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scales", [None, (1.0, 0.5, 0.25)])
def test_frames_of_a_step_have_the_codes_of_all_at_once(
    shared: bool, scales: tuple[float, ...] | None
) -> None:
    torch.manual_seed(0)
    config = RVQConfig(num_codebooks=3, inner=VectorConfig(codebook_size=40), shared=shared, scales=scales)
    quantizer = ResidualQuantizer(6, config).eval()
    with torch.no_grad():
        for level in quantizer.levels:
            # Whole numbers make equal entries and equally near ones.
            level.set_book(level.book.round())
    latents = torch.cat([torch.randn(1, 6, 60), torch.randn(1, 6, 60).round(), torch.zeros(1, 6, 1)], 2)
    expected = quantizer.encode(latents)
    for size in (1, 3):
        found = torch.cat([quantizer.encode(part) for part in latents.split(size, 2)], 2)
        assert torch.equal(found, expected)
    with torch.no_grad():
        quantizer.levels[0].set_book(torch.randn(40, 6))
    moved = torch.cat([quantizer.encode(part) for part in latents.split(1, 2)], 2)
    assert torch.equal(moved, quantizer.encode(latents)) and not torch.equal(moved, expected)
