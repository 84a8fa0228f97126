"""Sounds made on the spot: varied, deterministic, and free of files."""

from __future__ import annotations

import numpy as np


def make_waveforms(
    sample_rate: int, channels: int = 1, *, seed: int = 0, thorough: bool = False
) -> dict[str, np.ndarray]:
    """Make test signals: speech-like, chords, noise, clicks, silence, very short ones, odd lengths.

    Args:
        sample_rate: in Hz.
        channels: every further channel is a delayed and softer copy of the first.
        seed: of the noise and the random choices.
        thorough: three takes, each with other choices and three times as long.

    Returns:
        Name -> float32 `[C, N]` in [-1, 1].
    """
    mono: dict[str, np.ndarray] = {}
    length = 3 if thorough else 1
    for take in range(3 if thorough else 1):
        random = np.random.default_rng([seed, take])
        mark = f" {take}" if take else ""
        long, middle = (round(seconds * length * sample_rate) for seconds in (1.4, 0.9))
        mono[f"speech{mark}"] = _speech(long, sample_rate, random)
        mono[f"chords{mark}"] = _chords(middle + 1, sample_rate, random)
        mono[f"noise{mark}"] = _noise(middle // 2 + 7, random)
        mono[f"clicks{mark}"] = _clicks(middle // 2, random)
        mono[f"odd length{mark}"] = _speech(
            int(random.integers(sample_rate // 20, sample_rate // 4)) | 1, sample_rate, random
        )
    mono["silence"] = np.zeros(sample_rate // 4)
    mono["half silence"] = np.concatenate([np.zeros(sample_rate // 8), _noise(sample_rate // 8, random)])
    mono["full scale"] = np.sign(np.sin(2 * np.pi * 220.5 / sample_rate * np.arange(sample_rate // 5) + 0.1))
    mono["7 samples"] = _noise(7, random)
    mono["1 sample"] = np.array([0.5])
    return {name: _spread(signal, channels) for name, signal in mono.items()}


def _spread(signal: np.ndarray, channels: int) -> np.ndarray:
    rows = [np.roll(signal, 11 * channel) * 0.7**channel for channel in range(channels)]
    return np.clip(np.stack(rows), -1.0, 1.0).astype(np.float32)


def _speech(length: int, sample_rate: int, random: np.random.Generator) -> np.ndarray:
    """Harmonics of a gliding pitch under moving formants, in syllables, with a hiss between some of them."""
    time = np.arange(length) / sample_rate
    pitch = random.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.4, 1.2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    syllable = np.clip(np.sin(2 * np.pi * random.uniform(2.5, 4.5) * time + random.uniform(0, 6)), 0, None)
    formants = [
        (600 + 250 * np.sin(2 * np.pi * 1.7 * time), 90.0, 1.0),
        (1500 + 600 * np.sin(2 * np.pi * 1.1 * time + 1), 140.0, 0.5),
        (2600 + 200 * np.sin(2 * np.pi * 0.6 * time), 250.0, 0.25),
    ]
    voice: np.ndarray = np.zeros(length)
    for harmonic in range(1, 1 + int(min(3800, 0.45 * sample_rate) / pitch.max())):
        frequency = harmonic * pitch
        weight = sum(gain / (1 + ((frequency - center) / width) ** 2) for center, width, gain in formants)
        voice += weight * np.cos(harmonic * phase)
    hiss = np.diff(random.standard_normal(length + 1)) * np.clip(syllable - 0.8, 0, None)
    voice = voice * syllable**2
    return np.asarray(0.4 * voice / max(np.abs(voice).max(), 1e-3) + 0.05 * hiss)


def _chords(length: int, sample_rate: int, random: np.random.Generator) -> np.ndarray:
    time = np.arange(length) / sample_rate
    total: np.ndarray = np.zeros(length)
    for start in np.arange(0.0, time[-1], 0.3):
        since = np.clip(time - start, 0, None)
        decay = np.exp(-4 * since) * (time >= start) * np.clip(since / 0.005, 0, 1)
        for note in random.choice([0, 3, 4, 7, 10, 12], 3, replace=False):
            frequency = 220 * 2 ** (note / 12)
            for overtone in (1, 2, 3):
                if overtone * frequency < 0.45 * sample_rate:
                    total += decay * np.sin(2 * np.pi * overtone * frequency * since) / overtone**2
    return np.asarray(0.6 * total / max(np.abs(total).max(), 1e-3))


def _noise(length: int, random: np.random.Generator) -> np.ndarray:
    """White noise whose level steps between loud and very soft."""
    level = 10.0 ** random.uniform(-3, -0.7, 1 + length // 1000)
    return np.asarray(np.clip(random.standard_normal(length) * np.repeat(level, 1000)[:length], -1, 1))


def _clicks(length: int, random: np.random.Generator) -> np.ndarray:
    signal = np.zeros(length)
    places = random.choice(length, max(length // 700, 1), replace=False)
    signal[places] = random.choice([-1.0, 1.0, 0.3, 0.01], len(places))
    return signal
