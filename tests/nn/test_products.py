"""A row of a product has the bits that it has in any other product."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from audiotokens.nn import products
from audiotokens.nn.products import add_product, applies, frames_product, product, rows_agree

same_rows = pytest.mark.skipif(not rows_agree(), reason="products of this machine depend on their shapes")
PARTS = [(0, 1), (3, 4), (0, 2), (1, 6), (5, 21), (0, 130), (7, 300), (0, 300)]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@same_rows
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("terms", [1, 7, 384, 385, 1500])
@pytest.mark.parametrize("columns", [1, 2, 40, 700])
def test_rows_do_not_depend_on_one_another(terms: int, columns: int) -> None:
    torch.manual_seed(0)
    rows, weight = torch.randn(300, terms), torch.randn(terms, columns)
    bias, total = torch.randn(columns), torch.randn(300, columns)
    with torch.inference_mode():
        torch.set_num_threads(1)
        made, added = product(rows, weight, bias), add_product(total.clone(), rows, weight)
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for start, end in PARTS:
                part = rows[start:end]
                assert torch.equal(product(part, weight, bias), made[start:end])
                out = torch.empty(end - start, columns)
                assert product(part, weight, bias, out=out) is out
                assert torch.equal(out, made[start:end])
                assert torch.equal(add_product(total[start:end].clone(), part, weight), added[start:end])
    torch.testing.assert_close(made, rows @ weight + bias, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(added, rows @ weight + total, rtol=1e-4, atol=1e-4)


def test_the_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = products._plain

    def other_bits(rows: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None) -> Tensor:
        found = plain(rows, weight, bias, out)
        return found.mul_(1 + 2.0**-23) if len(rows) == 17 else found

    threads = torch.get_num_threads()
    monkeypatch.setattr(products, "_plain", other_bits)
    assert not rows_agree.__wrapped__()
    assert torch.get_num_threads() == threads


def test_frames_keep_their_dimensions() -> None:
    frames, matrix, bias = torch.randn(2, 3, 5), torch.randn(5, 4), torch.randn(4)
    with torch.inference_mode():
        torch.testing.assert_close(frames_product(frames, matrix, bias), frames @ matrix + bias)
    matrix.requires_grad_()
    frames_product(frames, matrix).sum().backward()
    assert matrix.grad is not None


def test_they_are_for_inference_on_a_cpu() -> None:
    x = torch.zeros(1)
    assert not applies(x)
    with torch.no_grad():
        assert applies(x) and not applies(x.to("meta"))
