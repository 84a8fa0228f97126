from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from audiotokens.audio import read_audio
from audiotokens.errors import AudioTokensError, CheckpointError, DamagedError, MissingExtraError
from audiotokens.evaluation.anchors import Lyra
from audiotokens.evaluation.anchors.coder import to_int16
from audiotokens.evaluation.anchors.lyra import pack, unpack

RATES = [(3200, 64), (6000, 120), (9200, 184)]

each_rate = pytest.mark.parametrize(("bitrate", "bits"), RATES)


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    folder = shared / "parity" / "lyra_v2"
    if not folder.is_dir():
        pytest.skip("the golden vectors of Lyra V2 are not here")
    return folder


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.mean(found == expected))


@each_rate
def test_codes_of_golden_features(lyra_folder: Path, golden: Path, bitrate: int, bits: int) -> None:
    anchor = Lyra(bitrate, lyra_folder)
    codes = anchor.quantize(np.load(golden / "features_tflite_ref.npy"))
    assert np.array_equal(codes.T, np.load(golden / f"codes_{bits}_tflite_ref.npy"))


@each_rate
def test_packets_are_those_of_lyra(golden: Path, bitrate: int, bits: int) -> None:
    codes = np.load(golden / f"codes_{bits}_tflite_xnnpack.npy").T
    packets = np.load(golden / f"packets_{bits}_tflite_xnnpack.npy").tobytes()
    assert pack(codes) == packets
    assert np.array_equal(unpack(packets, bits // 4), codes)


@each_rate
def test_golden_audio_both_ways(lyra_folder: Path, golden: Path, bitrate: int, bits: int) -> None:
    """Kernels of another processor may round otherwise: so much may they differ, says the golden README."""
    anchor = Lyra(bitrate, lyra_folder)
    samples = to_int16(read_audio(golden / "input.wav")[0][0])
    expected = np.load(golden / f"packets_{bits}_tflite_xnnpack.npy").tobytes()
    coded = anchor.encode(samples)
    assert len(coded) == 172 * bits // 8
    books = [unpack(packets, bits // 4) for packets in (coded, expected)]
    assert agreement(books[0][:4], books[1][:4]) > 0.88
    audio = np.load(golden / f"decoded_{bits}_tflite_xnnpack.npy")
    error = anchor.decode(expected) - audio
    assert 10 * np.log10(np.sum(audio**2) / max(np.sum(error**2), 1e-20)) > 24


def test_rate_length_and_fresh_state(lyra_folder: Path, voice: np.ndarray) -> None:
    anchor = Lyra(6000, lyra_folder)
    for samples, rate in ((1, 16000), (640, 16000), (5001, 44100), (24000, 16000)):
        first, again = anchor.code(voice[:, :samples], rate), anchor.code(voice[:, :samples], rate)
        length = -(-samples * 16000 // rate)
        assert first.waveform.shape == (1, length)
        assert first.num_bytes == 15 * -(-length // 320)
        assert np.array_equal(first.waveform, again.waveform)
        assert first.encode_seconds and first.decode_seconds
    assert np.abs(first.waveform).max() <= 1


def test_a_changed_file_is_refused(lyra_folder: Path, tmp_path: Path) -> None:
    for path in lyra_folder.glob("*.tflite"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    target = tmp_path / "lyragan.tflite"
    content = bytearray(target.read_bytes())
    content[1000] ^= 1
    target.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"lyragan.tflite: is not the file of Lyra 1\.3\.2: take"):
        Lyra(3200, tmp_path)
    target.unlink()
    with pytest.raises(AudioTokensError, match=r"lyragan.tflite: cannot be read \(No such file"):
        Lyra(3200, tmp_path)


def test_a_packet_that_is_cut_is_an_error(lyra_folder: Path) -> None:
    with pytest.raises(DamagedError, match="found 9 bytes, expected whole Lyra packets of 8 bytes"):
        Lyra(3200, lyra_folder).decode(bytes(9))


def test_what_it_needs(lyra_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUDIOTOKENS_LYRA", raising=False)
    with pytest.raises(
        AudioTokensError, match="needs a folder with soundstream_encoder.tflite, .* AUDIOTOKENS_LYRA"
    ):
        Lyra(3200)
    monkeypatch.setenv("AUDIOTOKENS_LYRA", str(lyra_folder))
    assert Lyra(3200).name == "lyra-3.2k"
    with pytest.raises(AudioTokensError, match="no rate of 3000 bit/s; choose one of 3200, 6000, 9200"):
        Lyra(3000)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match='Lyra V2 needs the extra "anchors"'):
        Lyra(3200)
