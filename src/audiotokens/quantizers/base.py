"""The interface of all quantizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """What quantizing latents gives.

    Args:
        latents: quantized latents `[B, D, T]`; gradients pass straight through to the input.
        codes: int64 `[B, K, T]`.
        losses: scalar terms to add to the training loss, by name.
        statistics: what `Quantizer.update` learns from; empty outside training. Tensors whose name starts
            with "sum_" are added over processes, all others are concatenated along their second axis.
    """

    latents: Tensor
    codes: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)


class Quantizer(nn.Module, ABC):
    """Latents `[B, D, T]` to codes `[B, K, T]` and back.

    The search runs in float32 or better, also under autocast, and the lowest index wins a tie.
    """

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of entries of each of the K books."""

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        """Numbers of books that can be decoded; default: all of them only."""
        return (len(self.codebook_sizes),)

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
        """Return the codes int64 `[B, K, T]` of latents `[B, D, T]`."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Return the latents `[B, D, T]` of codes `[B, K, T]`; K may be any legal prefix."""

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Set the books from sample latents `[N, D]` before training; nothing where books are fixed."""

    @torch.no_grad()
    def update(self, statistics: dict[str, Tensor]) -> None:
        """Learn from the statistics of one step, merged over processes; nothing where books are fixed."""
