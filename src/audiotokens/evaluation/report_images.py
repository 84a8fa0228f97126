"""Pictures of the report as PNG bytes, drawn with numpy and zlib: spectrograms and token heat maps."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np

from audiotokens.errors import AudioError
from audiotokens.tokens import CodeStream, Tokens

BANDS = 96
RANGE_DB = 75.0
LEVELS = 64
COLUMNS_PER_SECOND = 80
MAX_COLUMNS = 900
CORNER_HZ = 600.0

# Linear-light sRGB from OKLab: B. Ottosson, "A perceptual color space for image processing" (2020).
_LMS_FROM_LAB = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_RGB_FROM_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@dataclass(frozen=True)
class CodeGrid:
    """Codes of several books brought to one time axis.

    Args:
        values: codes int64 `[K, columns]`; -1 where a book has no frame.
        labels: name of each of the K rows.
        sizes: entries of each book.
    """

    values: np.ndarray
    labels: tuple[str, ...]
    sizes: tuple[int, ...]


def png(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """Write a palette image as PNG (ISO/IEC 15948, colour type 3).

    Args:
        indices: uint8 `[height, width]`, top row first.
        palette: uint8 `[colours, 3]`, sRGB.

    Returns:
        The file's bytes.
    """
    height, width = indices.shape
    header = struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0)
    plain = np.insert(indices, 0, 0, axis=1)
    above = np.vstack([np.zeros((1, width), np.uint8), indices[:-1]])
    differences = np.insert(indices - above, 0, 2, axis=1)
    data = min((zlib.compress(rows.tobytes(), 9) for rows in (plain, differences)), key=len)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", palette.astype(np.uint8).tobytes()),
        (b"IDAT", data),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def data_url(image: bytes) -> str:
    """Return PNG bytes as a data URL."""
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


@cache
def colour_map(levels: int) -> np.ndarray:
    """Return a perceptually uniform map from dark violet over teal to light yellow, uint8 `[levels, 3]`.

    A path in OKLab with rising lightness, walked in steps of equal colour difference; chroma is reduced where
    sRGB ends.
    """
    position = np.linspace(0, 1, 512)
    lightness = 0.16 + 0.80 * position
    hue = np.radians(np.interp(position, [0, 0.35, 0.7, 1], [305, 262, 180, 102]))
    chroma = np.interp(position, [0, 0.2, 0.6, 1], [0.05, 0.12, 0.095, 0.11])
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    for _ in range(200):
        outside = np.any((_linear_rgb(lab) < 0) | (_linear_rgb(lab) > 1), axis=1)
        lab[outside, 1:] *= 0.995
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(lab, axis=0), axis=1))])
    even = np.linspace(0, way[-1], levels)
    rgb = np.clip(_linear_rgb(np.stack([np.interp(even, way, lab[:, i]) for i in range(3)], axis=1)), 0, 1)
    gamma = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * gamma).astype(np.uint8))


def frequency_axis(frequency: np.ndarray | float, sample_rate: int) -> np.ndarray:
    """Map frequencies in Hz to the picture's axis: asinh(f / 600 Hz), scaled to 1 at half the sample rate."""
    return np.asarray(np.arcsinh(np.asarray(frequency) / CORNER_HZ) / np.arcsinh(sample_rate / 2 / CORNER_HZ))


def picture_columns(seconds: float) -> int:
    """Return the width in pixels of pictures of a recording of this length."""
    return int(np.clip(round(seconds * COLUMNS_PER_SECOND), 16, MAX_COLUMNS))


def band_powers(waveform: np.ndarray, sample_rate: int, columns: int) -> np.ndarray:
    """Return mean powers `[BANDS, columns]`, low bands first.

    Column c is centred on (c + 1/2) / columns of the duration. Hann windows of about 32 ms; bands are equally
    wide on `frequency_axis` and overlap by half.
    """
    window_length = 2 ** round(np.log2(0.032 * sample_rate))
    window = np.hanning(window_length + 2)[1:-1]
    padded = np.pad(waveform.astype(np.float64), window_length)
    centres = (np.arange(columns) + 0.5) * len(waveform) / columns
    starts = np.round(centres).astype(np.int64) + window_length // 2
    spectrum = np.fft.rfft(padded[starts[:, None] + np.arange(window_length)] * window, axis=1)
    return np.asarray(_band_weights(window_length, sample_rate) @ np.abs(spectrum.T / window.sum()) ** 2)


