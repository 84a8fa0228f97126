"""Tokenizers beside anchors, treatments and themselves without quantizer; corpora, reference, processes."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotokens.errors import AudioTokensError, NotOfferedError
from audiotokens.evaluation.activity import active_frames
from audiotokens.evaluation.anchors.base import Anchor, Coded
from audiotokens.evaluation.anchors.treatments import Original
from audiotokens.evaluation.compare import compare
from audiotokens.evaluation.contrasts import verdict
from audiotokens.evaluation.metrics import METRICS, Measured, Metric
from audiotokens.evaluation.results import Comparison, OperatingPoint, Point, Table
from audiotokens.evaluation.statistics import Interval, mean_interval, paired_interval
from audiotokens.evaluation.systems import Named, payload_bits
from audiotokens.evaluation.tables import format_table
from audiotokens.tokens import CodeStream, Conditioning, Segment, Tokens

BEST = {"si-sdr": math.inf, "mel/vocos": 0.0, "mel/dac-eval": 0.0, "stft/parallel-wavegan": 0.0}


class Halves(Anchor):
    """Rounds to a number of bits and comes late; fails where the first sample is positive, if it is picky."""

    def __init__(self, name: str, bits: int, *, picky: bool = False, late: int = 0) -> None:
        self.name, self.bits, self.picky, self.late = name, bits, picky, late
        self.title, self.definition = f"Rounded to {bits}", f"rounded to {bits} bits, late by {late}"
        self.nominal_bitrate = 8000.0 * bits

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        if self.picky and waveform[0, 0] > 0:
            raise RuntimeError("no positive start")
        step = 2.0 ** (1 - self.bits)
        output = np.round(waveform / step) * step
        late = np.pad(output, ((0, 0), (self.late, 0)))[:, : waveform.shape[1]]
        return Coded(late.astype(np.float32), sample_rate, waveform.shape[1] * self.bits // 8, 0.25, 0.125)


def run(tokenizer: object, files: object, **options: object) -> Comparison:
    given = {"metrics": list(BEST), "num_codebooks": [1, 2]} | options
    return compare(tokenizer, files, **given)  # type: ignore[arg-type]


def one(found: Comparison, name: str, books: int = 0) -> OperatingPoint:
    return next(p for p in found.points if (p.tokenizer, p.num_codebooks) == (name, books))


def mean(found: Comparison, point: OperatingPoint, metric: str) -> float:
    summary = found.summary(point.point, metric)
    assert summary is not None
    assert summary.mean is not None
    return summary.mean


def test_order_kinds_and_bit_rates(digits: object, sounds: Path) -> None:
    anchors = [Halves("fine", 8, late=3), Halves("rough", 2), Original()]
    found = run(digits, sounds, anchors=anchors, unquantized=True)
    assert [(p.tokenizer, p.num_codebooks, p.kind) for p in found.points] == [
        ("digits", 1, "tokenizer"),
        ("digits", 2, "tokenizer"),
        ("digits", 0, "unquantized"),
        ("rough", 0, "anchor"),
        ("fine", 0, "anchor"),
        ("original", 0, "calibration"),
    ]
    fine, tokens, original = one(found, "fine"), one(found, "digits", 2), one(found, "original")
    assert fine.measured_bitrate == fine.payload_bitrate == fine.nominal_bitrate == 64000.0
    assert (fine.encode_speed, fine.decode_speed, fine.timed) == (2.0, 4.0, 3)
    assert (fine.delay_milliseconds, fine.confirmed) == (3 / 8, 6)
    assert fine.definition == "rounded to 8 bits, late by 3"
    # books of 12 entries: 4 bits of a file, 3.58 bits of information
    assert tokens.payload_bitrate == 64000.0
    assert tokens.nominal_bitrate == pytest.approx(16000 * math.log2(12))
    assert tokens.measured_bitrate is not None
    assert tokens.measured_bitrate > tokens.payload_bitrate
    assert (original.payload_bitrate, original.nominal_bitrate) == (None, None)
    assert one(found, "digits").payload_bitrate is None
    assert found == Comparison.from_dict(found.to_dict())


def test_the_original_has_the_best_value_of_every_measure(digits: object, sounds: Path) -> None:
    found = run(digits, sounds, anchors="original", unquantized=True)
    for metric, best in BEST.items():
        assert mean(found, one(found, "original"), metric) == best
        # latents of this tokenizer are the samples themselves
        assert mean(found, one(found, "digits"), metric) == best
        assert mean(found, one(found, "digits", 2), metric) != best


def test_a_treatment_that_is_not_to_be_aligned_is_not(digits: object, sounds: Path) -> None:
    found = run(digits, sounds, anchors=["shift-8"], metrics=["si-sdr"])
    shift = one(found, "shift-8")
    assert shift.delay_milliseconds is None
    assert mean(found, shift, "si-sdr") < 0
    assert {r.delay for r in found.records if r.tokenizer == "shift-8"} == {8}
    assert not any("shift-8" in note for note in found.notes)


def test_anchors_are_in_the_intersection_and_calibrations_are_not(digits: object, sounds: Path) -> None:
    picky, lenient = Halves("picky", 8, picky=True), Halves("lenient", 8)
    found = run(digits, sounds, anchors=[picky, lenient], metrics=["si-sdr"])
    positive = sum(soundfile.read(path)[0][0] > 0 for path in sounds.glob("*.wav"))
    assert 0 < positive < 6
    counts = {summary.tokenizer: (summary.count, summary.ok) for summary in found.summaries}
    left = 6 - positive
    assert counts == {"digits": (left, 6), "picky": (left, left), "lenient": (left, 6)}
    assert one(found, "picky").failed == positive
    picky.kind = "calibration"
    found = run(digits, sounds, anchors=[picky, lenient], metrics=["si-sdr"])
    counts = {summary.tokenizer: (summary.count, summary.ok) for summary in found.summaries}
    assert counts == {"digits": (6, 6), "picky": (left, left), "lenient": (6, 6)}


def test_an_unreadable_file_fails_everywhere_and_is_counted(digits: object, sounds: Path) -> None:
    (sounds / "s1.wav").write_bytes(b"no sound")
    found = run(digits, sounds, anchors="original", metrics=["si-sdr"])
    assert {(p.files, p.failed) for p in found.points} == {(6, 1)}
    bad = [row for row in found.rows if row.file == "s1.wav"]
    assert [(row.status, row.value) for row in bad] == [("failed", None)] * 3
    assert {(s.count, s.total) for s in found.summaries} == {(5, 6)}
    assert "5/6!" in format_table(found)


def test_corpora_have_tables_of_their_own(digits: object, sounds: Path) -> None:
    together = run(digits, sounds, metrics=["si-sdr"])
    found = run(digits, sounds, metrics=["si-sdr"], by="corpus", against="digits:1")
    assert together.tables == (Table("sound"),)
    assert found.tables == (Table("sound", "clean"), Table("sound", "other"))
    assert [(p.group, p.files) for p in found.points] == [("clean", 4)] * 2 + [("other", 2)] * 2
    values = {row.file: row.value for row in together.rows if row.num_codebooks == 2}
    for table, files in (
        ("clean", ["s0.wav", "s1.wav", "s2.wav", "s3.wav"]),
        ("other", ["s4.wav", "s5.wav"]),
    ):
        summary = found.summary(Point("sound", "digits", 2, table), "si-sdr")
        assert summary is not None
        assert summary.mean == pytest.approx(np.mean([values[file] for file in files]))
        assert (summary.count, summary.total) == (len(files), len(files))
    assert {usage.group for usage in found.usage} == {"clean", "other"}
    assert len({p.encode_speed for p in found.points if p.num_codebooks == 2}) == 1
    text = format_table(found)
    assert "sound, clean: 4 files, 3 speakers or sources" in text
    assert "sound, other: difference to digits with 1 books, file by file" in text


def test_differences_to_a_reference(digits: object, sounds: Path) -> None:
    anchors = [Halves("fine", 12), Halves("like", 8), "original", "noise-20db"]
    found = run(digits, sounds, anchors=anchors, metrics=["si-sdr", "mel/vocos"], against="like")
    assert found.reference is not None
    verdicts = {(d.metric, d.first_tokenizer, d.first_codebooks): d.verdict for d in found.against}
    for metric in ("si-sdr", "mel/vocos"):
        assert verdicts[metric, "digits", 1] == verdicts[metric, "noise-20db", 0] == "worse"
        assert verdicts[metric, "fine", 0] == "better"
    # infinite differences have no interval
    assert verdicts["si-sdr", "original", 0] == "tie"
    assert len(found.against) == 2 * 5
    assert {(d.second_tokenizer, d.second_codebooks) for d in found.against} == {("like", 0)}
    pairs = [(d.first, d.second) for d in found.differences if d.metric == "si-sdr"]
    assert len(pairs) == len({frozenset(pair) for pair in pairs}) == 3 + 5
    text = format_table(found)
    assert "difference to Rounded to 8, file by file" in text
    assert "\n> digits" in text
    assert text.index("Rounded to 12") < text.index("\ncalibration\nOriginal")
    table = format_table(found, markdown=True)
    assert "| **digits** | 1 | 28.680 |" in table
    assert "| *Original* | - | - |" in table
    widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
    assert len(widths) == 2


@pytest.mark.parametrize(
    ("interval", "larger", "smaller"),
    [
        ((0.1, 0.3), "better", "worse"),
        ((-0.3, -0.1), "worse", "better"),
        ((-0.1, 0.3), "tie", "tie"),
        ((0.0, 0.3), "tie", "tie"),
        ((None, None), "tie", "tie"),
    ],
)
def test_verdicts_follow_the_direction(interval: tuple[float, float], larger: str, smaller: str) -> None:
    found = Interval(0.0, *interval, 20, 10)
    assert verdict(found, larger_is_better=True) == larger
    assert verdict(found, larger_is_better=False) == smaller


def test_what_cannot_stand_beside(digits: object, sounds: Path) -> None:
    with pytest.raises(
        AudioTokensError, match='"nothing" is not compared here; known: digits:1, digits:2, orig'
    ):
        run(digits, sounds, anchors="original", against="nothing")
    with pytest.raises(AudioTokensError, match='"digits:3" is not compared here'):
        run(digits, sounds, against="digits:3")
    with pytest.raises(AudioTokensError, match='two systems are called "digits"'):
        run(digits, sounds, anchors=[Halves("digits", 8)])
    with pytest.raises(AudioTokensError, match='no anchor "opuss"'):
        run(digits, sounds, anchors="opuss")
    plain = type("Plain", (type(digits),), {"decode_features": None})()
    with pytest.raises(NotOfferedError, match="can decode its latents"):
        run(plain, sounds, unquantized=True)


def test_processes_change_nothing(digits: object, sounds: Path, tmp_path: Path) -> None:
    asked = {"anchors": ["lowpass-4k", "another-utterance", Halves("own", 8)], "metrics": ["si-sdr"]}
    alone = run(digits, sounds, **asked)
    (sounds / "s2.wav").touch()
    spread = run(digits, sounds, jobs=2, cache=tmp_path / "c", **asked)
    assert spread.rows == alone.rows
    assert spread.usage == alone.usage
    assert spread.summaries == alone.summaries
    assert run(digits, sounds, jobs=2, cache=tmp_path / "c", **asked) == spread


@pytest.mark.slow
def test_named_tokenizers_are_coded_in_other_processes(sounds: Path) -> None:
    name = Named("speech-16k", exact=True)
    asked = {"metrics": ["si-sdr", "mel/vocos"], "num_codebooks": [3, 6], "unquantized": True}
    alone, spread = run(name, sounds, **asked), run(name, sounds, jobs=2, **asked)
    for first, second in zip(alone.rows, spread.rows, strict=True):
        assert second.value == pytest.approx(first.value, abs=1e-3)
    assert spread.usage == alone.usage


def test_payload_bits() -> None:
    def made(sizes: tuple[int, ...], frames: int, **more: object) -> Tokens:
        stream = CodeStream(np.zeros((len(sizes), frames), np.int64), sizes, Fraction(50), **more)  # type: ignore[arg-type]
        return Tokens({"codes": stream}, frames * 320, 16000, 1, "t", "0" * 64)

    assert payload_bits(made((1024, 1024), 50)) == 1000
    assert payload_bits(made((1025, 2), 10)) == 120
    assert payload_bits(made((8,), 3, durations=np.array([1, 4, 2]))) == 9 + 9
    voice = Tokens(
        made((8,), 3).streams, 960, 16000, 1, "t", "0" * 64, conditioning={"v": Conditioning(np.ones((2, 1)))}
    )
    assert payload_bits(voice) == 9 + 64


def test_silent_frames_are_left_out_of_the_entropy(digits: object, sounds: Path) -> None:
    for path in sounds.glob("*.wav"):
        noise = soundfile.read(path)[0]
        soundfile.write(path, np.concatenate([noise, 1e-4 * noise, np.zeros(4000)]), 8000, subtype="FLOAT")
    found = run(digits, sounds, metrics=["si-sdr"])
    first = found.usage[0]
    assert first.codes == 6 * 12000
    # every sample is a frame here, and near zero a noise is 40 dB below its loudest 20 ms
    assert 6 * 3800 < first.active_codes < 6 * 4000
    assert first.active_share is not None
    # half scale leaves 6 of 12 digits; two thirds of the frames are one digit or two
    assert first.active_share == pytest.approx(math.log2(6) / math.log2(12), abs=0.03)
    assert first.entropy / math.log2(12) < first.active_share - 0.1
    assert "entropy of each book in active frames" in format_table(found)


def test_activity_by_the_place_of_a_frame() -> None:
    rate = 16000
    waveform = np.zeros((1, rate), np.float32)
    waveform[0, 4000:8000] = 0.5
    waveform[0, 8000:12000] = 0.5 * 10 ** (-41 / 20)

    def active(stream: CodeStream, sample_rate: int = rate) -> list[bool]:
        tokens = Tokens({"c": stream}, sample_rate, sample_rate, 1, "t", "0" * 64)
        return list(active_frames(tokens, waveform, rate)["c"])

    codes = np.zeros((1, 4), np.int64)
    expected = [False, True, False, False]
    assert active(CodeStream(codes, (8,), Fraction(4))) == expected
    assert active(CodeStream(codes, (8,), Fraction(4)), 8000) == expected
    durations = np.array([1, 2, 1, 4])
    assert active(CodeStream(codes, (8,), Fraction(8), durations=durations)) == [False, True, True, False]
    segments = (Segment(0, 8000, 2), Segment(6000, 10000, 2))
    assert active(CodeStream(codes, (8,), Fraction(4), segments=segments)) == [False, True, True, False]
    assert active(CodeStream(codes[:, :1], (8,), Fraction(0))) == [True]
    waveform[:] = 0
    assert active(CodeStream(codes, (8,), Fraction(4))) == [False] * 4


def test_weights_make_the_mean_of_a_corpus() -> None:
    errors, words, speakers = [0.5, 0.0, 0.1], [2.0, 8.0, 10.0], ["a", "b", "c"]
    assert mean_interval(errors, speakers, weights=words).mean == pytest.approx(0.1)
    even, plain = mean_interval(errors, speakers, weights=[2.0] * 3), mean_interval(errors, speakers)
    assert (even.mean, even.low, even.high) == pytest.approx((plain.mean, plain.low, plain.high))
    first, second = dict(zip("xyz", errors)), dict.fromkeys("xyz", 0.0)
    spoken = dict(zip("xyz", speakers))
    found = paired_interval(first, second, spoken, weights=dict(zip("xyz", words)))
    assert found.mean == pytest.approx(0.1)
    assert mean_interval([1.0], ["a"], weights=[0.0]).mean is None


def test_transcripts_reach_the_measures_that_need_them(
    digits: object, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def errors(reference: np.ndarray, output: np.ndarray, sample_rate: int, transcript: str) -> Measured:
        return Measured(1.0 if "wrong" in transcript else 0.0, weight=len(transcript.split()))

    monkeypatch.setitem(METRICS, "errors", Metric("errors", "e", "e", errors, False, needs_transcript=True))
    said = ["wrong", "one two three", "", "one", "one", "one"]
    rows = [f"s{number}.wav,p{number},sound,c,{text}" for number, text in enumerate(said)]
    manifest = sounds / "manifest.csv"
    manifest.write_text("\n".join(["path,source_id,domain,corpus,transcript", *rows]))
    asked = {"metrics": ["errors"], "num_codebooks": [2], "cache": tmp_path / "c"}
    found = run(digits, sounds, **asked)
    # one wrong word of seven
    assert [summary.mean for summary in found.summaries] == [pytest.approx(1 / 7)]
    missing = next(row for row in found.rows if row.file == "s2.wav")
    assert missing.status == "skipped"
    assert "a transcript is needed" in missing.reason
    manifest.write_text(manifest.read_text().replace("one two three", "wrong"))
    assert [summary.mean for summary in run(digits, sounds, **asked).summaries] == [pytest.approx(2 / 5)]
