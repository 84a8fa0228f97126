"""Noise for decoders that is the same however the codes were fed: a function of the frame's number."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NOISE_FRAMES = 1024
"""Frames after which the noise repeats."""


def noise_table(channels: int, *, seed: int = 0) -> Tensor:
    """Uniform noise of mean 0 and variance 1, float32 `[NOISE_FRAMES, channels]`.

    The bits are those of the SplitMix64 generator (Steele, Lea and Flood 2014), by counter: equal on every
    machine and in every version of the libraries.
    """
    bits = _bits(np.arange(1, NOISE_FRAMES * channels + 1, dtype=np.uint64), seed)
    uniform = (bits >> np.uint64(40)).astype(np.float64) / (1 << 24) - 0.5
    return torch.from_numpy((uniform * np.sqrt(12.0)).astype(np.float32)).view(NOISE_FRAMES, channels)


def gaussian_noise(start: int, count: int, *, seed: int = 0, stream: int = 0) -> Tensor:
    """Gaussian noise of mean 0 and variance 1, float32 `[count]`, that does not repeat.

    Value i is a function of `start + i`, `seed` and `stream`: sqrt(-2 ln u) cos(2 pi v) (Box and Muller 1958)
    of two uniform numbers from the bits of `noise_table`'s generator, under a key for each seed and stream.
    """
    key = _bits(_bits(np.array([stream], np.uint64), seed), seed)[0]
    bits = _bits(np.arange(start + 1, start + count + 1, dtype=np.uint64), int(key))
    u = ((bits >> np.uint64(32)).astype(np.float64) + 1) / (1 << 32)
    v = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) / (1 << 32)
    return torch.from_numpy((np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)).astype(np.float32))


def _bits(counters: np.ndarray, seed: int) -> np.ndarray:
    """64 bits for each counter, uint64: SplitMix64."""
    with np.errstate(over="ignore"):
        z = counters * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed % (1 << 64))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z
