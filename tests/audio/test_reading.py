from __future__ import annotations

import io
import os
import sys
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotokens.audio import (
    AUDIO_SUFFIXES,
    AudioInfo,
    audio_info,
    decoders,
    read_audio,
    read_blocks,
    write_audio,
)
from audiotokens.errors import AudioError, MissingExtraError

RATE = 48000


def music(channels: int = 2, samples: int = 100_000) -> np.ndarray:
    time = np.arange(samples) / RATE
    tones = [0.3 * np.sin(2 * np.pi * (220 + 110 * c) * time) for c in range(channels)]
    hiss = np.random.default_rng(0).normal(0, 0.01, (channels, samples))
    return (np.stack(tones) + hiss).astype(np.float32)


def encode(path: Path, codec: str, **options: Any) -> Path:
    """Write `music()` with FFmpeg's encoder `codec`."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=options.pop("container", {})) as container:
        stream = container.add_stream(codec, rate=RATE, layout="stereo", options=options)
        whole = av.AudioFrame.from_ndarray(music(), format="fltp", layout="stereo")
        whole.sample_rate, whole.pts = RATE, 0
        cut = av.AudioResampler(stream.codec_context.format, "stereo", RATE, stream.codec_context.frame_size)
        for frame in [*cut.resample(whole), *cut.resample(None), None]:
            container.mux(stream.encode(frame))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recording in every format that soundfile writes."""
    folder = tmp_path_factory.mktemp("audio")
    for name in ["a.wav", "a.flac", "a.ogg", "a.opus"]:
        write_audio(folder / name, music(), RATE)
    write_audio(folder / "float.wav", music(), RATE, encoding="float32")
    for name in ["a.mp3", "a.aiff", "a.au"]:
        soundfile.write(folder / name, music().T, RATE)
    return folder


FORMATS = [
    ("a.wav", "wav", "pcm_16", 2e-5),
    ("float.wav", "wav", "float", 0),
    ("a.flac", "flac", "pcm_16", 2e-5),
    ("a.aiff", "aiff", "pcm_16", 4e-5),
    ("a.au", "au", "pcm_16", 4e-5),
    ("a.mp3", "mp3", "mpeg_layer_iii", 0.1),
    ("a.ogg", "ogg", "vorbis", 0.1),
    ("a.opus", "ogg", "opus", 0.1),
]
each_format = pytest.mark.parametrize(("name", "container", "codec", "error"), FORMATS)


@each_format
def test_formats(folder: Path, name: str, container: str, codec: str, error: float) -> None:
    waveform, rate = read_audio(folder / name)
    assert waveform.dtype == np.float32
    assert (waveform.shape, rate) == ((2, 100_000), RATE)
    assert waveform.flags.c_contiguous
    assert np.abs(waveform - music())[:, 2000:-2000].max() <= error
    assert audio_info(folder / name) == AudioInfo(RATE, 2, 100_000, container, codec)
    assert audio_info(folder / name).duration == 100_000 / RATE
    assert Path(name).suffix in AUDIO_SUFFIXES


