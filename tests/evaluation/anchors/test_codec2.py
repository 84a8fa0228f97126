from __future__ import annotations

import sys

import numpy as np
import pytest

from audiotokens.audio import resample
from audiotokens.errors import AudioTokensError, MissingExtraError
from audiotokens.evaluation.anchors import Codec2
from audiotokens.evaluation.metrics import METRICS

RATE = 16000

pytest.importorskip("pycodec2")


@pytest.mark.parametrize("mode", ["700C", "1200", "1300", "1600", "2400", "3200"])
def test_rate_has_no_filling_bits(mode: str) -> None:
    anchor = Codec2(mode)
    coded = anchor.encode(np.zeros(24000, np.int16))
    # 0.7 and 1.3 kbit/s fill their last bytes of each frame, which is not counted
    assert anchor.count_bytes(coded) == -(-int(mode.rstrip("C")) * 3 // 8)
    assert anchor.nominal_bitrate == int(mode.rstrip("C"))


@pytest.mark.parametrize(("samples", "rate"), [(1, 16000), (320, 16000), (5001, 44100)])
def test_length(voice: np.ndarray, samples: int, rate: int) -> None:
    found = Codec2("1200").code(voice[:, :samples], rate)
    assert found.waveform.shape == (1, -(-samples * 8000 // rate))
    assert found.sample_rate == 8000
    assert found.num_bytes > 0


def test_the_same_every_time(voice: np.ndarray) -> None:
    anchor = Codec2("3200")
    first, again = anchor.code(voice, RATE), anchor.code(voice, RATE)
    assert np.array_equal(first.waveform, again.waveform)
    assert np.abs(first.waveform).max() > 0.01


@pytest.mark.parametrize("mode", ["700C", "3200"])
def test_delay_is_taken_out(speech: np.ndarray, mode: str) -> None:
    anchor = Codec2(mode)
    assert not anchor.align
    output = resample(anchor.code(speech, RATE).waveform, 8000, RATE)[0, : speech.shape[1]]
    score = METRICS["estoi"]
    found = score(speech[0], output)
    for moved in (-160, 160):
        assert score(speech[0, 200:-200], output[200 + moved : len(output) - 200 + moved]) < found


def test_what_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioTokensError, match='Codec2 has no mode "1000"; choose one of 700C, 1200'):
        Codec2("1000")
    anchor = Codec2("1200")
    monkeypatch.setattr(anchor, "_mode", 7)
    with pytest.raises(AudioTokensError, match="codec2-1200: the decoder failed: "):
        anchor.decode(b"123456")
    monkeypatch.setitem(sys.modules, "pycodec2", None)
    with pytest.raises(MissingExtraError, match='Codec2 needs the extra "anchors"'):
        Codec2("1200")
