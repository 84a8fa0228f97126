"""The mel spectrogram that judges of others were trained on."""

from __future__ import annotations

import numpy as np

from audiotokens.evaluation.spectral import MelScale, mel_filters


def mel_power(signal: np.ndarray, scale: MelScale, sample_rate: int) -> np.ndarray:
    """Return the mel spectrogram of power of `[T]`, float32 `[bands, T // hop + 1]`.

    Frames are centred, zeros stand beyond both ends, the Hann window is periodic. With Slaney's scale this
    equals librosa's `melspectrogram` with its defaults.
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(scale.window) / scale.window)
    padded = np.pad(signal.astype(np.float32), scale.window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, scale.window)[:: scale.hop]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    return np.asarray(mel_filters(scale, sample_rate) @ power.T, dtype=np.float32)
