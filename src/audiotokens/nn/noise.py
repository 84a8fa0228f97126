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
    with np.errstate(over="ignore"):
        z = np.arange(1, NOISE_FRAMES * channels + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    uniform = (z >> np.uint64(40)).astype(np.float64) / (1 << 24) - 0.5
    return torch.from_numpy((uniform * np.sqrt(12.0)).astype(np.float32)).view(NOISE_FRAMES, channels)