def spectrogram(waveform: np.ndarray, sample_rate: int, *, columns: int, top: float) -> bytes:
    """Draw one spectrogram.

    Args:
        waveform: float `[N]`.
        sample_rate: in Hz.
        columns: width in pixels; the height is 96.
        top: band power that gets the lightest colour; 75 dB below it is the darkest.

    Returns:
        PNG bytes.
    """
    decibels = 10 * np.log10(np.maximum(band_powers(waveform, sample_rate, columns), 1e-30) / max(top, 1e-20))
    level = np.clip(np.round((decibels / RANGE_DB + 1) * (LEVELS - 1)), 0, LEVELS - 1).astype(np.uint8)
    return png(level[::-1], colour_map(LEVELS))


def code_grid(tokens: Tokens, seconds: float, columns: int) -> CodeGrid:
    """Bring the time-varying books of a recording to `columns` equal steps over `seconds`.

    Raises:
        AudioError: the tokens have no time-varying stream.
    """
    streams = {name: stream for name, stream in tokens.streams.items() if stream.frame_rate > 0}
    if not streams:
        raise AudioError("the tokens have no time-varying stream, expected at least one to draw")
    times = (np.arange(columns) + 0.5) * seconds / columns
    rows, labels, sizes = [], [], []
    for name, stream in streams.items():
        rows.append(_at_times(stream, times, tokens.sample_rate))
        books = len(stream.codebook_sizes)
        labels += [f"{name} {k + 1}" if len(streams) > 1 else f"{k + 1}" for k in range(books)]
        sizes += list(stream.codebook_sizes)
    return CodeGrid(np.concatenate(rows), tuple(labels), tuple(sizes))


def code_picture(grid: CodeGrid) -> bytes:
    """Draw codes as colours, code number over book size; book 1 is the bottom row, no frame is grey."""
    share = grid.values / np.maximum(np.array(grid.sizes)[:, None] - 1, 1)
    level = np.where(grid.values < 0, LEVELS, np.round(share * (LEVELS - 1))).astype(np.uint8)
    palette = np.vstack([colour_map(LEVELS), [[128, 128, 128]]])
    return png(np.ascontiguousarray(level[::-1]), palette)


def _at_times(stream: CodeStream, times: np.ndarray, sample_rate: int) -> np.ndarray:
    rate, frames = float(stream.frame_rate), stream.codes.shape[1]
    position = np.floor(times * rate).astype(np.int64)
    if stream.durations is not None:
        position = np.searchsorted(np.cumsum(stream.durations), position, side="right")
    elif stream.segments:
        starts = np.array([segment.start_sample / sample_rate for segment in stream.segments])
        counts = np.array([segment.frames for segment in stream.segments])
        window = np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)
        inside = np.floor((times - starts[window]) * rate).astype(np.int64)
        position = (np.cumsum(counts) - counts)[window] + np.clip(inside, 0, counts[window] - 1)
    padded = np.pad(stream.codes, ((0, 0), (0, 1)), constant_values=-1)
    return np.asarray(padded[:, np.minimum(position, frames)])


def _band_weights(window_length: int, sample_rate: int) -> np.ndarray:
    axis = frequency_axis(np.fft.rfftfreq(window_length, 1 / sample_rate), sample_rate)
    centres = (np.arange(BANDS) + 0.5) / BANDS
    spacing = np.interp(centres, axis[:-1], np.diff(axis))
    width = np.maximum(1 / BANDS, spacing)[:, None]
    weights = np.maximum(0, 1 - np.abs(axis[None] - centres[:, None]) / width)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _linear_rgb(lab: np.ndarray) -> np.ndarray:
    return np.asarray((lab @ _LMS_FROM_LAB.T) ** 3 @ _RGB_FROM_LMS.T)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
