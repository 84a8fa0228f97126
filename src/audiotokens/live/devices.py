"""The microphone and the loudspeaker, by the package sounddevice (extra `live`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from audiotokens.audio import Waveform
from audiotokens.errors import AudioError, MissingExtraError, one_line


class Microphone:
    """Chunks of what the default input device hears.

    Args:
        sample_rate: in Hz.
        channels: C.
        chunk: samples of a chunk.

    Raises:
        MissingExtraError: sounddevice is not installed.
        AudioError: there is no such device, or no PortAudio.
    """

    def __init__(self, sample_rate: int, channels: int, chunk: int) -> None:
        self._chunk, self._channels = chunk, channels
        self.overflows = 0
        sounddevice = _sounddevice("The microphone")
        with _one_line("microphone", "pipe PCM into stdin"):
            self._stream: Any = sounddevice.RawInputStream(
                samplerate=sample_rate, blocksize=chunk, channels=channels, dtype="float32", latency="low"
            )

    def __iter__(self) -> Iterator[Waveform]:
        """Give chunks float32 `[C, T]` without end, and count in `overflows` how often sound was lost."""
        with self._stream:
            while True:
                data, overflowed = self._stream.read(self._chunk)
                self.overflows += bool(overflowed)
                yield np.ascontiguousarray(np.frombuffer(data, np.float32).reshape(-1, self._channels).T)


class Speaker:
    """Play waveforms on the default output device.

    Args:
        sample_rate: in Hz.
        channels: C.

    Raises:
        MissingExtraError: sounddevice is not installed.
        AudioError: there is no such device, or no PortAudio.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.underflows = 0
        sounddevice = _sounddevice("Playing")
        with _one_line("loudspeaker", "pipe stdout into a file or program"):
            self._stream: Any = sounddevice.RawOutputStream(
                samplerate=sample_rate, channels=channels, dtype="float32", latency="low"
            )
            self._stream.start()

    def __call__(self, waveform: Waveform) -> None:
        """Queue a waveform `[C, T]`, and count in `underflows` how often the device had run dry."""
        if waveform.shape[1]:
            data = np.ascontiguousarray(waveform.T, np.float32).tobytes()
            self.underflows += bool(self._stream.write(data))

    def close(self) -> None:
        """Play what is queued, and close the device."""
        self._stream.stop()
        self._stream.close()


def _sounddevice(purpose: str) -> ModuleType:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise MissingExtraError(purpose, "live") from None
    except OSError:
        raise AudioError(
            "sounddevice finds no PortAudio library: install it, such as with apt install libportaudio2"
        ) from None
    module: ModuleType = sounddevice
    return module


@contextlib.contextmanager
def _one_line(device: str, instead: str) -> Iterator[None]:
    """Say in one line that a device cannot be opened."""
    try:
        yield
    except Exception as error:
        # The class is known by its name only, since the package may be absent.
        if type(error).__name__ not in {"PortAudioError", "ValueError"}:
            raise
        raise AudioError(
            f"no {device} can be opened ({one_line(error)}): connect one, try another --rate, or {instead}"
        ) from None
