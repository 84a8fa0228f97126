"""Opus and AMR narrow band through the static ffmpeg of imageio-ffmpeg; sound goes through pipes only."""

from __future__ import annotations

import subprocess
from functools import cache

import numpy as np

from audiotokens.audio import RESAMPLER, resample
from audiotokens.errors import AudioTokensError, DamagedError, MissingExtraError
from audiotokens.evaluation.anchors.coder import SpeechCoder, from_int16
from audiotokens.evaluation.anchors.ogg import ogg_packets

_OPUS_OUTPUT_RATE = 48000
_AMR_MAGIC = b"#!AMR\n"
_AMR_BYTES = {4750: 12, 5150: 13, 5900: 15, 6700: 17, 7400: 19, 7950: 20, 10200: 26, 12200: 31}
"""Bytes of a speech frame after its header byte, by bit rate: bits of 3GPP TS 26.101 in whole bytes."""


class Opus(SpeechCoder):
    """Opus (RFC 6716) for speech by libopus, frames of 20 ms, complexity 10, without FEC and DTX.

    Below 9 kbit/s libopus codes narrow band: nothing above 4 kHz is left.

    Args:
        bitrate: in bits per second, from 6,000.
        constant: hold the rate in every packet. By default it varies around `bitrate`, which is also the
            default of libopus and sounds better at the same true rate.

    Raises:
        MissingExtraError: imageio-ffmpeg is not installed.
        AudioTokensError: this ffmpeg has no libopus.
    """

    sample_rate = 16000

    def __init__(self, bitrate: int, *, constant: bool = False) -> None:
        version = _ffmpeg_version("libopus")
        self.nominal_bitrate = bitrate
        self.name = f"opus-{bitrate / 1000:g}k" + ("-cbr" if constant else "")
        self.title = f"Opus {bitrate / 1000:g} kbit/s" + (" constant" if constant else "")
        self.definition = (
            f"Opus, {bitrate} bit/s {'CBR' if constant else 'VBR'}, libopus of ffmpeg {version}, application "
            "voip, frames of 20 ms, complexity 10, no FEC, no DTX, one channel of int16 at 16 kHz "
            f"({RESAMPLER}); below 9 kbit/s libopus codes narrow band; bytes of Opus packets without Ogg"
        )
        self._options = ["-b:a", str(bitrate), "-vbr", "off" if constant else "on"]

    def encode(self, samples: np.ndarray) -> bytes:
        """Code int16 `[T]` at 16 kHz as an Ogg Opus file."""
        voice = ["-application", "voip", "-frame_duration", "20", "-compression_level", "10"]
        fixed = ["-fec", "0", "-dtx", "0", "-fflags", "+bitexact", "-f", "ogg"]
        return _encoded("libopus", samples, self.sample_rate, [*self._options, *voice, *fixed])

    def decode(self, coded: bytes) -> np.ndarray:
        """Return float32 `[N]` at 16 kHz; the file says what to leave out at its start and end (RFC 7845)."""
        output = from_int16(_decoded("libopus", "ogg", coded))
        samples: np.ndarray = resample(output[None], _OPUS_OUTPUT_RATE, self.sample_rate)[0]
        return samples

    def count_bytes(self, coded: bytes) -> int:
        """Return the size of the Opus packets, without pages and the two header packets.

        Raises:
            DamagedError: this is not a whole Ogg Opus file.
        """
        packets = ogg_packets(coded)
        if [packet[:8] for packet in packets[:2]] != [b"OpusHead", b"OpusTags"]:
            raise DamagedError(f"{self.name}: the Ogg file does not begin with OpusHead and OpusTags")
        return sum(map(len, packets[2:]))


