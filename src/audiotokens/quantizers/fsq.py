"""Finite scalar quantization (Mentzer et al. 2023): each latent dimension is rounded to a few levels.

With L levels, the position p(z) = (L - 1) / 2 * (b(z) + 1) in [0, L - 1] is rounded to a digit n, half down.
- "tanh", as in the paper (appendix A.1): b(z) = (1 + 1e-3) tanh(z + s), s = atanh(o / h) with
  h = (1 + 1e-3) (L - 1) / 2 and o = 1/2 for even L, else 0; the entry is n / floor(L / 2) - 1, so that
  there is always one at 0.
- "symmetric": b(z) = tanh(z), the entry is 2 n / (L - 1) - 1.
- "clamp": the same with b(z) = min(max(z, -1), 1).
Gradients pass the rounding and are those of p. The first dimension changes fastest in the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from audiotokens.quantizers.base import Quantized, QuantizerConfig
from audiotokens.quantizers.gradients import straight_through
from audiotokens.quantizers.implicit import ImplicitQuantizer, check_book

_MARGIN = 1e-3


@dataclass(frozen=True)
class FSQConfig(QuantizerConfig):
    """Finite scalar quantizer; each book has prod(levels) implicit entries.

    Args:
        kind: names this quantizer in a configuration.
        levels: levels of each quantized dimension, each at least 2.
        num_codebooks: books K, each of len(levels) dimensions.
        bound: how values are bounded before rounding, and where the entries lie.
        depth: i for level i of a residual stack (see `ResidualFSQ`): everything is smaller by L^i, so that
            the range becomes the distance of two entries of about the level before.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (8, 5, 5, 5)
    num_codebooks: int = 1
    bound: Literal["tanh", "symmetric", "clamp"] = "tanh"
    depth: int = 0

    def __post_init__(self) -> None:
        check_book(self.levels, self.num_codebooks)
        if self.depth < 0:
            raise ValueError(f"depth is {self.depth}, expected 0 or more")


class FiniteScalarQuantizer(ImplicitQuantizer):
    """FSQ: no stored book, no losses; between linear maps unless `dim` is num_codebooks * len(levels).

    Example:
        >>> quantizer = FiniteScalarQuantizer(3, FSQConfig(levels=(8, 5, 5)))
        >>> quantizer.indices_to_vectors(torch.tensor([[[0, 199]]])).mT
        tensor([[[-1.0000, -1.0000, -1.0000],
                 [ 0.7500,  1.0000,  1.0000]]])
    """

    config_class: ClassVar[type[QuantizerConfig]] = FSQConfig
    label = "FSQ"

    def __init__(self, dim: int, config: FSQConfig) -> None:
        super().__init__(dim, config, levels=config.levels, num_codebooks=config.num_codebooks)
        self.config = config

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            position = self._position(self._project(latents.float()))
            digits = _round(position.detach())
            restored = self._restore(self._entries(straight_through(digits, position)))
            return Quantized(latents=restored, codes=self._codes(digits))

    def _digits(self, values: Tensor) -> Tensor:
        return _round(self._position(values))

    def _entries(self, digits: Tensor) -> Tensor:
        zero = self._zero(digits.dtype)
        if self.config.bound == "tanh":
            return (digits - zero) / zero * self._scale(digits.dtype)
        # A residual stack magnifies last bits by L^i: rounded as by vector-quantize-pytorch, for equal codes.
        return (digits * (1 / zero) - 1) * self._scale(digits.dtype)

    def _nearest(self, vectors: Tensor) -> Tensor:
        digits = _round((vectors / self._scale(vectors.dtype) + 1) * self._zero(vectors.dtype))
        return torch.minimum(digits.clamp(min=0), self.levels[:, None] - 1)

    def _position(self, values: Tensor) -> Tensor:
        half = (self.levels[:, None] - 1).to(values.dtype) / 2
        values = values / self._scale(values.dtype)
        if self.config.bound == "clamp":
            return torch.addcmul(half, values.clamp(-1, 1), half)
        if self.config.bound == "symmetric":
            return torch.addcmul(half, values.tanh(), half)
        wider = half * (1 + _MARGIN)
        offset = (self.levels[:, None] % 2 == 0).to(values.dtype) / 2
        return torch.addcmul(half, (values + (offset / wider).atanh()).tanh(), wider)

    def _scale(self, dtype: torch.dtype) -> Tensor | float:
        """Half of the range of values, `[d, 1]`, or 1."""
        return self.levels[:, None].to(dtype) ** -self.config.depth if self.config.depth else 1.0

    def _zero(self, dtype: torch.dtype) -> Tensor:
        """The position of the value 0, `[d, 1]`."""
        if self.config.bound == "tanh":
            return (self.levels[:, None] // 2).to(dtype)
        return (self.levels[:, None] - 1).to(dtype) / 2


def _round(position: Tensor) -> Tensor:
    """To the nearest whole number, the lower one of two."""
    return (position - 0.5).ceil()
