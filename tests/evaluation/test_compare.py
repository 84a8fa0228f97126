from __future__ import annotations

import hashlib
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from audiotokens.errors import AudioTokensError, MetricError, MissingExtraError, NotOfferedError, TokensError
from audiotokens.evaluation.compare import compare, default_prefixes
from audiotokens.evaluation.metrics import METRICS, Metric
from audiotokens.evaluation.results import Comparison, Point
from audiotokens.evaluation.tables import format_table
from audiotokens.spec import Spec, StreamSpec
from audiotokens.tokenizer import Streams, Tokenizer
from audiotokens.tokens import CodeStream, Conditioning, Tokens

RATE, DIGIT = 8000, 16
QUICK = ["si-sdr", "mel/vocos"]
SPEECH = ["pesq-wb", "stoi", "estoi", *QUICK, "mel/dac-eval", "stft/parallel-wavegan"]


class Ladder(Tokenizer):
    """Sample-wise quantizer: every book is one more hexadecimal digit of the sample.

    Args:
        name: of the tokenizer.
        delay: samples by which the output is late, or early if negative.
        rounding: quantize with the books at hand instead of cutting digits, so that prefixes are not nested.
        longer: samples that the output is too long.
    """

    def __init__(
        self, name: str = "ladder", *, delay: int = 0, rounding: bool = False, longer: int = 0
    ) -> None:
        self.name, self.delay, self.rounding, self.longer = name, delay, rounding, longer
        self.encoded_with: list[int] = []

    @property
    def spec(self) -> Spec:
        stream = StreamSpec("codes", (DIGIT,) * 4, Fraction(RATE))
        return Spec(self.name, RATE, RATE, (stream,), legal_prefixes=(1, 2, 3, 4))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.name} {self.delay} {self.rounding}".encode()).hexdigest()

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        self.encoded_with.append(num_codebooks)
        levels = DIGIT**num_codebooks
        place = (waveform[0].astype(np.float64) + 1) / 2 * levels
        number = np.clip(
            (np.round(place) if self.rounding else np.floor(place)).astype(np.int64), 0, levels - 1
        )
        digits = [number // DIGIT ** (num_codebooks - 1 - k) % DIGIT for k in range(num_codebooks)]
        return {"codes": CodeStream(np.stack(digits), (DIGIT,) * num_codebooks, Fraction(RATE))}, {}

    def _decode(self, tokens: Tokens) -> np.ndarray:
        codes = tokens.codes
        place = sum(codes[k] / float(DIGIT) ** (k + 1) for k in range(len(codes)))
        middle = 0.0 if self.rounding else 0.5 / float(DIGIT) ** len(codes)
        output = np.roll(2 * (place + middle) - 1, self.delay).astype(np.float32)[None]
        return output

    def decode(self, tokens: Tokens, *, num_codebooks: int | None = None) -> np.ndarray:
        return np.pad(super().decode(tokens, num_codebooks=num_codebooks), ((0, 0), (0, self.longer)))


class Picky(Ladder):
    """Fails on loud sound, with an error of its own kind."""

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        if np.abs(waveform).max() > 0.7:
            raise RuntimeError("too\nloud")
        return super()._encode(waveform, num_codebooks)


class DecodeOnly(Ladder):
    """Cannot encode."""

    @property
    def spec(self) -> Spec:
        return Spec("vocoder", RATE, RATE, super().spec.streams, legal_prefixes=(4,), can_encode=False)


def signal(seed: int, peak: float = 0.5, seconds: float = 0.5) -> np.ndarray:
    waveform = np.random.default_rng(seed).uniform(-1, 1, int(seconds * RATE))
    return peak * waveform / np.abs(waveform).max()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six sounds of three speakers."""
    for number in range(6):
        soundfile.write(tmp_path / f"s{number // 2}_{number}.wav", signal(number), RATE, subtype="FLOAT")
    return tmp_path


def run(tokenizer: object, folder: object, **options: object) -> Comparison:
    chosen = {"metrics": QUICK, "num_codebooks": [1, 2]} | options
    return compare(tokenizer, folder, **chosen)  # type: ignore[arg-type]


def values(comparison: Comparison, books: int, metric: str = "si-sdr") -> dict[str, float | None]:
    return {r.file: r.value for r in comparison.rows if r.num_codebooks == books and r.metric == metric}


def test_figures_of_a_known_quantizer(folder: Path) -> None:
    found = run(Ladder(), folder)
    one, two = found.points
    assert (one.num_codebooks, two.num_codebooks) == (1, 2)
    assert (one.nominal_bitrate, two.nominal_bitrate) == (32000.0, 64000.0)
    assert (one.codes_per_second, two.codes_per_second) == (8000.0, 16000.0)
    assert one.delay_milliseconds == 0.0
    assert (one.confirmed, one.files, one.failed, one.seconds) == (6, 6, 0, 3.0)
    better = [second - first for first, second in zip(values(found, 1).values(), values(found, 2).values())]
    # 4 bits are 24.1 dB
    assert better == pytest.approx([24.1] * 6, abs=1.0)
    summary = found.summary(Point("unknown", "ladder", 2), "si-sdr")
    assert summary is not None
    assert (summary.count, summary.speakers, summary.total) == (6, 3, 6)
    assert summary.mean == pytest.approx(np.mean(list(values(found, 2).values())))
    assert summary.low is not None
    assert summary.high is not None
    assert summary.low < summary.mean < summary.high
    assert Comparison.from_dict(found.to_dict()) == found


def test_the_bit_rate_is_that_of_the_bytes_written(folder: Path, tmp_path: Path) -> None:
    ladder = Ladder()
    found = run(ladder, folder, num_codebooks=[2])
    waveform, _ = soundfile.read(folder / "s0_0.wav", dtype="float32")
    ladder.encode(waveform, RATE, num_codebooks=2).save(tmp_path / "one.tok")
    record = next(record for record in found.records if record.file == "s0_0.wav")
    assert record.file_bytes == (tmp_path / "one.tok").stat().st_size
    point = found.points[0]
    assert point.measured_bitrate == 8 * sum(record.file_bytes for record in found.records) / 3.0
    assert point.measured_bitrate > point.nominal_bitrate
    # half scale leaves the first digit 3 bits
    assert point.entropy_bitrate is not None
    assert 0.8 * point.nominal_bitrate < point.entropy_bitrate < 0.9 * point.nominal_bitrate


@pytest.mark.parametrize(
    ("size", "rate", "books", "bits", "codes"), [(4096, 75, 1, 900, 75), (1024, 75, 8, 6000, 600)]
)
def test_nominal_figures_follow_from_the_books(
    size: int, rate: int, books: int, bits: float, codes: float
) -> None:
    from audiotokens.evaluation.systems import TokenizerSystem

    spec = Spec(
        "x", 24000, 24000, (StreamSpec("codes", (size,) * books, Fraction(rate)),), legal_prefixes=(books,)
    )
    system = TokenizerSystem("x", SimpleNamespace(spec=spec), (books,))  # type: ignore[arg-type]
    assert spec.bitrate() == bits
    assert system.codes_per_second(books) == codes


@pytest.mark.parametrize("delay", [-8, -3, 5])
def test_a_late_or_early_tokenizer_is_measured_aligned(folder: Path, delay: int) -> None:
    straight, moved = run(Ladder(), folder), run(Ladder(delay=delay), folder)
    assert {point.delay_milliseconds for point in moved.points} == {delay / 8}
    assert {record.delay for record in moved.records} == {delay}
    assert values(moved, 1) == pytest.approx(values(straight, 1), abs=0.1)


def test_a_file_that_cannot_be_read_is_counted_not_lost(folder: Path) -> None:
    (folder / "s0_bad.wav").write_bytes(b"no sound")
    found = run(Ladder(), folder)
    bad = [row for row in found.rows if row.file == "s0_bad.wav"]
    assert {(row.status, row.value) for row in bad} == {("failed", None)}
    assert all(row.reason for row in bad)
    assert len(bad) == 4
    assert found.failed_files == ("s0_bad.wav",)
    assert found.points[0].flagged
    summary = found.summary(Point("unknown", "ladder", 2), "si-sdr")
    assert summary is not None
    assert (summary.count, summary.ok, summary.total, summary.flagged) == (6, 6, 7, True)
    assert "6/7!" in format_table(found)
    assert any("1 of 7 files failed" in note for note in found.notes)


def test_points_are_compared_on_the_files_that_all_have(folder: Path) -> None:
    soundfile.write(folder / "s9_loud.wav", signal(9, 0.9), RATE, subtype="FLOAT")
    found = run([Ladder(), Picky("picky")], folder)
    by_name = {s.tokenizer: s for s in found.summaries if s.metric == "si-sdr" and s.num_codebooks == 2}
    assert (by_name["ladder"].count, by_name["ladder"].ok) == (6, 7)
    assert (by_name["picky"].count, by_name["picky"].ok) == (6, 6)
    assert by_name["ladder"].mean == by_name["picky"].mean
    failed = next(record for record in found.records if record.status == "failed")
    assert (failed.file, failed.reason) == ("s9_loud.wav", "RuntimeError: too loud")
    difference = next(
        d
        for d in found.differences
        if (d.first_codebooks, d.second_codebooks) == (2, 2) and d.metric == "si-sdr"
    )
    assert (difference.count, difference.mean, difference.tie) == (6, 0.0, True)
    assert "ties in SI-SDR: ladder:1 = picky:1, ladder:2 = picky:2" in format_table(found)
    assert any("means are over the files" in note for note in found.notes)


def test_a_tokenizer_that_always_fails_does_not_empty_the_others(folder: Path) -> None:
    for path in folder.iterdir():
        soundfile.write(path, signal(1, 0.9), RATE, subtype="FLOAT")
    found = run([Ladder(), Picky("picky")], folder)
    good, bad = (found.summary(Point("unknown", name, 2), "si-sdr") for name in ("ladder", "picky"))
    assert good is not None
    assert bad is not None
    assert (good.count, bad.count, bad.mean) == (6, 0, None)
    assert [point.measured_bitrate for point in found.points if point.tokenizer == "picky"] == [None, None]
    assert "0/6!" in format_table(found)
    assert "unknown: 6 files, 3 speakers or sources, all failed" in format_table(run(Picky("picky"), folder))


def test_a_single_speaker_ranks_nothing(folder: Path) -> None:
    found = run(Ladder(), sorted(folder.iterdir())[:2])
    assert {summary.low for summary in found.summaries} == {None}
    table = format_table(found)
    assert "nothing can be ranked" in table
    assert "ties" not in table
    assert "±" not in table


def test_nested_codes_are_encoded_once(folder: Path) -> None:
    nested, separate = Ladder(), Ladder(rounding=True)
    found, other = run(nested, folder), run(separate, folder)
    # one probe of every file, 3 of them timed with fewer books, then every file once
    assert nested.encoded_with.count(2) == 12
    assert nested.encoded_with.count(1) == 3
    assert separate.encoded_with.count(1) == 9
    assert any("no prefix" in note for note in other.notes)
    assert not any("no prefix" in note for note in found.notes)
    assert sum(r.encode_seconds is not None for r in found.records if r.num_codebooks == 1) == 3
    assert {usage.num_codebooks for usage in found.usage} == {2}
    assert {usage.num_codebooks for usage in other.usage} == {1, 2}


def test_speed_is_audio_time_over_wall_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder = Ladder()
    clock = iter(range(100000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    found = run(ladder, folder, threads=3)
    assert {point.encode_speed for point in found.points} == {0.5}
    assert {point.decode_speed for point in found.points} == {0.5}
    assert {point.threads for point in found.points} == {3}


def test_torch_gets_its_threads_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    fake = SimpleNamespace(get_num_threads=lambda: 7, set_num_threads=asked.append)
    monkeypatch.setitem(sys.modules, "torch", fake)
    run(Ladder(), folder, threads=2)
    assert asked == [2, 7]


def test_speech_measures_need_speech(folder: Path) -> None:
    (folder / "manifest.csv").write_text("path,domain,source_id\ns0_0.wav,music,Bach\ns0_1.wav,speech,Ann\n")
    found = run(Ladder(), folder, metrics=["stoi", "si-sdr"])
    stoi = {row.file: (row.status, row.value is None) for row in found.rows if row.metric == "stoi"}
    assert stoi["s0_0.wav"] == ("skipped", True)
    assert stoi["s0_1.wav"] == ("ok", False)
    assert stoi["s1_2.wav"] == ("skipped", True)
    assert set(found.domains) == {"music", "speech", "unknown"}
    assert {s.domain for s in found.summaries if s.metric == "stoi"} == {"speech"}
    tables = format_table(found).split("\n\n")
    assert [("STOI" in table) for table in tables[:3]] == [table.startswith("speech") for table in tables[:3]]


def test_a_measure_of_words_skips_files_without_a_transcript(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(reference: np.ndarray, output: np.ndarray, sample_rate: int, transcript: str) -> float:
        return float(len(transcript.split()))

    metric = Metric("words", "words", "number of words", words, larger_is_better=True, needs_transcript=True)
    monkeypatch.setitem(METRICS, "words", metric)
    text = "path,source_id,domain,transcript\ns0_0.wav,Ann,speech,one two\ns0_1.wav,Ann,speech,\n"
    (folder / "manifest.csv").write_text(text)
    rows = {row.file: row for row in run(Ladder(), folder, metrics=["words"]).rows}
    assert rows["s0_0.wav"].value == 2.0
    assert rows["s0_1.wav"].status == "skipped" and "a transcript is needed" in rows["s0_1.wav"].reason


def test_a_broken_length_rule_is_a_failure(folder: Path) -> None:
    found = run(Ladder(longer=400), folder)
    assert {row.status for row in found.rows} == {"failed"}
    assert "breaks the length rule" in found.rows[0].reason


def test_every_mean_is_a_mean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x_percent", "y_per_z", "a_wer"):
        metric = Metric(name, name, name, lambda x, y, rate, n=name: 2.0, larger_is_better=True)
        monkeypatch.setitem(METRICS, name, metric)
    found = run(Ladder(), folder, metrics=["x_percent", "y_per_z", "a_wer"])
    assert {summary.mean for summary in found.summaries} == {2.0}


def test_processes_give_the_same_rows(folder: Path) -> None:
    assert run(Ladder(), folder, jobs=2).rows == run(Ladder(), folder).rows


def test_default_operating_points() -> None:
    assert default_prefixes(range(1, 13)) == (1, 2, 3, 4, 6, 12)
    assert default_prefixes([4]) == (4,)
    assert default_prefixes([2, 8, 32]) == (2, 8, 32)
    assert len(default_prefixes(range(1, 33))) == 6


def test_progress_and_missing_extras(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, str]] = []
    run(Ladder(), folder, progress=lambda *report: seen.append(report))
    assert seen[-1] == (6, 6, "ladder: s2_5.wav")
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(MissingExtraError, match="PESQ"):
        run(Ladder(), folder, metrics=["pesq-wb"])


def test_what_cannot_be_compared(folder: Path) -> None:
    with pytest.raises(AudioTokensError, match="no tokenizer"):
        run([], folder)
    with pytest.raises(AudioTokensError, match="given twice"):
        run([Ladder(), Ladder()], folder)
    with pytest.raises(NotOfferedError, match="vocoder does not both"):
        run(DecodeOnly(), folder)
    with pytest.raises(TokensError, match="legal values are 1, 2, 3, 4"):
        run(Ladder(), folder, num_codebooks=[9])
    with pytest.raises(AudioTokensError, match="9 is legal for none"):
        run(Ladder(), folder, num_codebooks=[1, 9])
    with pytest.raises(AudioTokensError, match="num_codebooks is empty"):
        run(Ladder(), folder, num_codebooks=[])
    with pytest.raises(MetricError, match="no metric"):
        run(Ladder(), folder, metrics=["nothing"])


def test_equal_names_are_told_apart(folder: Path) -> None:
    found = run([Ladder(), Ladder(delay=1)], folder)
    names = list(dict.fromkeys(point.tokenizer for point in found.points))
    assert names == ["ladder", f"ladder ({Ladder(delay=1).fingerprint[:8]})"]


def test_real_speech(shared: Path) -> None:
    folder = shared / "data" / "test" / "speech" / "librispeech"
    shortest = sorted(folder.glob("*.flac"), key=lambda path: path.stat().st_size)[:2]
    found = compare(Ladder(), shortest, num_codebooks=[1, 2], metrics=SPEECH)
    assert found.domains == ("speech",)
    assert {row.status for row in found.rows} == {"ok"}
    assert all(row.speaker.startswith("LS-") for row in found.rows)
    for name in SPEECH:
        low, high = (found.summary(point.point, name) for point in found.points)
        assert low is not None
        assert high is not None
        assert (high.mean > low.mean) == METRICS[name].larger_is_better  # type: ignore[operator]
