"""LSTM in chunks, both directions by item."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from audiotokens.errors import NotOfferedError
from audiotokens.nn.recurrent import LSTM, BiLSTM


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 5, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def reference(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Gates in the order i, f, g, o; one cell after another."""
    y = x.mT
    for layer in range(lstm.num_layers):
        weights = [getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh")]
        biases = [getattr(lstm, f"{name}_l{layer}") for name in ("bias_ih", "bias_hh")]
        h = c = torch.zeros(len(y), lstm.hidden_size, dtype=y.dtype)
        outputs = []
        for frame in y.unbind(1):
            i, f, g, o = (frame @ weights[0].T + h @ weights[1].T + biases[0] + biases[1]).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        y = torch.stack(outputs, 1)
    return y.mT


def test_equations(x: Tensor) -> None:
    block = LSTM(5, 2).double()
    close(block(x), reference(block.lstm, x) + x)
    assert block.reach.past == math.inf
    plain = LSTM(5, 1, skip=False).double()
    close(plain(x), reference(plain.lstm, x))


def test_chunks_give_the_whole(x: Tensor) -> None:
    block = LSTM(5, 2).double()
    state, parts = block.initial_state(3, like=x), []
    for piece in torch.split(x, [0, 1, 7, 0, 12], 2):
        part, state = block.step(piece, state)
        parts.append(part)
    close(torch.cat(parts, 2), block(x))
    assert [tuple(part.shape) for part in state] == [(3, 2, 5), (3, 2, 5)]


def test_both_directions(x: Tensor) -> None:
    block = BiLSTM(5, 1).double()
    forward, backward = LSTM(5, 1).double(), LSTM(5, 1).double()
    for name, tensor in block.lstm.state_dict().items():
        side = backward if name.endswith("_reverse") else forward
        side.lstm.state_dict()[name.removesuffix("_reverse")].copy_(tensor)
    close(block(x), torch.cat([forward(x), backward(x.flip(2)).flip(2)], 1))


def test_items_of_a_padded_batch_are_as_alone(x: Tensor) -> None:
    for block in (LSTM(5, 2).double(), BiLSTM(5, 2).double()):
        lengths = torch.tensor([3, 20, 1])
        batch = block(x, lengths)
        for item, length, found in zip(x, lengths.tolist(), batch):
            close(found[:, :length], block(item[None, :, :length])[0])


def test_both_directions_take_whole_recordings_only(x: Tensor) -> None:
    block = BiLSTM(5, 1).double()
    assert block.unbounded == "a bidirectional LSTM"
    with pytest.raises(NotOfferedError, match="a bidirectional LSTM reads whole recordings"):
        block.step(x, ())
    close(block.step(x, (), final=True)[0], block(x))
    assert block(x[..., :0]).shape == (3, 10, 0)
