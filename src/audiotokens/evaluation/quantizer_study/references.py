"""What stands beside the quantizers that learn step by step.

The books of the frozen tokenizer, its latents as they are, and k-means over vectors that are all there from
the start.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from audiotokens.codec import Codec
from audiotokens.evaluation.quantizer_study.autoencoder import Budget
from audiotokens.evaluation.quantizer_study.cells import Cell, CellResult, file_errors, usage_figures
from audiotokens.evaluation.quantizer_study.latents import LatentSet
from audiotokens.evaluation.quantizer_study.listening import Listener
from audiotokens.quantizers.clustering import KMeans

SHIPPED, UNQUANTIZED, KMEANS = "shipped", "unquantized", "kmeans"
REFERENCES = (SHIPPED, UNQUANTIZED, KMEANS)
"""Subjects that `run_reference` measures."""

_CHUNK = 1024
_LARGEST_SPREAD_START = 4096


def run_reference(
    cell: Cell, latents: LatentSet, budget: Budget, codec: Codec, listener: Listener | None
) -> CellResult:
    """Measure one of `REFERENCES`; k-means visits as many vectors, over all iterations, as the others see."""
    test = np.asarray(latents.test)
    if cell.subject == KMEANS:
        return _clustered(cell, latents, budget, test)
    if cell.subject == UNQUANTIZED:
        codes, variants = torch.zeros(1, len(test), dtype=torch.int64), {"all": test}
        sizes: tuple[int, ...] = (2,)
    else:
        codes, variants = _shipped(latents, codec, test)
        sizes = codec.quantizer.codebook_sizes
    heard = {}
    if listener is not None:
        measures = listener.all if cell.task == "audio" else ("pesq-wb",)
        heard = {name: listener.hear(latents, rows, measures) for name, rows in variants.items()}
    return CellResult(
        cell=cell,
        usage=usage_figures(sizes, codes),
        errors=file_errors(latents, test, list(variants.values())[-1]),
        reduced={name: float(np.square(rows - test).mean()) for name, rows in variants.items()},
        heard=heard,
    )


@torch.inference_mode()
def _shipped(latents: LatentSet, codec: Codec, test: np.ndarray) -> tuple[Tensor, dict[str, np.ndarray]]:
    """Codes of the tokenizer's own books, and what each number of them restores."""
    raw = torch.from_numpy(latents.restored(test))[None]
    codes = torch.cat([codec.quantizer.encode(part)[0] for part in raw.split(_CHUNK, 2)], 1)
    variants = {"0": np.zeros_like(test)}
    for books in codec.quantizer.legal_prefixes:
        decoded = codec.quantizer.decode(codes[None, :books])[0].T.numpy()
        variants[str(books)] = ((decoded - latents.mean) / latents.scale).astype(np.float32)
    return codes, variants


def _clustered(cell: Cell, latents: LatentSet, budget: Budget, test: np.ndarray) -> CellResult:
    size = 2**cell.bits
    iterations = min(10, max(2, budget.rows // (16 * size)))
    count = min(len(latents.train), max(budget.rows // iterations, size))
    rows = np.random.default_rng(cell.seed).choice(len(latents.train), count, replace=False)
    start = "k-means++" if size <= _LARGEST_SPREAD_START else "random"
    started = time.perf_counter()
    model = KMeans(
        min(size, count), init=start, n_init=1, max_iter=iterations, tol=0.0, random_state=cell.seed
    )
    model.fit(latents.train[np.sort(rows)])
    seconds = time.perf_counter() - started
    labels = np.concatenate(
        [model.predict(test[first : first + _CHUNK]) for first in range(0, len(test), _CHUNK)]
    )
    return CellResult(
        cell=cell,
        usage=usage_figures((size,), torch.from_numpy(labels.astype(np.int64))[None]),
        errors=file_errors(latents, test, model.cluster_centers_[labels]),
        rows=count * iterations,
        seconds=seconds,
    )
