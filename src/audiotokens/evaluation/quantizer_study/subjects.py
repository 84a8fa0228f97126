"""The quantizers of the study: for about so many bits per frame, a configuration of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from audiotokens.quantizers import FSQConfig, QuantizerConfig, RVQConfig
from audiotokens.quantizers.bsq import BSQConfig
from audiotokens.quantizers.grouped import GroupedConfig
from audiotokens.quantizers.gumbel import GumbelConfig, Temperature
from audiotokens.quantizers.latent import LatentConfig
from audiotokens.quantizers.lfq import LFQConfig
from audiotokens.quantizers.projected import ProjectedConfig
from audiotokens.quantizers.qinco import QINCoConfig
from audiotokens.quantizers.regularizers import EntropyPenalty, OnlineClustering
from audiotokens.quantizers.residual_scalar import ResidualFSQConfig, ResidualLFQConfig
from audiotokens.quantizers.scalar import ScalarConfig
from audiotokens.quantizers.simvq import SimVQConfig
from audiotokens.quantizers.vector import EMALearning, GradientLearning, VectorConfig

Family: TypeAlias = Literal["vector", "scalar", "several books"]

LEVELS = {
    8: (8, 6, 5),
    10: (8, 5, 5, 5),
    12: (7, 5, 5, 5, 5),
    13: (8, 8, 6, 5, 5),
    14: (8, 8, 8, 6, 5),
    16: (8, 8, 8, 5, 5, 5),
}
"""Levels of FSQ by bits, as Mentzer et al. (2023) recommend them."""
_HALF_LEVELS = {8: (4, 4), 10: (8, 4), 12: (8, 8), 14: (8, 4, 4), 16: (8, 8, 4)}
_TERNARY = {8: 5, 10: 6, 12: 8, 14: 9, 16: 10}
BALANCED_BITS = 10
"""Above it the penalty of the entropy, a gradient from every vector to every entry, costs too much."""


@dataclass(frozen=True)
class Subject:
    """A quantizer at any number of bits.

    Args:
        label: for tables.
        family: for plots.
        make: configuration for bits per frame and rows per step; None: clustered offline instead, see
            `references`.
        data_start: whether books start from data.
        nested: whether training drops books at random.
        bits: largest number for which the cost of a step is bearable; see `why`.
        why: what stands against more bits; empty: nothing.
    """

    label: str
    family: Family
    make: Callable[[int, int], QuantizerConfig] | None
    data_start: bool = False
    nested: bool = False
    bits: int = 16
    why: str = ""


def averaged(size: int, rows: int) -> VectorConfig:
    """VQ with moving averages and expiry: an entry of a tenth of the mean use restarts."""
    return VectorConfig(codebook_size=size, learning=EMALearning(expire_below=0.1 * rows / size))


def _plain(bits: int, rows: int) -> QuantizerConfig:
    return VectorConfig(codebook_size=2**bits, learning=GradientLearning())


def _rotation(bits: int, rows: int) -> QuantizerConfig:
    return VectorConfig(codebook_size=2**bits, learning=GradientLearning(), gradient="rotation")


def _ema(bits: int, rows: int) -> QuantizerConfig:
    return VectorConfig(codebook_size=2**bits, learning=EMALearning(smoothing=1e-5, expire_below=0.0))


def _tricks(bits: int, rows: int) -> QuantizerConfig:
    return averaged(2**bits, rows)


def _cosine(bits: int, rows: int) -> QuantizerConfig:
    return VectorConfig(codebook_size=2**bits, codebook_dim=8, metric="cosine", learning=GradientLearning())


def _simvq(bits: int, rows: int) -> QuantizerConfig:
    return SimVQConfig(codebook_size=2**bits)


def _balanced(bits: int, rows: int) -> QuantizerConfig:
    penalty = EntropyPenalty(sample=0.0, batch=0.1) if bits <= BALANCED_BITS else None
    return VectorConfig(
        codebook_size=2**bits,
        learning=GradientLearning(decay=0.9),
        entropy=penalty,
        # 10 / (1 - decay), with a memory that fits so short a training.
        clustering=OnlineClustering(sharpness=100.0),
    )


def _gumbel(bits: int, rows: int) -> QuantizerConfig:
    return GumbelConfig(codebook_size=2**bits, temperature=Temperature(2.0, 0.5, 0.996))


def _fsq(bits: int, rows: int) -> QuantizerConfig:
    if bits in LEVELS:
        return FSQConfig(levels=LEVELS[bits])
    return FSQConfig(levels=LEVELS[10], num_codebooks=bits // 10)


def _lfq(bits: int, rows: int) -> QuantizerConfig:
    return LFQConfig(bits=bits)


def _bsq(bits: int, rows: int) -> QuantizerConfig:
    return BSQConfig(bits=bits)


def _latent(bits: int, rows: int) -> QuantizerConfig:
    return LatentConfig(levels=LEVELS[bits])


def _scalar(bits: int, rows: int) -> QuantizerConfig:
    dims = _TERNARY[bits]
    return ProjectedConfig(inner_dim=dims, inner=ScalarConfig(steps=1, dims_per_codebook=dims))


def books_of(bits: int) -> tuple[int, int]:
    """Number and size of the books that make `bits`: two up to 16 bits, then as many of 1,024 as it takes."""
    return (2, 2 ** (bits // 2)) if bits <= 16 else (bits // 10, 1024)


def _rvq(bits: int, rows: int) -> QuantizerConfig:
    count, size = books_of(bits)
    # The levels' own commitment losses: one relative to the variance of z can be lowered by letting z grow.
    return RVQConfig(num_codebooks=count, inner=averaged(size, rows), commitment=0.0)


def _residual_fsq(bits: int, rows: int) -> QuantizerConfig:
    return ResidualFSQConfig(levels=_HALF_LEVELS[bits], num_codebooks=2)


def _residual_lfq(bits: int, rows: int) -> QuantizerConfig:
    return ResidualLFQConfig(inner=LFQConfig(bits=bits // 2), num_codebooks=2)


def _implicit(bits: int, rows: int) -> QuantizerConfig:
    count, size = books_of(bits)
    return QINCoConfig(num_codebooks=count, codebook_size=size, hidden=64, blocks=1)


def _gvq(bits: int, rows: int) -> QuantizerConfig:
    count, size = books_of(bits)
    return GroupedConfig(groups=count, inner=averaged(size, rows))


def _nested_gvq(bits: int, rows: int) -> QuantizerConfig:
    count, size = books_of(bits)
    return GroupedConfig(groups=count, inner=averaged(size, rows), nested_dropout=True)


_DENSE = "every vector has a gradient to every entry"
_COMPUTED = "a network computes every entry for every vector"

SUBJECTS: dict[str, Subject] = {
    "vq-plain": Subject("VQ, gradients, no tricks", "vector", _plain),
    "vq-rotation": Subject("VQ, rotation trick", "vector", _rotation),
    "vq-ema": Subject("VQ, moving averages", "vector", _ema),
    "vq-expiry": Subject("VQ, averages and expiry", "vector", _tricks, data_start=True),
    "vq-cosine": Subject("VQ, cosine, 8 dimensions", "vector", _cosine),
    "simvq": Subject("SimVQ", "vector", _simvq),
    "vq-balanced": Subject("VQ, balanced (ERVQ)", "vector", _balanced),
    "kmeans": Subject("k-means, offline", "vector", None),
    "gumbel": Subject("Gumbel VQ", "vector", _gumbel, bits=12, why=_DENSE),
    "fsq": Subject("FSQ", "scalar", _fsq),
    "lfq": Subject("LFQ", "scalar", _lfq),
    "bsq": Subject("BSQ", "scalar", _bsq),
    "latent": Subject("latent quantization", "scalar", _latent),
    "scalar": Subject("scalar, 3 values", "scalar", _scalar),
    "rvq": Subject("RVQ", "several books", _rvq, data_start=True),
    "qinco": Subject("QINCo", "several books", _implicit, data_start=True, bits=12, why=_COMPUTED),
    "residual-fsq": Subject("residual FSQ", "several books", _residual_fsq),
    "residual-lfq": Subject("residual LFQ", "several books", _residual_lfq),
    "gvq": Subject("GVQ", "several books", _gvq, data_start=True),
    "gvq-nested": Subject("GVQ, nested dropout", "several books", _nested_gvq, data_start=True, nested=True),
}
"""Name -> what it is. Random projection is not among them: it has no decoder, so no distortion."""
