"""Projected quantization: search in a space of other (mostly far fewer) dimensions than the latents have.

q = W_out Q(W_in z + b_in) + b_out, with any quantizer Q in between (Yu et al. 2021, "Vector-quantized image
modeling with improved VQGAN", section 3.2: factorized codes; Kumar et al. 2023, DAC).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig, gain, linear, linear_rows
from audiotokens.quantizers.registry import build_quantizer
from audiotokens.quantizers.statistics import nest


@dataclass(frozen=True)
class ProjectedConfig(QuantizerConfig):
    """A quantizer between two linear maps.

    Args:
        kind: names this quantizer in a configuration.
        inner: the quantizer between them.
        inner_dim: dimensions that it quantizes.
        bias: whether the maps have biases.
    """

    kind: Literal["projected"] = "projected"
    inner: QuantizerConfig = field(kw_only=True)
    inner_dim: int = 8
    bias: bool = True

    def __post_init__(self) -> None:
        if self.inner_dim < 1:
            raise ValueError(f"inner_dim is {self.inner_dim}, expected at least 1")


class ProjectedQuantizer(Quantizer):
    """Any quantizer between linear maps `project_in` and `project_out`.

    Both maps learn from the gradients of the quantized latents, and `project_in` from the losses of the
    inner quantizer too. Prefixes, codes and losses are those of the inner quantizer.

    Example:
        >>> from audiotokens.quantizers import FSQConfig
        >>> quantizer = ProjectedQuantizer(64, ProjectedConfig(inner=FSQConfig(), inner_dim=8))
        >>> quantizer.encode(torch.zeros(1, 64, 5)).shape
        torch.Size([1, 1, 5])
    """

    config_class: ClassVar[type[QuantizerConfig]] = ProjectedConfig
    label = "projected"

    def __init__(self, dim: int, config: ProjectedConfig) -> None:
        super().__init__(dim, config)
        self.config = config
        self.project_in = nn.Linear(dim, config.inner_dim, bias=config.bias)
        self.inner = build_quantizer(config.inner, config.inner_dim)
        self.project_out = nn.Linear(config.inner_dim, dim, bias=config.bias)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.inner.codebook_sizes

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        return self.inner.legal_prefixes

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            inner: Quantized = self.inner(
                linear(self.project_in, latents.float()), num_codebooks=num_codebooks, mask=mask
            )
            restored = linear(self.project_out, inner.latents)
        return replace(inner, latents=restored, statistics=nest(inner.statistics, "inner"))

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        """Return the codes int64 `[B, K, T]`.

        The projection runs in float64 and is rounded to float32, so that its last bits, which depend on the
        shape of the batch, decide nothing.
        """
        return self.inner.encode(
            linear(self.project_in, latents.double()).float(), num_codebooks=num_codebooks
        )

    @torch.no_grad()
    def margins(self, latents: Tensor, codes: Tensor) -> Tensor:
        projected = linear(self.project_in, latents.double()).float()
        return self.inner.margins(projected, codes) / gain(self.project_in)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the latents `[B, D, T]`; the projection runs in float64 here too."""
        inner = self.inner.decode(codes)
        return linear(self.project_out, inner.double()).to(inner.dtype)

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Initialize the inner quantizer from the projections of sample latents `[N, D]`."""
        self.inner.initialize(linear_rows(self.project_in, latents.float()), generator=generator)
