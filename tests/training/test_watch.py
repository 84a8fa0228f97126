"""Perplexity, collapse, phase collapse."""

from __future__ import annotations

import pytest
import torch

from audiotokens.training.watch import CodeUsage, Watch, relative_error, signal_to_distortion


def used_evenly(usage: CodeUsage, size: int) -> None:
    codes = torch.arange(size).repeat(10)[None, None].expand(1, 2, -1)
    usage.update(codes, torch.tensor([2]))


def test_even_use_has_the_perplexity_of_the_size() -> None:
    usage = CodeUsage((64, 64))
    used_evenly(usage, 64)
    assert usage.perplexities() == pytest.approx([64, 64], rel=1e-4)
    assert usage.collapsed() == []


def test_unused_books_are_not_counted() -> None:
    usage = CodeUsage((64, 64))
    usage.update(torch.zeros(3, 2, 200, dtype=torch.long), torch.tensor([1, 1, 1]))
    assert usage.perplexities() == pytest.approx([1, 0])
    assert usage.collapsed() == [0]


def test_the_window_forgets() -> None:
    usage = CodeUsage((64, 64), window=5)
    used_evenly(usage, 64)
    for _ in range(60):
        usage.update(torch.zeros(1, 2, 640, dtype=torch.long), torch.tensor([2]))
    assert usage.collapsed() == [0, 1]


def test_few_codes_are_no_collapse() -> None:
    usage = CodeUsage((1024,))
    usage.update(torch.zeros(1, 1, 50, dtype=torch.long), torch.tensor([1]))
    assert usage.collapsed() == []


def test_relative_error_ignores_a_constant_offset() -> None:
    latents = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    offset = torch.tensor([100.0, -50.0, 7.0])[:, None]
    assert float(relative_error(latents, latents + 0.1)) == pytest.approx(0.01, rel=0.2)
    shifted = relative_error(latents + offset, latents + offset + 0.1)
    assert float(shifted) == pytest.approx(float(relative_error(latents, latents + 0.1)), rel=1e-2)


def test_signal_to_distortion_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    reference, noise = torch.randn(2, 1, 100000, generator=generator)
    assert float(signal_to_distortion(reference, 3 * (reference + 0.1 * noise))) == pytest.approx(20, abs=0.1)


def test_warnings_come_once_after_the_start() -> None:
    usage = CodeUsage((64,))
    usage.update(torch.zeros(1, 1, 600, dtype=torch.long), torch.tensor([1]))
    watch = Watch(start=100)
    assert watch.warnings(50, usage, {}) == []
    (warning,) = watch.warnings(100, usage, {})
    assert warning.startswith("book 1 collapses")
    assert watch.warnings(120, usage, {}) == []
    used = CodeUsage((64,))
    assert watch.warnings(140, used, {}) == []
    assert len(watch.warnings(160, usage, {})) == 1


@pytest.mark.parametrize(
    ("error", "ratio", "alarm"), [(0.01, -10.0, True), (0.03, -10.0, False), (0.01, 2.0, False)]
)
def test_phase_collapse_needs_both_signs(error: float, ratio: float, alarm: bool) -> None:
    watch, usage = Watch(start=0), CodeUsage((64,))
    watch.warnings(1, usage, {"si_sdr": 5.0, "relative_error": 0.05})
    seen = [
        warning
        for step in range(2, 60)
        for warning in watch.warnings(step, usage, {"si_sdr": ratio, "relative_error": error})
    ]
    assert [warning[:14] for warning in seen] == (["phase collapse"] if alarm else [])


@pytest.mark.parametrize(
    ("real", "fake", "alarm"),
    [(0.99, 1.0, "the discriminators win"), (1.0, 0.02, "the discriminators collapse"), (0.8, 0.7, None)],
)
def test_discriminators_that_win_or_know_nothing(real: float, fake: float, alarm: str | None) -> None:
    watch, usage = Watch(start=0), CodeUsage((64,))
    alone = {"real_right": real, "fake_right": fake}
    assert not [warning for step in range(30) for warning in watch.warnings(step, usage, alone)]
    figures = {**alone, "adversarial": 1.0}
    seen = [warning for step in range(30, 90) for warning in watch.warnings(step, usage, figures)]
    assert [warning.partition(":")[0] for warning in seen] == ([alarm] if alarm else [])


def test_books_at_several_rates_are_counted_in_their_order() -> None:
    usage = CodeUsage((64, 64, 64))
    coarse = torch.zeros(1, 1, 64, dtype=torch.long)
    fine = torch.stack([torch.arange(64).repeat(2), torch.zeros(128, dtype=torch.long)])[None]
    usage.update((coarse, fine), torch.tensor([3]))
    assert usage.perplexities() == pytest.approx([1, 64, 1], rel=1e-4)
    usage = CodeUsage((64, 64, 64))
    usage.update((coarse, fine), torch.tensor([1]))
    assert usage.perplexities() == pytest.approx([1, 0, 0])
