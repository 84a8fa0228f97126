"""Raw PCM as it comes through pipes: interleaved samples without a header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

from audiotokens.audio import Waveform
from audiotokens.errors import AudioError

PCM_FORMATS: dict[str, np.dtype[np.int16 | np.float32]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
"""Name -> type of a sample."""


class PcmReader:
    """Chunks of a stream of bytes, each as soon as it is there.

    Args:
        file: open for reading bytes, with `read1`.
        pcm_format: key of `PCM_FORMATS`.
        channels: interleaved channels C.
        chunk: the most samples of a chunk.

    Example:
        >>> import io
        >>> [chunk.shape for chunk in PcmReader(io.BytesIO(bytes(70)), "s16le", 1, 20)]
        [(1, 20), (1, 15)]
    """

    def __init__(self, file: IO[bytes], pcm_format: str, channels: int, chunk: int) -> None:
        self._file, self._kind, self._channels = file, PCM_FORMATS[pcm_format], channels
        self._bytes = channels * self._kind.itemsize
        self._most = chunk * self._bytes

    def __iter__(self) -> Iterator[Waveform]:
        """Give chunks float32 `[C, T]`; what is less than a sample at the end is dropped.

        Raises:
            AudioError: a sample is not finite.
        """
        read = getattr(self._file, "read1", self._file.read)
        held = b""
        while data := read(self._most - len(held)):
            held += data
            whole = len(held) // self._bytes * self._bytes
            if whole:
                yield self._waveform(held[:whole])
                held = held[whole:]

    def _waveform(self, data: bytes) -> Waveform:
        samples: npt.NDArray[np.int16 | np.float32] = np.frombuffer(data, self._kind)
        if self._kind.kind == "f" and not np.isfinite(samples).all():
            raise AudioError("the PCM has samples that are no numbers; is it s16le? then give --format s16le")
        scale = np.float32(2.0**-15 if self._kind.kind == "i" else 1)
        return np.ascontiguousarray(samples.astype(np.float32).reshape(-1, self._channels).T * scale)


class PcmWriter:
    """Write waveforms `[C, T]` as bytes, each at once.

    Args:
        file: open for writing bytes.
        pcm_format: key of `PCM_FORMATS`.
    """

    def __init__(self, file: IO[bytes], pcm_format: str) -> None:
        self._file, self._kind = file, PCM_FORMATS[pcm_format]

    def __call__(self, waveform: Waveform) -> None:
        """Write and flush; 16-bit samples are rounded, and clipped at full scale."""
        if self._kind.kind == "i":
            waveform = np.clip(np.rint(waveform * np.float32(2**15)), -(2**15), 2**15 - 1)
        self._file.write(np.ascontiguousarray(waveform.T).astype(self._kind).tobytes())
        self._file.flush()
