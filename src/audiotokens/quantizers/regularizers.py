"""Terms that keep a book in use: entropy of the assignments, angles between the entries, moved anchors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class EntropyPenalty:
    """Sure assignments of single vectors, even use of the book over the batch (Yu et al. 2023, MAGVIT-v2).

    `sample` * mean_i H(p_i) - `batch` * H(mean_i p_i), p_i = softmax(-d(z_i, e_n) / `temperature`), in nats.
    The second entropy is that of the vectors of one process. With `sample` 0 the term is, but for a
    constant, the divergence of the mean assignment from the uniform one, and balances the codes as ERVQ
    (Zheng et al. 2024) asks for.

    Args:
        sample: weight of the entropy of single assignments.
        batch: weight of the entropy of the mean assignment.
        temperature: of the softmax over squared distances.
    """

    sample: float = 0.1
    batch: float = 0.1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected more than 0")


@dataclass(frozen=True)
class OnlineClustering:
    """Entries of little use are drawn towards current vectors (Zheng and Vedaldi 2023, CVQ-VAE).

    e_n <- (1 - a_n) e_n + a_n z_n, a_n = exp(-`sharpness` N p_n - 1e-3), with p_n the moving share of the
    vectors that entry n wins and z_n one of them drawn at random. An entry's moving statistics are drawn
    towards those of an entry of mean use in the same way.

    Args:
        sharpness: the published one is 10 / (1 - decay).
    """

    sharpness: float = 500.0

    def __post_init__(self) -> None:
        if self.sharpness <= 0:
            raise ValueError(f"sharpness is {self.sharpness}, expected more than 0")

    def shares(self, counts: Tensor) -> Tensor:
        """a_n `[N]` for moving counts `[N]`."""
        share = counts / counts.sum().clamp(min=torch.finfo(counts.dtype).tiny)
        return torch.exp(-self.sharpness * len(counts) * share - 1e-3)


def entropy_penalty(scores: Tensor, penalty: EntropyPenalty) -> Tensor:
    """The term of `EntropyPenalty`, weights included, for squared distances `[M, N]`; 0 for no vectors."""
    if not len(scores):
        return scores.sum()
    logits = functional.log_softmax(-scores / penalty.temperature, dim=1)
    probabilities = logits.exp()
    single = -(probabilities * logits).sum(1).mean()
    return penalty.sample * single - penalty.batch * entropy(probabilities.mean(0))


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats of probabilities `[..., N]`; 0 log 0 = 0, without a gradient there."""
    return -torch.xlogy(probabilities, probabilities.clamp(min=1e-30)).sum(-1)


def orthogonality(entries: Tensor) -> Tensor:
    """Mean squared cosine of all pairs of entries `[N, d]`, less the 1 / N that equal pairs make.

    (1 / N^2) ||C C^T||_F^2 - 1 / N for the matrix C of unit rows (Shin et al. 2023); ||C C^T|| = ||C^T C||,
    which has d^2 elements.
    """
    unit = functional.normalize(entries, dim=1)
    return (unit.T @ unit).square().sum() / len(unit) ** 2 - 1 / len(unit)


def mean_square(difference: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean square of the rows `[M, d]`, or of those that are valid `[M]`; 0 for none."""
    if valid is None:
        return difference.square().sum() / max(1, difference.numel())
    number = (valid.sum() * difference.shape[1]).clamp(min=1)
    return difference.masked_fill(~valid[:, None], 0).square().sum() / number
