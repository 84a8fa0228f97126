"""Which cure exact mode takes, and that float64 holds where float32 cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_codecs import tiny

from audiotokens.nn import exact
from audiotokens.verify import format_verification, verify


@pytest.fixture
def codec() -> Any:
    model = tiny("soundstream tiny")
    yield model
    model.make_exact()


def test_float64_stands_in_where_products_depend_on_shapes(
    codec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "rows_agree", lambda: False)
    assert codec.make_exact().sample.dtype == torch.float64
    assert codec.make_exact(False).sample.dtype == torch.float32
    assert codec.make_exact("arbitrated").sample.dtype == torch.float32
    found = verify(codec.make_exact(), promises=["I1", "I3", "I4", "I5"])
    assert found.ok, format_verification(found)


@pytest.mark.skipif(not exact.rows_agree(), reason="products of this machine depend on their shapes")
def test_float32_is_enough_where_they_do_not(codec: Any) -> None:
    assert codec.make_exact().sample.dtype == torch.float32
    assert codec.make_exact("float64").sample.dtype == torch.float64


def test_memory_that_runs_through_a_library_is_for_fast_mode_only() -> None:
    model = tiny("encodec tiny")
    lstms = [module for module in model.modules() if hasattr(module, "lstm")]
    try:
        assert lstms and all(module.same_bits for module in lstms)
        model.make_exact(False)
        assert not any(module.same_bits for module in lstms)
    finally:
        model.make_exact()
