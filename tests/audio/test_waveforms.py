from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from audiotokens.audio import (
    RESAMPLER,
    Resampler,
    as_waveform,
    check_sample_rate,
    mix_to_channels,
    resample,
)
from audiotokens.audio.waveforms import regrouped
from audiotokens.errors import AudioError


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (channels, samples)).astype(np.float32)


def sine(rate: int, seconds: float, frequency: float = 1000.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate).astype(np.float32)[None]


def test_float32_is_not_copied() -> None:
    stereo = noise(2, 100)
    assert as_waveform(stereo) is stereo
    mono = stereo[1]
    assert as_waveform(mono).shape == (1, 100)
    assert np.shares_memory(as_waveform(mono), mono)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([-32768, 0, 16384, 32767], np.int16), [-1, 0, 0.5, 32767 / 32768]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([-32768, 16384], ">i2"), [-1, 0.5]),
        (np.array([0.25, -3.5], np.float64), [0.25, -3.5]),
        (np.array([0.25, -3.5], np.float16), [0.25, -3.5]),
    ],
)
def test_scaling_by_type(values: np.ndarray, expected: list[float]) -> None:
    before = values.copy()
    result = as_waveform(values)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, [expected])
    np.testing.assert_array_equal(values, before)


def test_transposed_and_reversed_input_becomes_contiguous() -> None:
    samples_first = noise(2, 50).T.copy()
    assert as_waveform(samples_first.T).flags.c_contiguous
    np.testing.assert_array_equal(as_waveform(samples_first[::-1, 0])[0], samples_first[::-1, 0])


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[0.5, -0.25]], requires_grad=True)
    np.testing.assert_array_equal(as_waveform(tensor), [[0.5, -0.25]])
    np.testing.assert_array_equal(as_waveform(tensor.bfloat16()), [[0.5, -0.25]])
    np.testing.assert_array_equal(as_waveform(torch.tensor([-32768], dtype=torch.int16)), [[-1.0]])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([0.0, 1.0], "is a list; expected a numpy array"),
        (None, "is a NoneType"),
        (np.zeros(5, np.uint8), "of type uint8"),
        (np.zeros(5, np.int64), "of type int64"),
        (np.zeros(5, bool), "of type bool"),
        (np.zeros(5, complex), "of type complex128"),
        (np.array(["a"]), "of type <U1"),
        (np.array(1.0), r"shape \(\)"),
        (np.zeros((1, 2, 3)), r"shape \(1, 2, 3\)"),
        (np.zeros(0), "is empty"),
        (np.zeros((0, 5)), "is empty"),
        (np.zeros((65, 100)), "has 65 channels"),
        (np.zeros((16000, 2)), "then transpose it"),
        (np.array([[0, 0], [0, np.nan]]), "NaN or infinite at sample 1, channel 1"),
        (np.array([-np.inf, 0]), "at sample 0"),
        (np.array([1e300]), "at sample 0"),
    ],
)
def test_unusable_waveforms(bad: object, message: str, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        as_waveform(bad)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not recwarn.list


@pytest.mark.parametrize("rate", [1000, 16000, np.int64(44100), 768_000])
def test_sample_rates(rate: int) -> None:
    assert check_sample_rate(rate) == rate
    assert type(check_sample_rate(rate)) is int


@pytest.mark.parametrize("rate", [0, -16000, 999, 768_001, 10_000_000, 16000.0, "16000", None, True])
def test_silly_sample_rates(rate: object) -> None:
    with pytest.raises(AudioError, match=r"sample rate is .*; expected"):
        check_sample_rate(rate)  # type: ignore[arg-type]


def test_mixing() -> None:
    stereo = np.array([[1, 0.5], [0, -0.5]], np.float32)
    assert mix_to_channels(stereo, 2) is stereo
    np.testing.assert_array_equal(mix_to_channels(stereo, 1), np.array([[0.5, 0]], np.float32))
    np.testing.assert_array_equal(mix_to_channels(stereo[:1], 3), [[1, 0.5]] * 3)
    assert mix_to_channels(stereo, 1).dtype == np.float32
    huge = np.full((2, 1), 3e38, np.float32)
    assert np.isfinite(mix_to_channels(huge, 1)).all()
    with pytest.raises(AudioError, match="6 channels; expected 2 or 1"):
        mix_to_channels(noise(6, 4), 2)


RATES = [(44100, 16000), (48000, 16000), (16000, 48000), (22050, 24000), (767_999, 1001), (1000, 16001)]


@pytest.mark.parametrize(("source", "target"), RATES)
def test_resampled_length_is_always_rounded_up(source: int, target: int) -> None:
    for samples in [0, 1, 2, 3, 7, 100, 1601]:
        result = resample(noise(2, samples), source, target)
        assert result.shape == (2, -(-samples * target // source))
        assert result.dtype == np.float32


def test_equal_rates_return_the_same_array() -> None:
    waveform = noise(1, 10)
    assert resample(waveform, 16000, 16000) is waveform


@pytest.mark.parametrize(("source", "target"), RATES[:4])
def test_resampling_keeps_a_sine_in_place(source: int, target: int) -> None:
    found = resample(sine(source, 0.5), source, target)
    middle = slice(target // 10, 4 * target // 10)
    assert np.abs(found - sine(target, 0.5))[:, middle].max() < 1e-5


def test_resampling_removes_what_the_target_cannot_hold() -> None:
    found = resample(sine(48000, 0.5, 10_000.0), 48000, 16000)
    assert np.abs(found[:, 1600:6400]).max() < 1e-6


def test_resampling_is_deterministic_and_channelwise() -> None:
    stereo = noise(2, 44100 * 20)
    first = resample(stereo, 44100, 16000)
    np.testing.assert_array_equal(first, resample(stereo, 44100, 16000))
    np.testing.assert_array_equal(first[1:], resample(stereo[1:].copy(), 44100, 16000))
    assert RESAMPLER == "soxr-vhq"


def test_resampling_refuses_shapes_and_rates() -> None:
    with pytest.raises(AudioError, match="use as_waveform"):
        resample(np.zeros(10, np.float32), 44100, 16000)
    with pytest.raises(AudioError, match="sample rate is 0"):
        resample(noise(1, 10), 44100, 0)


def test_import_is_light() -> None:
    code = "import sys, audiotokens.audio; sys.exit(bool({'torch', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("source", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("target", [8000, 16000, 24000, 44100])
@pytest.mark.parametrize("size", [1, 997, 70_000])
def test_resampling_by_blocks_gives_the_samples_of_one_call(source: int, target: int, size: int) -> None:
    for samples in (1, 3, 2001, 2 * source + 13):
        waveform = noise(2, samples)
        resampler = Resampler(2, source, target)
        step = min(size, samples) if size > 1 else max(1, samples // 1000)
        made = [resampler.push(waveform[:, i : i + step]) for i in range(0, samples, step)]
        joined = np.concatenate([*made, resampler.finish()], axis=1)
        np.testing.assert_array_equal(joined, resample(waveform, source, target))


def test_blocks_are_regrouped() -> None:
    waveform = noise(2, 1000)
    blocks = [waveform[:, :1], waveform[:, 1:1], waveform[:, 1:650], waveform[:, 650:]]
    found = list(regrouped(blocks, 300))
    assert [block.shape[1] for block in found] == [300, 300, 300, 100]
    assert all(block.flags.c_contiguous for block in found)
    np.testing.assert_array_equal(np.concatenate(found, axis=1), waveform)
    assert list(regrouped([], 300)) == []
