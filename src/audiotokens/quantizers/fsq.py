"""Finite scalar quantization (Mentzer et al. 2023): each latent dimension is rounded to a few levels.

With L levels, h = (L - 1) / 2 and o = 1/2 for even L (else 0), z is bounded to b(z) = h' tanh(z + s) - o with
h' = h (1 + 1e-3) and s = atanh(o / h'), rounded, and divided by floor(L / 2). The code of a vector is the
mixed-radix number of its level indices, the first dimension changing fastest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig


@dataclass(frozen=True)
class FSQConfig(QuantizerConfig):
    """Finite scalar quantizer with one implicit book of prod(levels) entries.

    Args:
        kind: names this quantizer in a configuration.
        levels: levels of each quantized dimension, each at least 2.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"levels are {self.levels}, expected at least one number, each 2 or more")


class FiniteScalarQuantizer(Quantizer):
    """FSQ between two linear maps, from `dim` dimensions to one per level list entry and back."""

    config_class: ClassVar[type[QuantizerConfig]] = FSQConfig
    label = "FSQ"
    levels: Tensor
    radix: Tensor

    def __init__(self, dim: int, config: FSQConfig) -> None:
        super().__init__(dim, config)
        self.config = config
        levels = torch.tensor(config.levels)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("radix", torch.cumprod(levels, 0) // levels, persistent=False)
        self.project_in = nn.Linear(dim, len(levels))
        self.project_out = nn.Linear(len(levels), dim)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (math.prod(self.config.levels),)

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self.bound(self._project(latents.float()))
            rounded = bounded + (bounded.round() - bounded).detach()
            restored = self.project_out(rounded / (self.levels // 2)).mT
        return Quantized(latents=restored, codes=self.level_codes(rounded.detach().round())[:, None])

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        """Return the codes int64 `[B, 1, T]`; the projection and the rounding run in float64."""
        return self.level_codes(self.bound(self._project(latents.double())).round())[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        index = codes[:, 0, :, None] // self.radix % self.levels
        values = (index - self.levels // 2).to(self.project_out.weight.dtype) / (self.levels // 2)
        result: Tensor = self.project_out(values)
        return result.mT

    def bound(self, values: Tensor) -> Tensor:
        """Bound `[..., D]` so that rounding gives the integers -floor(L / 2) to floor((L - 1) / 2)."""
        half = (self.levels - 1).to(values.dtype) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0).to(values.dtype)
        return (values + (offset / half).atanh()).tanh() * half - offset

    def level_codes(self, rounded: Tensor) -> Tensor:
        """Return the codes `[...]` of rounded values `[..., D]`."""
        return ((rounded.long() + self.levels // 2) * self.radix).sum(-1)

    def _project(self, latents: Tensor) -> Tensor:
        weight, bias = self.project_in.weight, self.project_in.bias
        return nn.functional.linear(latents.mT, weight.to(latents.dtype), bias.to(latents.dtype))
