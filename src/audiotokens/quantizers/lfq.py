"""Lookup-free quantization (Yu et al. 2023, MAGVIT-v2, section 3.1): the signs of the latents are the code.

q_i = s sign(z_i) with sign(0) = -1; the index is sum_i [z_i > 0] 2^(d-i), so the first dimension is the most
significant bit. In training the loss L = mean_t H(p(.|z_t)) - gamma H(mean_t p(.|z_t))
asks for sure decisions and a book that is used evenly, with the soft assignment

    p(c|z) ~ exp(-tau ||z - c||^2) = prod_i sigmoid(4 tau z_i c_i).

Bits are independent given z, so the first entropy is a sum over bits; the second is that of a table of all
2^d entries, mean_t prod_i p(c_i|z_t), which is a product of two matrices when the bits are cut in two halves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from audiotokens.quantizers.base import Quantized, QuantizerConfig
from audiotokens.quantizers.gradients import straight_through
from audiotokens.quantizers.implicit import ImplicitQuantizer, check_book, frames_mean

_MOST_BITS = 53
_MOST_JOINT_BITS = 24
# Numbers per piece of the batch, so that memory does not grow with its length times the size of the table.
_PIECE = 1 << 22


@dataclass(frozen=True)
class BinaryConfig(QuantizerConfig):
    """What the quantizers of signs have in common.

    Args:
        kind: names the quantizer in a configuration.
        bits: dimensions d of each book, which has 2^d entries.
        num_codebooks: books K.
        commitment: weight of the mean of (z - q)^2.
        entropy: weight of the entropy loss.
        diversity: weight gamma of the entropy over the batch within the entropy loss.
        inverse_temperature: tau of the soft assignment.
        joint_bits: neighbouring bits whose joint distribution over the batch is kept; the entropies of such
            groups are added up, which is never below the entropy of all bits together, and equal where there
            is one group only (None).
        floor: a probability below this counts as this in the logarithm of both entropies, and time then
            grows with frames times 2^joint_bits; vector-quantize-pytorch has 1e-5.
    """

    bits: int = 10
    num_codebooks: int = 1
    commitment: float = 0.25
    entropy: float = 0.1
    diversity: float = 1.0
    inverse_temperature: float = 100.0
    joint_bits: int | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= _MOST_BITS:
            raise ValueError(f"bits is {self.bits}, expected 1 to {_MOST_BITS}; use more num_codebooks")
        check_book((2,) * self.bits, self.num_codebooks)
        joint = self.bits if self.joint_bits is None else self.joint_bits
        if self.entropy and not 1 <= joint <= _MOST_JOINT_BITS:
            raise ValueError(
                f"the joint distribution of {joint} bits is asked for, expected 1 to {_MOST_JOINT_BITS}: "
                f"set joint_bits"
            )
        if self.inverse_temperature <= 0:
            raise ValueError(f"inverse_temperature is {self.inverse_temperature}, expected more than 0")


@dataclass(frozen=True)
class LFQConfig(BinaryConfig):
    """Lookup-free quantizer: the fields of `BinaryConfig`, and where the entries lie.

    Args:
        kind: names this quantizer in a configuration.
        scale: the entries are at plus and minus this.
    """

    kind: Literal["lfq"] = "lfq"
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0:
            raise ValueError(f"scale is {self.scale}, expected more than 0")


class BinaryQuantizer(ImplicitQuantizer):
    """Base of the quantizers of signs; between linear maps unless `dim` is num_codebooks * bits.

    The losses are those of training, and their entropy over the batch is over the part of the batch that one
    process sees.

    Args:
        dim: dimensions D of the latents.
        config: of the class's own `config_class`.
        scale: the entries are at plus and minus this.
    """

    def __init__(self, dim: int, config: BinaryConfig, *, scale: float) -> None:
        levels = (2,) * config.bits
        super().__init__(dim, config, levels=levels, num_codebooks=config.num_codebooks, first_least=False)
        self.config = config
        self.scale = scale

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            values = self._project(latents.float())
            digits = self._digits(values.detach())
            values = self._normalize(values)
            quantized = self._entries(digits)
            return Quantized(
                latents=self._restore(straight_through(quantized, values)),
                codes=self._codes(digits),
                losses=self._losses(values, quantized, mask) if self.training else {},
            )

    def _normalize(self, values: Tensor) -> Tensor:
        """What is done to projected latents `[B, K, d, T]` before the signs are taken; must keep them."""
        return values

    def _digits(self, values: Tensor) -> Tensor:
        return (values > 0).to(values.dtype)

    def _entries(self, digits: Tensor) -> Tensor:
        return (2 * digits - 1) * self.scale

    def _losses(self, values: Tensor, quantized: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        config, losses = self.config, {}
        if config.commitment:
            losses["commitment"] = config.commitment * frames_mean((values - quantized).square(), mask)
        if config.entropy:
            logits = (4 * config.inverse_temperature * self.scale * values).permute(1, 0, 3, 2).flatten(1, 2)
            sure, even = binary_entropies(
                logits,
                None if mask is None else mask.flatten(),
                joint_bits=config.joint_bits or config.bits,
                floor=config.floor,
            )
            losses["entropy"] = config.entropy * (sure - config.diversity * even).mean()
        return losses


class LookupFreeQuantizer(BinaryQuantizer):
    """LFQ: no stored book; losses "commitment" and "entropy" in training.

    Example:
        >>> quantizer = LookupFreeQuantizer(3, LFQConfig(bits=3))
        >>> quantizer.encode(torch.tensor([[[0.3], [-2.0], [0.1]]]))
        tensor([[[5]]])
    """

    config_class: ClassVar[type[QuantizerConfig]] = LFQConfig
    label = "LFQ"

    def __init__(self, dim: int, config: LFQConfig) -> None:
        super().__init__(dim, config, scale=config.scale)


def binary_entropies(
    logits: Tensor, valid: Tensor | None = None, *, joint_bits: int, floor: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Mean of the entropies, and entropy of the mean, of distributions of independent bits, in nats.

    Args:
        logits: of each bit's being one, `[K, N, d]`.
        valid: bool `[N]`, which of the N count; default: all.
        joint_bits: bits whose joint distribution is kept (see `BinaryConfig`); time and memory grow with
            2^joint_bits.
        floor: smallest probability in the logarithms.

    Returns:
        Two tensors `[K]`, each 0 to d log 2.
    """
    count = logits.shape[1]
    kept = logits.new_ones(count) if valid is None else valid.to(logits.dtype)
    if valid is not None:
        # What is not counted may be infinite, and 0 times infinity is not 0.
        logits = torch.where(valid[:, None], logits, 0.0)
    weights = kept / kept.sum().clamp(min=1)
    groups = logits.split(joint_bits, dim=2)
    even = torch.stack([_entropy(_joint_distribution(group, weights), floor) for group in groups]).sum(0)
    if floor:
        return torch.stack([_floored_entropy(group, weights, floor) for group in groups]).sum(0), even
    # H = log(1 + e^-a) + a sigmoid(-a) with a = |logit|: the form without cancellation.
    size = logits.abs()
    each = functional.softplus(-size) + size * (-size).sigmoid()
    return (each.sum(2) * weights).sum(1), even