class AmrNarrowBand(SpeechCoder):
    """AMR narrow band (3GPP TS 26.071) by OpenCORE, at 8 kHz, without DTX.

    Args:
        bitrate: 4750, 5150, 5900, 6700, 7400, 7950, 10200 or 12200 bits per second.

    Raises:
        MissingExtraError: imageio-ffmpeg is not installed.
        AudioTokensError: there is no such rate, or this ffmpeg has no OpenCORE AMR.
    """

    sample_rate = 8000
    delay = 40  # the look-ahead of 5 ms, 3GPP TS 26.090
    align = False

    def __init__(self, bitrate: int) -> None:
        if bitrate not in _AMR_BYTES:
            known = ", ".join(map(str, _AMR_BYTES))
            raise AudioTokensError(f"AMR narrow band has no rate of {bitrate} bit/s; choose one of {known}")
        version = _ffmpeg_version("libopencore_amrnb")
        self._frame_bytes = 1 + _AMR_BYTES[bitrate]
        # frame type in bits 3 to 6, "good quality" in bit 2
        self._frame_header = list(_AMR_BYTES).index(bitrate) << 3 | 4
        self.nominal_bitrate = bitrate
        self.name = f"amr-{bitrate / 1000:g}k"
        self.title = f"AMR-NB {bitrate / 1000:g} kbit/s"
        self.definition = (
            f"AMR narrow band, {bitrate} bit/s, OpenCORE of ffmpeg {version}, no DTX, one channel of int16 "
            f"at 8 kHz ({RESAMPLER}), its delay of {self.delay} samples taken out; bytes of speech frames "
            "in whole bytes, each with its header byte (RFC 4867 section 5.3), without the file header"
        )

    def encode(self, samples: np.ndarray) -> bytes:
        """Code int16 `[T]` at 8 kHz as an AMR file."""
        options = ["-b:a", f"{self.nominal_bitrate}", "-dtx", "0", "-f", "amr"]
        return _encoded("libopencore_amrnb", samples, self.sample_rate, options)

    def decode(self, coded: bytes) -> np.ndarray:
        """Return float32 `[N]` at 8 kHz."""
        return from_int16(_decoded("libopencore_amrnb", "amr", coded))

    def count_bytes(self, coded: bytes) -> int:
        """Return the size of the speech frames with their header bytes.

        Raises:
            DamagedError: this is not a whole AMR file of this rate.
        """
        frames, size = coded.removeprefix(_AMR_MAGIC), self._frame_bytes
        if len(frames) == len(coded) or len(frames) % size or set(frames[::size]) != {self._frame_header}:
            raise DamagedError(f"{self.name}: ffmpeg gave something else than whole frames of {size} bytes")
        return len(frames)


@cache
def _ffmpeg_version(encoder: str) -> str:
    """Return the version of ffmpeg, once it is sure that it has an encoder.

    Raises:
        MissingExtraError: imageio-ffmpeg is not installed.
        AudioTokensError: ffmpeg cannot be run or does not have the encoder.
    """
    listed = _run(["-encoders"]).decode("utf-8", "replace")
    version = _run(["-version"]).decode("utf-8", "replace").split()[2]
    if encoder not in listed.split():
        raise AudioTokensError(f"ffmpeg {version} has no {encoder}: use the ffmpeg of imageio-ffmpeg")
    return version


def _encoded(encoder: str, samples: np.ndarray, sample_rate: int, options: list[str]) -> bytes:
    source = ["-f", "s16le", "-ar", str(sample_rate), "-ac", "1", "-i", "pipe:0"]
    pcm = samples.astype("<i2").tobytes()
    return _run([*source, "-map_metadata", "-1", "-c:a", encoder, *options, "pipe:1"], pcm)


def _decoded(decoder: str, container: str, coded: bytes) -> np.ndarray:
    source = ["-xerror", "-c:a", decoder, "-f", container, "-i", "pipe:0"]
    pcm = _run([*source, "-f", "s16le", "pipe:1"], coded)
    return np.frombuffer(pcm, "<i2")


def _run(arguments: list[str], data: bytes = b"") -> bytes:
    """Run ffmpeg with `data` on its standard input; what it complains about is an error."""
    command = [_program(), "-hide_banner", "-loglevel", "error", *arguments]
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False)
    except OSError as error:
        raise AudioTokensError(f"ffmpeg cannot be run: {error}") from None
    complaint = " ".join(done.stderr.decode("utf-8", "replace").split())
    if done.returncode or complaint:
        raise AudioTokensError(f"ffmpeg failed with code {done.returncode}: {complaint or 'no message'}")
    return done.stdout


@cache
def _program() -> str:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise MissingExtraError("An anchor of ffmpeg", "anchors") from None
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise AudioTokensError(f"imageio-ffmpeg has no ffmpeg: {' '.join(str(error).split())}") from None
