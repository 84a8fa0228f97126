"""Fixed tables of the blocks, computed in the graph from their definitions instead of stored.

The functions follow those that make the tables in torch, in float64 with whole-number phases.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from audiotokens.architectures import gain_shape
from audiotokens.export.arrangement import arange, cat
from audiotokens.export.emitters import elementwise, where
from audiotokens.export.traced import Traced, constant, graph
from audiotokens.nn import transforms
from audiotokens.nn.noise import NOISE_FRAMES

Table = Callable[[Any, Any], Traced]
_TABLES: dict[tuple[type, str], Table] = {}


def tables(net: nn.Module, config: Any) -> Iterator[tuple[int, Callable[[], Traced]]]:
    """Identity of each table in a net, and what computes it in the graph that is being written.

    Args:
        net: its modules are looked through.
        config: of the codec.
    """
    for module in net.modules():
        for name, buffer in module.named_buffers(recurse=False):
            table = _TABLES.get((type(module), name))
            if table is not None:
                yield id(buffer), functools.cache(functools.partial(table, module, config))


def _table(kind: type, name: str) -> Callable[[Table], Table]:
    def register(function: Table) -> Table:
        _TABLES[kind, name] = function
        return function

    return register


def cosines(phases: Traced, period: int) -> Traced:
    """cos(2 pi p / period) of whole numbers p, in float64."""
    return ((phases % period).double() * (2 * math.pi / period)).cos()


def _mdct_basis(hop: int) -> Traced:
    n, k = arange(2 * hop)[:, None], arange(hop)[None]
    window = ((n.double() + 0.5) * (math.pi / (2 * hop))).sin()
    return window * math.sqrt(2 / hop) * cosines((2 * n + (1 + hop)) * (2 * k + 1), 8 * hop)


@_table(transforms.MDCT, "basis")
def _analysis_basis(module: transforms.MDCT, config: Any) -> Traced:
    return _mdct_basis(module.stride).float()


@_table(transforms.IMDCT, "basis")
def _synthesis_basis(module: transforms.IMDCT, config: Any) -> Traced:
    return _mdct_basis(module.hop).float().T


@_table(transforms.ISTFT, "window")
def _hann_window(module: transforms.ISTFT, config: Any) -> Traced:
    return (0.5 - 0.5 * cosines(arange(module.n_fft), module.n_fft)).float()


def inverse_fourier_basis(size: int) -> Traced:
    """Products with real parts, then imaginary ones, of a spectrum, `[2 (size / 2 + 1), size]` in float32.

    x[n] = 1/N sum_k c_k (Re X_k cos(2 pi k n / N) - Im X_k sin(2 pi k n / N)), with c_k = 1 at both ends and
    else 2.
    """
    bins = size // 2 + 1
    k, n = arange(bins)[:, None], arange(size)[None]
    inner = where((k % (size // 2)) > 0, 2.0 / size, constant(torch.tensor(1.0 / size)))
    # sin a = cos(a - pi / 2): a quarter of a period earlier, of four times as many phases.
    cosine, sine = (cosines(4 * k * n - quarter, 4 * size) for quarter in (0, size))
    found: Traced = cat([cosine.float() * inner, sine.float() * -inner], 0)
    return found


def _band_weights(config: gain_shape.GainShapeConfig) -> Traced:
    frequency = (arange(config.hop).double() + 0.5) * (config.sample_rate / (2 * config.hop) / 600)
    # asinh x = ln(x + sqrt(x^2 + 1))
    position = (frequency + (frequency * frequency + 1.0).sqrt()).log()
    position = position * ((config.bands - 1) / math.asinh(config.sample_rate / 2 / 600))
    return (1.0 - (position[:, None] - arange(config.bands).double()).abs()).clamp(min=0.0)


@_table(gain_shape.GainShapeFeatures, "analysis")
def _analysis(module: gain_shape.GainShapeFeatures, config: gain_shape.GainShapeConfig) -> Traced:
    weights = _band_weights(config)
    return (weights / weights.sum(0)).float()


@_table(gain_shape.GainShapeFeatures, "spread")
@_table(gain_shape.GainShapeCoefficients, "spread")
@_table(gain_shape.NoisyShapes, "spread")
def _spread(module: nn.Module, config: gain_shape.GainShapeConfig) -> Traced:
    return _band_weights(config).float().T


@_table(gain_shape.NoisyShapes, "table")
def _noise_table(module: gain_shape.NoisyShapes, config: gain_shape.GainShapeConfig) -> Traced:
    # SplitMix64 by counter, as `noise.noise_table`.
    z = (arange(NOISE_FRAMES * config.hop) + 1).to(torch.uint64)
    z = _times(z, 0x9E3779B97F4A7C15)
    z = _times(_mixed(z, 30), 0xBF58476D1CE4E5B9)
    z = _times(_mixed(z, 27), 0x94D049BB133111EB)
    uniform = _shifted(_mixed(z, 31), 40).double() * (1 / (1 << 24)) - 0.5
    return (uniform * math.sqrt(12.0)).float().reshape(NOISE_FRAMES, config.hop)


def _times(x: Traced, factor: int) -> Traced:
    return elementwise("Mul", x, constant(torch.tensor(factor, dtype=torch.uint64)))


def _shifted(x: Traced, places: int) -> Traced:
    right = constant(torch.tensor(places, dtype=torch.uint64))
    return elementwise("BitShift", x, right, attributes={"direction": "RIGHT"})


def _mixed(x: Traced, places: int) -> Traced:
    name = graph().apply("BitwiseXor", x.name, _shifted(x, places).name)
    return Traced(name, x.shape, x.dtype, constant=x.constant)
