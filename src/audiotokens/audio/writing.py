"""Writing sound files, complete or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
from collections.abc import Iterator
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from audiotokens.audio.decoders import AudioPath, display_name, reason
from audiotokens.audio.waveforms import Waveform, WaveformLike, as_waveform, check_sample_rate
from audiotokens.errors import AudioError

_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
}
_WAV_LIMIT = (1 << 32) - 4096
_BLOCK_SAMPLES = 1 << 16


def write_audio(
    path: AudioPath,
    waveform: WaveformLike,
    sample_rate: int,
    *,
    encoding: Literal["pcm16", "float32"] = "pcm16",
    overwrite: bool = False,
) -> None:
    """Write a sound file; the suffix chooses .wav, .flac, .ogg (Vorbis) or .opus.

    16-bit samples are `round(x * 32768)`, halves to even, limited to -32,768 and 32,767: what lies beyond
    full scale is clipped, +1.0 becomes 32,767, and int16 samples come back unchanged. The file appears
    complete or not at all: it is written under another name in the same folder and then renamed.

    Args:
        path: the file; "-" writes wav to standard output.
        waveform: as `as_waveform` takes it.
        sample_rate: in Hz; Opus takes 8000, 12000, 16000, 24000 and 48000.
        encoding: "float32" keeps float samples exactly, in .wav only; .ogg and .opus have their own coding.
        overwrite: whether an existing file may be replaced.

    Raises:
        AudioError: the waveform or rate is not usable, the format cannot hold it, the file exists, or the
            place cannot be written.
    """
    data = as_waveform(waveform)
    rate = check_sample_rate(sample_rate)
    name = "standard output" if (to_stdout := path == "-") else display_name(os.fsdecode(path))
    format, subtype = _write_format(
        name, ".wav" if to_stdout else os.path.splitext(os.fsdecode(path))[1], encoding
    )
    if format == "WAV" and data.size * (4 if subtype == "FLOAT" else 2) > _WAV_LIMIT:
        raise AudioError(
            f"{name}: {data.shape[1]:,} samples do not fit into a wav file (4 GiB); write .flac or parts"
        )
    if to_stdout:
        buffer = io.BytesIO()
        _encode(buffer, name, data, rate, format, subtype)
        with _os_errors(name):
            sys.stdout.buffer.write(buffer.getbuffer())
            sys.stdout.buffer.flush()
        return
    with _os_errors(name), _replacing(name, os.path.realpath(os.fsdecode(path)), overwrite) as stream:
        _encode(stream, name, data, rate, format, subtype)


def _write_format(name: str, suffix: str, encoding: str) -> tuple[str, str]:
    if suffix.lower() not in _FORMATS:
        raise AudioError(f'{name}: cannot write "{suffix}" files; expected {", ".join(_FORMATS)}')
    format, subtype = _FORMATS[suffix.lower()]
    if encoding not in ("pcm16", "float32"):
        raise AudioError(f'{name}: encoding is {encoding!r}; expected "pcm16" or "float32"')
    if encoding == "float32":
        if format != "WAV":
            raise AudioError(
                f"{name}: only .wav holds float32 samples; write .wav, or leave out the encoding"
            )
        subtype = "FLOAT"
    return format, subtype


def _encode(stream: BinaryIO, name: str, data: Waveform, rate: int, format: str, subtype: str) -> None:
    """Write in small blocks: it takes little memory, and long ones overflow libsndfile's stack in Vorbis."""
    import soundfile

    kind = (subtype if format == "OGG" else format).lower()
    try:
        with soundfile.SoundFile(
            stream, "w", samplerate=rate, channels=data.shape[0], format=format, subtype=subtype
        ) as file:
            for begin in range(0, data.shape[1], _BLOCK_SAMPLES):
                block = data[:, begin : begin + _BLOCK_SAMPLES].T
                file.write(_to_int16(block) if subtype == "PCM_16" else np.ascontiguousarray(block))
    except soundfile.LibsndfileError:
        raise AudioError(
            f"{name}: {kind} cannot hold {data.shape[0]} channels at {rate} Hz; "
            "write .wav, or resample or mix first"
        ) from None


def _to_int16(block: Waveform) -> npt.NDArray[np.int16]:
    scaled = np.rint(np.clip(block, -1, 1) * np.float32(32768))
    return np.ascontiguousarray(np.minimum(scaled, 32767), dtype=np.int16)


@contextlib.contextmanager
def _os_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: {reason(error, 'write')}") from None


@contextlib.contextmanager
def _replacing(name: str, target: str, overwrite: bool) -> Iterator[BinaryIO]:
    """Give a new file beside `target`; it takes the target's place at the end, or vanishes on an error."""
    if os.path.lexists(target):
        if not os.path.isfile(target):
            raise AudioError(f"{name}: is a folder, pipe or device; expected the name of a file to write")
        if not overwrite:
            raise AudioError(f"{name}: exists already; choose another name, or allow it to be overwritten")
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as stream:
            yield stream
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
