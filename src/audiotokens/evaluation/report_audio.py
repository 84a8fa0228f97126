"""Sound of the report: equal loudness for every version of a recording, and audio files inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiotokens.errors import AudioError

TARGET_LOUDNESS = -23.0
PEAK = 0.98


@dataclass(frozen=True)
class Coding:
    """One way of storing the page's audio.

    Args:
        name: for readers.
        media_type: for the browser.
        container: libsndfile's major format.
        subtype: libsndfile's subtype.
        level: libsndfile's compression level, 0 to 1 (Opus: 0.6 is about 110 kbit/s, 0.8 about 60).
    """

    name: str
    media_type: str
    container: str
    subtype: str
    level: float


CODINGS = (
    Coding("FLAC, lossless at 16 bit", "audio/flac", "FLAC", "PCM_16", 1.0),
    Coding("Opus at about 110 kbit/s", "audio/ogg", "OGG", "OPUS", 0.6),
    Coding("Opus at about 60 kbit/s", "audio/ogg", "OGG", "OPUS", 0.8),
)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


def loudness(waveform: np.ndarray, sample_rate: int) -> float | None:
    """Return the integrated loudness of `[N]` in LUFS, or None for silence (ITU-R BS.1770-4, one channel).

    K-weighted mean squares of 400 ms blocks every 100 ms, gated at -70 LUFS and then 10 LU below their mean;
    a shorter recording is one block.
    """
    spectrum = np.fft.rfft(waveform.astype(np.float64))
    weighted = np.fft.irfft(spectrum * _k_weighting(len(waveform), sample_rate), len(waveform))
    energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
    block, step = min(round(0.4 * sample_rate), len(waveform)), max(round(0.1 * sample_rate), 1)
    starts = np.arange(0, len(waveform) - block + 1, step)
    powers = (energy[starts + block] - energy[starts]) / block
    powers = powers[powers > 10 ** ((-70 + 0.691) / 10)]
    if not len(powers):
        return None
    powers = powers[powers > 0.1 * powers.mean()]
    return float(-0.691 + 10 * np.log10(powers.mean()))


def match_loudness(versions: Sequence[np.ndarray], sample_rate: int) -> list[np.ndarray]:
    """Bring all versions `[N]` of a recording to -23 LUFS, then lower all by one factor if any would clip.

    Silent versions stay as they are.
    """
    matched = []
    for waveform in versions:
        level = loudness(waveform, sample_rate)
        matched.append(waveform if level is None else waveform * 10 ** ((TARGET_LOUDNESS - level) / 20))
    peak = max(float(np.max(np.abs(waveform), initial=0.0)) for waveform in matched)
    return [waveform * min(1.0, PEAK / max(peak, 1e-9)) for waveform in matched]


def embed(waveform: np.ndarray, sample_rate: int, coding: Coding) -> str:
    """Return a waveform `[N]` as a base64 audio file.

    Raises:
        AudioError: libsndfile cannot write this coding.
    """
    import soundfile

    from audiotokens.audio import resample

    if coding.subtype == "OPUS" and sample_rate not in _OPUS_RATES:
        target = min((rate for rate in _OPUS_RATES if rate >= sample_rate), default=48000)
        waveform, sample_rate = resample(waveform[None], sample_rate, target)[0], target
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(
            buffer,
            "w",
            sample_rate,
            1,
            coding.subtype,
            format=coding.container,
            compression_level=coding.level,
        ) as file:
            file.write(np.clip(waveform, -1.0, 1.0))
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"this libsndfile cannot write {coding.container}/{coding.subtype}: {error}"
        ) from None
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _k_weighting(length: int, sample_rate: int) -> np.ndarray:
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(length))
    return np.asarray(_shelf(z, sample_rate) * _high_pass(z, sample_rate))


def _shelf(z: np.ndarray, sample_rate: int) -> np.ndarray:
    # Parameters of the standard's filters for any rate: B. De Man, "Evaluation of implementations of the
    # EBU R128 loudness measurement" (2018).
    k, q, gain = (
        np.tan(np.pi * 1681.974450955533 / sample_rate),
        0.7071752369554196,
        10 ** (3.999843853973347 / 20),
    )
    root = gain**0.4996667741545416
    numerator = (gain + root * k / q + k * k) + 2 * (k * k - gain) * z + (gain - root * k / q + k * k) * z**2
    return np.asarray(numerator / _denominator(z, k, q))


def _high_pass(z: np.ndarray, sample_rate: int) -> np.ndarray:
    k, q = np.tan(np.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    return np.asarray((1 - z) ** 2 * (1 + k / q + k * k) / _denominator(z, k, q))


def _denominator(z: np.ndarray, k: float, q: float) -> np.ndarray:
    return np.asarray((1 + k / q + k * k) + 2 * (k * k - 1) * z + (1 - k / q + k * k) * z**2)
