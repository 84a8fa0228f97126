"""Quantizers: latents to codes and back, all behind `Quantizer`."""

from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig
from audiotokens.quantizers.fsq import FiniteScalarQuantizer, FSQConfig
from audiotokens.quantizers.grouped import GroupedConfig, GroupedQuantizer
from audiotokens.quantizers.projected import ProjectedConfig, ProjectedQuantizer
from audiotokens.quantizers.registry import build_quantizer
from audiotokens.quantizers.rvq import ResidualVectorQuantizer, RVQConfig
from audiotokens.quantizers.split import SplitConfig, SplitQuantizer
from audiotokens.quantizers.statistics import all_reduce_statistics, merge_statistics
from audiotokens.quantizers.usage import UsageCounter, UsageReport, usage_report
from audiotokens.quantizers.vector import EMALearning, GradientLearning, VectorConfig, VectorQuantizer

__all__ = [
    "EMALearning",
    "FSQConfig",
    "FiniteScalarQuantizer",
    "GradientLearning",
    "GroupedConfig",
    "GroupedQuantizer",
    "ProjectedConfig",
    "ProjectedQuantizer",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "RVQConfig",
    "ResidualVectorQuantizer",
    "SplitConfig",
    "SplitQuantizer",
    "UsageCounter",
    "UsageReport",
    "VectorConfig",
    "VectorQuantizer",
    "all_reduce_statistics",
    "build_quantizer",
    "merge_statistics",
    "usage_report",
]
