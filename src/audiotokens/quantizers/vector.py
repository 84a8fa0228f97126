"""Vector quantization with a learned book (van den Oord et al. 2017, VQ-VAE).

c = argmin_n ||z - e_n||^2,  q = e_c,  and losses commitment * ||z - sg[q]||^2 and, for books learned by
gradients, codebook_weight * ||sg[z] - q||^2 (eq. 3), means over the valid frames and the dimensions. Books
learned by moving averages (appendix A.1): N <- d N + (1 - d) n, M <- d M + (1 - d) m, e = M / N with the
number n and the sum m of the vectors that an entry wins in a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.quantizers.base import Quantized, QuantizerConfig, from_rows, to_rows, valid_rows
from audiotokens.quantizers.book import BookQuantizer, Metric
from audiotokens.quantizers.gradients import Gradient, pass_gradient
from audiotokens.quantizers.lloyd import lloyd
from audiotokens.quantizers.regularizers import (
    EntropyPenalty,
    OnlineClustering,
    entropy_penalty,
    mean_square,
    orthogonality,
)
from audiotokens.quantizers.statistics import Statistics, drawn, sample

_CANDIDATES = 1024
# An entry that wins nothing any more expires again after ln(20 / 3) / (1 - decay) steps.
_RESTART = 20 / 3
# Below this the quotient M / N of an unused entry would lose its digits.
_FORGOTTEN = 1e-30


def _check_learning(decay: float, expire_below: float) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"decay is {decay}, expected at least 0 and less than 1")
    if expire_below < 0:
        raise ValueError(f"expire_below is {expire_below}, expected 0 or more")


@dataclass(frozen=True)
class EMALearning:
    """A book learned by exponential moving averages of counts and sums.

    Args:
        kind: names this way of learning in a configuration.
        decay: d of the moving averages.
        smoothing: epsilon of e = M / ((N + epsilon) / (sum N + size epsilon) sum N), which draws entries of
            little use towards zero; 0: e = M / N.
        expire_below: an entry whose moving count, in vectors per step, falls below this restarts at a vector
            of the batch; 0: never.
    """

    kind: Literal["ema"] = "ema"
    decay: float = 0.98
    smoothing: float = 0.0
    expire_below: float = 0.003

    def __post_init__(self) -> None:
        _check_learning(self.decay, self.expire_below)
        if self.smoothing < 0:
            raise ValueError(f"smoothing is {self.smoothing}, expected 0 or more")


@dataclass(frozen=True)
class GradientLearning:
    """A book that is a parameter, learned by the optimizer.

    Args:
        kind: names this way of learning in a configuration.
        codebook_weight: weight of the codebook loss ||sg[z] - q||^2.
        decay: of the moving averages of counts.
        expire_below: as in `EMALearning`; what the optimizer remembers of the entry stays.
    """

    kind: Literal["gradient"] = "gradient"
    codebook_weight: float = 1.0
    decay: float = 0.98
    expire_below: float = 0.0

    def __post_init__(self) -> None:
        _check_learning(self.decay, self.expire_below)


@dataclass(frozen=True)
class VectorConfig(QuantizerConfig):
    """Vector quantizer with one book.

    Args:
        kind: names this quantizer in a configuration.
        codebook_size: entries N.
        codebook_dim: dimensions d of the book, behind linear maps; None: those of the latents, without maps.
        metric: how near an entry is.
        learning: how the book learns.
        commitment: weight of the commitment loss.
        gradient: how the gradient passes.
        orthogonal: weight of the mean squared cosine of the entries, for books learned by gradients.
        entropy: penalty on the entropies of the assignments.
        clustering: entries of little use move towards current vectors, instead of expiring.
    """

    kind: Literal["vector"] = "vector"
    codebook_size: int = 1024
    codebook_dim: int | None = None
    metric: Metric = "euclidean"
    learning: EMALearning | GradientLearning = EMALearning()
    commitment: float = 0.25
    gradient: Gradient = "straight-through"
    orthogonal: float = 0.0
    entropy: EntropyPenalty | None = None
    clustering: OnlineClustering | None = None

    def __post_init__(self) -> None:
        if self.codebook_size < 2:
            raise ValueError(f"codebook_size is {self.codebook_size}, expected at least 2")
        if self.codebook_dim is not None and self.codebook_dim < 1:
            raise ValueError(f"codebook_dim is {self.codebook_dim}, expected at least 1 or null")
        if self.orthogonal and isinstance(self.learning, EMALearning):
            raise ValueError("orthogonal moves entries by gradients, expected learning of the kind gradient")


class VectorQuantizer(BookQuantizer):
    """VQ over latents of `dim` dimensions; `book` `[N, d]` is its only state besides the projections."""

    config_class: ClassVar[type[QuantizerConfig]] = VectorConfig
    label = "VQ"
    book: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, dim: int, config: VectorConfig) -> None:
        super().__init__(
            dim,
            config,
            size=config.codebook_size,
            codebook_dim=config.codebook_dim,
            metric=config.metric,
        )
        self.config = config
        self._averaged = isinstance(config.learning, EMALearning)
        # Online clustering takes every entry for unused until it wins something.
        start = max(1.0, _RESTART * config.learning.expire_below)
        self._start = 0.0 if config.clustering else start
        book = torch.randn(self.codebook_size, self.codebook_dim)
        book = functional.normalize(book, dim=1) if self.metric == "sphere" else book
        # Learning state: kept in training checkpoints, not with the weights.
        self.register_buffer("counts", torch.full((len(book),), self._start), persistent=False)
        if self._averaged:
            self.register_buffer("book", book)
            self.register_buffer("sums", book * self._start, persistent=False)
            self.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]
        else:
            self.register_parameter("book", nn.Parameter(book))

    def entries(self, dtype: torch.dtype = torch.float32) -> Tensor:
        book = self.book.to(dtype)
        return functional.normalize(book, dim=1) if self.metric == "sphere" else book

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        batch = len(latents)
        with torch.autocast(latents.device.type, enabled=False):
            vectors = self.project(to_rows(latents.float()))
            index = self.nearest(vectors)
            quantized = self.embed(index)
            valid = None if mask is None else valid_rows(latents, mask)
            losses = self.losses(vectors, quantized, valid)
            restored = self.restore(pass_gradient(vectors, quantized, self.config.gradient))
        return Quantized(
            latents=from_rows(restored, batch),
            codes=index.view(batch, 1, -1),
            losses=losses,
            statistics=self.collect(vectors, index, valid) if self.training else {},
        )

    def losses(self, vectors: Tensor, quantized: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
        """Weighted losses, none of weight 0, of the valid ones of vectors `[M, d]` and entries `[M, d]`."""
        config, losses = self.config, {}
        if config.commitment:
            losses["commitment"] = config.commitment * mean_square(vectors - quantized.detach(), valid)
        if isinstance(config.learning, GradientLearning) and config.learning.codebook_weight:
            error = mean_square(vectors.detach() - quantized, valid)
            losses["codebook"] = config.learning.codebook_weight * error
        if config.orthogonal:
            losses["orthogonal"] = config.orthogonal * orthogonality(self.entries())
        if config.entropy is not None:
            counted = vectors if valid is None else vectors[valid]
            losses["entropy"] = entropy_penalty(self.scores(counted), config.entropy)
        return losses

    @torch.no_grad()
    def collect(self, vectors: Tensor, index: Tensor, valid: Tensor | None) -> Statistics:
        """Statistics for `update` of the valid ones of vectors `[M, d]` and their codes `[M]`."""
        # Masks instead of a choice of rows, and no bincount: a GPU would have to be waited for.
        vectors = vectors.detach().float()
        ones = torch.ones_like(index) if valid is None else valid.long()
        statistics = {"sum_counts": ones.new_zeros(self.codebook_size).index_add_(0, index, ones)}
        if self._averaged:
            counted = vectors if valid is None else vectors.masked_fill(~valid[:, None], 0)
            statistics["sum_vectors"] = torch.zeros_like(self.sums).index_add_(0, index, counted)
        if self.config.learning.expire_below or self.config.clustering is not None:
            capacity = min(self.codebook_size, _CANDIDATES)
            statistics["ranks"], statistics["candidates"] = sample(vectors, capacity, valid)
        return statistics

    @torch.no_grad()
    def update(self, statistics: Statistics) -> None:
        """Move averages and book by the statistics of one step; restart entries that are out of use."""
        found = statistics["sum_counts"].to(self.counts.dtype)
        # A step without vectors, as of a book that dropout left out, tells nothing.
        share = (1 - self.config.learning.decay) * (found.sum() > 0)
        self.counts.lerp_(found, share)
        if self._averaged:
            self.sums.lerp_(statistics["sum_vectors"], share)
            self._follow_averages(share > 0)
        if "ranks" in statistics:
            self._revive(*drawn(statistics["ranks"], statistics["candidates"]))

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Set the book by k-means on the projections of sample latents `[M, D]`."""
        self.set_book(lloyd(self.project(latents.float()), self.codebook_size, generator=generator))

    @torch.no_grad()
    def set_book(self, book: Tensor) -> None:
        """Set the entries `[N, d]` and start the moving statistics from them."""
        self.book.copy_(functional.normalize(book, dim=1) if self.metric == "sphere" else book)
        self.counts.fill_(self._start)
        self.follow_book()

    @torch.no_grad()
    def follow_book(self) -> None:
        """Make the moving sums those of the book as it is, after a change from outside."""
        if self._averaged:
            self.sums.copy_(self.book * self._smoothed()[:, None])

    def _smoothed(self) -> Tensor:
        """Denominators `[N]` of the book."""
        learning = self.config.learning
        if not isinstance(learning, EMALearning) or not learning.smoothing:
            return self.counts
        total = self.counts.sum()
        epsilon = learning.smoothing
        return (self.counts + epsilon) / (total + len(self.counts) * epsilon) * total

    def _follow_averages(self, seen: Tensor) -> None:
        counts = self._smoothed()
        book = self.sums / counts[:, None]
        book = functional.normalize(book, dim=1) if self.metric == "sphere" else book
        self.book.copy_(torch.where((seen & (counts > _FORGOTTEN))[:, None], book, self.book))

    def _revive(self, candidates: Tensor, number: Tensor) -> None:
        """Draw entries out of use, with their statistics, towards the first `number` candidates `[C, d]`."""
        if self.config.clustering is not None:
            share = self.config.clustering.shares(self.counts) * (number > 0)
            count = self.counts.mean()
            order = torch.arange(len(self.counts), device=candidates.device)
            targets = candidates[order % number.clamp(min=1)]
        else:
            below = self.config.learning.expire_below
            expired = self.counts < below
            order = expired.cumsum(0) - 1
            share = (expired & (order < number)).to(self.counts.dtype)
            targets = candidates[order.clamp(0, len(candidates) - 1)]
            count = self.counts.new_full((), _RESTART * below)
        self.counts.lerp_(count.expand_as(self.counts), share)
        self.book.lerp_(targets, share[:, None])
        if self._averaged:
            self.sums.lerp_(targets * count, share[:, None])


def _after_load(module: VectorQuantizer, keys: object) -> None:
    module.follow_book()
