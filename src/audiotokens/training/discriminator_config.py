"""Configurations of discriminators; reading them needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class STFTDiscriminatorConfig:
    """Complex STFT discriminators, one per window.

    Args:
        kind: names this discriminator in a recipe.
        windows: samples of each STFT; the hop is a quarter.
        channels: of every layer.
        kernel: of the first layers, in frames and bins.
        dilations: in frames, of the layers that halve the bins.
        spectrum: "complex" reads real and imaginary part divided by the root of the window's energy;
            "compressed" reads both times |S|^-0.7 (|S|^2 floored by 1e-7), and 0.15 ln |S|^2 beside them, so
            that weak partials are seen.
    """

    kind: Literal["stft"] = "stft"
    windows: tuple[int, ...] = (1024, 2048, 512)
    channels: int = 32
    kernel: tuple[int, int] = (3, 9)
    dilations: tuple[int, ...] = (1, 2, 4)
    spectrum: Literal["complex", "compressed"] = "complex"

    def __post_init__(self) -> None:
        _check_windows(self.windows)
        if not all(size % 2 for size in self.kernel):
            raise ValueError(f"kernel is {list(self.kernel)}, expected odd sizes")


@dataclass(frozen=True)
class PeriodDiscriminatorConfig:
    """Discriminators that see every p-th sample in one column, one per period p.

    Args:
        kind: names this discriminator in a recipe.
        periods: samples of each.
        channels: of the layers; all but the last keep every third row.
        whole_period: mirror a whole period at the end where the length is a multiple of it (DAC), instead of
            nothing (HiFi-GAN, Vocos).
        level: take out mean and peak level first (DAC).
    """

    kind: Literal["period"] = "period"
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    whole_period: bool = False
    level: bool = False

    def __post_init__(self) -> None:
        if not self.periods or min(self.periods) < 2 or not self.channels:
            raise ValueError(
                f"periods are {list(self.periods)} and channels {list(self.channels)}, expected periods of 2 "
                "or more and one layer or more"
            )


@dataclass(frozen=True)
class BandDiscriminatorConfig:
    """Complex STFT discriminators whose bands have layers of their own, one per window.

    Args:
        kind: names this discriminator in a recipe.
        windows: samples of each STFT; the hop is a quarter.
        channels: of every layer.
        edges: of the bands, as shares of the bins.
        framing: "centered" mirrors half a window at both ends (Vocos: Siuzdak 2023); "matched" makes one
            frame per hop (DAC).
        level: take out mean and peak level first.
    """

    kind: Literal["band"] = "band"
    windows: tuple[int, ...] = (2048, 1024, 512)
    channels: int = 32
    edges: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
    framing: Literal["centered", "matched"] = "centered"
    level: bool = True

    def __post_init__(self) -> None:
        _check_windows(self.windows)
        steps = [high - low for low, high in zip(self.edges, self.edges[1:])]
        if not steps or min(self.edges) < 0 or max(self.edges) > 1 or min(steps) <= 0:
            raise ValueError(f"edges are {list(self.edges)}, expected rising shares from 0 to 1")


@dataclass(frozen=True)
class ScaleDiscriminatorConfig:
    """Discriminators of the waveform at lower sample rates, one per factor.

    Args:
        kind: names this discriminator in a recipe.
        factors: by which the sample rate is divided.
        channels: of the first layer; the others have 4, 16 and 64 times as many.
        level: take out mean and peak level first (DAC).
    """

    kind: Literal["scale"] = "scale"
    factors: tuple[int, ...] = (1, 2, 4)
    channels: int = 16
    level: bool = True

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 1 or self.channels % 4 or self.channels < 4:
            raise ValueError(
                f"factors are {list(self.factors)} and channels {self.channels}, expected factors of 1 or "
                "more and a multiple of 4 channels"
            )


DiscriminatorConfig = (
    STFTDiscriminatorConfig | PeriodDiscriminatorConfig | BandDiscriminatorConfig | ScaleDiscriminatorConfig
)


def _check_windows(windows: Sequence[int]) -> None:
    """Check window lengths of a configuration.

    Raises:
        ValueError: none, or one whose quarter is no whole hop.
    """
    if not windows or any(window < 16 or window % 4 for window in windows):
        raise ValueError(f"windows are {list(windows)}, expected multiples of 4 samples, 16 or more")
