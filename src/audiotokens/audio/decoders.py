"""A sound file opened for reading, with its header checked before it is believed.

soundfile (libsndfile) decodes wav, flac, mp3, ogg, opus and other plain formats; PyAV (extra "media") decodes
what `containers` recognizes as m4a, webm or video.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from audiotokens.audio import containers
from audiotokens.errors import AudioError, MissingExtraError

CHUNK_VALUES = 1 << 18
PIPE_LIMIT = 4 << 30
_UNKNOWN_LENGTH = 1 << 62
_MP3_TOLERANCE = 2 * 1152  # some encoders count the frame that holds the tag
_SEEKABLE = ("pcm", "float", "double")  # other codecs give slightly other samples after a seek
_stderr_lock = threading.Lock()

AudioPath: TypeAlias = str | os.PathLike[str]
Chunk: TypeAlias = npt.NDArray[np.float32]


class AudioFile(ABC):
    """One sound file that is open for reading, at its own rate and channels.

    Attributes:
        name: for messages.
        sample_rate: in Hz.
        channels: number of channels C.
        num_samples: samples per channel, or None where only decoding tells.
        format: container, such as "wav".
        codec: coding inside the container, such as "pcm_16".
    """

    name: str
    sample_rate: int
    channels: int
    num_samples: int | None
    format: str
    codec: str

    @abstractmethod
    def decode(self, start: int) -> Iterator[Chunk]:
        """Give float32 `[n, C]` from sample `start` to the end of the file; once per opened file."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Refuse facts that no usable recording has.

        Raises:
            AudioError: zero or too many channels, an impossible rate, or no samples.
        """
        containers.check_facts(self.name, self.channels, self.sample_rate)
        if self.num_samples == 0:
            raise AudioError(f"{self.name}: holds no samples; expected at least one")

    def chunks(self, start: int = 0, frames: int | None = None) -> Iterator[Chunk]:
        """Give the samples from `start`, at most `frames` of them, as finite float32 `[n, C]` of about 1 MiB.

        Raises:
            AudioError: the file is cut off, damaged or not longer than `start`, or holds NaN or infinity.
        """
        if self.num_samples is not None and start >= self.num_samples:
            raise AudioError(
                f"{self.name}: start is sample {start:,}, the file has only {self.num_samples:,} samples"
            )
        position, left = start, frames
        for chunk in self.decode(start):
            chunk = chunk if left is None else chunk[:left]
            if not np.isfinite([chunk.min(), chunk.max()]).all():
                bad = position + int(np.argwhere(~np.isfinite(chunk))[0, 0])
                raise AudioError(
                    f"{self.name}: sample {bad:,} is NaN or infinite; expected finite samples, so repair it"
                )
            yield chunk
            position += len(chunk)
            if left is not None:
                left -= len(chunk)
                if left <= 0:
                    return
        if position == start:
            raise AudioError(f"{self.name}: has no samples from sample {start:,} on; expected at least one")


class _SoundFile(AudioFile):
    """What libsndfile reads."""

    def __init__(self, name: str, stream: BinaryIO, size: int) -> None:
        import soundfile

        self.name = name
        self._stream = stream
        head = containers.head(stream)
        containers.check_whole(name, stream, size)
        self._noisy = containers.may_be_mp3(head)
        view, measured = containers.View(stream, size), True
        if self._noisy:
            view, measured = containers.mp3_view(name, stream, size)
        with _quiet(self._noisy):
            self._file = soundfile.SoundFile(view)
        self.sample_rate, self.channels = self._file.samplerate, self._file.channels
        self.format, self.codec = self._file.format.lower(), self._file.subtype.lower()
        known = measured and 0 <= self._file.frames < _UNKNOWN_LENGTH
        self.num_samples = self._file.frames if known else None
        self._tolerance = _MP3_TOLERANCE if self.format == "mp3" else 0

    def decode(self, start: int) -> Iterator[Chunk]:
        import soundfile

        position, size = 0, max(1, CHUNK_VALUES // self.channels)
        of = "" if self.num_samples is None else f" of {self.num_samples:,}"
        try:
            if self.num_samples is not None and self.codec.startswith(_SEEKABLE):
                position = self._file.seek(start)
            while len(chunk := self._read(size, position)):
                position += len(chunk)
                if position > start:
                    yield chunk[max(0, len(chunk) - (position - start)) :]
        except soundfile.LibsndfileError:
            raise _cut(self.name, position, of) from None
        if self.num_samples is not None and position + self._tolerance < self.num_samples:
            raise _cut(self.name, position, of)

    def _read(self, size: int, position: int) -> Chunk:
        """Read `size` samples, or all that are left if those are less than twice as many.

        What libsndfile gives for the last page of an Opus file depends on where in it a read begins.
        """
        if self.num_samples is not None and position < self.num_samples < position + 2 * size:
            size = self.num_samples - position
        with _quiet(self._noisy):
            chunk: Chunk = self._file.read(size, dtype="float32", always_2d=True)
        return chunk

    def close(self) -> None:
        self._file.close()
        self._stream.close()


class _MediaFile(AudioFile):
    """The first audio track of what FFmpeg reads, through PyAV."""

    def __init__(self, name: str, stream: BinaryIO, kind: str) -> None:
        suffix = os.path.splitext(name)[1] or f".{kind}"
        try:
            import av
        except ImportError:
            streamed = " of unstated length" if kind == "flac" else ""
            raise MissingExtraError(f"Reading {suffix} files{streamed}", "media") from None
        self.name, self._stream = name, stream
        self._errors: tuple[type[Exception], ...] = (av.error.FFmpegError, UnicodeDecodeError)
        self._resampler = av.AudioResampler
        try:
            self._container = av.open(stream, "r", format=kind)
            if not self._container.streams.audio:
                raise AudioError(f"{name}: has no audio track; expected one")
            self._track: Any = self._container.streams.audio[0]
            if self._track.codec_context is None:
                raise AudioError(
                    f"{name}: its audio track is in an unknown coding; convert it to wav or flac"
                )
            self._frames: Iterator[Any] = self._container.decode(self._track)
            self._first = frame = next(self._frames, None)
        except self._errors:
            raise _unreadable(name, f"a {suffix} file that is cut off or damaged") from None
        if frame is None:
            raise AudioError(f"{name}: its audio track holds no samples; expected at least one")
        self.sample_rate, self.channels = frame.sample_rate, frame.layout.nb_channels
        self.num_samples = None
        self.format, self.codec = kind, self._track.codec_context.name

    def decode(self, start: int) -> Iterator[Chunk]:
        position, end = 0, 0.0
        convert = self._resampler(format="fltp")
        try:
            for frame in itertools.chain([self._first], self._frames):
                if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate, self.channels):
                    raise AudioError(
                        f"{self.name}: changes its rate or channels on the way; split it at that point"
                    )
                end = end if frame.time is None else frame.time + frame.samples / frame.sample_rate
                for part in convert.resample(frame):
                    chunk = np.asarray(part.to_ndarray(), np.float32).T
                    position += len(chunk)
                    if position > start:
                        yield chunk[max(0, len(chunk) - (position - start)) :]
        except self._errors:
            raise _cut(self.name, position, "") from None
        if end + 0.25 < self._stated_end():
            raise _cut(self.name, position, f" ({end:.2f} of {self._stated_end():.2f} seconds)")

    def _stated_end(self) -> float:
        """Seconds at which the container says the track ends; 0 where it does not say."""
        track = self._track
        if self.format == "mov" and track.duration is not None:
            return float(((track.start_time or 0) + track.duration) * track.time_base)
        hours, minutes, seconds = (["0"] * 3 + track.metadata.get("DURATION", "0").split(":"))[-3:]
        try:
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        except ValueError:
            return 0.0

    def close(self) -> None:
        self._container.close()
        self._stream.close()


def open_audio(path: AudioPath, *, pipes: bool = False) -> AudioFile:
    """Open a sound file and check what its header says.

    Args:
        path: the file; with `pipes` also a named pipe, or "-" for wav on standard input (both are first
            copied to a temporary file, at most 4 GiB).
        pipes: whether the path may be something that can be read only once.

    Raises:
        AudioError: there is no such file, it may not be read, or is no sound; the message says which.
        MissingExtraError: it needs PyAV, which is not installed.
    """
    name, stream = _open_bytes(os.fsdecode(path), pipes)
    try:
        opened = _decoder(name, stream)
        opened.check()
    except OSError as error:
        stream.close()
        raise AudioError(f"{name}: {reason(error, 'read')}") from None
    except BaseException:
        stream.close()
        raise
    return opened


def _decoder(name: str, stream: BinaryIO) -> AudioFile:
    import soundfile

    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        raise AudioError(f"{name}: the file is empty (0 bytes); expected audio, so record or copy it again")
    head = containers.head(stream)
    kind = containers.media_kind(head)
    if kind:
        return _MediaFile(name, stream, kind)
    try:
        return _SoundFile(name, stream, size)
    except soundfile.LibsndfileError:
        raise _unreadable(name, containers.describe(head)) from None


def _open_bytes(path: str, pipes: bool) -> tuple[str, BinaryIO]:
    name = display_name(path)
    if path == "-" and not pipes:
        raise AudioError("standard input can be read only once; save it to a file first, or use read_audio")
    try:
        if path == "-":
            return "standard input", _spooled("standard input", sys.stdin.buffer)
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{name}: is a folder; expected an audio file, so name the files in it")
        if stat.S_ISFIFO(mode) and pipes:
            with open(path, "rb") as pipe:
                return name, _spooled(name, pipe)
        if not stat.S_ISREG(mode):
            raise AudioError(f"{name}: is a pipe or device; expected a regular file, so save it to one first")
        return name, open(path, "rb")
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: {reason(error, 'read')}") from None


def _spooled(name: str, pipe: BinaryIO) -> BinaryIO:
    """Copy a pipe that carries wav to an unnamed file, for libsndfile needs to seek."""
    spool: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    total = 0
    while data := pipe.read(1 << 20):
        total += len(data)
        if total == len(data) and data[:4] not in (b"RIFF", b"RF64"):
            raise AudioError(
                f"{name}: {containers.describe(data[:64])}; expected wav here, so give other formats as files"
            )
        if total > PIPE_LIMIT:
            raise AudioError(f"{name}: is longer than {PIPE_LIMIT >> 30} GiB; save it to a file first")
        spool.write(data)
    return spool


def display_name(path: str) -> str:
    """Return a path as it may stand in a one-line message."""
    return path if path.isprintable() else ascii(path)


def reason(error: Exception, verb: str) -> str:
    """Say in one line why the operating system refused to `verb` ("read" or "write") a file."""
    if isinstance(error, FileNotFoundError):
        return (
            "no such file; check the path" if verb == "read" else "its folder does not exist; create it first"
        )
    if isinstance(error, PermissionError):
        return f"no permission to {verb} it; change its permissions or choose another place"
    if isinstance(error, OSError):
        return f"cannot {verb} it: {error.strerror or error}"
    return "not a valid file name; check the path"


def _cut(name: str, position: int, of: str) -> AudioError:
    return AudioError(f"{name}: cut off or damaged after sample {position:,}{of}; get a complete copy")


def _unreadable(name: str, what: str) -> AudioError:
    return AudioError(f"{name}: {what}; expected audio such as wav, flac, mp3, ogg or opus")


@contextlib.contextmanager
def _quiet(active: bool) -> Iterator[None]:
    """Mute file descriptor 2 while libmpg123 runs, which prints remarks on damaged mp3 frames there."""
    if not active:
        yield
        return
    with _stderr_lock, contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            saved = os.dup(2)
            stack.callback(os.close, saved)
            null = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, null)
            os.dup2(null, 2)
            stack.callback(os.dup2, saved, 2)
        yield
