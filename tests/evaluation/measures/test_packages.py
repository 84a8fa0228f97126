from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation.measures import packages
from audiotokens.evaluation.measures.features import mel_power
from audiotokens.evaluation.measures.packages import (
    import_without,
    one_thread,
    package_folder,
    remembered,
    require_rate,
)
from audiotokens.evaluation.spectral import MelScale


def test_results_are_remembered_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    @remembered
    def total(signal: np.ndarray) -> float:
        calls.append(len(signal))
        return float(signal.sum())

    monkeypatch.setattr(packages, "_REMEMBERED", 2)
    one, two, three = np.ones(3, np.float32), np.ones(4, np.float32), np.ones(5, np.float32)
    assert [total(one), total(one.copy()), total(one[::-1])] == [3.0, 3.0, 3.0]
    assert calls == [3]
    assert [total(two), total(one), total(three), total(one)] == [4.0, 3.0, 5.0, 3.0]
    assert calls == [3, 4, 5]
    assert total(two) == 4.0
    assert calls == [3, 4, 5, 4]


def test_a_stand_in_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_module.py").write_text("import absent_module, numpy\nvalue = 5\n")
    (tmp_path / "needier_module.py").write_text("import absent_module, other_absent_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert import_without("needy_module", "absent_module", "numpy").value == 5
    with pytest.raises(ImportError, match="other_absent_module"):
        import_without("needier_module", "absent_module")
    assert "absent_module" not in sys.modules
    assert sys.modules["numpy"] is np
    sys.modules.pop("needy_module")


def test_rates_and_folders_are_checked() -> None:
    require_rate(16000)
    with pytest.raises(MetricError, match="found a sample rate of 44100 Hz"):
        require_rate(44100)
    assert (package_folder("audiotokens", "This", "torch") / "errors.py").is_file()
    with pytest.raises(MissingExtraError, match=r'This needs the extra "mos": pip install'):
        package_folder("absent_module", "This", "mos")


def test_threads_come_back() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
        assert not torch.is_grad_enabled()
    assert torch.get_num_threads() == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("scale", [MelScale(40, 400, 160), MelScale(120, 321, 160)])
def test_mel_power_of_a_tone_and_of_an_impulse(scale: MelScale) -> None:
    time = np.arange(16000) / 16000
    mel = mel_power(np.sin(2 * np.pi * 1000 * time), scale, 16000)
    assert mel.shape == (scale.bands, 101 if scale.window == 400 else 100)
    edges = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), scale.bands + 2)  # Slaney: 1 kHz is mel 15
    assert abs(edges[1:-1][mel[:, 50].argmax()] - 15) < edges[1]
    impulse = np.zeros(1600, np.float32)
    impulse[0] = 1
    # the second frame begins 40 samples before it, or at it, where the window is 0
    seen = [0, 1] if scale.window == 400 else [0]
    assert np.flatnonzero(mel_power(impulse, scale, 16000).sum(axis=0)).tolist() == seen


def test_mel_power_is_that_of_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    for bands, window in ((40, 400), (120, 321)):
        expected = librosa.feature.melspectrogram(
            y=sound, sr=16000, n_fft=window, hop_length=160, n_mels=bands
        )
        assert mel_power(sound, MelScale(bands, window, 160), 16000) == pytest.approx(expected, rel=1e-4)
