"""Reading sound files: facts, whole or in part, or block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from audiotokens.audio.decoders import AudioPath, display_name, open_audio
from audiotokens.audio.waveforms import Waveform, regrouped
from audiotokens.errors import AudioError

MEDIA_SUFFIXES = (
    ".m4a",
    ".mp4",
    ".m4b",
    ".mov",
    ".3gp",
    ".webm",
    ".mkv",
    ".mka",
    ".aac",
    ".wma",
    ".avi",
    ".flv",
)
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"),
    *MEDIA_SUFFIXES,
)
MEMORY_LIMIT = 4 << 30


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file is.

    Args:
        sample_rate: in Hz.
        channels: number of channels.
        num_samples: samples per channel.
        format: container, such as "wav", "flac", "mp3", "ogg", "mov" or "matroska".
        codec: coding inside the container, such as "pcm_16" or "opus".
    """

    sample_rate: int
    channels: int
    num_samples: int
    format: str
    codec: str = ""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


def audio_info(path: AudioPath) -> AudioInfo:
    """Return what a sound file is.

    The length comes from the header where that states it exactly; otherwise (mp3 without a Xing tag, m4a,
    webm, video) the file is decoded to count, in constant memory.

    Raises:
        AudioError: the file is missing, empty, cut off, no audio, or may not be read.
        MissingExtraError: PyAV is needed and not installed.
    """
    with open_audio(path) as file:
        count = file.num_samples
        if count is None:
            count = sum(len(chunk) for chunk in file.chunks())
        return AudioInfo(file.sample_rate, file.channels, count, file.format, file.codec)


def read_audio(
    path: AudioPath, *, start: int = 0, frames: int | None = None, memory_limit: int = MEMORY_LIMIT
) -> tuple[Waveform, int]:
    """Read a sound file, or a part of it.

    Args:
        path: wav, flac, mp3, ogg, opus and more; with the extra "media" also m4a, webm and video; "-" is wav
            from standard input.
        start: first sample to read.
        frames: most samples to read (default: to the end; a shorter file gives what there is).
        memory_limit: bytes that the float32 samples may take.

    Returns:
        The waveform, float32 `[C, T]`, and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, empty, cut off, no audio, too long for the memory limit, not
            finite, or may not be read.
        MissingExtraError: PyAV is needed and not installed.

    Example:
        >>> waveform, sample_rate = read_audio("speech.flac")  # doctest: +SKIP
    """
    _check_count("start", start, 0)
    if frames is not None:
        _check_count("frames", frames, 1)
    with open_audio(path, pipes=True) as file:
        if file.num_samples is not None:
            expected = file.num_samples - start
            expected = expected if frames is None else min(expected, frames)
            _check_memory(path, expected * file.channels, memory_limit)
        pieces: list[Waveform] = []
        values = 0
        for chunk in file.chunks(start, frames):
            values += chunk.size
            _check_memory(path, values, memory_limit)
            pieces.append(chunk)
        return join_chunks(pieces), file.sample_rate


def read_blocks(path: AudioPath, *, block_samples: int) -> Iterator[Waveform]:
    """Read a sound file of any length block by block, in memory for one block.

    Joined, the blocks equal what `read_audio` gives.

    Args:
        path: as in `read_audio`, but not standard input; `audio_info` tells the sample rate.
        block_samples: samples per block.

    Returns:
        Iterator of float32 `[C, block_samples]`; the last block may be shorter.

    Raises:
        AudioError: as in `read_audio`; at the call if the header shows it, on the way if only the samples do.
    """
    _check_count("block_samples", block_samples, 1)
    open_audio(path).close()
    return _blocks(path, block_samples)


def _blocks(path: AudioPath, block_samples: int) -> Iterator[Waveform]:
    with open_audio(path) as file:
        yield from regrouped((chunk.T for chunk in file.chunks()), block_samples)


def join_chunks(pieces: list[Waveform]) -> Waveform:
    """Join pieces `[n, C]` to `[C, T]`, emptying the list on the way to hold little more than one copy."""
    result = np.empty((pieces[0].shape[1], sum(map(len, pieces))), dtype=np.float32)
    position = result.shape[1]
    while pieces:
        piece = pieces.pop()
        result[:, position - len(piece) : position] = piece.T
        position -= len(piece)
    return result


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise AudioError(f"{name} is {value!r}; expected a whole number from {least} on")


def _check_memory(path: AudioPath, values: int, limit: int) -> None:
    if 4 * values > limit:
        raise AudioError(
            f"{display_name(os.fsdecode(path))}: decoded it takes at least {4 * values / 2**20:,.1f} MiB, "
            f"the limit is {limit / 2**20:,.1f} MiB; read blocks or a part, or raise memory_limit"
        )
