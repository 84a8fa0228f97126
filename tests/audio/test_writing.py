from __future__ import annotations

import builtins
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from audiotokens.audio import audio_info, read_audio, write_audio, write_blocks, writing
from audiotokens.errors import AudioError

TONE = (0.4 * np.sin(np.arange(48_000) / 20)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_every_16_bit_value_comes_back(tmp_path: Path, suffix: str) -> None:
    values = np.arange(-32768, 32768, dtype=np.int16).reshape(2, -1)
    for given in (values, values.astype(np.float32) / 32768, values.astype(np.float64) / 32768):
        write_audio(tmp_path / f"a{suffix}", given, 16000, overwrite=True)
        stored, rate = soundfile.read(tmp_path / f"a{suffix}", dtype="int16")
        assert rate == 16000
        np.testing.assert_array_equal(stored.T, values)
        np.testing.assert_array_equal(read_audio(tmp_path / f"a{suffix}")[0], values / np.float32(32768))


def test_rounding_and_clipping(tmp_path: Path) -> None:
    step = 1 / 32768
    given = [
        0.4 * step,
        0.5 * step,
        0.6 * step,
        1.5 * step,
        -1.6 * step,
        1.0,
        -1.0,
        3.5,
        -3e38,
        1 - 0.5 * step,
    ]
    write_audio(tmp_path / "a.wav", np.array(given), 16000)
    stored, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert stored.tolist() == [0, 0, 1, 2, -2, 32767, -32768, 32767, -32768, 32767]


def test_float32_keeps_everything(tmp_path: Path) -> None:
    given = np.array([[1e-30, 0.1, 17.5], [-2.5, 0, 3e38]], np.float32)
    write_audio(tmp_path / "a.wav", given, 44100, encoding="float32")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], given)
    assert audio_info(tmp_path / "a.wav").codec == "float"


@pytest.mark.parametrize(("suffix", "codec"), [(".ogg", "vorbis"), (".oga", "vorbis"), (".opus", "opus")])
def test_ogg(tmp_path: Path, suffix: str, codec: str) -> None:
    long = np.tile(TONE, 10)
    write_audio(tmp_path / f"a{suffix}", long, 48000)
    waveform, _ = read_audio(tmp_path / f"a{suffix}")
    assert waveform.shape == (1, long.size)
    assert np.abs(waveform[0, 5000:-5000] - long[5000:-5000]).max() < 0.05
    assert audio_info(tmp_path / f"a{suffix}").codec == codec


def test_many_channels(tmp_path: Path) -> None:
    given = np.random.default_rng(0).integers(-999, 999, (64, 100)).astype(np.int16)
    write_audio(tmp_path / "a.wav", given, 768_000)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0] * 32768, given)


def test_input_is_left_alone(tmp_path: Path) -> None:
    given = np.array([0.3, 2.0], np.float32)
    write_audio(tmp_path / "a.wav", given, 16000)
    assert given.tolist() == [np.float32(0.3), 2.0]


def test_overwriting(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, TONE, 16000)
    before = path.read_bytes()
    with pytest.raises(AudioError, match=r"a\.wav: exists already; choose another name"):
        write_audio(path, TONE[:9], 16000)
    assert path.read_bytes() == before
    write_audio(path, TONE[:9], 16000, overwrite=True)
    assert audio_info(path).num_samples == 9
    assert os.listdir(tmp_path) == ["a.wav"]


def test_links_are_followed(tmp_path: Path) -> None:
    write_audio(tmp_path / "real.wav", TONE, 16000)
    link = tmp_path / "link.wav"
    link.symlink_to("real.wav")
    write_audio(link, TONE[:9], 16000, overwrite=True)
    assert link.is_symlink()
    assert audio_info(tmp_path / "real.wav").num_samples == 9


