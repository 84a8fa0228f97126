"""Residual quantization with implicit books: each level is finer than the one before by a fixed factor.

q = sum_i q_i, with q_i = s_i Q((z - q_0 - .. - q_(i-1)) / s_i):
- residual FSQ: Q rounds symmetric levels in [-1, 1], s_i = L^-i per dimension. Before the first level z is
  bounded to c tanh(z / c) with c = 1 + 1 / (L - 1), half a step beyond the outermost entries.
- residual LFQ: Q is the sign, s_i = 2^-i.
Both are due to vector-quantize-pytorch (P. Wang), as residual forms of Mentzer et al. 2023 and Yu et al. 2023
in the manner of Zeghidour et al. 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig, linear
from audiotokens.quantizers.fsq import FSQConfig
from audiotokens.quantizers.lfq import LFQConfig
from audiotokens.quantizers.residual import ResidualGradient, ResidualQuantizer, RVQConfig
from audiotokens.quantizers.statistics import nest


@dataclass(frozen=True)
class ResidualFSQConfig(QuantizerConfig):
    """Residual finite scalar quantizer.

    Args:
        kind: names this quantizer in a configuration.
        levels: levels of each quantized dimension, each at least 2, the same ones in every book.
        num_codebooks: books K, one per level of the residual.
        soft_clamp: whether latents are bounded before the first level.
        gradient: how gradients pass the levels, see `residual.ResidualGradient`.
    """

    kind: Literal["residual-fsq"] = "residual-fsq"
    levels: tuple[int, ...] = (8, 5, 5, 5)
    num_codebooks: int = 4
    soft_clamp: bool = True
    gradient: ResidualGradient = "sum"

    def __post_init__(self) -> None:
        FSQConfig(levels=self.levels)
        if self.num_codebooks < 1:
            raise ValueError(f"num_codebooks is {self.num_codebooks}, expected at least 1")


@dataclass(frozen=True)
class ResidualLFQConfig(QuantizerConfig):
    """Residual lookup-free quantizer.

    Args:
        kind: names this quantizer in a configuration.
        inner: quantizer of the first level; those after it have half the scale each.
        num_codebooks: books K, one per level of the residual.
        gradient: how gradients pass the levels, see `residual.ResidualGradient`.
    """

    kind: Literal["residual-lfq"] = "residual-lfq"
    inner: LFQConfig = field(default_factory=LFQConfig)
    num_codebooks: int = 4
    gradient: ResidualGradient = "sum"

    def __post_init__(self) -> None:
        if self.num_codebooks < 1 or self.inner.num_codebooks != 1:
            raise ValueError(
                f"num_codebooks is {self.num_codebooks}, expected at least 1, and that of inner is "
                f"{self.inner.num_codebooks}, expected 1: each level has one book"
            )


class ResidualScalarQuantizer(Quantizer):
    """Base of both: one pair of linear maps around all levels, unless `dim` is what they quantize already.

    Args:
        dim: dimensions D of the latents.
        config: of the class's own `config_class`.
        inner_dim: dimensions that the levels quantize.
        residual: the levels.
    """

    def __init__(self, dim: int, config: QuantizerConfig, *, inner_dim: int, residual: RVQConfig) -> None:
        super().__init__(dim, config)
        self.project_in = nn.Linear(dim, inner_dim) if inner_dim != dim else None
        self.residual = ResidualQuantizer(inner_dim, residual)
        self.project_out = nn.Linear(inner_dim, dim) if inner_dim != dim else None

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.residual.codebook_sizes

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        return self.residual.legal_prefixes

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            values = self._bound(linear(self.project_in, latents.float()))
            inner: Quantized = self.residual(values, num_codebooks=num_codebooks, mask=mask)
            restored = linear(self.project_out, inner.latents)
        return replace(inner, latents=restored, statistics=nest(inner.statistics, "residual"))

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        """Return the codes int64 `[B, K, T]`; everything runs in float64."""
        with torch.autocast(latents.device.type, enabled=False):
            values = self._bound(linear(self.project_in, latents.double()))
            return self.residual.encode(values, num_codebooks=num_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        decoded = self.residual.decode(codes)
        return linear(self.project_out, decoded.double()).to(decoded.dtype)

    def _bound(self, values: Tensor) -> Tensor:
        """What is done to projected latents `[B, d, T]` before the first level."""
        return values


class ResidualFSQ(ResidualScalarQuantizer):
    """Residual FSQ: no stored book, no losses; any number of books from the first on decodes.

    Example:
        >>> quantizer = ResidualFSQ(2, ResidualFSQConfig(levels=(5, 5), num_codebooks=2))
        >>> latents = torch.tensor([[[0.3], [-0.6]]])
        >>> quantizer.decode(quantizer.encode(latents)).flatten().tolist()
        [0.30000001192092896, -0.6000000238418579]
    """

    config_class: ClassVar[type[QuantizerConfig]] = ResidualFSQConfig
    label = "residual FSQ"
    levels: Tensor

    def __init__(self, dim: int, config: ResidualFSQConfig) -> None:
        inner = FSQConfig(levels=config.levels, bound="clamp")
        residual = RVQConfig(
            num_codebooks=config.num_codebooks,
            inner=tuple(replace(inner, depth=level) for level in range(config.num_codebooks)),
            gradient=config.gradient,
            commitment=0.0,
        )
        super().__init__(dim, config, inner_dim=len(config.levels), residual=residual)
        self.config = config
        self.register_buffer("levels", torch.tensor(config.levels)[:, None], persistent=False)

    def _bound(self, values: Tensor) -> Tensor:
        if not self.config.soft_clamp:
            return values
        clamp = 1 + 1 / (self.levels - 1).to(values.dtype)
        return (values / clamp).tanh() * clamp


class ResidualLFQ(ResidualScalarQuantizer):
    """Residual LFQ: no stored book; the losses of its levels, added; any number of books decodes.

    Example:
        >>> quantizer = ResidualLFQ(2, ResidualLFQConfig(inner=LFQConfig(bits=2), num_codebooks=3))
        >>> quantizer.decode(quantizer.encode(torch.tensor([[[0.3], [-1.2]]]))).flatten().tolist()
        [0.25, -1.25]
    """

    config_class: ClassVar[type[QuantizerConfig]] = ResidualLFQConfig
    label = "residual LFQ"

    def __init__(self, dim: int, config: ResidualLFQConfig) -> None:
        inner = config.inner
        levels = (replace(inner, scale=inner.scale / 2**level) for level in range(config.num_codebooks))
        residual = RVQConfig(
            num_codebooks=config.num_codebooks,
            inner=tuple(levels),
            gradient=config.gradient,
            commitment=0.0,
        )
        super().__init__(dim, config, inner_dim=inner.bits, residual=residual)
        self.config = config
