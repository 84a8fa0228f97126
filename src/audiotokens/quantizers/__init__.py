"""Quantizers: latents to codes and back, all behind `Quantizer`."""

from audiotokens.quantizers.agglomerative import (
    AgglomerativeConfig,
    AgglomerativeQuantizer,
    MergedVocabulary,
    agglomerate,
)
from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig
from audiotokens.quantizers.bsq import BinarySphericalQuantizer, BSQConfig
from audiotokens.quantizers.clustering import KMeans
from audiotokens.quantizers.conversion import from_vector_quantize_pytorch
from audiotokens.quantizers.cross_scale import CrossScaleConfig, CrossScaled, CrossScaleQuantizer
from audiotokens.quantizers.fsq import FiniteScalarQuantizer, FSQConfig
from audiotokens.quantizers.grouped import GroupedConfig, GroupedQuantizer
from audiotokens.quantizers.gumbel import GumbelConfig, GumbelQuantizer, Temperature
from audiotokens.quantizers.kmeans import KMeansConfig, KMeansQuantizer, load_centroids
from audiotokens.quantizers.latent import LatentConfig, LatentQuantizer
from audiotokens.quantizers.lfq import LFQConfig, LookupFreeQuantizer
from audiotokens.quantizers.multiscale import MultiscaleConfig, MultiscaleQuantizer
from audiotokens.quantizers.projected import ProjectedConfig, ProjectedQuantizer
from audiotokens.quantizers.qinco import QINCoConfig, QINCoQuantizer
from audiotokens.quantizers.random_projection import RandomProjectionConfig, RandomProjectionQuantizer
from audiotokens.quantizers.registry import build_quantizer
from audiotokens.quantizers.regularizers import EntropyPenalty, OnlineClustering
from audiotokens.quantizers.residual import ResidualQuantizer, RVQConfig
from audiotokens.quantizers.residual_scalar import (
    ResidualFSQ,
    ResidualFSQConfig,
    ResidualLFQ,
    ResidualLFQConfig,
)
from audiotokens.quantizers.scalar import ScalarConfig, ScalarQuantizer
from audiotokens.quantizers.simvq import SimVectorQuantizer, SimVQConfig
from audiotokens.quantizers.split import SplitConfig, SplitQuantizer
from audiotokens.quantizers.statistics import all_reduce_statistics, merge_statistics
from audiotokens.quantizers.usage import UsageCounter, UsageReport, usage_report
from audiotokens.quantizers.vector import EMALearning, GradientLearning, VectorConfig, VectorQuantizer

__all__ = [
    "AgglomerativeConfig",
    "AgglomerativeQuantizer",
    "BSQConfig",
    "BinarySphericalQuantizer",
    "CrossScaleConfig",
    "CrossScaleQuantizer",
    "CrossScaled",
    "EMALearning",
    "EntropyPenalty",
    "FSQConfig",
    "FiniteScalarQuantizer",
    "GradientLearning",
    "GroupedConfig",
    "GroupedQuantizer",
    "GumbelConfig",
    "GumbelQuantizer",
    "KMeans",
    "KMeansConfig",
    "KMeansQuantizer",
    "LFQConfig",
    "LatentConfig",
    "LatentQuantizer",
    "LookupFreeQuantizer",
    "MergedVocabulary",
    "MultiscaleConfig",
    "MultiscaleQuantizer",
    "OnlineClustering",
    "ProjectedConfig",
    "ProjectedQuantizer",
    "QINCoConfig",
    "QINCoQuantizer",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "RVQConfig",
    "RandomProjectionConfig",
    "RandomProjectionQuantizer",
    "ResidualFSQ",
    "ResidualFSQConfig",
    "ResidualLFQ",
    "ResidualLFQConfig",
    "ResidualQuantizer",
    "ScalarConfig",
    "ScalarQuantizer",
    "SimVQConfig",
    "SimVectorQuantizer",
    "SplitConfig",
    "SplitQuantizer",
    "Temperature",
    "UsageCounter",
    "UsageReport",
    "VectorConfig",
    "VectorQuantizer",
    "agglomerate",
    "all_reduce_statistics",
    "build_quantizer",
    "from_vector_quantize_pytorch",
    "load_centroids",
    "merge_statistics",
    "usage_report",
]
