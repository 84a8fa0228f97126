"""Entropy of codes, the use of books, and what one book tells about another, from counts.

The plug-in entropy of N codes is too small by about (m - 1) / 2N nats for m codes that occur (Miller and
Madow 1955), and the plug-in mutual information is too large by far more, as a table of two books has many
more cells. What independent books would show in as many codes is taken off it (Vinh, Epps and Bailey 2010).
"""

from __future__ import annotations

import math

import numpy as np


def plugin_entropy(counts: np.ndarray) -> float:
    """Zero-order entropy of counts `[V]` in bits; 0 where nothing was counted."""
    total = float(counts.sum())
    if not total:
        return 0.0
    shares = counts[counts > 0] / total
    return max(0.0, float(-(shares * np.log2(shares)).sum()))


def perplexity(counts: np.ndarray) -> float:
    """Number of entries in even use that have the plug-in entropy of counts `[V]`; 0 for no counts."""
    return 2.0 ** plugin_entropy(counts) if counts.any() else 0.0


def corrected_entropy(counts: np.ndarray) -> float:
    """Entropy of counts `[V]` in bits with the bias correction of Miller and Madow, at most log2 V.

    Example:
        >>> corrected_entropy(np.array([500, 500]))
        1.0
    """
    total = int(counts.sum())
    if not total:
        return 0.0
    occurring = int((counts > 0).sum())
    corrected = plugin_entropy(counts) + (occurring - 1) / (2 * total * math.log(2))
    return min(corrected, math.log2(len(counts)))


def coverage_entropy(counts: np.ndarray) -> float:
    """Entropy of counts `[V]` in bits after Chao and Shen (2003), at most log2 V; for few codes, large books.

    Shares are scaled by the coverage C, and each is weighted by its chance 1 - (1 - p)^N to occur at all:
    H = -sum_i C p_i log(C p_i) / (1 - (1 - C p_i)^N).

    Example:
        >>> round(coverage_entropy(np.array([500, 500])), 6)
        1.0
    """
    total = int(counts.sum())
    if not total:
        return 0.0
    # Where every code occurred once only, one of them counts as seen twice: no coverage is no estimate.
    share = max(coverage(counts), 1 / total)
    scaled = share * counts[counts > 0] / total
    seen = -np.expm1(total * np.log1p(-np.minimum(scaled, 1 - 1e-12)))
    return min(float(-(scaled * np.log2(scaled) / seen).sum()), math.log2(len(counts)))


def expected_used(size: int, codes: int) -> float:
    """Number of entries that uniform random use of a book of `size` entries touches with `codes` codes."""
    if size == 1:
        return float(min(codes, 1))
    return -size * math.expm1(codes * math.log1p(-1 / size))


def coverage(counts: np.ndarray) -> float:
    """Share of all future codes that have occurred before, 1 - (codes seen once) / N (Good 1953).

    Entropies of counts whose coverage is low are too small, corrected or not; 0 where nothing was counted.
    """
    total = int(counts.sum())
    return 1 - int((counts == 1).sum()) / total if total else 0.0


def mutual_information(first: np.ndarray, second: np.ndarray, joint: np.ndarray) -> float:
    """Plug-in mutual information in bits.

    Args:
        first: counts `[V]` of one book.
        second: counts `[W]` of the other.
        joint: counts of the pairs of codes that occur, in any order.
    """
    return max(0.0, plugin_entropy(first) + plugin_entropy(second) - plugin_entropy(joint))


def chance_information(first: np.ndarray, second: np.ndarray, *, draws: int = 2, seed: int = 0) -> float:
    """Mutual information in bits that two independent books would seem to have, as their codes are finite.

    The codes of one book are put in a random order beside those of the other: the null model of the adjusted
    mutual information.

    Args:
        first: counts `[V]` of one book.
        second: counts `[W]` of the other, over the same frames.
        draws: random orders to average over.
        seed: of the orders.
    """
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(first)), first) * len(second)
    columns = np.repeat(np.arange(len(second)), second)
    tables = (np.unique(rows + rng.permutation(columns), return_counts=True)[1] for _ in range(draws))
    return float(np.mean([mutual_information(first, second, table) for table in tables]))
