"""Snake: its equation, its gradients, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch

from audiotokens.nn.snake import Snake

X = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))


def snake(dtype: torch.dtype = torch.float32) -> Snake:
    block = Snake(3)
    block.alpha.data = torch.tensor([0.3, 1.0, -2.5]).view(1, 3, 1)
    return block.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_equation(dtype: torch.dtype) -> None:
    block, x = snake(dtype), X.to(dtype)
    expected = x + torch.sin(block.alpha * x) ** 2 / (block.alpha + 1e-9)
    for layout in (x, x.mT.contiguous().mT):
        before = layout.clone()
        with torch.inference_mode():
            found = block(layout)
        assert found.dtype == dtype and torch.equal(layout, before)
        torch.testing.assert_close(found, expected.detach())
        torch.testing.assert_close(block(layout), expected)


def test_gradients() -> None:
    block = snake(torch.float64)
    x = X.double().requires_grad_()

    def mapped(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(block, {"alpha": alpha}, (x,))
        return result

    assert torch.autograd.gradcheck(mapped, (x[:1, :, :5], block.alpha))


def test_an_alpha_of_zero_is_the_identity() -> None:
    block = Snake(3)
    block.alpha.data.zero_()
    with torch.inference_mode():
        assert torch.equal(block(X), X)


def test_an_empty_piece() -> None:
    with torch.inference_mode():
        assert snake().step(X[..., :0], ())[0].shape == (2, 3, 0)
