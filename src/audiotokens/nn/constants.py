"""Small tensors of fixed numbers."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def integers(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Fixed numbers as int64 `[N]`, not to be changed; copied to a device once, as a copy makes it wait."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.int64, device=device)
