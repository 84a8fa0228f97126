"""Lyra V2 (a SoundStream at 16 kHz) from the three .tflite files of google/lyra, which are not shipped."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from audiotokens.audio import RESAMPLER
from audiotokens.errors import AudioTokensError, CheckpointError, DamagedError, MissingExtraError
from audiotokens.evaluation.anchors.coder import SpeechCoder, from_int16

ENVIRONMENT = "AUDIOTOKENS_LYRA"
"""Environment variable that names the folder of the files."""
_VERSION = "1.3.2"
_FILES = {
    "soundstream_encoder.tflite": "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1",
    "quantizer.tflite": "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c",
    "lyragan.tflite": "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06",
}
_HOP, _FEATURES, _BOOKS = 320, 64, 46
_BOOKS_BY_BITRATE = {3200: 16, 6000: 30, 9200: 46}


class Lyra(SpeechCoder):
    """Lyra V2: 50 frames per second, 16, 30 or 46 residual books of 16 entries.

    Packets are laid out as in Lyra itself: 4 bits per book, the first book in the most significant bits, no
    header. Its comfort noise, loss concealment and DTX, which are code around the graphs, are not used.

    Args:
        bitrate: 3200, 6000 or 9200 bits per second.
        folder: with soundstream_encoder.tflite, quantizer.tflite and lyragan.tflite; default: what the
            environment variable AUDIOTOKENS_LYRA names.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
        AudioTokensError: there is no such rate, no folder is named, or a file is not there.
        CheckpointError: a file is not that of Lyra 1.3.2.
    """

    sample_rate = 16000
    timed = True

    def __init__(self, bitrate: int, folder: str | Path | None = None) -> None:
        if bitrate not in _BOOKS_BY_BITRATE:
            known = ", ".join(map(str, _BOOKS_BY_BITRATE))
            raise AudioTokensError(f"Lyra V2 has no rate of {bitrate} bit/s; choose one of {known}")
        graphs = _read_graphs(folder)
        quantizer = _interpreter(graphs["quantizer.tflite"])
        self._quantize = quantizer.get_signature_runner("encode")
        self._dequantize = quantizer.get_signature_runner("decode")
        self._encoder, self._decoder = graphs["soundstream_encoder.tflite"], graphs["lyragan.tflite"]
        self.num_codebooks = _BOOKS_BY_BITRATE[bitrate]
        self.nominal_bitrate = bitrate
        self.name = f"lyra-{bitrate / 1000:g}k"
        self.title = f"Lyra V2 {bitrate / 1000:.1f} kbit/s"
        self.definition = (
            f"Lyra V2 {_VERSION}, {bitrate} bit/s ({self.num_codebooks} books), its int8 TFLite graphs by "
            f"ai-edge-litert {version('ai-edge-litert')} with XNNPACK, one thread, fresh state, one channel "
            f"of int16 at 16 kHz ({RESAMPLER}), the last frame filled with zeros; bytes of packets, no header"
        )

    def encode(self, samples: np.ndarray) -> bytes:
        """Code int16 `[T]` at 16 kHz as ceil(T / 320) packets of `num_codebooks` / 2 bytes."""
        frames = from_int16(np.pad(samples, (0, -len(samples) % _HOP))).reshape(-1, 1, _HOP)
        features = _stream(_interpreter(self._encoder), frames)
        return pack(self.quantize(features.reshape(-1, _FEATURES)))

    def decode(self, coded: bytes) -> np.ndarray:
        """Return float32 `[N]` at 16 kHz from packets, clipped to full scale.

        Raises:
            DamagedError: these are not whole packets.
        """
        features = self.dequantize(unpack(coded, self.num_codebooks))
        output = _stream(_interpreter(self._decoder), features.reshape(-1, 1, 1, _FEATURES))
        clipped: np.ndarray = np.clip(output.reshape(-1), -1.0, 32767 / 32768)
        return clipped

    def quantize(self, features: np.ndarray) -> np.ndarray:
        """Return int64 codes `[K, T]` of features `[T, 64]`."""
        books = np.int32(self.num_codebooks)
        codes = np.empty((self.num_codebooks, len(features)), np.int64)
        for t, frame in enumerate(features):
            found = self._quantize(input_frames=frame.reshape(1, 1, -1), num_quantizers=books)
            codes[:, t] = found["output_0"][: self.num_codebooks, 0, 0]
        return codes

    def dequantize(self, codes: np.ndarray) -> np.ndarray:
        """Return float32 features `[T, 64]` of codes `[K, T]`."""
        unused = np.full((_BOOKS - len(codes), codes.shape[1]), -1)
        indices = np.concatenate([codes, unused]).T.astype(np.int32).reshape(-1, _BOOKS, 1, 1)
        features = np.empty((len(indices), _FEATURES), np.float32)
        for row, index in zip(features, indices):
            row[:] = self._dequantize(encoding_indices=index)["output_0"][0, 0]
        return features


def pack(codes: np.ndarray) -> bytes:
    """Return codes `[K, T]` of 4 bits as T packets of K / 2 bytes, the first book in the highest bits."""
    values = codes.T.astype(np.uint8)
    return (values[:, ::2] << 4 | values[:, 1::2]).tobytes()


def unpack(packets: bytes, num_codebooks: int) -> np.ndarray:
    """Return the codes `[K, T]`, int64, of packets.

    Raises:
        DamagedError: the last packet is not whole.
    """
    size = num_codebooks // 2
    if len(packets) % size:
        raise DamagedError(f"found {len(packets)} bytes, expected whole Lyra packets of {size} bytes")
    values = np.frombuffer(packets, np.uint8).reshape(-1, size)
    return np.stack([values >> 4, values & 15], axis=2).reshape(len(values), -1).T.astype(np.int64)


def _read_graphs(folder: str | Path | None) -> dict[str, bytes]:
    """Read the three files; a changed one is refused here, since it can end the whole process later."""
    named = folder or os.environ.get(ENVIRONMENT)
    if not named:
        raise AudioTokensError(
            f"Lyra V2 needs a folder with {', '.join(_FILES)} of google/lyra: name it, or set {ENVIRONMENT}"
        )
    graphs = {}
    for name, digest in _FILES.items():
        path = Path(named) / name
        try:
            graphs[name] = path.read_bytes()
        except OSError as error:
            raise AudioTokensError(
                f"{path}: cannot be read ({error.strerror}); Lyra V2 needs {', '.join(_FILES)} in that folder"
            ) from None
        if hashlib.sha256(graphs[name]).hexdigest() != digest:
            raise CheckpointError(
                f"{path}: is not the file of Lyra {_VERSION}: take lyra/model_coeffs/{name} of that version"
            )
    return graphs


def _interpreter(graph: bytes) -> Any:
    """Return an interpreter with zero state; its own reset leaves the state of these graphs as it is."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise MissingExtraError("Lyra V2", "anchors") from None
    interpreter = Interpreter(model_content=graph, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _stream(interpreter: Any, frames: np.ndarray) -> np.ndarray:
    """Return what a graph makes of float32 `[T, *input]`, frame by frame: `[T, *output]`."""
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]
    output = np.empty((len(frames), *target["shape"]), np.float32)
    for row, frame in zip(output, frames):
        interpreter.set_tensor(source, frame)
        interpreter.invoke()
        row[:] = interpreter.get_tensor(target["index"])
    return output
