"""Gumbel vector quantization (Jang et al. 2017; Baevski et al. 2020, vq-wav2vec and wav2vec 2.0).

Logits l of a vector are a linear map of it or its negative squared distances to the entries. In training
c = argmax_n (l_n + g_n) with g_n = -log(-log u_n), u_n uniform: n is drawn with probability softmax(l)_n, at
any temperature. The one-hot vector of c stands in the forward pass, softmax((l + g) / tau) in the backward
pass. tau = max(end, start * decay^updates). At inference c = argmax_n l_n. The diversity loss (wav2vec 2.0,
eq. 4) is (1 / N) sum_n p_n log p_n of the mean p over the valid frames of softmax(l).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.quantizers.base import (
    Quantized,
    QuantizerConfig,
    from_rows,
    linear_rows,
    to_rows,
    valid_rows,
)
from audiotokens.quantizers.book import BookQuantizer
from audiotokens.quantizers.lloyd import lloyd
from audiotokens.quantizers.regularizers import entropy
from audiotokens.quantizers.statistics import Statistics


@dataclass(frozen=True)
class Temperature:
    """tau = max(end, start * decay^updates); the defaults are those of wav2vec 2.0.

    Args:
        start: before the first update.
        end: never less than this.
        decay: factor of each update.
    """

    start: float = 2.0
    end: float = 0.5
    decay: float = 0.999995

    def __post_init__(self) -> None:
        if not 0 < self.end <= self.start or not 0 < self.decay <= 1:
            raise ValueError(
                f"found start {self.start}, end {self.end}, decay {self.decay}; "
                "expected 0 < end <= start and 0 < decay <= 1"
            )


@dataclass(frozen=True)
class GumbelConfig(QuantizerConfig):
    """Quantizer that draws its codes in training.

    Args:
        kind: names this quantizer in a configuration.
        codebook_size: entries N.
        codebook_dim: dimensions of the entries; None: those of the latents, without a map behind.
        logits: "learned": a linear map of the latents; "distance": negative squared distances to the entries.
        temperature: its schedule.
        diversity: weight of the diversity loss; 0: none.
    """

    kind: Literal["gumbel"] = "gumbel"
    codebook_size: int = 320
    codebook_dim: int | None = None
    logits: Literal["learned", "distance"] = "learned"
    temperature: Temperature = Temperature()
    diversity: float = 0.1

    def __post_init__(self) -> None:
        if self.codebook_size < 2:
            raise ValueError(f"codebook_size is {self.codebook_size}, expected at least 2")
        if self.codebook_dim is not None and self.codebook_dim < 1:
            raise ValueError(f"codebook_dim is {self.codebook_dim}, expected at least 1 or null")


class GumbelQuantizer(BookQuantizer):
    """Gumbel VQ; `book` `[N, d]` is a parameter, the noise comes from torch's generator of the device."""

    config_class: ClassVar[type[QuantizerConfig]] = GumbelConfig
    label = "Gumbel VQ"
    updates: Tensor

    def __init__(self, dim: int, config: GumbelConfig) -> None:
        super().__init__(dim, config, size=config.codebook_size, codebook_dim=config.codebook_dim)
        self.config = config
        self.book = nn.Parameter(torch.randn(self.codebook_size, self.codebook_dim))
        self.head: nn.Linear | None = None
        if config.logits == "learned":
            # The logits see all dimensions of the latents.
            self.project_in = nn.Identity()
            self.head = nn.Linear(dim, config.codebook_size)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long), persistent=False)

    @property
    def temperature(self) -> Tensor:
        """tau as it stands, a scalar."""
        schedule = self.config.temperature
        decayed = schedule.start * torch.exp(self.updates * math.log(schedule.decay))
        return decayed.clamp(min=schedule.end)

    def entries(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.book.to(dtype)

    def logits(self, rows: Tensor) -> Tensor:
        """Logits `[M, N]` of vectors after `project`, in their own dtype."""
        if self.head is None:
            return -super().scores(rows)
        return linear_rows(self.head, rows)

    def scores(self, rows: Tensor) -> Tensor:
        """Negative logits `[M, N]`: smaller is likelier."""
        return -self.logits(rows)

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """Likeliest codes int64 `[M]` of vectors after `project`, searched in float32."""
        return super().nearest(rows) if self.head is None else self._likeliest(self.head, rows.float())

    @torch.no_grad()
    def nearest_exact(self, rows: Tensor) -> Tensor:
        """Likeliest codes int64 `[M]` of float64 vectors, the same ones in any batch."""
        return super().nearest_exact(rows) if self.head is None else self._likeliest(self.head, rows)

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        batch = len(latents)
        with torch.autocast(latents.device.type, enabled=False):
            rows = self.project(to_rows(latents.float()))
            logits = self.logits(rows)
            if self.training:
                noisy = logits + _gumbel(logits)
                index = noisy.argmax(1)
            else:
                noisy, index = logits, self.nearest(rows)
            codes = index.view(batch, 1, -1)
            soft = functional.softmax(noisy / self.temperature, dim=1)
            hard = functional.one_hot(index, self.codebook_size).to(soft.dtype)
            restored = self.restore((hard + (soft - soft.detach())) @ self.book)
            if mask is not None:
                valid = valid_rows(latents, mask)
                logits, index = logits[valid], index[valid]
            losses = {"diversity": self._diversity(logits)} if self.config.diversity else {}
            statistics = {"sum_counts": torch.bincount(index, minlength=self.codebook_size)}
        return Quantized(
            latents=from_rows(restored, batch),
            codes=codes,
            losses=losses,
            statistics=statistics if self.training else {},
        )

    @torch.no_grad()
    def update(self, statistics: Statistics) -> None:
        """Lower the temperature by one step."""
        self.updates += 1

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Set the book by k-means where distances are the logits; learned logits need no start."""
        if self.head is None:
            vectors = self.project(latents.float())
            self.book.copy_(lloyd(vectors, self.codebook_size, generator=generator))

    def _likeliest(self, head: nn.Linear, rows: Tensor) -> Tensor:
        factors = torch.cat([head.weight, head.bias[:, None]], 1)
        return self.lowest(self.logits(rows).max(1).indices, factors)

    def _diversity(self, logits: Tensor) -> Tensor:
        if not len(logits):
            return logits.sum()
        mean = functional.softmax(logits, dim=1).mean(0)
        return -self.config.diversity * entropy(mean) / self.codebook_size


def _gumbel(like: Tensor) -> Tensor:
    # -log u of a uniform u is exponential.
    return -torch.empty_like(like).exponential_().log()
