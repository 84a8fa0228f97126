"""Sound of the report: equal loudness for every version of a recording, and audio files inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiotokens.errors import AudioError
from audiotokens.evaluation.loudness import at_loudness

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


def match_loudness(versions: Sequence[np.ndarray], sample_rate: int) -> list[np.ndarray]:
    """Bring all versions `[N]` of a recording to -23 LUFS, then lower all by one factor if any would clip.

    Silent versions stay as they are.
    """
    matched = []
    for waveform in versions:
        brought = at_loudness(waveform, sample_rate, TARGET_LOUDNESS)
        matched.append(waveform if brought is None else brought)
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
