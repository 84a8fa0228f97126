"""Latent quantization (Hsu et al. 2023, section 3): each dimension takes one of a few learned values.

q_i = argmin_{v in V_i} |z_i - v|, the lower index in a tie. Values learn from L_quantize =
mean (sg[z] - q)^2, the encoder from L_commit = mean (z - sg[q])^2; elsewhere gradients of q go to
z unchanged. The first dimension changes fastest in the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from audiotokens.quantizers.base import Quantized, QuantizerConfig
from audiotokens.quantizers.implicit import ImplicitQuantizer, check_book, frames_mean


@dataclass(frozen=True)
class LatentConfig(QuantizerConfig):
    """Latent quantizer; each book has prod(levels) entries, made of sum(levels) learned values.

    Args:
        kind: names this quantizer in a configuration.
        levels: values per dimension, each at least 2.
        num_codebooks: books K, which share the values.
        commitment: weight of L_commit, which trains the encoder.
        codebook: weight of L_quantize, which trains the values.
        outer_losses: whether both compare what goes into `project_in` with what comes out of `project_out`,
            as vector-quantize-pytorch does (it has the two weights' names the other way round).
    """

    kind: Literal["latent"] = "latent"
    levels: tuple[int, ...] = (5, 5, 8)
    num_codebooks: int = 1
    commitment: float = 0.1
    codebook: float = 0.1
    outer_losses: bool = False

    def __post_init__(self) -> None:
        check_book(self.levels, self.num_codebooks)


class LatentQuantizer(ImplicitQuantizer):
    """Latent quantizer; between linear maps unless `dim` is num_codebooks * len(levels).

    Its values begin evenly spaced from -1/2: to 1/2 for odd numbers of them, with one at 0 for any number.
    Losses "commitment" and "codebook" in training.

    Example:
        >>> quantizer = LatentQuantizer(2, LatentConfig(levels=(3, 4)))
        >>> [values.tolist() for values in quantizer.values_per_latent]
        [[-0.5, 0.0, 0.5], [-0.5, -0.25, 0.0, 0.25]]
    """

    config_class: ClassVar[type[QuantizerConfig]] = LatentConfig
    label = "latent quantization"

    def __init__(self, dim: int, config: LatentConfig) -> None:
        super().__init__(dim, config, levels=config.levels, num_codebooks=config.num_codebooks)
        self.config = config
        self.values_per_latent = nn.ParameterList(
            torch.arange(count) / (count // 2 * 2) - 0.5 for count in config.levels
        )

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            values = self._project(latents)
            digits = self._digits(values.detach())
            quantized = self._entries(digits)
            identity = values - values.detach()
            restored = self._restore(quantized.detach() + identity)
            losses = {}
            if self.training and self.config.outer_losses:
                outer = latents[:, None], self._restore(quantized + identity)[:, None]
                losses = self._losses(*outer, mask)
            elif self.training:
                losses = self._losses(values, quantized, mask)
            return Quantized(latents=restored, codes=self._codes(digits), losses=losses)

    def _digits(self, values: Tensor) -> Tensor:
        # Of equal numbers min gives the first, like argmin, at an eighth of the price.
        digits = [
            (values[:, :, i, None] - of_dimension.to(values.dtype)[:, None]).abs().min(2).indices
            for i, of_dimension in enumerate(self.values_per_latent)
        ]
        return torch.stack(digits, 2).to(values.dtype)

    def _entries(self, digits: Tensor) -> Tensor:
        index = digits.long()
        return torch.stack([values[index[:, :, i]] for i, values in enumerate(self.values_per_latent)], 2)

    def _losses(self, values: Tensor, quantized: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        commitment = frames_mean((values - quantized.detach()).square(), mask)
        codebook = frames_mean((values.detach() - quantized).square(), mask)
        return {
            "commitment": self.config.commitment * commitment,
            "codebook": self.config.codebook * codebook,
        }
