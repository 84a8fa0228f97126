"""Codes and samples that do not depend on how the audio was fed.

float32 kernels give other last bits for other batch sizes, lengths and thread counts, and near ties then
flip codes. There are two cures:

- Frames with the same bits. The networks run in float32, by kernels under which a frame does not depend on
  the frames beside it (`nn.products`, `nn.activations`, `nn.kernels`). Nearly free, for codes and samples,
  bit by bit, on one machine.
- float64. Latents are rounded to float32 before the search: two float64 results that differ by rounding noise
  round to one float32 value but for about one value in 10^8, on another machine or device too. It takes
  about twice the time.

In both the books are searched in float64, so that the search has one answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiotokens.nn.block import Block
from audiotokens.nn.equal import first_equal
from audiotokens.nn.products import rows_agree
from audiotokens.nn.recurrent import LSTM, BiLSTM
from audiotokens.nn.search import Searcher, nearest
from audiotokens.tokenizer import Exactness

__all__ = ["first_equal", "has_same_bits", "nearest", "nearest_float64", "run_exactly"]


def run_exactly(nets: Sequence[nn.Module], exact: Exactness) -> torch.dtype:
    """Make networks exact, or fast again; return the floating type that they run in."""
    for net in nets:
        for block in net.modules():
            if isinstance(block, LSTM | BiLSTM):
                block.same_bits = bool(exact)
    wide = exact == "float64" or (exact is True and not all(map(has_same_bits, nets)))
    dtype = torch.float64 if wide else torch.float32
    for net in nets:
        net.to(dtype)
    return dtype


def has_same_bits(net: nn.Module) -> bool:
    """Whether the frames of a network have the same bits in any piece, batch and number of threads here."""
    on_cpu = all(parameter.device.type == "cpu" for parameter in net.parameters())
    blocks = (block for block in net.modules() if isinstance(block, Block))
    return on_cpu and all(block.same_bits for block in blocks) and rows_agree()


def nearest_float64(vectors: Tensor, book: Tensor) -> Tensor:
    """Index of the nearest entry in float64, the lowest of equally near ones.

    A book that is searched often is prepared once by `search.Searcher`.

    Args:
        vectors: float64 `[M, D]`.
        book: float64 `[N, D]`.

    Returns:
        int64 `[M]`.
    """
    return Searcher(book).nearest(vectors)
