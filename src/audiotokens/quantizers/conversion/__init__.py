"""Quantizers of the package vector-quantize-pytorch (P. Wang; version 1.32.0) as quantizers of this one.

There latents are `[B, T, D]` and codes `[B, T]`, `[B, T, K]` or, of grouped classes, `[G, B, T, K]`; here
they are `[B, D, T]` and `[B, K, T]`, and book k of group g gives code k G + g of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from audiotokens.quantizers.base import Quantizer
from audiotokens.quantizers.conversion import books, scalars
from audiotokens.quantizers.conversion.options import FIXED, FREE, Options
from audiotokens.quantizers.conversion.state import Made, Tensors

__all__ = ["FIXED", "FREE", "from_vector_quantize_pytorch"]

_CLASSES: Mapping[str, Callable[[Options, Tensors], Made]] = {
    "FSQ": scalars.fsq,
    "GroupedResidualFSQ": books.grouped(scalars.residual_fsq),
    "GroupedResidualLFQ": books.grouped(scalars.residual_lfq),
    "GroupedResidualVQ": books.grouped(books.residual_vq),
    "LFQ": scalars.lfq,
    "LatentQuantize": scalars.latent_quantize,
    "RandomProjectionQuantizer": books.random_projection,
    "ResidualFSQ": scalars.residual_fsq,
    "ResidualLFQ": scalars.residual_lfq,
    "ResidualSimVQ": books.residual_sim_vq,
    "ResidualVQ": books.residual_vq,
    "SimVQ": books.sim_vq,
    "VectorQuantize": books.vector_quantize,
}


def from_vector_quantize_pytorch(
    class_name: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Quantizer:
    """Return the quantizer that gives the codes and values of one of vector-quantize-pytorch.

    A training step is the same too, but for entries that expire, which restart at other vectors; for books
    that gradients learn, where one loss there moves latents and entries and two with its gradients do here;
    and for implicit neural books, which learn by the losses of `QINCoConfig`.

    Args:
        class_name: such as "ResidualVQ".
        options: keyword arguments of its constructor.
        tensors: its `state_dict()`, as safetensors or `torch.load(..., weights_only=True)` reads it.

    Raises:
        ValueError: a class or an option without counterpart, or tensors that are not those of the options.

    Example:
        >>> import torch
        >>> quantizer = from_vector_quantize_pytorch("FSQ", {"levels": [8, 5, 5]}, {})
        >>> quantizer.encode(torch.zeros(1, 3, 2))
        tensor([[[100, 100]]])
    """
    if class_name not in _CLASSES:
        raise ValueError(f'there is no counterpart of "{class_name}", expected one of {", ".join(_CLASSES)}')
    found, state = Options(class_name, options), Tensors(class_name, tensors)
    made = _CLASSES[class_name](found, state)
    found.finish()
    state.finish()
    return made.build(class_name)
