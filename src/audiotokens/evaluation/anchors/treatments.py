"""Treatments of the original with a known effect: a row that shows another one tells of a fault in measuring.

All but `Original` work on one channel at the rate of the measures, as those do themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiotokens.audio import RESAMPLER, mix_to_channels, read_audio, resample
from audiotokens.errors import AudioError, AudioTokensError
from audiotokens.evaluation.anchors.base import Anchor, Coded, Kind
from audiotokens.evaluation.anchors.coder import from_int16, to_int16
from audiotokens.evaluation.files import AudioFile, find_files
from audiotokens.evaluation.metrics import EVALUATION_RATE

_LOW_RATE = 8000
_ROUND_TRIP_RATE = 24000
_NOISE_DECIBELS = 20.0


class Treatment(Anchor):
    """A treatment of float32 `[T]` at `EVALUATION_RATE` that codes nothing and keeps the length."""

    kind: Kind = "calibration"

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Treat float32 `[C, T]`, mixed to one channel and resampled to `EVALUATION_RATE`."""
        samples = resample(mix_to_channels(waveform, 1), sample_rate, EVALUATION_RATE)[0]
        return Coded(self.treat(samples)[None], EVALUATION_RATE, num_bytes=0)

    @abstractmethod
    def treat(self, samples: np.ndarray) -> np.ndarray:
        """Return the treated signal, float32 `[T]`."""


class LowPass(Treatment):
    """The original band-limited to 4 kHz: what nothing that codes narrow band can surpass."""

    name = "lowpass-4k"
    title = "Original below 4 kHz"
    definition = f"the original at 16 kHz, resampled to 8 kHz and back ({RESAMPLER})"
    kind = "anchor"

    def treat(self, samples: np.ndarray) -> np.ndarray:
        """Return the signal without what lies above 4 kHz."""
        return _through(samples, _LOW_RATE)


