"""What the first and last bytes of a sound file say about its format and about whether it is whole.

libsndfile believes the file rather than the header: a wav, aiff, ogg or mp3 that was cut off reads as a
shorter recording. The checks here find the cut. Layouts: RIFF and RF64 (EBU Tech 3306), AIFF 1.3, Ogg (RFC
3533), the Xing tag of mp3.
"""

from __future__ import annotations

import io
import os
import struct
from typing import Any, BinaryIO

from audiotokens.errors import AudioError

MAX_CHANNELS = 64
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
_MAX_OGG_PAGE = 27 + 255 + 255 * 255
_ID3V1_SIZE = 128
_MAX_CHUNKS = 1000
_PLAIN = (b"RIFF", b"RF64", b"RIFX", b"fLaC", b"OggS", b"FORM", b"caff")


def head(stream: BinaryIO, count: int = 64) -> bytes:
    """Return the first `count` bytes and go back to the start."""
    stream.seek(0)
    data = stream.read(count)
    stream.seek(0)
    return data


def media_kind(first: bytes) -> str:
    """Return FFmpeg's name of the container that the first bytes announce, or "" if libsndfile is to read it.

    The name is then forced upon FFmpeg, so that no file can pose as a playlist that opens other files. A flac
    file written to a pipe does not state its length, and libsndfile fails at its end: FFmpeg reads it.
    """
    if first[4:8] == b"ftyp" or (
        first[:1] == b"\0" and first[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip")
    ):
        return "mov"
    if first[:4] == b"fLaC" and len(first) > 25 and not (first[21] & 15 or any(first[22:26])):
        return "flac"
    if first.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if first.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        return "asf"
    if first[:4] == b"RIFF" and first[8:12] == b"AVI ":
        return "avi"
    if first.startswith(b"FLV\x01"):
        return "flv"
    return "aac" if first[:1] == b"\xff" and first[1:2] in (b"\xf0", b"\xf1", b"\xf8", b"\xf9") else ""


def describe(first: bytes) -> str:
    """Say what a file that cannot be decoded looks like."""
    if first[:4] in _PLAIN or first[:3] == b"ID3":
        return "its header is damaged, or of a kind that cannot be decoded"
    try:
        first[:60].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(first[:60]) - 3:
            return "not audio that can be decoded"
    return "not audio (it looks like text)" if b"\0" not in first else "not audio that can be decoded"


def check_facts(name: str, channels: int, sample_rate: int) -> None:
    """Refuse what a header says if no usable recording is like that.

    Raises:
        AudioError: zero or too many channels, or an impossible rate.
    """
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"{name}: its header says {channels} channels; expected 1 to {MAX_CHANNELS}")
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"{name}: its header says {sample_rate:,} Hz; "
            f"expected {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,}, so its header is wrong"
        )


def check_whole(name: str, stream: BinaryIO, size: int) -> None:
    """Refuse a wav, aiff or ogg file that holds less than its header announces.

    Raises:
        AudioError: the file is cut off.
    """
    first = head(stream)
    if first[:4] in (b"RIFF", b"RF64") and first[8:12] == b"WAVE":
        _check_chunks(name, stream, size, "<", b"data")
    elif first[:4] in (b"RIFX", b"FORM") and first[8:12] in (b"WAVE", b"AIFF", b"AIFC"):
        _check_chunks(name, stream, size, ">", b"data" if first[:4] == b"RIFX" else b"SSND")
    elif first[:4] == b".snd":
        begin, length = struct.unpack(">II", first[4:12].ljust(8, b"\0"))
        _check_length(name, length, size - begin)
    elif first[:4] == b"OggS":
        _check_last_page(name, stream, size)
    stream.seek(0)


def _check_chunks(name: str, stream: BinaryIO, size: int, order: str, wanted: bytes) -> None:
    position, large = 12, 0
    for _ in range(_MAX_CHUNKS):
        if position + 8 > size:
            raise _cut(name, "it ends before its samples begin")
        stream.seek(position)
        kind, length = struct.unpack(order + "4sI", stream.read(8))
        if kind == b"fmt ":
            _, channels, sample_rate = struct.unpack(order + "HHi", stream.read(8).ljust(8, b"\0"))
            check_facts(name, channels, sample_rate)
        if kind == b"ds64":
            large = int.from_bytes(stream.read(16)[8:16], "little")
        if kind == wanted:
            _check_length(name, large if large and length == 0xFFFFFFFF else length, size - position - 8)
            return
        position += 8 + length + length % 2


