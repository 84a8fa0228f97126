from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from audiotokens.audio import resample
from audiotokens.errors import AudioTokensError, DamagedError, MissingExtraError
from audiotokens.evaluation.alignment import estimate_delay
from audiotokens.evaluation.anchors import AmrNarrowBand, Opus, ffmpeg
from audiotokens.evaluation.anchors.coder import to_int16
from audiotokens.evaluation.anchors.ogg import ogg_packets

RATE = 16000

pytest.importorskip("imageio_ffmpeg")


def share_above(waveform: np.ndarray, frequency: float) -> float:
    """Energy above a frequency in dB of the whole."""
    power = np.abs(np.fft.rfft(waveform[0])) ** 2
    first = int(frequency * waveform.shape[1] / RATE)
    return float(10 * np.log10(power[first:].sum() / power.sum()))


@pytest.mark.parametrize("bitrate", [6000, 8000, 12000, 16000])
def test_constant_opus_has_its_nominal_rate(voice: np.ndarray, bitrate: int) -> None:
    anchor = Opus(bitrate, constant=True)
    coded = anchor.encode(to_int16(voice[0]))
    packets = ogg_packets(coded)[2:]
    assert {len(packet) for packet in packets} == {bitrate // 400}
    assert anchor.count_bytes(coded) == sum(map(len, packets)) < len(coded)
    # the 6.5 ms that the coder looks ahead can need one packet more
    assert len(packets) - 150 in (0, 1)


def test_variable_opus_is_near_its_nominal_rate(speech: np.ndarray) -> None:
    for bitrate in (6000, 12000):
        found = Opus(bitrate).code(speech, RATE)
        assert 8 * found.num_bytes / (speech.shape[1] / RATE) == pytest.approx(bitrate, rel=0.2)
        assert found.encode_seconds is None


@pytest.mark.parametrize(("bitrate", "size"), [(4750, 13), (7950, 21), (12200, 32)])
def test_bytes_of_amr_are_whole_frames(voice: np.ndarray, bitrate: int, size: int) -> None:
    found = AmrNarrowBand(bitrate).code(voice, RATE)
    assert found.sample_rate == 8000
    # 150 frames, one for the delay, and what the encoder still holds
    assert found.num_bytes in (151 * size, 152 * size)


def test_opus_is_narrow_band_at_6_and_wide_band_at_12(speech: np.ndarray) -> None:
    assert share_above(speech, 4500) > -30
    assert share_above(Opus(6000).code(speech, RATE).waveform, 4500) < -50
    assert share_above(Opus(12000).code(speech, RATE).waveform, 4500) > share_above(speech, 4500) - 6


def test_delay_is_small_or_taken_out(speech: np.ndarray) -> None:
    opus = estimate_delay(speech[0], Opus(16000).code(speech, RATE).waveform[0], RATE)
    assert opus.samples in (-1, 0, 1) and opus.peak > 0.7
    anchor = AmrNarrowBand(12200)
    assert not anchor.align
    half = resample(speech, RATE, 8000)
    output = anchor.code(half, 8000).waveform[0]
    # its filters turn phases, so that the highest peak can be a negative one elsewhere
    signed = [
        float(half[0, 100:-100] @ output[100 + lag : len(output) - 100 + lag]) for lag in range(-60, 61)
    ]
    assert abs(int(np.argmax(signed)) - 60) <= 2


@pytest.mark.parametrize("anchor", [Opus(9000), AmrNarrowBand(4750)], ids=lambda anchor: anchor.name)
@pytest.mark.parametrize(("samples", "rate"), [(1, 16000), (320, 16000), (5001, 44100)])
def test_length_and_repetition(voice: np.ndarray, anchor: Opus, samples: int, rate: int) -> None:
    first, again = (anchor.code(np.repeat(voice[:, :samples], 2, axis=0), rate) for _ in range(2))
    assert first.waveform.shape == (1, -(-samples * anchor.sample_rate // rate))
    assert first.waveform.dtype == np.float32
    assert np.array_equal(first.waveform, again.waveform)
    assert first.num_bytes == again.num_bytes > 0


def test_definition_names_all_options() -> None:
    for part in (
        "9000 bit/s VBR",
        "libopus of ffmpeg",
        "voip",
        "20 ms",
        "complexity 10",
        "narrow band",
        "soxr",
    ):
        assert part in Opus(9000).definition
    assert "CBR" in Opus(9000, constant=True).definition
    assert "header byte" in AmrNarrowBand(4750).definition


def test_a_damaged_opus_file_is_an_error(voice: np.ndarray) -> None:
    anchor = Opus(9000)
    coded = anchor.encode(to_int16(voice[0]))
    changed = bytearray(coded)
    changed[len(coded) // 2] ^= 1
    for data in (coded[:-1], bytes(changed), coded.replace(b"OggS", b"OggX"), b""):
        with pytest.raises(DamagedError, match=r"Ogg: "):
            anchor.count_bytes(data)
    with pytest.raises(AudioTokensError, match="ffmpeg failed with code"):
        anchor.decode(b"nothing that could be decoded")


def test_another_coding_in_ogg_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "ogg_packets", lambda data: [b"\1vorbis", b"\3vorbis", b"sound"])
    with pytest.raises(DamagedError, match="does not begin with OpusHead and OpusTags"):
        Opus(9000).count_bytes(b"")


def test_a_damaged_amr_file_is_an_error(voice: np.ndarray) -> None:
    anchor = AmrNarrowBand(4750)
    coded = anchor.encode(to_int16(voice[0, ::2]))
    for data in (coded[:-1], coded[6:], coded[:6], coded[:6] + b"\x0c" + coded[7:]):
        with pytest.raises(
            DamagedError, match="amr-4.75k: ffmpeg gave something else than whole frames of 13"
        ):
            anchor.count_bytes(data)


def test_a_decoder_that_stops_early_is_an_error(voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    anchor = Opus(9000)
    monkeypatch.setattr(anchor, "decode", lambda coded: np.zeros(47999, np.float32))
    with pytest.raises(DamagedError, match="48000 samples were coded, 47999 were decoded"):
        anchor.code(voice, RATE)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_what_ffmpeg_complains_about_is_an_error(
    voice: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor = Opus(9000)
    script = tmp_path / "ffmpeg"
    monkeypatch.setattr(ffmpeg, "_program", lambda: str(script))
    with pytest.raises(AudioTokensError, match="ffmpeg cannot be run: "):
        anchor.code(voice, RATE)
    for text, message in (
        ("echo oh\necho no >&2", "code 0: no"),
        ("cat >/dev/null\nexit 3", "code 3: no message"),
    ):
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        with pytest.raises(AudioTokensError, match=f"ffmpeg failed with {message}"):
            anchor.code(voice, RATE)


def test_rates_and_encoders_that_do_not_exist() -> None:
    with pytest.raises(AudioTokensError, match=r"no rate of 9000 bit/s; choose one of 4750, 5150"):
        AmrNarrowBand(9000)
    with pytest.raises(AudioTokensError, match=r"ffmpeg \S+ has no libnothing: use"):
        ffmpeg._ffmpeg_version("libnothing")


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(ffmpeg, "_program", ffmpeg._program.__wrapped__)
    monkeypatch.setattr(ffmpeg, "_ffmpeg_version", ffmpeg._ffmpeg_version.__wrapped__)
    with pytest.raises(MissingExtraError, match='needs the extra "anchors"'):
        Opus(9000)
