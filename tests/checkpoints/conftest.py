"""Fixtures of the tests of imports: a family of the tests, registered, and a checkpoint of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from audiotokens import registry

if TYPE_CHECKING:
    from toy_codec import ToyCodec


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyCodec:
    """A codec of the variant "toy-8k", whose family is registered as "toy"."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    import toy_codec

    monkeypatch.setitem(registry.architectures, "toy", "toy_codec:ToyCodec")
    torch.manual_seed(0)
    return toy_codec.ToyCodec(toy_codec.VARIANTS["toy-8k"]).eval()


@pytest.fixture
def stored(toy: ToyCodec) -> dict[str, Tensor]:
    """Its tensors under the keys of the original."""
    from toy_codec import original

    return original(toy)
