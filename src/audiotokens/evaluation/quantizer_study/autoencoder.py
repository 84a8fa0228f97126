"""The small autoencoder around every quantizer of the study, and its training.

z = x + f(x), q = Q(z), y = q + g(q), with two perceptrons f and g whose last layers start at zero: it starts
as the quantizer alone, and then the vectors may move towards what this quantizer can express, as in a codec.
It is the same for all. The loss is the squared error of y over the variance of x, and the quantizer's own
losses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from audiotokens.quantizers import Quantizer, UsageCounter
from audiotokens.quantizers.base import from_rows, to_rows

HIDDEN = 128
_ITEMS = 16
_CHUNK = 1024


class Perceptron(nn.Module):
    """x + W2 silu(W1 x) over rows; W2 starts at zero."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows `[M, D]` to rows."""
        return rows + self.second(nn.functional.silu(self.first(rows)))  # type: ignore[no-any-return]


class Autoencoder(nn.Module):
    """A quantizer between two perceptrons.

    Args:
        quantizer: of `dim` dimensions.
        dim: dimensions of the vectors.
    """

    def __init__(self, quantizer: Quantizer, dim: int) -> None:
        super().__init__()
        self.before, self.quantizer, self.after = (
            Perceptron(dim, HIDDEN),
            quantizer,
            Perceptron(dim, HIDDEN),
        )

    @torch.inference_mode()
    def encode(self, rows: np.ndarray) -> Tensor:
        """Codes int64 `[K, M]` of rows `[M, D]`, piece by piece."""
        pieces = [
            self.quantizer.encode(_latents(self.before(torch.from_numpy(np.array(piece)))))[0]
            for piece in _pieces(rows)
        ]
        return torch.cat(pieces, 1)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> np.ndarray:
        """Rows `[M, D]` of codes `[K, M]`; K may be any legal prefix."""
        return self.after(to_rows(self.quantizer.decode(codes[None]))).numpy()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Budget:
    """How long every quantizer of one size learns.

    Args:
        rows_per_step: vectors of one step.
        steps: of the optimizer.
        rate: of learning (Adam), at the start; it falls to zero along a cosine.
        quantizer_rate: of the quantizer's own parameters. They must get far in few steps, as a book of small
            random entries to vectors that are many times longer: with the rate of the perceptrons most books
            that learn by gradients would only seem to have collapsed.
    """

    rows_per_step: int = 1024
    steps: int = 400
    rate: float = 2e-3
    quantizer_rate: float = 3e-2

    @property
    def rows(self) -> int:
        """Vectors seen."""
        return self.rows_per_step * self.steps


@dataclass(frozen=True)
class Glimpse:
    """The state at one moment of training, from the last steps before it.

    Args:
        step: of the optimizer.
        codes: how many were counted of each book.
        entropy: bits per frame, sum over the books.
        used: share of entries that occurred, against uniform use, mean over the books.
        error: squared error over the variance.
    """

    step: int
    codes: int
    entropy: float
    used: float
    error: float


def train(
    model: Autoencoder,
    rows: np.ndarray,
    budget: Budget,
    *,
    seed: int,
    dropout: bool = False,
    glimpses: int = 12,
) -> list[Glimpse]:
    """Train on random rows, the same ones for every quantizer under one seed.

    Args:
        model: to train; set to evaluation in the end.
        rows: float32 `[N, D]`.
        budget: steps and rate.
        seed: of the choice of rows, and of dropout.
        dropout: whether half of the items use a random legal prefix.
        glimpses: how many to take.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model.train()
    quantizer = model.quantizer
    optimizer = _optimizer(model, budget)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / budget.steps))
    )
    found, counter, errors = [], UsageCounter(quantizer.codebook_sizes, pairs=False), []
    moments = {round(budget.steps * (i + 1) / glimpses): i for i in range(glimpses)}
    window = max(1, min(8, budget.steps // glimpses))
    for step in range(1, budget.steps + 1):
        batch = torch.from_numpy(rows[rng.integers(0, len(rows), budget.rows_per_step)])
        books = _prefixes(quantizer, rng) if dropout else None
        error, output_codes = _step(model, batch, books, optimizer)
        schedule.step()
        if any(0 <= moment - step < window for moment in moments):
            counter.add(output_codes)
            errors.append(error)
        if step in moments:
            found.append(_glimpse(step, counter, errors))
            counter, errors = UsageCounter(quantizer.codebook_sizes, pairs=False), []
    model.eval()
    return found


def _optimizer(model: Autoencoder, budget: Budget) -> torch.optim.Optimizer:
    perceptrons = [*model.before.parameters(), *model.after.parameters()]
    groups = [
        {"params": perceptrons, "lr": budget.rate},
        {"params": list(model.quantizer.parameters()), "lr": budget.quantizer_rate},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]], betas=(0.9, 0.99))


def _step(
    model: Autoencoder, batch: Tensor, books: Tensor | None, optimizer: torch.optim.Optimizer
) -> tuple[float, Tensor]:
    latents = from_rows(model.before(batch), _ITEMS)
    quantized = model.quantizer(latents, num_codebooks=books)
    restored = model.after(to_rows(quantized.latents))
    error = (restored - batch).square().mean() / batch.var(0, unbiased=False).mean()
    loss = error + sum(quantized.losses.values())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    model.quantizer.update(quantized.statistics)
    return float(error.detach()), quantized.codes


def _prefixes(quantizer: Quantizer, rng: np.random.Generator) -> Tensor:
    """Books of each item: all for one half, any legal number for the other."""
    legal = np.array(quantizer.legal_prefixes)
    chosen = rng.choice(legal, _ITEMS)
    return torch.from_numpy(np.where(np.arange(_ITEMS) % 2 == 0, legal.max(), chosen))


def _glimpse(step: int, counter: UsageCounter, errors: list[float]) -> Glimpse:
    report = counter.report()
    used = float(np.mean([book.relative_utilisation for book in report.books]))
    return Glimpse(step, report.frames, report.entropy_bits, used, float(np.mean(errors)))


def _latents(rows: Tensor) -> Tensor:
    return rows.T[None]


def _pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    yield from (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
