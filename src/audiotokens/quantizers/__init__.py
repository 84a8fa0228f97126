"""Quantizers: latents to codes and back, all behind `Quantizer`."""

from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig
from audiotokens.quantizers.fsq import FiniteScalarQuantizer, FSQConfig
from audiotokens.quantizers.registry import build_quantizer
from audiotokens.quantizers.rvq import ResidualVectorQuantizer, RVQConfig
from audiotokens.quantizers.statistics import all_reduce_statistics, merge_statistics
from audiotokens.quantizers.usage import UsageCounter, UsageReport, usage_report

__all__ = [
    "FSQConfig",
    "FiniteScalarQuantizer",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "RVQConfig",
    "ResidualVectorQuantizer",
    "UsageCounter",
    "UsageReport",
    "all_reduce_statistics",
    "build_quantizer",
    "merge_statistics",
    "usage_report",
]
