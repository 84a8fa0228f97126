"""The interface of all quantizers, and what their configurations have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from audiotokens.errors import NotOfferedError
from audiotokens.quantizers.statistics import Statistics, select


@dataclass(frozen=True)
class QuantizerConfig:
    """Base of the configurations of quantizers; each has a field `kind`, its name in a recipe."""

    kind: str

    @classmethod
    def class_of(cls, kind: object) -> type[QuantizerConfig]:
        """Return the configuration class that a `kind` names; `config.from_dict` asks it.

        Raises:
            ValueError: no quantizer of that kind is known.
        """
        from audiotokens.quantizers.registry import quantizer_class

        return quantizer_class(kind).config_class


@dataclass(frozen=True)
class Quantized:
    """What quantizing latents gives.

    Args:
        latents: quantized latents `[B, D, T]`; gradients pass to the input as the quantizer says.
        codes: int64 `[B, K, T]`.
        losses: scalar terms to add to the training loss, weights included, by name.
        statistics: what `Quantizer.update` learns from; empty outside training.
    """

    latents: Tensor
    codes: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)


class Quantizer(nn.Module, ABC):
    """Latents `[B, D, T]` to codes `[B, K, T]` and back.

    The search runs in float32 or better, also under autocast, and the lowest index wins a tie. `forward`
    holds no collective: a loop over several processes merges the statistics of one step by
    `all_reduce_statistics` and gives them to `update` in each of them.

    Args:
        dim: dimensions D of the latents.
        config: of the class's own `config_class`.
    """

    config_class: ClassVar[type[QuantizerConfig]]
    label: ClassVar[str]
    """What the surveys call it, such as "RVQ"."""
    several_rates: ClassVar[bool] = False
    """Whether codes are a tuple, one `[B, K_i, T_i]` for each rate."""

    def __init__(self, dim: int, config: QuantizerConfig) -> None:
        super().__init__()
        self.dim = dim

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of entries of each of the K books."""

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        """Numbers of books that can be decoded; default: all of them only."""
        return (len(self.codebook_sizes),)

    @property
    def can_search_wide(self) -> bool:
        """Whether `encode` takes a `search_width`, the candidates kept through residual books."""
        return False

    def decoding_parameters(self) -> list[nn.Parameter]:
        """Parameters that act after the search only, so that no code depends on them."""
        return []

    @abstractmethod
    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        """Quantize for training.

        Args:
            latents: `[B, D, T]`.
            num_codebooks: how many books to use, one number or one per item `[B]`; default: all.
            mask: bool `[B, T]`, False for padded frames, which losses and statistics ignore.
        """

    @abstractmethod
    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        """Return the codes int64 `[B, K, T]` of latents `[B, D, T]`, the same ones in any batch."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Return the latents `[B, D, T]` of codes `[B, K, T]`; K may be any legal prefix."""

    def margins(self, latents: Tensor, codes: Tensor) -> Tensor:
        """How clearly codes were chosen: the length of the least change of a latent that may change one.

        Args:
            latents: `[B, D, T]`.
            codes: `[B, K, T]`, what `encode` gives for them.

        Returns:
            float64 `[B, K, T]`, or a lower bound of it where maps or averages stand before a book.

        Raises:
            NotOfferedError: the quantizer does not search books by distance.
        """
        raise NotOfferedError(f"{self.label} has no margins")

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Set the books from sample latents `[N, D]` before training; nothing where books are fixed."""

    @torch.no_grad()
    def update(self, statistics: Statistics) -> None:
        """Learn from the statistics of one step, merged over processes; nothing where books are fixed.

        The default hands each inner quantizer its part.
        """
        for name, quantizer in self.inner_quantizers():
            quantizer.update(select(statistics, name))

    def inner_quantizers(self) -> Iterator[tuple[str, Quantizer]]:
        """Name and quantizer of each one that this one is directly made of."""
        for name, module in self.named_children():
            if isinstance(module, Quantizer):
                yield name, module
            elif isinstance(module, nn.ModuleList):
                yield from (
                    (f"{name}.{i}", item) for i, item in enumerate(module) if isinstance(item, Quantizer)
                )

    def check_prefix(self, num_codebooks: int | None) -> int:
        """Return how many books to use.

        Raises:
            ValueError: that many books cannot be decoded.
        """
        books = len(self.codebook_sizes) if num_codebooks is None else num_codebooks
        if books not in self.legal_prefixes:
            legal = ", ".join(map(str, self.legal_prefixes))
            raise ValueError(f"num_codebooks is {books}, expected one of {legal}")
        return books


def to_rows(latents: Tensor) -> Tensor:
    """Latents `[B, D, T]` as vectors `[B T, D]`."""
    return latents.mT.reshape(-1, latents.shape[1])


def from_rows(rows: Tensor, batch: int) -> Tensor:
    """Vectors `[B T, D]` as latents `[B, D, T]`."""
    latents: Tensor = rows.unflatten(0, (batch, -1))
    return latents.mT


def add_losses(
    total: dict[str, Tensor], part: Mapping[str, Tensor], *, mask: Tensor | None = None, share: float = 1.0
) -> None:
    """Add the losses of an inner quantizer to those of the whole, by name.

    Args:
        total: is changed.
        part: losses of the inner quantizer.
        mask: that it was given; without a valid frame its losses, means over no frames, are left out.
        share: factor of its losses.
    """
    if mask is None or bool(mask.any()):
        for name, loss in part.items():
            total[name] = total[name] + share * loss if name in total else share * loss


def valid_rows(latents: Tensor, mask: Tensor | None) -> Tensor:
    """Which of the vectors of `to_rows(latents)` count, bool `[B T]`."""
    if mask is None:
        return torch.ones(latents.shape[0] * latents.shape[2], dtype=torch.bool, device=latents.device)
    return mask.reshape(-1)


def linear(layer: nn.Linear | None, latents: Tensor) -> Tensor:
    """A linear map of latents `[B, D, T]`, in their floating type; None is the identity."""
    if layer is None:
        return latents
    weight = layer.weight.to(latents.dtype).expand(len(latents), -1, -1)
    # One product per item, which spares the copies that transposing takes.
    if layer.bias is None:
        return torch.bmm(weight, latents)
    return torch.baddbmm(layer.bias.to(latents.dtype)[:, None], weight, latents)


def gain(layer: nn.Linear) -> Tensor:
    """By how much a linear map can lengthen a vector: its largest singular value, in float64."""
    found: Tensor = torch.linalg.matrix_norm(layer.weight.double(), 2)
    return found


def linear_rows(layer: nn.Linear, rows: Tensor) -> Tensor:
    """A linear map of vectors `[..., D]`, in their floating type."""
    bias = None if layer.bias is None else layer.bias.to(rows.dtype)
    return nn.functional.linear(rows, layer.weight.to(rows.dtype), bias)
