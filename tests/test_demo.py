from __future__ import annotations

import csv
import hashlib
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotokens.audio import read_audio
from audiotokens.demo import DemoResult, make_demo_audio, operating_points, run_demo
from audiotokens.demo_sounds import VOICES, chords, drums, rain, speak, wind
from audiotokens.errors import AudioError, AudioTokensError
from audiotokens.evaluation.results import Comparison
from audiotokens.spec import Spec, StreamSpec
from audiotokens.tokenfile import read_tokens
from audiotokens.tokenizer import Streams, Tokenizer
from audiotokens.tokens import CodeStream, Conditioning, Tokens

RATE, HOP, BOOKS, LEVELS = 16000, 320, 12, 64


class BandVocoder(Tokenizer):
    """Every book is the level of one band of a 20 ms frame, carried by noise: more books, more bandwidth."""

    @property
    def spec(self) -> Spec:
        stream = StreamSpec("codes", (LEVELS,) * BOOKS, Fraction(RATE, HOP))
        return Spec("bands", RATE, RATE, (stream,), legal_prefixes=tuple(range(1, BOOKS + 1)))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(b"bands").hexdigest()

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        frames = np.pad(waveform[0], (0, -waveform.shape[1] % HOP)).reshape(-1, HOP)
        power = np.abs(np.fft.rfft(frames)[:, 1:]) ** 2 / HOP
        bands = np.log2(self._split(power).mean(axis=2) + 1e-6)
        codes = np.clip(np.round(2 * (bands + 20)), 0, LEVELS - 1).astype(np.int64).T[:num_codebooks]
        return {"codes": CodeStream(codes, (LEVELS,) * num_codebooks, Fraction(RATE, HOP))}, {}

    def _decode(self, tokens: Tokens) -> np.ndarray:
        codes = tokens.codes
        noise = np.random.default_rng(0).standard_normal((codes.shape[1], HOP))
        spectrum = np.fft.rfft(noise)
        level = np.zeros((codes.shape[1], HOP // 2 + 1))
        for book, values in enumerate(codes):
            level[:, 1 + book * 13 : 14 + book * 13] = 2.0 ** ((values[:, None] / 2 - 20) / 2)
        return np.fft.irfft(spectrum * level, HOP).reshape(1, -1).astype(np.float32)

    @staticmethod
    def _split(power: np.ndarray) -> np.ndarray:
        return power[:, : BOOKS * 13].reshape(len(power), BOOKS, 13)


@pytest.fixture(scope="module")
def voices() -> None:
    pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short files of different formats, one long one, and one that is no audio."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, rate, seconds in (("a.wav", 8000, 1.0), ("b.ogg", 44100, 1.5), ("c long.flac", 16000, 21.0)):
        noise = np.random.default_rng(0).standard_normal(round(rate * seconds)).astype(np.float32)
        soundfile.write(folder / name, 0.1 * noise, rate)
    (folder / "d.wav").write_bytes(b"no audio at all")
    return folder


@pytest.fixture(scope="module")
def found(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo([recordings], tmp_path_factory.mktemp("out") / "demo", tokenizer=BandVocoder())


@pytest.mark.parametrize("make", [chords, drums, rain, wind])
def test_synthesized_sounds_are_reproducible_and_in_range(make: object) -> None:
    assert callable(make)
    first, again, other = make(3), make(3), make(4)
    assert first.dtype == np.float32 and first.ndim == 2
    assert np.isfinite(first).all() and 0.5 < np.abs(first).max() <= 0.75
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.usefixtures("voices")
def test_voices_differ_in_language_and_speaker() -> None:
    spoken = [speak(voice) for voice in VOICES]
    assert len({voice.voice.split("+")[0] for voice in VOICES}) >= 7
    for waveform, rate in spoken:
        assert rate == 22050 and waveform.dtype == np.float32
        assert 2.0 < len(waveform) / rate < 12.0
        assert 0.05 < np.abs(waveform).max() <= 1.0


@pytest.mark.usefixtures("voices")
def test_demo_audio_is_twelve_files_with_a_manifest(tmp_path: Path) -> None:
    files = make_demo_audio(tmp_path / "made")
    assert len(files) == 12 and all(file.is_file() for file in files)
    with (tmp_path / "made" / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [file.name for file in files]
    assert sorted({row["domain"] for row in rows}) == ["music", "sound", "speech"]
    assert len({row["source_id"] for row in rows}) == 12


def test_without_the_speech_library_the_rest_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audiotokens import demo, demo_sounds

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    demo_sounds._espeak.cache_clear()
    assert [file.name.split("-")[0] for file in make_demo_audio(tmp_path)] == ["music"] * 2 + ["sound"] * 2
    _, notes = demo._own_audio(tmp_path)
    assert 'pip install "audiotokens[demo]"' in notes[0]


def test_operating_points_are_legal_and_rise() -> None:
    assert operating_points(BandVocoder().spec) == (1, 3, 6, 12)
    stream = StreamSpec("codes", (1024,) * 8, Fraction(50))
    assert operating_points(Spec("few", RATE, RATE, (stream,), legal_prefixes=(4, 8))) == (4, 8)


def test_user_files_give_page_tokens_and_reconstructions(found: DemoResult) -> None:
    folder = found.page.parent
    assert found.files == 3 and found.page.name == "report.html"
    assert sorted(p.name for p in (folder / "tokens").iterdir()) == ["a.tok", "b.tok", "c long.tok"]
    assert len(list((folder / "reconstructions").iterdir())) == 3 * 4
    tokens = read_tokens(folder / "tokens" / "b.tok")
    assert tokens.num_codebooks == BOOKS and tokens.source is not None and tokens.source.sample_rate == 44100
    again, rate = read_audio(folder / "reconstructions" / "b-12-books.flac")
    assert rate == RATE and again.shape == (1, tokens.num_samples)
    text = found.page.read_text(encoding="utf-8")
    assert "bands on your recordings" in text and "b" in text


def test_equal_names_in_different_folders_do_not_collide(tmp_path: Path) -> None:
    for i, name in enumerate(("x/take.wav", "y/take.wav", "y/Take.flac")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.full(4000, 0.1 * (i + 1)), 8000)
    run_demo([tmp_path / "x", tmp_path / "y"], tmp_path / "out", tokenizer=BandVocoder())
    audio = tmp_path / "out" / "audio"
    assert sorted(path.name for path in audio.glob("*.flac")) == [
        "Take (2).flac",
        "take (3).flac",
        "take.flac",
    ]


def test_long_files_are_cut_and_what_was_left_out_is_said(found: DemoResult) -> None:
    waveform, rate = read_audio(found.page.parent / "audio" / "c long.flac")
    assert waveform.shape[1] == 20 * rate
    notes = " ".join(found.notes)
    assert "1 recordings are longer than 20 s" in notes
    assert "d.wav" in notes and "name the domain" in notes
    comparison = Comparison.read_json(found.page.parent / "comparison.json")
    assert set(found.notes) <= set(comparison.notes)
    assert {record.file for record in comparison.records} == {"a.flac", "b.flac", "c long.flac"}


def test_figures_are_of_the_page(found: DemoResult) -> None:
    assert [figure.name for figure in found.figures][::2] == ["Bit rate of the codes", "Encode and decode"]
    text = found.page.read_text(encoding="utf-8")
    assert all(figure.value in text for figure in found.figures)
    assert float(found.figures[2].value.replace(",", "")) > 1


def test_a_domain_brings_the_measures_of_speech(recordings: Path, tmp_path: Path) -> None:
    pytest.importorskip("pystoi")
    result = run_demo([recordings / "a.wav"], tmp_path, tokenizer=BandVocoder(), domain="speech")
    comparison = Comparison.read_json(tmp_path / "comparison.json")
    assert comparison.domains == ("speech",)
    assert any(row.metric == "estoi" and row.status == "ok" for row in comparison.rows)
    assert not any("name the domain" in note for note in result.notes)


def test_only_twelve_files_are_taken_evenly(tmp_path: Path) -> None:
    for i in range(30):
        soundfile.write(tmp_path / f"{i:02d}.wav", np.full(4000, 0.01 * i), 8000)
    seen: list[str] = []
    result = run_demo(
        [tmp_path],
        tmp_path / "out",
        tokenizer=BandVocoder(),
        progress=lambda done, total, what: seen.append(f"{done}/{total} {what}"),
    )
    assert result.files == 12 and "12 of 30 files" in result.notes[0]
    assert (tmp_path / "out" / "audio" / "27.flac").is_file()
    assert seen[0].startswith("0/25 ") and seen[-1] == "25/25 done"


def test_unusable_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"\0" * 100)
    with pytest.raises(AudioError, match="none of the 1 files could be used"):
        run_demo([tmp_path / "x.wav"], tmp_path / "out", tokenizer=BandVocoder())
    with pytest.raises(AudioTokensError, match="cannot make this folder"):
        run_demo(None, tmp_path / "x.wav" / "out", tokenizer=BandVocoder())


@pytest.mark.slow
@pytest.mark.usefixtures("voices")
def test_the_whole_demo_on_its_own_sounds(tmp_path: Path) -> None:
    result = run_demo(None, tmp_path, tokenizer=BandVocoder())
    assert result.files == 12 and result.page.stat().st_size < 15_000_000
    assert [figure.name for figure in result.figures] == [
        "Bit rate of the codes",
        "PESQ-WB",
        "Encode and decode",
    ]
