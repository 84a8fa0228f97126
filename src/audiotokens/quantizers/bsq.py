"""Binary spherical quantization (Zhao et al. 2024): the corner of a cube nearest on the sphere.

u = z / ||z||, q_i = sign(u_i) / sqrt(d), so that ||q|| = 1 and the error of u is bounded (section 4.2). The
soft assignment of the entropy loss is p(c|u) ~ exp(-tau ||u - c||^2) ~ exp(2 tau u . c), a product over bits
(where their tau is twice ours). The paper replaces the entropy of the batch's mean by the sum of the
bits' own entropies, H(mean p) <= sum_i H(mean p_i) (the best
factorized approximation): that is `joint_bits` = 1, the default;
more bits together make the bound tighter, None makes it exact. All else is lookup-free quantization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from audiotokens.quantizers.base import QuantizerConfig
from audiotokens.quantizers.lfq import BinaryConfig, BinaryQuantizer


@dataclass(frozen=True)
class BSQConfig(BinaryConfig):
    """Binary spherical quantizer: the fields of `BinaryConfig`, without commitment by default.

    Args:
        kind: names this quantizer in a configuration.
        bits: dimensions d of each book, which has 2^d entries.
        commitment: weight of the mean of (u - q)^2.
        joint_bits: 1 for the paper's bound.
    """

    kind: Literal["bsq"] = "bsq"
    bits: int = 13
    commitment: float = 0.0
    joint_bits: int | None = 1


class BinarySphericalQuantizer(BinaryQuantizer):
    """BSQ: no stored book; each book's latents are normalized on their own; loss "entropy" in training.

    Latents of zero stay zero, and have the code 0.

    Example:
        >>> import torch
        >>> quantizer = BinarySphericalQuantizer(4, BSQConfig(bits=4))
        >>> quantizer.decode(torch.tensor([[[9]]]))[0, :, 0]
        tensor([ 0.5000, -0.5000, -0.5000,  0.5000])
    """

    config_class: ClassVar[type[QuantizerConfig]] = BSQConfig
    label = "BSQ"

    def __init__(self, dim: int, config: BSQConfig) -> None:
        super().__init__(dim, config, scale=config.bits**-0.5)

    def _normalize(self, values: Tensor) -> Tensor:
        return functional.normalize(values, dim=2)
