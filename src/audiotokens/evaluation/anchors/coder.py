"""What the speech codecs among the anchors share: one channel, a rate of their own, samples of 16 bits."""

from __future__ import annotations

import time
from abc import abstractmethod

import numpy as np

from audiotokens.audio import mix_to_channels, resample
from audiotokens.errors import DamagedError
from audiotokens.evaluation.anchors.base import Anchor, Coded


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Round float samples to int16, full scale at 1.0; what lies beyond is clipped."""
    scaled = np.round(samples.astype(np.float64) * 32768)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def from_int16(samples: np.ndarray) -> np.ndarray:
    """Return int16 samples as float32 with full scale at 1.0."""
    return (samples / np.float32(32768)).astype(np.float32)


class SpeechCoder(Anchor):
    """A codec of one channel that turns samples into bytes, and those bytes alone back into samples.

    Attributes:
        sample_rate: at which the codec runs, in Hz. Input is mixed to one channel and resampled to it.
        delay: samples at `sample_rate` by which the codec is known to be late; taken out here. It is set for
            codecs that change phases, where a correlation misleads; `align` is then false.
        timed: whether wall times mean something; not so where a process is started for every recording.
    """

    sample_rate: int
    delay: int = 0
    timed: bool = False

    @abstractmethod
    def encode(self, samples: np.ndarray) -> bytes:
        """Code int16 `[T]` at `sample_rate`, from a fresh state."""

    @abstractmethod
    def decode(self, coded: bytes) -> np.ndarray:
        """Return float32 `[N]` at `sample_rate`, from a fresh state, N at least as large as the T coded."""

    def count_bytes(self, coded: bytes) -> int:
        """Return the size of the coded frames in what `encode` gave, without their container."""
        return len(coded)

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Take float32 `[C, T]` through the codec; the output is cut to the length of the input.

        Raises:
            DamagedError: what was coded is damaged, or the decoder gave fewer samples than were coded.
        """
        start = time.perf_counter()
        samples = resample(mix_to_channels(waveform, 1), sample_rate, self.sample_rate)[0]
        coded = self.encode(to_int16(np.pad(samples, (0, self.delay))))
        encode_seconds = time.perf_counter() - start
        num_bytes = self.count_bytes(coded)
        start = time.perf_counter()
        output = self.decode(coded)
        decode_seconds = time.perf_counter() - start
        num_samples = len(samples) + self.delay
        if len(output) < num_samples:
            raise DamagedError(f"{self.name}: {num_samples} samples were coded, {len(output)} were decoded")
        return Coded(
            waveform=output[None, self.delay : num_samples],
            sample_rate=self.sample_rate,
            num_bytes=num_bytes,
            encode_seconds=encode_seconds if self.timed else None,
            decode_seconds=decode_seconds if self.timed else None,
        )
