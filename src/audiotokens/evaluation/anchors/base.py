"""What an anchor is: a fixed codec or treatment that every tokenizer is heard and measured beside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["anchor", "calibration"]


@dataclass(frozen=True)
class Coded:
    """What an anchor made of one recording.

    Args:
        waveform: float32 `[C, N]`.
        sample_rate: of `waveform`, in Hz.
        num_bytes: of the coded frames alone, without container; 0 where nothing is coded.
        encode_seconds: wall time; None where it is not timed.
        decode_seconds: likewise.
    """

    waveform: np.ndarray
    sample_rate: int
    num_bytes: int
    encode_seconds: float | None = None
    decode_seconds: float | None = None


class Anchor(ABC):
    """One system at one setting, such as Opus at 9 kbit/s.

    Attributes:
        name: unique in a comparison, such as "opus-9k".
        title: for readers, such as "Opus 9 kbit/s".
        definition: one sentence with all options and package versions; part of the results and of cache keys.
        kind: "anchor" (a system to compare with) or "calibration" (a treatment with known effect).
        nominal_bitrate: bits per second that were asked for; None where nothing is coded.
        align: whether the comparison removes the delay. False for treatments that show what a delay does,
            and where a correlation has nothing to find.
    """

    name: str
    title: str
    definition: str
    kind: Kind = "anchor"
    nominal_bitrate: float | None = None
    align: bool = True

    @abstractmethod
    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Take float32 `[C, T]` through the system.

        The result is never shorter than the input by more than one frame of the system and not aligned: the
        comparison finds and removes its delay like that of any tokenizer, if `align` is true.
        """
