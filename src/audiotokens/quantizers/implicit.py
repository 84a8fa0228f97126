"""Implicit books: each dimension takes one of a few values, and an entry is a combination of them.

With L_i values in dimension i, an entry with the digits n_1 .. n_d has the index sum_i n_i r_i, where r_i is
the product of the L_j of the less significant dimensions; no table of the prod_i L_i entries is ever made.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from audiotokens.quantizers.base import Quantizer, QuantizerConfig, linear

# Integers below these are exact in float32 and float64.
_EXACT_FLOAT32 = 1 << 24
_EXACT_FLOAT64 = 1 << 53


class ImplicitQuantizer(Quantizer):
    """Base of the quantizers with implicit books.

    Latents of `dim` dimensions are mapped by `project_in` to d for each of K books and back by `project_out`;
    where `dim` is K d already there are no maps. Internally, latents are `[B, K, d, T]` and digits are whole
    numbers in the same shape and floating type.

    Args:
        dim: dimensions D of the latents.
        config: of the class's own `config_class`.
        levels: values per dimension of a book, d numbers.
        num_codebooks: books K.
        first_least: whether the first dimension is the least significant digit of an index, or the most.
    """

    levels: Tensor
    radix: Tensor
    like: Tensor

    def __init__(
        self,
        dim: int,
        config: QuantizerConfig,
        *,
        levels: tuple[int, ...],
        num_codebooks: int,
        first_least: bool = True,
    ) -> None:
        super().__init__(dim, config)
        self._shape = (num_codebooks, len(levels))
        self._size = math.prod(levels)
        sizes = torch.tensor(levels)
        radix = sizes.cumprod(0) // sizes if first_least else sizes.flip(0).cumprod(0).flip(0) // sizes
        self.register_buffer("levels", sizes, persistent=False)
        self.register_buffer("radix", radix, persistent=False)
        # Follows the module to its device and floating type, which decoding then has.
        self.register_buffer("like", torch.ones(()), persistent=False)
        inner = num_codebooks * len(levels)
        self.project_in = nn.Linear(dim, inner) if inner != dim else None
        self.project_out = nn.Linear(inner, dim) if inner != dim else None

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self._size,) * self._shape[0]

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        """Return the codes int64 `[B, K, T]`; everything runs in float64."""
        self.check_prefix(num_codebooks)
        with torch.autocast(latents.device.type, enabled=False):
            return self._codes(self._digits(self._project(latents.double())))

    def decode(self, codes: Tensor) -> Tensor:
        """Return the latents `[B, D, T]`; a projection runs in float64, so that a batch changes nothing."""
        vectors = self._vectors(codes)
        return (
            vectors.flatten(1, 2)
            if self.project_out is None
            else self._restore(vectors.double()).to(vectors.dtype)
        )

    def indices_to_vectors(self, codes: Tensor) -> Tensor:
        """Return the entries `[B, K d, T]` of codes `[B, K, T]`, before `project_out`."""
        return self._vectors(codes).flatten(1, 2)

    def vectors_to_indices(self, vectors: Tensor) -> Tensor:
        """Return the codes int64 `[B, K, T]` of the entries nearest to vectors `[B, K d, T]`."""
        return self._codes(self._nearest(vectors.double().unflatten(1, self._shape)))

    @abstractmethod
    def _digits(self, values: Tensor) -> Tensor:
        """Digits of projected latents, both `[B, K, d, T]`."""

    @abstractmethod
    def _entries(self, digits: Tensor) -> Tensor:
        """Entries of digits, both `[B, K, d, T]`."""

    def _nearest(self, vectors: Tensor) -> Tensor:
        """Digits of the nearest entries; other than `_digits` where latents are bounded first."""
        return self._digits(vectors)

    def _project(self, latents: Tensor) -> Tensor:
        """Latents `[B, D, T]` to `[B, K, d, T]`, in their own floating type."""
        values: Tensor = linear(self.project_in, latents).unflatten(1, self._shape)
        return values

    def _restore(self, values: Tensor) -> Tensor:
        """What `_project` maps, `[B, K, d, T]`, back to `[B, D, T]`."""
        return linear(self.project_out, values.flatten(1, 2))

    def _codes(self, digits: Tensor) -> Tensor:
        """Codes int64 `[B, K, T]` of digits `[B, K, d, T]`."""
        if self._size > _EXACT_FLOAT32:
            digits = digits.double()
        return (digits * self.radix.to(digits.dtype)[:, None]).sum(2).long()

    def _vectors(self, codes: Tensor) -> Tensor:
        digits = codes[:, :, None] // self.radix[:, None] % self.levels[:, None]
        wide = torch.promote_types(self.like.dtype, torch.float32)
        return self._entries(digits.to(wide)).to(self.like.dtype)


def check_book(levels: tuple[int, ...], num_codebooks: int) -> None:
    """Raise a ValueError where such a book cannot be: fewer than two values, or too many entries."""
    if not levels or min(levels) < 2:
        raise ValueError(f"levels are {levels}, expected at least one number, each 2 or more")
    if math.prod(levels) > _EXACT_FLOAT64:
        raise ValueError(f"levels {levels} make more than 2^53 entries; use more num_codebooks instead")
    if num_codebooks < 1:
        raise ValueError(f"num_codebooks is {num_codebooks}, expected at least 1")


def frames_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of `[B, K, d, T]` over everything but the frames that a mask `[B, T]` leaves out."""
    if mask is None:
        return values.mean()
    kept = torch.where(mask[:, None, None], values, 0.0).sum()
    return kept / (mask.sum().clamp(min=1) * (values.shape[1] * values.shape[2]))
