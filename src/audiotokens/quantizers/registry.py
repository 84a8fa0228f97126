"""Kinds of quantizers by name: those of this package, and entry points of others."""

from __future__ import annotations

import difflib
import importlib
from importlib import metadata

from audiotokens.quantizers.base import Quantizer, QuantizerConfig

ENTRY_POINT_GROUP = "audiotokens.quantizers"

quantizers: dict[str, str] = {
    "agglomerative": "audiotokens.quantizers.agglomerative:AgglomerativeQuantizer",
    "bsq": "audiotokens.quantizers.bsq:BinarySphericalQuantizer",
    "fsq": "audiotokens.quantizers.fsq:FiniteScalarQuantizer",
    "grouped": "audiotokens.quantizers.grouped:GroupedQuantizer",
    "gumbel": "audiotokens.quantizers.gumbel:GumbelQuantizer",
    "k-means": "audiotokens.quantizers.kmeans:KMeansQuantizer",
    "latent": "audiotokens.quantizers.latent:LatentQuantizer",
    "lfq": "audiotokens.quantizers.lfq:LookupFreeQuantizer",
    "multiscale": "audiotokens.quantizers.multiscale:MultiscaleQuantizer",
    "projected": "audiotokens.quantizers.projected:ProjectedQuantizer",
    "qinco": "audiotokens.quantizers.qinco:QINCoQuantizer",
    "random-projection": "audiotokens.quantizers.random_projection:RandomProjectionQuantizer",
    "residual-fsq": "audiotokens.quantizers.residual_scalar:ResidualFSQ",
    "residual-lfq": "audiotokens.quantizers.residual_scalar:ResidualLFQ",
    "rvq": "audiotokens.quantizers.residual:ResidualQuantizer",
    "scalar": "audiotokens.quantizers.scalar:ScalarQuantizer",
    "sim-vq": "audiotokens.quantizers.simvq:SimVectorQuantizer",
    "split": "audiotokens.quantizers.split:SplitQuantizer",
    "vector": "audiotokens.quantizers.vector:VectorQuantizer",
}
"""Kind of a configuration -> "module:class", imported when first used."""


def build_quantizer(config: QuantizerConfig, dim: int) -> Quantizer:
    """Build the quantizer of latents with `dim` dimensions that a configuration describes.

    Example:
        >>> from audiotokens.quantizers import FSQConfig
        >>> build_quantizer(FSQConfig(levels=(8, 5, 5)), dim=16).codebook_sizes
        (200,)
    """
    return quantizer_class(config.kind)(dim, config)


def quantizer_class(kind: object) -> type[Quantizer]:
    """Return the class of a kind of quantizers.

    Raises:
        ValueError: no such kind, or its entry point gives no subclass of `Quantizer`.
    """
    if isinstance(kind, str) and kind in quantizers:
        module, _, attribute = quantizers[kind].partition(":")
        found: type[Quantizer] = getattr(importlib.import_module(module), attribute)
        return found
    points = {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    if not isinstance(kind, str) or kind not in points:
        known = [*quantizers, *points]
        near = difflib.get_close_matches(str(kind), known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"expected one of {', '.join(known)}"
        raise ValueError(f'no quantizer is of the kind "{kind}"; {hint}')
    loaded = points[kind].load()
    if not (isinstance(loaded, type) and issubclass(loaded, Quantizer)):
        raise ValueError(f'the quantizer "{kind}" of {points[kind].value} is not a subclass of Quantizer')
    return loaded
