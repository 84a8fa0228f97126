"""The one door for sound: waveforms as arrays, the pinned resampler, reading and writing files.

A waveform inside the package is float32 `[C, T]`, full scale at 1.0. One resampler, soxr at its VHQ setting,
serves everything; results name it (`RESAMPLER`), since scores made with another one are other scores.
"""

from audiotokens.audio.reading import (
    AUDIO_SUFFIXES,
    MEDIA_SUFFIXES,
    AudioInfo,
    audio_info,
    read_audio,
    read_blocks,
)
from audiotokens.audio.waveforms import (
    RESAMPLER,
    Resampler,
    Waveform,
    WaveformLike,
    as_waveform,
    check_sample_rate,
    mix_to_channels,
    resample,
)
from audiotokens.audio.writing import write_audio, write_blocks

__all__ = [
    "AUDIO_SUFFIXES",
    "MEDIA_SUFFIXES",
    "RESAMPLER",
    "AudioInfo",
    "Resampler",
    "Waveform",
    "WaveformLike",
    "as_waveform",
    "audio_info",
    "check_sample_rate",
    "mix_to_channels",
    "read_audio",
    "read_blocks",
    "resample",
    "write_audio",
    "write_blocks",
]
