"""Every bad file is one clear line, without remarks of C libraries and without large allocations."""

from __future__ import annotations

import builtins
import contextlib
import os
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotokens.audio import audio_info, read_audio, read_blocks
from audiotokens.errors import AudioError, MissingExtraError

NOISE = np.random.default_rng(0).normal(0, 0.1, (60_000, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing may be written to the terminal by any test of this file."""
    yield
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Write a good file of the given name, or the given bytes."""

    def make(name: str, data: bytes | None = None) -> Path:
        path = tmp_path / name
        if data is None:
            format, subtype = ("OGG", "OPUS") if path.suffix == ".opus" else (None, None)
            soundfile.write(path, NOISE, 48000, format=format, subtype=subtype)
        else:
            path.write_bytes(data)
        return path

    return make


def refused(path: Path, message: str) -> None:
    """Check that reading fails with one line that names the file, by every door and in little memory."""
    tracemalloc.start()
    for read in (read_audio, lambda path: list(read_blocks(path, block_samples=1000))):
        with pytest.raises(AudioError, match=message) as caught:
            read(path)
        text = str(caught.value)
        assert text.startswith(str(path))
        assert "\n" not in text
        assert "Error" not in text
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def wav(
    *, channels: int = 1, rate: int = 16000, size: int | None = None, kind: int = 1, data: bytes = bytes(64)
) -> bytes:
    block = (2 * channels) & 0xFFFF
    form = struct.pack("<HHIIHH", kind, channels, rate & 0xFFFFFFFF, (rate * block) & 0xFFFFFFFF, block, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_missing(tmp_path: Path) -> None:
    refused(tmp_path / "no.wav", "no such file; check the path")
    refused(tmp_path / "no" / "no.wav", "no such file")


def test_empty(make: Callable[..., Path]) -> None:
    for suffix in ["wav", "flac", "mp3", "m4a", "txt"]:
        refused(make(f"empty.{suffix}", b""), r"the file is empty \(0 bytes\)")


def test_folder(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder; expected an audio file")


def test_device() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("no devices here")
    refused(Path("/dev/zero"), "is a pipe or device")


def test_no_permission(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("secret.wav")

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(builtins, "open", deny)
    with pytest.raises(AudioError, match=r"secret\.wav: no permission to read it; change its permissions"):
        read_audio(path)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="the administrator may read everything")
def test_no_permission_in_truth(make: Callable[..., Path]) -> None:
    path = make("secret.wav")
    path.chmod(0)
    refused(path, "no permission to read it")


def test_strange_names(tmp_path: Path) -> None:
    for name in ["two\nlines.wav", "nul\0.wav", "x" * 300 + ".wav"]:
        with pytest.raises(AudioError, match=r"no such file|not a valid file name|cannot read it") as caught:
            read_audio(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "mp3", "ogg", "m4a", "vox", "gsm"])
def test_not_audio(make: Callable[..., Path], suffix: str) -> None:
    refused(make(f"a.{suffix}", b"The free text of a letter.\n" * 9), r"not audio \(it looks like text\)")
    refused(make(f"b.{suffix}", "Grüße, 今日は".encode() * 9), r"not audio \(it looks like text\)")
    refused(make(f"c.{suffix}", b"\x89PNG\r\n\x1a\n" + bytes(99)), "not audio that can be decoded")
    refused(make(f"d.{suffix}", b"\0"), "not audio")


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au", "a.flac", "a.mp3", "a.ogg", "a.opus"])
@pytest.mark.parametrize("share", [0.003, 0.3, 0.6, 0.98])
def test_cut_off(make: Callable[..., Path], name: str, share: float) -> None:
    whole = make(name).read_bytes()
    path = make(name, whole[: max(30, int(share * len(whole)))])
    refused(path, "cut off" if len(whole) * share > 200 else "cut off|damaged")


def test_cut_off_between_pages(make: Callable[..., Path]) -> None:
    whole = make("a.ogg").read_bytes()
    refused(make("a.ogg", whole[: whole.rindex(b"OggS") + 20]), "its last page is not complete")
    refused(make("a.ogg", whole + b"x" * 70_000), "its last page is not complete")


def test_cut_off_mp3_without_a_tag(make: Callable[..., Path]) -> None:
    whole = make("a.mp3").read_bytes()
    bare = whole[whole.index(b"\xff\xfb", 4) :]
    assert read_audio(make("a.mp3", bare))[0].shape[1] >= 60_000
    refused(make("a.mp3", bare[: len(bare) // 2 + 7]), "cut off or damaged")


def test_two_mp3_in_one_file(make: Callable[..., Path]) -> None:
    whole = make("a.mp3").read_bytes()
    refused(make("a.mp3", whole + whole), "a second recording follows the first")
    tagged = make("a.mp3", whole + b"APETAGEX" + bytes(30_000))
    assert read_audio(tagged)[0].shape == (2, 60_000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.opus", "a.aiff"])
def test_random_damage_never_escapes(make: Callable[..., Path], name: str) -> None:
    whole = make(name).read_bytes()[:30_000]
    generator = np.random.default_rng(1)
    for turn in range(40):
        data = bytearray(whole)
        reach = 120 if turn % 2 else len(data)
        for place in generator.integers(0, reach, generator.integers(1, 9)):
            data[place] = generator.integers(0, 256)
        path = make(name, bytes(data))
        with contextlib.suppress(AudioError):
            assert np.isfinite(read_audio(path)[0]).all()


def test_headers_of_wav(make: Callable[..., Path]) -> None:
    assert read_audio(make("good.wav", wav()))[0].shape == (1, 32)
    refused(make("a.wav", wav(channels=0)), "its header says 0 channels; expected 1 to 64")
    refused(make("a.wav", wav(channels=1024, data=bytes(4096))), "its header says 1024 channels")
    refused(make("a.wav", wav(rate=0)), "its header says 0 Hz; expected 1,000 to 768,000")
    refused(make("a.wav", wav(rate=-16000)), "its header says -16,000 Hz")
    refused(make("a.wav", wav(rate=10_000_000)), "its header says 10,000,000 Hz")
    refused(make("a.wav", wav(data=b"")), "holds no samples")
    refused(make("a.wav", wav(kind=0x1234)), "its header is damaged, or of a kind that cannot be decoded")
    refused(make("a.wav", wav()[:36]), "it ends before its samples begin")
    refused(make("a.wav", b"RIFF\0\0\0\0WAVE" + bytes(100_000)), "damaged")


def test_other_formats_with_silly_facts(make: Callable[..., Path], tmp_path: Path) -> None:
    silent = tmp_path / "a.aiff"
    soundfile.write(silent, NOISE[:0], 16000)
    refused(silent, "no samples")
    path = tmp_path / "a.flac"
    soundfile.write(path, NOISE, 999)
    refused(path, "its header says 999 Hz")
    wide = tmp_path / "a.caf"
    soundfile.write(wide, np.zeros((10, 1024)), 16000)
    refused(wide, "its header says 1024 channels")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, value: float) -> None:
    samples = NOISE.copy()
    samples[54_321, 1] = value
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    refused(path, "sample 54,321 is NaN or infinite")
    assert audio_info(path).num_samples == 60_000
    assert read_audio(path, frames=54_321)[0].shape == (2, 54_321)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF - 36])
def test_wav_written_to_a_pipe_states_no_length(make: Callable[..., Path], size: int) -> None:
    tracemalloc.start()
    assert read_audio(make("a.wav", wav(size=size)))[0].shape == (1, 32)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_header_that_claims_hours(make: Callable[..., Path]) -> None:
    refused(make("a.wav", wav(size=3_000_000_000)), "announces 3,000,000,000 bytes of samples, 64 are there")
    data = bytearray(make("a.flac").read_bytes())
    data[21:26] = bytes([data[21] & 0xF0]) + struct.pack(">I", 500_000_000)
    refused_in_parts = make("a.flac", bytes(data))
    with pytest.raises(AudioError, match="cut off or damaged after sample"):
        list(read_blocks(refused_in_parts, block_samples=10_000_000_000))
    tracemalloc.start()
    with pytest.raises(AudioError, match=r"cut off or damaged after sample .* of 500,000,000"):
        read_audio(refused_in_parts)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    data[21:26] = bytes([data[21] & 0xF0 | 0xF]) + b"\xff" * 4
    with pytest.raises(AudioError, match=r"takes at least .* MiB"):
        read_audio(make("a.flac", bytes(data)))


def test_flac_written_to_a_pipe(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("a.flac")
    expected, _ = read_audio(path)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0]) + bytes(4)
    path = make("a.flac", bytes(data))
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "av", None)
        with pytest.raises(MissingExtraError, match=r"Reading \.flac files of unstated length needs"):
            read_audio(path)
    pytest.importorskip("av")
    np.testing.assert_array_equal(read_audio(path)[0], expected)
    assert audio_info(path).num_samples == 60_000
    refused(make("a.flac", bytes(data[: len(data) // 2])), "cut off or damaged")