def _joint_distribution(logits: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean `[K, 2^g]` of the distributions of g bits with logits `[K, N, g]`, weights `[N]`."""
    return _in_pieces(_joint_piece, logits, weights, (logits.shape[2] + 1) // 2)


def _floored_entropy(logits: Tensor, weights: Tensor, floor: float) -> Tensor:
    """Weighted mean `[K]` of -sum p log max(p, floor) of such distributions."""
    return _in_pieces(functools.partial(_floored_piece, floor=floor), logits, weights, logits.shape[2])


def _in_pieces(
    part: Callable[[Tensor, Tensor], Tensor], logits: Tensor, weights: Tensor, table_bits: int
) -> Tensor:
    """Sum of `part` over pieces of N frames, for each of which it makes a table of 2^table_bits numbers."""
    rows = max(1, _PIECE >> table_bits)
    pieces = list(zip(logits.split(rows, 1), weights.split(rows)))
    if len(pieces) == 1:
        return part(logits, weights)
    total = logits.new_zeros(())
    for piece, weight in pieces:
        # Backward computes a piece's tables again instead of keeping all of them.
        total = total + checkpoint(part, piece, weight, use_reentrant=False, preserve_rng_state=False)
    return total


def _joint_piece(logits: Tensor, weights: Tensor) -> Tensor:
    half = logits.shape[2] // 2
    left, right = _product(logits[..., :half]), _product(logits[..., half:])
    return ((left * weights[:, None]).mT @ right).flatten(1)


def _floored_piece(logits: Tensor, weights: Tensor, floor: float) -> Tensor:
    return (_entropy(_product(logits), floor) * weights).sum(1)


def _product(logits: Tensor) -> Tensor:
    """Distributions `[K, N, 2^g]` of g independent bits `[K, N, g]`, the first the most significant."""
    table = logits.new_ones(*logits.shape[:2], 1)
    for bit in torch.stack([(-logits).sigmoid(), logits.sigmoid()], -1).unbind(2):
        table = (table[..., None] * bit[..., None, :]).flatten(2)
    return table


def _entropy(probabilities: Tensor, floor: float) -> Tensor:
    """-sum p log max(p, floor) over the last axis; a p of 0 adds 0, and no infinite gradient."""
    smallest = max(floor, torch.finfo(probabilities.dtype).tiny)
    return -(probabilities * probabilities.clamp(min=smallest).log()).sum(-1)
