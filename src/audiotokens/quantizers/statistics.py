"""What a training step leaves for `Quantizer.update`: tensors by name, merged over processes by one call.

A tensor whose last name begins with "sum_" is added over the processes, any other is concatenated along its
first axis. Names of inner quantizers are dotted, as in a state dict: "levels.0.sum_counts".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from audiotokens.nn.equal import hashes

Statistics: TypeAlias = dict[str, Tensor]

_LAST = torch.iinfo(torch.int64).max


def merge_statistics(parts: Sequence[Mapping[str, Tensor]]) -> Statistics:
    """Merge the statistics of parts of one batch into those of the whole.

    Example:
        >>> parts = [{"sum_counts": torch.tensor([1, 2])}, {"sum_counts": torch.tensor([3, 0])}]
        >>> merge_statistics(parts)["sum_counts"].tolist()
        [4, 2]
    """
    return {
        name: torch.stack([part[name] for part in parts]).sum(0)
        if _is_sum(name)
        else torch.cat([part[name] for part in parts])
        for name in parts[0]
    }


def all_reduce_statistics(
    statistics: Mapping[str, Tensor], *, group: dist.ProcessGroup | None = None
) -> Statistics:
    """Merge the statistics of one step over the processes of a group; every process gets the same ones.

    To be called by each process, with tensors of the same names and shapes.
    """
    merged: Statistics = {}
    for name in sorted(statistics):
        tensor = statistics[name].contiguous()
        if _is_sum(name):
            merged[name] = tensor.clone()
            dist.all_reduce(merged[name], group=group)
        else:
            parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
            dist.all_gather(parts, tensor, group=group)
            merged[name] = torch.cat(parts)
    return merged


def nest(statistics: Mapping[str, Tensor], name: str) -> Statistics:
    """Statistics of the inner quantizer `name`, under the names that the outer one gives them."""
    return {f"{name}.{key}": value for key, value in statistics.items()}


def select(statistics: Mapping[str, Tensor], name: str) -> Statistics:
    """The part of the inner quantizer `name`; what `nest` reverses."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in statistics.items() if key.startswith(prefix)}


def sample(vectors: Tensor, capacity: int, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Draw vectors without repetition so that a batch in parts and as a whole give the same ones.

    Each vector has a rank that its own bits decide, and the lowest ranks are drawn (bottom-k sampling, Cohen
    and Kelley 2007): the sample of a union is the sample of the union of the samples.

    Args:
        vectors: float32 `[M, D]`.
        capacity: how many to draw.
        valid: which vectors may be drawn, bool `[M]`; None: all.

    Returns:
        ranks: int64 `[capacity]`, ascending; the largest number where there were too few different vectors.
        drawn: `[capacity, D]`; zeros there.
    """
    ranks = hashes(vectors)
    ranks, order = _each_once(ranks if valid is None else ranks.masked_fill(~valid, _LAST))
    ranks, missing = ranks[:capacity], max(0, capacity - len(ranks))
    rows = vectors[order[:capacity]].masked_fill((ranks == _LAST)[:, None], 0)
    return torch.cat([ranks, ranks.new_full((missing,), _LAST)]), functional.pad(rows, (0, 0, 0, missing))


def drawn(ranks: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of merged samples in the order of their ranks, each once.

    Args:
        ranks: int64 `[R]`, of one `sample` or several concatenated.
        vectors: `[R, D]`.

    Returns:
        drawn: `[R, D]`, of which the first `number` count.
        number: a scalar; a tensor, for which a GPU need not be waited for.
    """
    ranks, order = _each_once(ranks)
    return vectors[order], (ranks != _LAST).sum()


def _each_once(ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Sort ranks `[R]`, and their places, with `_LAST` for those that repeat one."""
    ranks, order = ranks.sort(stable=True)
    repeated = functional.pad(ranks[1:] == ranks[:-1], (1, 0))
    ranks, again = ranks.masked_fill(repeated, _LAST).sort(stable=True)
    return ranks, order[again]


def _is_sum(name: str) -> bool:
    return name.rpartition(".")[2].startswith("sum_")
