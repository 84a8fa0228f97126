"""Packed audio is checked when it is opened; crops are a pure function of seed and step."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audiotokens.errors import AudioTokensError, CheckpointError, ConfigError
from audiotokens.training.config import DataConfig
from audiotokens.training.data import HEAD, Ahead, Crops, PackedAudio, open_pack

CONFIG = DataConfig(batch_size=64, crop_samples=1024)
PREFIXES = tuple(range(1, 13))


def crops(audio: PackedAudio, config: DataConfig = CONFIG, **options: bool) -> Crops:
    return Crops(audio, config, prefixes=PREFIXES, seed=3, **options)


def in_memory(*files: np.ndarray) -> PackedAudio:
    lengths = np.array([len(file) for file in files])
    samples = np.concatenate(files).astype(np.int16)
    names = tuple(f"file{number}.wav" for number in range(len(files)))
    return PackedAudio(Path("memory"), 16000, samples, names, lengths, "")


def test_a_pack_opens_as_it_was_written(pack_file: PackedAudio) -> None:
    assert pack_file.sample_rate == 16000
    assert pack_file.lengths.tolist() == [9000, 14000, 700]
    assert pack_file.names[2] == "file2.wav"
    assert pack_file.seconds == pytest.approx(23700 / 16000)


def test_reading_needs_numpy_only(pack_file: PackedAudio) -> None:
    program = f"""
import sys
sys.modules.update(dict.fromkeys(("torch", "soundfile", "soxr", "av")))
from audiotokens.training.data import open_pack
assert open_pack({str(pack_file.path)!r}).sample_rate == 16000
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_flipped_or_missing_part_is_found(pack_file: PackedAudio) -> None:
    whole = pack_file.path.read_bytes()
    places = [*range(HEAD.size), *range(HEAD.size, len(whole), 997), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        pack_file.path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            open_pack(pack_file.path)
    for length in (0, 10, HEAD.size, 20000, len(whole) - 1):
        pack_file.path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"not packed audio|was cut"):
            open_pack(pack_file.path)


def test_a_missing_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioTokensError, match=r"none\.pack: cannot be read") as caught:
        open_pack(tmp_path / "none.pack")
    assert caught.value.exit_code == 2


def test_crops_depend_on_seed_and_step_only(pack_file: PackedAudio) -> None:
    first, again = crops(pack_file)(7), crops(pack_file)(7)
    assert np.array_equal(first.waveform, again.waveform)
    assert np.array_equal(first.num_codebooks, again.num_codebooks)
    assert not np.array_equal(first.waveform, crops(pack_file)(8).waveform)
    other = Crops(pack_file, CONFIG, prefixes=PREFIXES, seed=4)
    assert not np.array_equal(first.waveform, other(7).waveform)


def test_drawing_ahead_changes_nothing(pack_file: PackedAudio) -> None:
    plain, ahead = crops(pack_file), Ahead(crops(pack_file))
    for step in (5, 6, 7, 3):
        assert np.array_equal(ahead(step).waveform, plain(step).waveform)


def test_files_are_drawn_in_proportion_to_their_length() -> None:
    config = dataclasses.replace(CONFIG, gain=(0.0, 0.0))
    # One file in four thousand short steps of the level tells where a crop comes from.
    audio = in_memory(np.full(30000, 3000), np.full(10000, 6000))
    levels = np.abs(np.concatenate([crops(audio, config)(step).waveform[:, 0] for step in range(40)]))
    assert np.mean(levels < 0.1) == pytest.approx(0.75, abs=0.03)


def test_gain_and_sign_are_drawn_and_the_peak_is_kept() -> None:
    quiet, loud = in_memory(np.full(5000, 3277)), in_memory(np.full(5000, 30000))
    levels = np.concatenate([crops(quiet)(step).waveform[:, 0] for step in range(20)])
    decibels = 20 * np.log10(np.abs(levels) / 0.1)
    assert decibels.min() == pytest.approx(-10, abs=0.2)
    assert decibels.max() == pytest.approx(6, abs=0.2)
    assert np.mean(levels > 0) == pytest.approx(0.5, abs=0.06)
    assert np.abs(crops(loud)(0).waveform).max() == pytest.approx(0.99)


