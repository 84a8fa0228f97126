"""Which frames of a stream hold sound: the silent ones of a recording say little about how books are used."""

from __future__ import annotations

import numpy as np

from audiotokens.streams import CodeStream
from audiotokens.tokens import Tokens

RANGE = 40.0
"""A frame this many dB below the loudest stretch of 20 ms is silent (the rule of STOI, Taal et al. 2011)."""
_STRETCH = 0.02


def active_frames(tokens: Tokens, waveform: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
    """Return bool `[T]` of every stream: whether the frame is within 40 dB of the loudest 20 ms.

    Args:
        tokens: of the recording.
        waveform: what was encoded, `[C, N]` at `sample_rate`; its channels are averaged.
        sample_rate: in Hz.

    Returns:
        By stream. The frames of a stream for the whole recording are active where anything is heard; all are
        False for silence.
    """
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform.mean(axis=0, dtype=np.float64)))])
    stretch = max(1, round(_STRETCH * sample_rate))
    edges = np.arange(0, len(energy) - 1 + stretch, stretch)
    loudest = float(np.max(_levels(energy, edges[:-1], edges[1:]), initial=0.0))
    active = {}
    for name, stream in tokens.streams.items():
        starts, ends = _spans(stream, tokens)
        scale = sample_rate / tokens.sample_rate
        levels = _levels(energy, np.round(starts * scale), np.round(ends * scale))
        active[name] = (levels >= loudest * 10 ** (-RANGE / 10)) & (levels > 0)
    return active


def _levels(energy: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Mean power between samples, from cumulated energy `[N + 1]`; 0 behind the end."""
    last = len(energy) - 1
    first, end = (np.clip(edge, 0, last).astype(np.int64) for edge in (starts, ends))
    return np.asarray((energy[end] - energy[first]) / np.maximum(end - first, 1))


def _spans(stream: CodeStream, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """First sample of every frame and the one behind its last, at the rate of the tokens."""
    if not stream.frame_rate:
        return np.zeros(stream.num_frames), np.full(stream.num_frames, float(tokens.num_samples))
    if stream.segments is not None:
        edges = [s.start_sample + s.num_samples / s.frames * np.arange(s.frames + 1) for s in stream.segments]
        return np.concatenate([edge[:-1] for edge in edges]), np.concatenate([edge[1:] for edge in edges])
    durations = np.ones(stream.num_frames) if stream.durations is None else stream.durations
    frames = np.concatenate([[0.0], np.cumsum(durations)]) * float(tokens.sample_rate / stream.frame_rate)
    return frames[:-1], frames[1:]
