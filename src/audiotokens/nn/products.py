"""Matrix products whose rows do not depend on one another, to the last bit.

A library picks its kernel by the shape of a product: a row alone, a sum over many terms or threads that share
one sum give other last bits than the same row in a larger product. With at least two rows and two columns
and at most 384 terms, the library used here adds the terms of each element in one order, whatever the number
of rows and threads. So products are made of such parts, one after another, and a frame has the same bits in
a step, in a block of a file and in a batch. It is the library's habit, not its promise: `rows_agree` tries it
on the machine at hand. Matrices have to lie in memory row by row.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

TERMS = 384
"""Most terms of a sum that are added in one order."""

# Batches of products with fewer columns go through other kernels.
_COLUMNS = 80


def applies(x: Tensor) -> bool:
    """Whether these products are for the tensor: on a CPU, without gradients."""
    return not torch.is_grad_enabled() and x.device.type == "cpu"


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """`[M, K]` times `[K, N]`, plus a bias `[N]`; `out` `[M, N]` takes the result."""
    if rows.dtype != torch.float32:
        return _plain(rows, weight, bias, out)
    if weight.shape[1] == 1:
        wide = product(rows, functional.pad(weight, (0, 1)), None if bias is None else bias.repeat(2))
        return wide[:, :1] if out is None else out.copy_(wide[:, :1])
    if len(rows) == 1:
        pair = product(_twice(rows), weight, bias)
        return pair[:1] if out is None else out.copy_(pair[:1])
    if rows.shape[1] <= TERMS:
        return _plain(rows, weight, bias, out)
    parts = zip(rows.split(TERMS, 1), weight.split(TERMS))
    result = _plain(*next(parts), bias, out)
    for part in parts:
        result.addmm_(*part)
    return result


def add_product(total: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """Add `[M, K]` times `[K, N]` to `total` `[M, N]`, in its memory."""
    if rows.dtype != torch.float32:
        return total.addmm_(rows, weight)
    if len(rows) == 1 or weight.shape[1] == 1:
        wide = functional.pad(weight, (0, 1)) if weight.shape[1] == 1 else weight
        sums = total.new_empty(max(len(rows), 2), wide.shape[1]).copy_(total)
        add_product(sums, _twice(rows) if len(rows) == 1 else rows, wide)
        return total.copy_(sums[: len(rows), : weight.shape[1]])
    for some, part in zip(rows.split(TERMS, 1), weight.split(TERMS)):
        total.addmm_(some, part)
    return total


def frames_product(frames: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """Frames `[..., K]` times `[K, N]`, plus a bias `[N]`."""
    if not applies(frames):
        return frames @ matrix if bias is None else frames @ matrix + bias
    rows = product(frames.reshape(-1, frames.shape[-1]), matrix, bias)
    return rows.view(*frames.shape[:-1], matrix.shape[1])


def attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(d)) v; a query has the bits that it has alone, wherever its keys stand.

    Args:
        query: `[B, H, n, d]`.
        keys: `[B, H, d, m]`, m at most `TERMS`.
        values: `[B, H, m, d]`.
        mask: which keys each query reads, bool, broadcast to `[B, H, n, m]`; None: all of them.

    Returns:
        `[B, H, n, d]`.
    """
    batch, heads, steps, width = query.shape
    count = keys.shape[3]
    queries = _at_least(query * width**-0.5, 2, 2).flatten(0, 1)
    scores = torch.bmm(queries, _at_least(keys, _COLUMNS, 3).flatten(0, 1))
    scores = scores[:, :steps, :count].unflatten(0, (batch, heads))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = _at_least((scores - scores.amax(3, keepdim=True)).exp_(), 2, 2)
    # A column of ones sums the weights up.
    ones = values.new_ones(1).expand(*values.shape[:3], max(_COLUMNS - width, 1))
    summed = torch.cat([values, ones], 3)
    sums = torch.bmm(weights.flatten(0, 1), summed.flatten(0, 1))[:, :steps]
    found: Tensor = sums.unflatten(0, (batch, heads))
    return found[..., :width] / found[..., width : width + 1]


def _at_least(x: Tensor, size: int, dim: int) -> Tensor:
    """Fill up with zeros a dimension that is smaller."""
    missing = size - x.shape[dim]
    return functional.pad(x, (0, 0) * (x.dim() - 1 - dim) + (0, missing)) if missing > 0 else x


def _plain(rows: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None) -> Tensor:
    return torch.mm(rows, weight, out=out) if bias is None else torch.addmm(bias, rows, weight, out=out)


def _twice(row: Tensor) -> Tensor:
    return row.new_empty(2, row.shape[1]).copy_(row)


@functools.cache
def rows_agree() -> bool:
    """Whether rows of products have the same bits for other numbers of rows and threads, tried once."""
    threads = torch.get_num_threads()
    random = torch.Generator().manual_seed(0)
    try:
        with torch.inference_mode():
            return all(
                _agree(terms, columns, random, (1, 2, threads))
                for terms in (5, 64, 200, 384, 900)
                for columns in (1, 2, 48, 130, 512)
            )
    finally:
        torch.set_num_threads(threads)


def _agree(terms: int, columns: int, random: torch.Generator, threads: tuple[int, ...]) -> bool:
    rows = torch.randn(700, terms, generator=random)
    weight = torch.randn(terms, columns, generator=random)
    bias = torch.randn(columns, generator=random)
    torch.set_num_threads(1)
    expected = product(rows, weight, bias)
    for count in dict.fromkeys(threads):
        torch.set_num_threads(count)
        for first, last in ((0, 1), (3, 5), (1, 8), (0, 17), (7, 40), (2, 131), (0, 513), (0, 700)):
            found = product(rows[first:last], weight, bias)
            if not torch.equal(found, expected[first:last]):
                return False
    return True
