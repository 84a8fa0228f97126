"""Noise that is a function of the frame's number."""

from __future__ import annotations

import torch

from audiotokens.nn.noise import NOISE_FRAMES, noise_table


def test_noise_is_the_same_everywhere() -> None:
    table = noise_table(320)
    assert table.shape == (NOISE_FRAMES, 320)
    # SplitMix64 from state 0 begins with e220a8397b1dcdaf, 6e789e6aa1b965f4, 06c45d188009454f.
    expected = torch.tensor([0xE220A8, 0x6E789E, 0x06C45D], dtype=torch.float64) / (1 << 24) - 0.5
    assert torch.allclose(table[0, :3].double(), expected * 12**0.5, atol=1e-7)
    assert not torch.equal(table, noise_table(320, seed=1))


def test_noise_is_white() -> None:
    table = noise_table(64).double()
    assert abs(float(table.mean())) < 0.01
    assert abs(float(table.var()) - 1) < 0.01
    assert float(table.T.corrcoef().fill_diagonal_(0).abs().max()) < 0.2
    assert abs(float((table[1:] * table[:-1]).mean())) < 0.02