def _check_length(name: str, stated: int, found: int) -> None:
    """Compare lengths in bytes, except where one is stated that stands for "unknown".

    Programs that write to a pipe and cannot go back (SoX, arecord, FFmpeg) state about 2 or 4 GiB.
    """
    if stated > found and not any(0 <= mark - stated <= 4096 for mark in (0x80000000, 0xFFFFFFFF)):
        raise _cut(name, f"its header announces {stated:,} bytes of samples, {found:,} are there")


def _check_last_page(name: str, stream: BinaryIO, size: int) -> None:
    stream.seek(max(0, size - _MAX_OGG_PAGE))
    tail = stream.read(_MAX_OGG_PAGE)
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    count = page[26] if len(page) > 26 else 0
    if len(page) < 27 + count or len(page) < 27 + count + sum(page[27 : 27 + count]):
        raise _cut(name, "its last page is not complete")


def may_be_mp3(first: bytes) -> bool:
    """Whether libsndfile may hand these bytes to libmpg123."""
    return first[:3] == b"ID3" or first[:1] == b"\xff"


def mp3_view(name: str, stream: BinaryIO, size: int) -> tuple[View, bool]:
    """Return an mp3 file as libsndfile is to see it, and whether the length that it then states is exact.

    Without a Xing tag libsndfile stops at a length estimated from the first frame and loses the end of
    files with a variable rate; shown a longer file it decodes to the true end. With a tag, what follows the
    audio is hidden.

    Raises:
        AudioError: the file is cut off, or a second recording follows the first.
    """
    begin = _skip_id3(stream)
    stream.seek(begin)
    frame = stream.read(200)
    if frame[:4] in _PLAIN:
        return View(stream, size), True
    at = max(frame[:64].find(b"Xing"), frame[:64].find(b"Info"))
    if at < 0 or len(frame) < at + 16 or not frame[at + 7] & 1:
        end = _end_of_frames(stream, size)
        return View(stream, end, shown=64 * size), False
    if not frame[at + 7] & 2:
        return View(stream, size), True
    length = int.from_bytes(frame[at + 12 : at + 16], "big")
    extra = size - begin - length
    if extra < -_ID3V1_SIZE:
        raise _cut(name, f"its header announces {length:,} bytes of audio, {size - begin:,} are there")
    if extra <= 4096:
        return View(stream, size), True
    stream.seek(begin + length)
    after = stream.read(3)
    if after == b"ID3" or (after[:1] == b"\xff" and after[1:2] >= b"\xe0"):
        raise AudioError(
            f"{name}: a second recording follows the first in this mp3; split the file, or save it anew"
        )
    return View(stream, begin + length), True


def _skip_id3(stream: BinaryIO) -> int:
    """Return where the first mp3 frame begins."""
    begin = 0
    while True:
        stream.seek(begin)
        tag = stream.read(10)
        if len(tag) < 10 or tag[:3] != b"ID3":
            return begin
        length = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0)))
        begin += 10 + length + (10 if tag[5] & 0x10 else 0)


def _end_of_frames(stream: BinaryIO, size: int) -> int:
    """Return where the tags at the end of an mp3 file begin: ID3v1, and APEv2 before it."""
    stream.seek(max(0, size - _ID3V1_SIZE))
    if stream.read(3) == b"TAG":
        size -= _ID3V1_SIZE
    stream.seek(max(0, size - 32))
    footer = stream.read(32)
    if footer[:8] == b"APETAGEX":
        length, _, flags = struct.unpack("<III", footer[12:24])
        size = max(0, size - length - (32 if flags >> 31 else 0))
    return size


class View(io.RawIOBase):
    """The first `end` bytes of a stream, to be read by libsndfile; no seek in it fails.

    Args:
        stream: a file open for reading.
        end: number of bytes to give.
        shown: length that the view states (default: `end`); if longer, its last 128 bytes read as zeros,
            for libmpg123 looks for a tag there, and nothing lies between.
    """

    def __init__(self, stream: BinaryIO, end: int, *, shown: int | None = None) -> None:
        self._stream, self._end, self._position = stream, end, 0
        self._shown = end if shown is None else shown

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, which is clamped to the start and may lie past the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._shown}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there are bytes, and return how many there were."""
        if self._end < self._shown - _ID3V1_SIZE <= self._position:
            data = bytes(min(len(buffer), self._shown - self._position))
        else:
            self._stream.seek(self._position)
            data = self._stream.read(max(0, min(len(buffer), self._end - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _cut(name: str, how: str) -> AudioError:
    return AudioError(f"{name}: cut off: {how}; get a complete copy")
