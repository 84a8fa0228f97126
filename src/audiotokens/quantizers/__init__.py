"""Quantizers: latents to codes and back, all behind `Quantizer`."""

from audiotokens.quantizers.base import Quantized, Quantizer
from audiotokens.quantizers.fsq import FiniteScalarQuantizer, FSQConfig
from audiotokens.quantizers.rvq import ResidualVectorQuantizer, RVQConfig

__all__ = [
    "FSQConfig",
    "FiniteScalarQuantizer",
    "Quantized",
    "Quantizer",
    "RVQConfig",
    "ResidualVectorQuantizer",
]
