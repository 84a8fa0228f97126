"""Stored weights: what is rounded, how much, and that packing again changes nothing."""

from __future__ import annotations

import pytest
import torch

from audiotokens.nn.storage import pack_tensors, unpack_tensors


def tensors() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(64, 128, generator=random) * torch.logspace(-12, 3, 64)[:, None]
    matrix[3] = 0
    books = torch.randn(2, 32, 96, generator=random)
    return {"matrix": matrix, "books": books, "bias": torch.randn(5000), "count": torch.arange(3)}


def test_sixteen_bits_are_float16() -> None:
    given = tensors()
    packed = pack_tensors(given, 16)
    assert set(packed) == set(given)
    assert {packed[name].dtype for name in ("matrix", "books", "bias")} == {torch.float16}


def test_eight_bits_round_each_row_by_at_most_half_a_step() -> None:
    given = tensors()
    packed = pack_tensors(given, 8)
    assert packed["matrix"].dtype == packed["books"].dtype == torch.int8
    assert packed["bias"].dtype == torch.float16 and packed["books.scale"].shape == (2, 32)
    again = unpack_tensors(packed)
    assert set(again) == set(given)
    for name in ("matrix", "books"):
        step = given[name].abs().amax(-1, keepdim=True) / 127
        assert ((again[name] - given[name]).abs() <= 0.76 * step + 1e-30).all()
    assert torch.equal(again["count"], given["count"])


def test_packing_again_changes_nothing() -> None:
    for bits in (8, 16):
        packed = pack_tensors(tensors(), bits)
        once = unpack_tensors(packed)
        twice = pack_tensors(once, bits)
        assert all(torch.equal(packed[name], twice[name]) for name in packed)
        assert all(torch.equal(once[name], tensor) for name, tensor in unpack_tensors(twice).items())


def test_what_float16_cannot_hold_is_stored_in_float32() -> None:
    # The scale of trained latents is free, and so is that of their books.
    tensors = {"book": torch.tensor([[70000.0, 1.0]]), "small": torch.tensor([1.5])}
    packed = pack_tensors(tensors, 16)
    assert packed["book"].dtype == torch.float32 and packed["small"].dtype == torch.float16
    assert torch.equal(unpack_tensors(packed)["book"], tensors["book"])


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_weights_that_are_no_numbers_are_not_stored(value: float) -> None:
    with pytest.raises(ValueError, match="book has values that are infinite or no numbers"):
        pack_tensors({"book": torch.tensor([1.0, value])}, 8)
