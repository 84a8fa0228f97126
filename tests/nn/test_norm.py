"""Group normalization over time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiotokens.errors import NotOfferedError
from audiotokens.nn.norm import GroupNorm


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_items_are_normalized_by_their_own_frames(groups: int) -> None:
    torch.manual_seed(0)
    block = GroupNorm(4, groups=groups).double()
    nn.init.normal_(block.weight)
    nn.init.normal_(block.bias)
    expected = nn.GroupNorm(groups, 4).double()
    expected.load_state_dict(block.state_dict())
    x = 3 * torch.randn(3, 4, 12, dtype=torch.float64) + 5
    torch.testing.assert_close(block(x), expected(x), rtol=0, atol=1e-12)
    lengths = torch.tensor([5, 12, 2])
    batch = block(x, lengths)
    for item, length, found in zip(x, lengths.tolist(), batch):
        alone = expected(item[None, :, :length])[0]
        torch.testing.assert_close(found[:, :length], alone, rtol=0, atol=1e-12)


def test_one_value_becomes_the_bias() -> None:
    block = GroupNorm(1)
    nn.init.constant_(block.bias, 3.0)
    assert block(torch.full((1, 1, 1), 7.0)).item() == pytest.approx(3.0, abs=1e-3)
    assert block(torch.full((1, 1, 2), 7.0), torch.tensor([1]))[0, 0, 0].item() == pytest.approx(3.0)


def test_whole_recordings_only() -> None:
    block = GroupNorm(4)
    with pytest.raises(NotOfferedError, match="group normalization over time reads whole recordings"):
        block.step(torch.zeros(1, 4, 2), ())
    assert block.step(torch.zeros(1, 4, 0), (), final=True)[0].shape == (1, 4, 0)


def test_unequal_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="5 channels do not make 2 equal groups"):
        GroupNorm(5, groups=2)