class Original(Anchor):
    """The original itself: every measure must show its best value."""

    name = "original"
    title = "Original"
    definition = "the original itself, at its own rate"
    kind = "calibration"

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Return the input."""
        return Coded(waveform, sample_rate, num_bytes=0)


class Rounded(Treatment):
    """The original through int16."""

    name = "int16"
    title = "Original as int16"
    definition = "the original at 16 kHz, rounded to int16, what lies beyond full scale clipped"

    def treat(self, samples: np.ndarray) -> np.ndarray:
        """Return the rounded signal."""
        return from_int16(to_int16(samples))


class RoundTrip(Treatment):
    """The original through another sample rate and back."""

    name = "resampled"
    title = "Original through 24 kHz"
    definition = f"the original at 16 kHz, resampled to 24 kHz and back ({RESAMPLER})"

    def treat(self, samples: np.ndarray) -> np.ndarray:
        """Return the signal after a way through 24 kHz."""
        return _through(samples, _ROUND_TRIP_RATE)


class Shift(Treatment):
    """The original late by some samples, which the comparison leaves as it is.

    Args:
        num_samples: at `EVALUATION_RATE`.
    """

    align = False

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        plural = "" if num_samples == 1 else "s"
        self.name = f"shift-{num_samples}"
        self.title = f"Late by {num_samples} sample{plural}"
        self.definition = f"the original at 16 kHz, late by {num_samples} sample{plural}, not aligned"

    def treat(self, samples: np.ndarray) -> np.ndarray:
        """Return zeros, and then the signal as far as its length goes."""
        return np.pad(samples, (self.num_samples, 0))[: len(samples)]


class Inverted(Treatment):
    """The original with its sign inverted, which PESQ, STOI and SI-SDR do not see; its record says so."""

    name = "inverted"
    title = "Inverted polarity"
    definition = "the original at 16 kHz times -1"

    def treat(self, samples: np.ndarray) -> np.ndarray:
        """Return the signal times -1."""
        return -samples


class Noisy(Treatment):
    """The original with white noise 20 dB below it, the same noise every time for the same recording."""

    name = "noise-20db"
    title = "White noise at 20 dB"
    definition = (
        "the original at 16 kHz plus Gaussian white noise 20 dB below its power without mean, from PCG64 "
        "seeded with the SHA-256 of the samples"
    )

    def treat(self, samples: np.ndarray) -> np.ndarray:
        """Return the signal with noise."""
        seed = hashlib.sha256(np.ascontiguousarray(samples, "<f4").tobytes()).digest()
        noise = np.random.Generator(np.random.PCG64(int.from_bytes(seed))).standard_normal(len(samples))
        level = float(np.std(samples, dtype=np.float64)) * 10 ** (-_NOISE_DECIBELS / 20)
        return (samples + level * noise).astype(np.float32)


class Silence(Treatment):
    """Nothing: every measure must fail with a reason, and none may give a score."""

    name = "silence"
    title = "Silence"
    definition = "zeros"
    align = False

    def treat(self, samples: np.ndarray) -> np.ndarray:
        """Return zeros."""
        return np.zeros_like(samples)


class AnotherUtterance(Anchor):
    """The next recording of a list, of another speaker where there is one: what chance alone scores.

    A recording is found in the list by its samples, so the list must hold all that are given to `code`.

    Args:
        files: paths of the recordings; their speakers are found as everywhere (`find_files`).

    Raises:
        AudioTokensError: there are fewer than two files.
    """

    name = "another-utterance"
    title = "Another utterance"
    definition = (
        "the next recording of the list that is not of the same speaker (the next one at all where there is "
        "only one speaker), repeated or cut to the same length, not aligned"
    )
    kind = "calibration"
    align = False

    def __init__(self, files: Sequence[str | Path]) -> None:
        self._files = find_files(files) if files else []
        if len(self._files) < 2:
            raise AudioTokensError(
                f"{self.name}: needs two files at least, found {len(self._files)}: give files"
            )
        self._recordings: dict[bytes, AudioFile] = {}
        self.definition = f"{type(self).definition}; the list is {_list_digest(self._files)}"

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Return float32 `[1, T]` of another recording, at `EVALUATION_RATE`.

        Raises:
            AudioTokensError: this recording is not in the list, or there is no other one.
        """
        digest = _digest(waveform)
        recordings = self._recordings = self._recordings or self._read_all()
        if digest not in recordings:
            raise AudioTokensError(
                f"{self.name}: this recording is none of the {len(self._files)} files given"
            )
        files, place = list(recordings.values()), list(recordings).index(digest)
        after = [*files[place + 1 :], *files[:place]]
        others = [file for file in after if file.speaker != files[place].speaker] or after
        if not others:
            raise AudioTokensError(f"{self.name}: all files given hold the same recording")
        other, rate = read_audio(others[0].path)
        samples = resample(mix_to_channels(other, 1), rate, EVALUATION_RATE)
        length = -(-waveform.shape[1] * EVALUATION_RATE // sample_rate)
        return Coded(
            np.tile(samples, -(-length // samples.shape[1]))[:, :length], EVALUATION_RATE, num_bytes=0
        )

    def _read_all(self) -> dict[bytes, AudioFile]:
        """Return the first file of each recording, by its samples."""
        recordings: dict[bytes, AudioFile] = {}
        for file in self._files:
            # a file that cannot be read is a failure of its own row, and not of the rows of others
            with contextlib.suppress(AudioError):
                recordings.setdefault(_digest(read_audio(file.path)[0]), file)
        return recordings


def _through(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    there = resample(samples[None], EVALUATION_RATE, sample_rate)
    return resample(there, sample_rate, EVALUATION_RATE)[0, : len(samples)]


def _list_digest(files: Sequence[AudioFile]) -> str:
    """Return the beginning of the SHA-256 over speakers and contents, which decide what is taken."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.speaker} ".encode())
        with contextlib.suppress(OSError), file.path.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def _digest(waveform: np.ndarray) -> bytes:
    return hashlib.sha256(repr(waveform.shape).encode() + np.ascontiguousarray(waveform).tobytes()).digest()
