"""Writing sound files, complete or not at all."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from audiotokens.audio.decoders import AudioPath, display_name, reason
from audiotokens.audio.waveforms import Waveform, WaveformLike, as_waveform, check_sample_rate, regrouped
from audiotokens.errors import AudioError

if TYPE_CHECKING:
    import soundfile

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
    write_blocks(path, [data], sample_rate, encoding=encoding, overwrite=overwrite, num_samples=data.shape[1])


def write_blocks(
    path: AudioPath,
    blocks: Iterable[Waveform],
    sample_rate: int,
    *,
    encoding: Literal["pcm16", "float32"] = "pcm16",
    overwrite: bool = False,
    num_samples: int | None = None,
) -> int:
    """Write a sound file of any length block by block, in memory for one block.

    The file is the one that `write_audio` writes of the joined blocks; it too appears complete or not at all.
    Standard output is given the file at the end, since a wav file begins with its length.

    Args:
        path: as in `write_audio`.
        blocks: float waveforms `[C, T]` of as many channels each; those of no samples are passed over.
        sample_rate: in Hz.
        encoding: as in `write_audio`.
        overwrite: whether an existing file may be replaced.
        num_samples: samples per channel that will come, if known: what does not fit is refused at once.

    Returns:
        Samples per channel that were written.

    Raises:
        AudioError: as in `write_audio`, or no samples came.
    """
    rate = check_sample_rate(sample_rate)
    name = "standard output" if (to_stdout := path == "-") else display_name(os.fsdecode(path))
    suffix = ".wav" if to_stdout else os.path.splitext(os.fsdecode(path))[1]
    kind = _Kind(name, rate, *_write_format(name, suffix, encoding), num_samples)
    if to_stdout:
        buffer = io.BytesIO()
        written = _encode(buffer, kind, blocks)
        with _os_errors(name):
            sys.stdout.buffer.write(buffer.getbuffer())
            sys.stdout.buffer.flush()
        return written
    with _os_errors(name):
        target = os.path.realpath(os.fsdecode(path))
    with _replacing(name, target, overwrite) as stream:
        return _encode(stream, kind, blocks)


@dataclass(frozen=True)
class _Kind:
    """What is written: name for messages, rate, container and coding of libsndfile, expected samples."""

    name: str
    rate: int
    format: str
    subtype: str
    num_samples: int | None

    def check(self, samples: int, channels: int) -> None:
        """Refuse more samples than the container holds."""
        if self.format == "WAV" and samples * channels * (4 if self.subtype == "FLOAT" else 2) > _WAV_LIMIT:
            raise AudioError(
                f"{self.name}: {samples:,} samples do not fit into a wav file (4 GiB); write .flac or parts"
            )


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


def _encode(stream: BinaryIO, kind: _Kind, blocks: Iterable[Waveform]) -> int:
    """Write in small pieces: it takes little memory, and long ones overflow libsndfile's stack in Vorbis."""
    # The beginning of a Vorbis file depends on the first piece, so they are the same ones for all blocks.
    pieces = regrouped(_checked(kind, blocks), _BLOCK_SAMPLES)
    first = next(pieces, None)
    if first is None:
        raise AudioError(f"{kind.name}: no samples came; expected at least one")
    kind.check(kind.num_samples or 0, len(first))
    written = 0
    with _open(stream, kind, len(first)) as file:
        for piece in itertools.chain([first], pieces):
            written += piece.shape[1]
            kind.check(written, len(piece))
            with _os_errors(kind.name):
                file.write(_to_int16(piece.T) if kind.subtype == "PCM_16" else np.ascontiguousarray(piece.T))
    return written


def _checked(kind: _Kind, blocks: Iterable[Waveform]) -> Iterator[Waveform]:
    channels = 0
    for block in blocks:
        if not block.size:
            continue
        waveform = as_waveform(block)
        if channels not in (0, len(waveform)):
            raise AudioError(f"{kind.name}: {len(waveform)} channels follow {channels}; expected as many")
        channels = len(waveform)
        yield waveform


def _open(stream: BinaryIO, kind: _Kind, channels: int) -> soundfile.SoundFile:
    import soundfile

    try:
        return soundfile.SoundFile(
            stream, "w", samplerate=kind.rate, channels=channels, format=kind.format, subtype=kind.subtype
        )
    except soundfile.LibsndfileError:
        what = (kind.subtype if kind.format == "OGG" else kind.format).lower()
        raise AudioError(
            f"{kind.name}: {what} cannot hold {channels} channels at {kind.rate} Hz; "
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
    with _os_errors(name):
        stream = open(temporary, "xb")  # noqa: SIM115 (closed below)
    try:
        yield stream
        with _os_errors(name):
            stream.close()
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            stream.close()
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
