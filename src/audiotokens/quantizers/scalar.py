"""Scalar quantization (Yang et al. 2024, SQ-Codec): every latent dimension is rounded on its own.

h = round(S tanh(z)) / S, half rounded down: 2 S + 1 values from -1 to 1, code round(S tanh(z)) + S. This is
finite scalar quantization, symmetric and with odd levels, of every dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from audiotokens.quantizers.base import QuantizerConfig
from audiotokens.quantizers.fsq import FiniteScalarQuantizer, FSQConfig


@dataclass(frozen=True)
class ScalarConfig(QuantizerConfig):
    """Scalar quantizer.

    Args:
        kind: names this quantizer in a configuration.
        steps: S, the values on either side of zero; 9 in SQ-Codec.
        dims_per_codebook: neighbouring dimensions n that one code stands for, the first changing fastest: K =
            D / n books of (2 S + 1)^n entries. 1 stores each dimension as a code of its own.
    """

    kind: Literal["scalar"] = "scalar"
    steps: int = 9
    dims_per_codebook: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.dims_per_codebook < 1:
            raise ValueError(
                f"steps is {self.steps} and dims_per_codebook {self.dims_per_codebook}, expected 1 or more"
            )


class ScalarQuantizer(FiniteScalarQuantizer):
    """Scalar quantizer of all `dim` dimensions: no stored book, no maps, no losses.

    Raises:
        ValueError: `dim` is not a multiple of dims_per_codebook.

    Example:
        >>> import torch
        >>> quantizer = ScalarQuantizer(2, ScalarConfig(steps=9))
        >>> quantizer.encode(torch.tensor([[[0.0], [-8.0]]])).tolist(), quantizer.codebook_sizes
        ([[[9], [0]]], (19, 19))
    """

    config_class: ClassVar[type[QuantizerConfig]] = ScalarConfig
    label = "SQ"

    def __init__(self, dim: int, config: ScalarConfig) -> None:
        books, rest = divmod(dim, config.dims_per_codebook)
        if rest:
            raise ValueError(
                f"dims_per_codebook is {config.dims_per_codebook}, expected a divisor of the {dim} dimensions"
            )
        levels = (2 * config.steps + 1,) * config.dims_per_codebook
        super().__init__(dim, FSQConfig(levels=levels, num_codebooks=books, bound="symmetric"))