@each_format
def test_blocks_and_parts_are_the_same_samples(
    folder: Path, name: str, container: str, codec: str, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "CHUNK_VALUES", 30_000)
    whole, _ = read_audio(folder / name)
    blocks = list(read_blocks(folder / name, block_samples=17_001))
    assert [block.shape for block in blocks] == [(2, 17_001)] * 5 + [(2, 14_995)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
    for start, frames in [(0, 1), (99_999, None), (12_345, 40_000), (90_000, 99_999)]:
        part, _ = read_audio(folder / name, start=start, frames=frames)
        end = None if frames is None else start + frames
        np.testing.assert_array_equal(part, whole[:, start:end])


@each_format
def test_chunks_are_what_one_read_gives(
    folder: Path, name: str, container: str, codec: str, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = soundfile.read(folder / name, dtype="float32")
    for values in [40_000, 66_667, 99_800]:
        monkeypatch.setattr(decoders, "CHUNK_VALUES", values)
        np.testing.assert_array_equal(read_audio(folder / name)[0], expected.T)


def test_read_arguments(folder: Path) -> None:
    with pytest.raises(AudioError, match="start is sample 100,000, the file has only 100,000"):
        read_audio(folder / "a.wav", start=100_000)
    with pytest.raises(AudioError, match="start is -1; expected a whole number from 0"):
        read_audio(folder / "a.wav", start=-1)
    with pytest.raises(AudioError, match="frames is 0"):
        read_audio(folder / "a.wav", frames=0)
    with pytest.raises(AudioError, match=r"block_samples is 0\.5"):
        read_blocks(folder / "a.wav", block_samples=0.5)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="no such file"):
        read_blocks(folder / "missing.wav", block_samples=5)


def test_memory_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["a.wav", "a.flac", "a.mp3", "a.ogg"]:
        read_audio(folder / name, memory_limit=800_000)
        read_audio(folder / name, frames=99_999, memory_limit=799_992)
        with pytest.raises(AudioError, match=r"takes at least 0\.8 MiB, the limit is 0\.8 MiB; read blocks"):
            read_audio(folder / name, memory_limit=799_999)


def test_blocks_keep_memory_flat(tmp_path: Path) -> None:
    long = tmp_path / "long.flac"
    write_audio(long, np.zeros(6_000_000, np.int16), 16000)
    tracemalloc.start()
    total = sum(block.shape[1] for block in read_blocks(long, block_samples=16_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 6_000_000
    assert peak < 5 << 20


def test_mp3_without_a_tag_is_read_to_its_end(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", "libmp3lame", abr="1", b="96000", container={"write_xing": "0"})
    loud = path.read_bytes()
    quiet = encode(
        tmp_path / "b.mp3", "libmp3lame", q="9", container={"write_xing": "0", "id3v2_version": "0"}
    )
    path.write_bytes(loud + quiet.read_bytes())
    waveform, _ = read_audio(path)
    assert 200_000 <= waveform.shape[1] <= 206_000
    assert audio_info(path).num_samples == waveform.shape[1]
    path.write_bytes(loud + b"TAG" + b"x" * 125)
    assert read_audio(path)[0].shape[1] == read_audio(tmp_path / "b.mp3")[0].shape[1]


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.m4a", "aac", "mov"),
        ("a.webm", "libopus", "matroska"),
        ("a.mkv", "flac", "matroska"),
        ("a.aac", "aac", "aac"),
    ],
)
def test_media(tmp_path: Path, name: str, codec: str, container: str) -> None:
    path = encode(tmp_path / name, codec)
    info = audio_info(path)
    assert (info.sample_rate, info.channels, info.format) == (RATE, 2, container)
    assert info.codec == codec.removeprefix("lib")
    waveform, _ = read_audio(path)
    assert waveform.shape == (2, info.num_samples)
    assert 100_000 <= info.num_samples <= 103_000
    offset = 1024 if name == "a.aac" else 0
    assert np.abs(waveform[:, 5000 + offset : 90_000 + offset] - music()[:, 5000:90_000]).max() < 0.1
    blocks = list(read_blocks(path, block_samples=3333))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), waveform)
    part, _ = read_audio(path, start=7777, frames=100)
    np.testing.assert_array_equal(part, waveform[:, 7777:7877])


def test_media_is_known_by_its_content(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", "aac")
    renamed = path.rename(tmp_path / "a.wav")
    assert audio_info(renamed).codec == "aac"


def test_media_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r'Reading \.m4a files needs the extra "media"'):
        read_audio(path)


def test_media_that_is_broken(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", "aac", container={"movflags": "faststart"})
    whole = path.read_bytes()
    for share in [0.02, 0.5, 0.97]:
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(AudioError, match="cut off"):
            read_audio(path)
    path.write_bytes(b"\0\0\0\x20ftypM4A " + b"hello" * 100)
    with pytest.raises(AudioError, match=r"a\.m4a: a \.m4a file that is cut off or damaged"):
        read_audio(path)
    webm = encode(tmp_path / "a.webm", "libopus")
    webm.write_bytes(webm.read_bytes()[: webm.stat().st_size // 2])
    with pytest.raises(AudioError, match="cut off or damaged after sample"):
        read_audio(webm)


def test_video_without_sound(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for frame in [av.VideoFrame(32, 32, "yuv420p"), None]:
            container.mux(stream.encode(frame))
    with pytest.raises(AudioError, match="has no audio track"):
        read_audio(path)


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, (folder / "a.wav").read_bytes())
    waveform, rate = read_audio("-")
    assert rate == RATE
    np.testing.assert_array_equal(waveform, read_audio(folder / "a.wav")[0])
    feed(monkeypatch, b"")
    with pytest.raises(AudioError, match="standard input: the file is empty"):
        read_audio("-")
    feed(monkeypatch, b"hello\n" * 100)
    with pytest.raises(AudioError, match=r"standard input: not audio .*; expected wav here"):
        read_audio("-")
    monkeypatch.setattr(decoders, "PIPE_LIMIT", 1000)
    feed(monkeypatch, (folder / "a.wav").read_bytes())
    with pytest.raises(AudioError, match="longer than"):
        read_audio("-")
    with pytest.raises(AudioError, match="can be read only once"):
        audio_info("-")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe(folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    data = (folder / "a.wav").read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert read_audio(pipe)[0].shape == (2, 100_000)
    writer.join()
    with pytest.raises(AudioError, match="is a pipe or device"):
        audio_info(pipe)


def test_shared_recordings(shared: Path) -> None:
    paths = sorted((shared / "data" / "test").rglob("*.flac"))[::40]
    assert paths
    for path in paths:
        expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
        waveform, found = read_audio(path)
        assert found == rate
        np.testing.assert_array_equal(waveform, expected.T)
