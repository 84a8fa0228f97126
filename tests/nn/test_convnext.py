"""ConvNeXt blocks, layer normalization under a condition, and residual blocks that read whole recordings."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.errors import NotOfferedError
from audiotokens.nn.block import Block, Residual, Sequential
from audiotokens.nn.convnext import AdaLayerNorm, convnext_block, under_condition
from audiotokens.nn.layers import LayerNorm
from audiotokens.nn.resnet import FullAttention, attention_block, group_norm, resnet_block


def shaken(block: Block) -> Block:
    torch.manual_seed(0)
    for parameter in block.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return block.double().eval()


def members(residual: Block) -> list[Any]:
    return list(residual.block.blocks)  # type: ignore[union-attr, arg-type]


def in_pieces(block: Block, x: Tensor, cuts: list[int]) -> Tensor:
    state = block.initial_state(len(x), like=x)
    edges = [0, *sorted(cuts), x.shape[2]]
    parts = []
    for index, (start, end) in enumerate(zip(edges, edges[1:])):
        y, state = block.step(x[..., start:end], state, final=index == len(edges) - 2)
        parts.append(y)
    return torch.cat(parts, 2)


@pytest.mark.parametrize("conditions", [0, 3])
@pytest.mark.parametrize("scale", [0.25, -1.0])
@torch.no_grad()
def test_a_convnext_block_is_its_equation(conditions: int, scale: float) -> None:
    block = shaken(convnext_block(6, 10, scale=scale, conditions=conditions, condition=conditions - 1))
    x = torch.randn(2, 6, 20, dtype=torch.float64)
    depthwise, norm, first, _, second, *layer_scale = members(block)
    y = functional.conv1d(x, depthwise.taps.T[:, None], depthwise.bias, padding=3, groups=6).mT
    weight, bias = (norm.scale[2], norm.shift[2]) if conditions else (norm.weight, norm.bias)
    y = functional.layer_norm(y, (6,), weight, bias, 1e-6)
    y = functional.gelu(y @ first.linear.weight.T + first.linear.bias) @ second.linear.weight.T
    y = (y + second.linear.bias) * (layer_scale[0].scale if layer_scale else 1)
    torch.testing.assert_close(block(x), x + y.mT)
    assert bool(layer_scale) == (scale > 0)


@torch.no_grad()
def test_any_chunking_gives_one_pass() -> None:
    block, draw = shaken(Sequential(*(convnext_block(5, 7, scale=0.5) for _ in range(3)))), random.Random(1)
    for _ in range(20):
        length = draw.randint(1, 40)
        x = torch.randn(2, 5, length, dtype=torch.float64)
        cuts = [draw.randint(0, length) for _ in range(draw.randint(0, 6))]
        torch.testing.assert_close(in_pieces(block, x, cuts), block(x), rtol=0, atol=1e-12)
    assert (block.reach.past, block.reach.future) == (9, 9)


@torch.no_grad()
def test_a_net_under_a_condition_shares_its_tensors() -> None:
    net = shaken(Sequential(AdaLayerNorm(4, 3), convnext_block(4, 6, scale=1.0, conditions=3), LayerNorm(4)))
    x = torch.randn(1, 4, 9, dtype=torch.float64)
    twins = [under_condition(net, condition) for condition in range(3)]
    assert torch.equal(twins[0](x), net(x))
    assert not torch.allclose(twins[1](x), twins[2](x))
    assert [p.data_ptr() for p in twins[2].parameters()] == [p.data_ptr() for p in net.parameters()]
    outputs = [twin(x) for twin in twins]
    net.float()
    for twin, output in zip(twins, outputs):
        torch.testing.assert_close(twin(x.float()), output.float(), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_residual_and_attention_blocks_are_their_equations() -> None:
    x = torch.randn(2, 32, 11, dtype=torch.float64)
    block = shaken(resnet_block(32))
    norm1, _, conv1, norm2, _, conv2 = members(block)
    y = x
    for norm, conv in ((norm1, conv1), (norm2, conv2)):
        y = functional.silu(functional.group_norm(y, 32, norm.weight, norm.bias, 1e-6))
        y = functional.conv1d(y, conv.conv.weight, conv.conv.bias, padding=1)
    torch.testing.assert_close(block(x), x + y)

    block = shaken(attention_block(32))
    norm, attention = members(block)
    rows = functional.group_norm(x, 32, norm.weight, norm.bias, 1e-6).mT
    query, key, value = (layer(rows) for layer in (attention.query, attention.key, attention.value))
    weights = (query @ key.mT / math.sqrt(32)).softmax(2)
    torch.testing.assert_close(block(x), x + attention.output(weights @ value).mT)


@torch.no_grad()
def test_blocks_over_all_frames_leave_padding_out() -> None:
    net = shaken(Sequential(resnet_block(32), attention_block(32), resnet_block(32), group_norm(32)))
    lengths = torch.tensor([13, 20, 1, 7])
    x = torch.randn(4, 32, 20, dtype=torch.float64)
    batch = net(x, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone = net(x[item : item + 1, :, :length])
        torch.testing.assert_close(batch[item : item + 1, :, :length], alone, rtol=0, atol=1e-10)


@torch.no_grad()
def test_blocks_over_all_frames_take_no_pieces() -> None:
    net = Residual(FullAttention(4))
    assert net.unbounded == "attention over all frames"
    assert net(torch.zeros(1, 4, 0)).shape == (1, 4, 0)
    with pytest.raises(NotOfferedError, match="attention over all frames reads whole recordings"):
        net.step(torch.zeros(1, 4, 3), net.initial_state(1, like=torch.zeros(0)))