def test_nothing_is_left_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "a.wav", TONE, 16000)
    before = (tmp_path / "a.wav").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "_to_int16", full)
    with pytest.raises(AudioError, match=r"a\.wav: cannot write it: No space left on device"):
        write_audio(tmp_path / "a.wav", TONE, 16000, overwrite=True)
    assert os.listdir(tmp_path) == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == before


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_audio(tmp_path / "a.wav", TONE, 16000)
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("name", "channels", "rate", "message"),
    [
        ("a.mp3", 1, 16000, r'cannot write "\.mp3" files; expected \.wav, \.flac'),
        ("a", 1, 16000, 'cannot write "" files'),
        ("a.opus", 1, 44100, "opus cannot hold 1 channels at 44100 Hz; write .wav, or resample"),
        ("a.flac", 9, 16000, "flac cannot hold 9 channels at 16000 Hz"),
        ("no/a.wav", 1, 16000, "its folder does not exist; create it first"),
        ("nul\0.wav", 1, 16000, "not a valid file name"),
    ],
)
def test_refusals(tmp_path: Path, name: str, channels: int, rate: int, message: str) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        write_audio(tmp_path / name, np.zeros((channels, 100)), rate)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_more_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(AudioError, match="is empty"):
        write_audio(path, np.zeros(0), 16000)
    with pytest.raises(AudioError, match="NaN or infinite"):
        write_audio(path, np.array([np.nan]), 16000)
    with pytest.raises(AudioError, match="sample rate is 0"):
        write_audio(path, TONE, 0)
    with pytest.raises(AudioError, match=r'encoding is .pcm8.; expected "pcm16" or "float32"'):
        write_audio(path, TONE, 16000, encoding="pcm8")  # type: ignore[arg-type]
    with pytest.raises(AudioError, match=r"only \.wav holds float32"):
        write_audio(tmp_path / "a.flac", TONE, 16000, encoding="float32")
    monkeypatch.setattr(writing, "_WAV_LIMIT", 1000)
    with pytest.raises(AudioError, match="do not fit into a wav file"):
        write_audio(path, TONE, 16000)
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match="is a folder, pipe or device"):
        write_audio(tmp_path / "folder.wav", TONE[:9], 16000, overwrite=True)
    assert os.listdir(tmp_path) == ["folder.wav"]


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(builtins, "open", deny)
    with pytest.raises(AudioError, match=r"a\.wav: no permission to write it"):
        write_audio(tmp_path / "a.wav", TONE, 16000)


def test_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=sink))
    write_audio("-", TONE, 16000)
    write_audio(tmp_path / "a.wav", TONE, 16000)
    assert sink.getvalue() == (tmp_path / "a.wav").read_bytes()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus"])
def test_blocks_make_the_file_of_the_whole(tmp_path: Path, suffix: str) -> None:
    whole = np.stack([np.tile(TONE, 4), 0.5 * np.tile(TONE, 4)])
    write_audio(tmp_path / f"whole{suffix}", whole, 48000)
    blocks = [whole[:, :1], whole[:, 1:1], whole[:, 1:100_000], whole[:, 100_000:]]
    assert write_blocks(tmp_path / f"blocks{suffix}", iter(blocks), 48000) == whole.shape[1]
    first, second = (read_audio(tmp_path / f"{name}{suffix}")[0] for name in ("whole", "blocks"))
    np.testing.assert_array_equal(first, second)


def test_blocks_that_make_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    block = TONE[None]
    with pytest.raises(AudioError, match=r"a\.wav: no samples came"):
        write_blocks(path, [block[:, :0]], 16000)
    with pytest.raises(AudioError, match=r"a\.wav: 2 channels follow 1; expected as many"):
        write_blocks(path, [block, np.repeat(block, 2, 0)], 16000)
    monkeypatch.setattr(writing, "_WAV_LIMIT", 3 * block.size)
    with pytest.raises(AudioError, match=r"96,000 samples do not fit into a wav file"):
        write_blocks(path, [block] * 2, 16000)
    asked = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            asked.append(1)
            yield block

    with pytest.raises(AudioError, match=r"144,000 samples do not fit into a wav file"):
        write_blocks(path, endless(), 16000, num_samples=144_000)
    assert len(asked) == 2, "no more than the first piece takes"

    def failing() -> Iterator[np.ndarray]:
        yield block
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        write_blocks(path, failing(), 16000)
    assert os.listdir(tmp_path) == []
