"""SimVQ: a book that a linear map moves as a whole (Zhu et al. 2024).

e_n = W f_n with a fixed random book F and a learned W: every step moves all entries, also those that win
nothing, so that none is left behind. Losses: codebook_weight * ||sg[z] - e_c||^2 +
commitment * ||z - sg[e_c]||^2, means over the valid frames and the dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.quantizers.base import Quantized, QuantizerConfig, from_rows, to_rows, valid_rows
from audiotokens.quantizers.book import BookQuantizer
from audiotokens.quantizers.gradients import Gradient, pass_gradient
from audiotokens.quantizers.regularizers import mean_square


@dataclass(frozen=True)
class SimVQConfig(QuantizerConfig):
    """Vector quantizer with a fixed random book behind a learned linear map.

    Args:
        kind: names this quantizer in a configuration.
        codebook_size: entries N.
        frozen_dim: dimensions of the fixed book; None: those of the latents.
        codebook_weight: weight of the codebook loss ||sg[z] - e_c||^2.
        commitment: weight of the commitment loss ||z - sg[e_c]||^2.
        gradient: how the gradient passes.
    """

    kind: Literal["sim-vq"] = "sim-vq"
    codebook_size: int = 1024
    frozen_dim: int | None = None
    codebook_weight: float = 1.0
    commitment: float = 0.25
    gradient: Gradient = "straight-through"

    def __post_init__(self) -> None:
        if self.codebook_size < 2:
            raise ValueError(f"codebook_size is {self.codebook_size}, expected at least 2")
        if self.frozen_dim is not None and self.frozen_dim < 1:
            raise ValueError(f"frozen_dim is {self.frozen_dim}, expected at least 1 or null")


class SimVectorQuantizer(BookQuantizer):
    """SimVQ over latents of `dim` dimensions: `frozen` `[N, F]`, a buffer, and the map `transform`."""

    config_class: ClassVar[type[QuantizerConfig]] = SimVQConfig
    label = "SimVQ"
    frozen: Tensor

    def __init__(self, dim: int, config: SimVQConfig) -> None:
        super().__init__(dim, config, size=config.codebook_size)
        self.config = config
        frozen_dim = config.frozen_dim or dim
        self.register_buffer("frozen", torch.randn(config.codebook_size, frozen_dim) * frozen_dim**-0.5)
        self.transform = nn.Linear(frozen_dim, dim, bias=False)

    @property
    def book(self) -> Tensor:
        """The entries `[N, D]` as the map makes them."""
        return self.entries()

    def entries(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return functional.linear(self.frozen.to(dtype), self.transform.weight.to(dtype))

    def embed(self, index: Tensor) -> Tensor:
        """Entries `[M, D]` of codes int64 `[M]`, with gradients to the map."""
        return functional.linear(functional.embedding(index, self.frozen), self.transform.weight)

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        batch = len(latents)
        with torch.autocast(latents.device.type, enabled=False):
            vectors = to_rows(latents.float())
            index = self.nearest(vectors)
            quantized = self.embed(index)
            restored = pass_gradient(vectors, quantized, self.config.gradient)
            if mask is not None:
                valid = valid_rows(latents, mask)
                vectors, quantized = vectors[valid], quantized[valid]
            losses = {
                "codebook": self.config.codebook_weight * mean_square(vectors.detach() - quantized),
                "commitment": self.config.commitment * mean_square(vectors - quantized.detach()),
            }
        return Quantized(latents=from_rows(restored, batch), codes=index.view(batch, 1, -1), losses=losses)
