from __future__ import annotations

from typing import Any

import pytest
import torch

from audiotokens.nn.exact import first_equal, nearest, nearest_float64
from audiotokens.quantizers import ResidualQuantizer, RVQConfig, VectorConfig
from audiotokens.quantizers.beam import _smallest


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
    (by_hand,) = torch.autograd.grad(0.25 * error / variance, latents, retain_graph=True)
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