def test_quiet_crops_are_refused_four_times_in_five() -> None:
    audio = in_memory(np.full(10000, 3000), np.full(10000, 10))
    waveform = np.concatenate([crops(audio)(step).waveform[:, 0] for step in range(40)])
    assert np.mean(np.abs(waveform) < 0.002) == pytest.approx(0.2 / 1.2, abs=0.03)


def test_silence_alone_does_not_hang() -> None:
    assert np.all(crops(in_memory(np.zeros(5000)))(0).waveform == 0)


def test_short_files_lie_somewhere_among_zeros() -> None:
    waveform = crops(in_memory(np.full(300, 9000)))(0).waveform
    assert np.all((waveform != 0).sum(1) == 300)
    assert len(set(np.argmax(waveform != 0, axis=1))) > 20


def test_a_quarter_of_the_crops_uses_all_books() -> None:
    audio = in_memory(np.full(5000, 3000))
    books = np.concatenate([crops(audio)(step).num_codebooks for step in range(100)])
    counts = np.bincount(books, minlength=13)[1:] / len(books)
    assert counts[:11] == pytest.approx(np.full(11, 0.75 / 12), abs=0.015)
    assert counts[11] == pytest.approx(0.25 + 0.75 / 12, abs=0.03)


def test_only_legal_numbers_of_books_are_drawn() -> None:
    audio = in_memory(np.full(5000, 3000))
    drawn = Crops(audio, CONFIG, prefixes=(2, 8), seed=0)(0).num_codebooks
    assert set(drawn.tolist()) == {2, 8}


def test_held_out_files_are_not_trained_on() -> None:
    audio = in_memory(*(np.full(2000, 1000 * (index + 1)) for index in range(9)))
    config = dataclasses.replace(CONFIG, validation_files=3, gain=(0.0, 0.0))
    levels = [
        {
            round(abs(float(level)) * 32.768)
            for level in crops(audio, config, held_out=held_out)(0).waveform[:, 0]
        }
        for held_out in (False, True)
    ]
    assert levels == [{2, 3, 4, 6, 7, 8}, {1, 5, 9}]


def test_a_pack_cannot_be_all_validation(pack_file: PackedAudio) -> None:
    with pytest.raises(ConfigError, match="holds only 3 files"):
        crops(pack_file, dataclasses.replace(CONFIG, validation_files=3))


def test_weighted_files_are_drawn_more_often() -> None:
    audio = in_memory(np.full(5000, 1000), np.full(5000, 2000))
    config = DataConfig(batch_size=400, crop_samples=1024, gain=(0.0, 0.0), weights={"*1.wav": 3, "*": 1})
    levels = np.abs(Crops(audio, config, prefixes=[1], seed=0)(0).waveform[:, 0]) * 32768
    assert np.mean(levels > 1500) == pytest.approx(0.75, abs=0.06)
    with pytest.raises(ConfigError, match='no file fits "x\\*"; the first file is file0.wav'):
        Crops(audio, DataConfig(weights={"x*": 2}), prefixes=[1], seed=0)


def test_speed_changes_pitch() -> None:
    audio = in_memory(8000 * np.sin(2 * np.pi * 1000 * np.arange(32000) / 16000))
    for speed in (0.8, 1.0, 1.25):
        config = DataConfig(batch_size=1, crop_samples=8000, gain=(0.0, 0.0), speed=(speed, speed))
        crop = Crops(audio, config, prefixes=[1], seed=0)(0).waveform[0]
        peak = np.abs(np.fft.rfft(crop * np.hanning(8000), 1 << 18)).argmax() * 16000 / (1 << 18)
        assert peak == pytest.approx(1000 * speed, rel=0.005)
        assert np.abs(crop).max() == pytest.approx(8000 / 32768, rel=0.02)
