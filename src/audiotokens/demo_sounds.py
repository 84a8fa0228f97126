"""Sounds made on the spot for the demo: synthesized voices, chords and drums, noises."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from audiotokens.errors import AudioTokensError, MissingExtraError

MUSIC_RATE = 44100
_INT16_SCALE = 32768.0
_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8 = 2, 0x8000, 1
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """One synthesized speaker.

    Args:
        name: for the file name.
        voice: espeak-ng voice with variant.
        text: what it says, in its language.
        pitch: espeak-ng pitch, 0 to 99.
        rate: words per minute.
    """

    name: str
    voice: str
    text: str
    pitch: int = 50
    rate: int = 160


VOICES = (
    Voice(
        "english-us",
        "en-us+f3",
        "A codec turns sound into a short list of numbers. This voice was made a moment ago.",
        55,
    ),
    Voice(
        "scottish",
        "en-gb-scotland+m3",
        "Listen for the consonants: they suffer first when the bits run out.",
        35,
        150,
    ),
    Voice("german", "de+m7", "Aus Klang werden Zahlen, und aus den Zahlen wird wieder Klang.", 42, 150),
    Voice("french", "fr+f2", "Le son devient une suite de nombres, puis il redevient du son.", 60),
    Voice(
        "spanish", "es+m1", "El sonido se convierte en números, y los números vuelven a ser sonido.", 45, 170
    ),
    Voice("finnish", "fi+f4", "Ääni muuttuu luvuiksi, ja luvut muuttuvat takaisin ääneksi.", 65, 150),
    Voice("turkish", "tr+m4", "Ses önce sayılara dönüşür, sonra sayılar yeniden ses olur.", 30, 150),
    Voice("swahili", "sw+f5", "Sauti inakuwa namba, na namba zinarudi kuwa sauti.", 70, 140),
)


def speak(voice: Voice) -> tuple[np.ndarray, int]:
    """Synthesize a sentence with the espeak-ng library of the package espeakng-loader.

    Returns:
        Float32 `[N]` with a quarter of a second of silence on both sides, and the sample rate in Hz.

    Raises:
        MissingExtraError: espeakng-loader is not installed.
        AudioTokensError: the library does not load, or does not have this voice.
    """
    library, _, rate, chunks = _espeak()
    if library.espeak_SetVoiceByName(voice.voice.encode()):
        raise AudioTokensError(f'espeak-ng has no voice "{voice.voice}": choose one of its voices')
    for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_PITCH_RANGE, 60)):
        library.espeak_SetParameter(parameter, value, 0)
    text = voice.text.encode("utf-8") + b"\0"
    chunks.clear()
    status = library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, _UTF8, None, None)
    if status or not chunks:
        raise AudioTokensError(f'espeak-ng gave no sound for the voice "{voice.voice}" (status {status})')
    speech = np.concatenate(chunks).astype(np.float32) / _INT16_SCALE
    return np.pad(speech, rate // 4), rate


def chords(seed: int) -> np.ndarray:
    """Return eight seconds of four chords of decaying partials, stereo float32 `[2, N]` at 44.1 kHz."""
    generator = np.random.default_rng(seed)
    roots = ((57, 60, 64, 69), (53, 57, 60, 65), (48, 55, 60, 64), (55, 59, 62, 67))
    mix = np.zeros((2, 8 * MUSIC_RATE + MUSIC_RATE))
    for i, notes in enumerate(roots):
        for k, note in enumerate(notes):
            start = round((2 * i + 0.03 * k) * MUSIC_RATE)
            tone = _plucked(440 * 2 ** ((note - 69) / 12), 2.2, generator)
            pan = np.array([[0.3 + 0.4 * k / 3], [0.7 - 0.4 * k / 3]])
            mix[:, start : start + len(tone)] += pan * tone
    return _scaled(mix[:, : 8 * MUSIC_RATE])


def drums(seed: int) -> np.ndarray:
    """Return eight seconds of kick, snare and hat at 110 beats per minute, float32 `[1, N]` at 44.1 kHz."""
    generator = np.random.default_rng(seed)
    length, step = 8 * MUSIC_RATE, 60 / 110 / 4
    mix = np.zeros(length + MUSIC_RATE)
    for i in range(int(8 / step)):
        beat = i % 16
        hits = [0.25 * _hat(generator)] if beat % 2 == 0 else []
        hits += [_kick()] if beat in (0, 6, 8, 11) else []
        hits += [0.6 * _snare(generator)] if beat in (4, 12) else []
        start = round(i * step * MUSIC_RATE)
        for hit in hits:
            mix[start : start + len(hit)] += hit
    return _scaled(mix[None, :length])


def rain(seed: int) -> np.ndarray:
    """Return six seconds of drops over pink noise, float32 `[1, N]` at 44.1 kHz."""
    generator = np.random.default_rng(seed)
    length = 6 * MUSIC_RATE
    mix = 0.15 * _shaped_noise(length, generator, lambda f: 1 / np.sqrt(np.maximum(f, 40)))
    for _ in range(240):
        drop = _ring(generator.uniform(1500, 7000), 0.03, 120) * generator.uniform(0.05, 0.5) ** 2
        start = generator.integers(0, length - len(drop))
        mix[start : start + len(drop)] += drop
    return _scaled(mix[None])


def wind(seed: int) -> np.ndarray:
    """Return six seconds of a resonance that wanders through noise, float32 `[1, N]` at 44.1 kHz."""
    generator = np.random.default_rng(seed)
    length = 6 * MUSIC_RATE
    time = np.arange(length) / MUSIC_RATE
    low = _shaped_noise(length, generator, lambda f: np.exp(-(((f - 320) / 140) ** 2)))
    high = _shaped_noise(length, generator, lambda f: np.exp(-(((f - 900) / 260) ** 2)))
    share = 0.5 + 0.5 * np.sin(2 * np.pi * 0.21 * time + generator.uniform(0, 6))
    swell = 0.35 + 0.65 * np.sin(np.pi * 0.33 * time) ** 2
    return _scaled((swell * (low * (1 - share) + 0.8 * high * share))[None])


def _plucked(frequency: float, seconds: float, generator: np.random.Generator) -> np.ndarray:
    time = np.arange(round(seconds * MUSIC_RATE)) / MUSIC_RATE
    partials = np.arange(1, 9)
    stretched = partials * frequency * np.sqrt(1 + 0.0002 * partials**2)
    phases = generator.uniform(0, 2 * np.pi, len(partials))
    waves = np.sin(2 * np.pi * stretched[:, None] * time + phases[:, None])
    decay = np.cumprod(np.tile(np.exp(-0.45 * time), (len(partials), 1)), axis=0) * np.exp(-0.9 * time)
    attack = np.minimum(time / 0.006, 1) * np.minimum((seconds - time) / 0.05, 1)
    return np.asarray(attack * (waves * decay / partials[:, None] ** 1.1).sum(axis=0))


def _kick() -> np.ndarray:
    time = np.arange(round(0.3 * MUSIC_RATE)) / MUSIC_RATE
    phase = 2 * np.pi * (50 * time + 110 / 30 * (1 - np.exp(-30 * time)))
    return np.asarray(np.sin(phase) * np.exp(-11 * time))


def _snare(generator: np.random.Generator) -> np.ndarray:
    ring = _ring(190, 0.2, 22)
    noise = _shaped_noise(len(ring), generator, lambda f: (f > 1200).astype(float))
    time = np.arange(len(ring)) / MUSIC_RATE
    return np.asarray(0.6 * ring + 0.5 * noise * np.exp(-18 * time))


def _hat(generator: np.random.Generator) -> np.ndarray:
    time = np.arange(round(0.08 * MUSIC_RATE)) / MUSIC_RATE
    return _shaped_noise(len(time), generator, lambda f: (f > 6000).astype(float)) * np.exp(-60 * time)


def _ring(frequency: float, seconds: float, decay: float) -> np.ndarray:
    time = np.arange(round(seconds * MUSIC_RATE)) / MUSIC_RATE
    return np.asarray(np.sin(2 * np.pi * frequency * time) * np.exp(-decay * time))


def _shaped_noise(
    length: int, generator: np.random.Generator, response: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    spectrum = np.fft.rfft(generator.standard_normal(length))
    noise = np.fft.irfft(spectrum * response(np.fft.rfftfreq(length, 1 / MUSIC_RATE)), length)
    return np.asarray(noise / np.max(np.abs(noise)))


def _scaled(waveform: np.ndarray) -> np.ndarray:
    fade = np.minimum(1, np.minimum(np.arange(waveform.shape[1]), np.arange(waveform.shape[1])[::-1]) / 441)
    return np.asarray(0.7 * fade * waveform / np.max(np.abs(waveform)), dtype=np.float32)


@cache
def _espeak() -> tuple[ctypes.CDLL, object, int, list[np.ndarray]]:
    try:
        import espeakng_loader
    except ImportError:
        raise MissingExtraError("synthesized speech", "demo") from None
    chunks: list[np.ndarray] = []

    def collect(samples: Any, count: int, _: Any) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    try:
        library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        rate = library.espeak_Initialize(
            _SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), _DO_NOT_EXIT
        )
    except OSError as error:
        raise AudioTokensError(f"the espeak-ng library does not load here: {error}") from None
    if rate <= 0:
        raise AudioTokensError("espeak-ng did not start: reinstall the package espeakng-loader")
    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    # the library keeps only a bare pointer to the callback: it must live as long as the library
    return library, callback, int(rate), chunks
