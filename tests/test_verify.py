"""`verify` finds planted faults, each at exactly its promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import faulty
import numpy as np
import pytest

from audiotokens import config, write_audio
from audiotokens.errors import AudioTokensError, NotOfferedError, TokenFileError
from audiotokens.verify import (
    PROMISES,
    Budget,
    Verdict,
    Verification,
    files,
    format_verification,
    make_waveforms,
    verify,
)
from audiotokens.verify.recordings import read_recordings
from audiotokens.verify.tally import Tally


@pytest.fixture(scope="module")
def honest() -> Verification:
    return verify(faulty.Honest())


def test_honest_tokenizer_keeps_every_promise(honest: Verification) -> None:
    statuses = {verdict.promise: verdict.status for verdict in honest.verdicts}
    assert statuses == {promise: "not offered" if promise == "I6" else "kept" for promise in PROMISES}
    assert honest.ok
    assert all(
        verdict.checked > 20 and not verdict.flips for verdict in honest.verdicts if verdict.promise != "I6"
    )


FEW = {name: waveform[:, :3001] for name, waveform in make_waveforms(8000).items() if name != "chords"}


@pytest.mark.parametrize(
    "waveforms", [FEW, pytest.param(None, marks=pytest.mark.slow)], ids=["few", "default"]
)
@pytest.mark.parametrize("kind", list(faulty.PLANTED), ids=lambda kind: kind.__name__)
def test_planted_fault_is_flagged_at_exactly_its_promise(kind: Any, waveforms: Any) -> None:
    found = verify(kind(), waveforms=waveforms)
    assert found.broken == (faulty.PLANTED[kind],), format_verification(found)
    flagged = next(verdict for verdict in found.verdicts if verdict.status == "broken")
    assert 0 < flagged.flips <= flagged.checked


def test_flips_are_counted_with_their_margin() -> None:
    verdict = verify(faulty.OrderDependentSum(), promises=["I5"]).verdicts[0]
    assert verdict.margin is not None
    assert 0 < verdict.margin < 0.002  # half precision moves the energy by 0.05 %
    assert verdict.per_million == 1e6 * verdict.flips / verdict.checked > 0
    assert f"{verdict.per_million:.0f} per million (largest margin" in verdict.detail
    assert "threads" in verdict.detail


def test_thread_count_is_restored() -> None:
    import torch

    before = torch.get_num_threads()
    verify(faulty.Honest(), promises=["I5"])
    assert torch.get_num_threads() == before


def test_verdict_words(honest: Verification) -> None:
    details = {verdict.promise: verdict.detail for verdict in honest.verdicts}
    assert re.match(r"0 in [\d,]+ codes \(smallest margin 0, median 0.00\d+\)", details["I1"])
    assert details["I4"].startswith("bit-exact in ")
    assert details["I6"] == "not offered, because it has no other engine here"
    assert details["I8"].endswith("samples")


def test_difference_of_samples_within_tolerance_is_kept_and_reported() -> None:
    tally = Tally(unit="samples", tolerance=1e-5)
    tally.compare_samples(np.zeros((1, 4), np.float32), np.full((1, 4), 3e-6, np.float32), "here")
    assert tally.verdict("I4").detail == "within 1e-5 in 4 samples (largest difference 3e-6)"
    tally.compare_samples(np.zeros((1, 4), np.float32), np.array([[0, 0, np.nan, 1]], np.float32), "there")
    assert tally.verdict("I4").status == "broken"
    assert tally.flips == 2
    assert "there: differs from sample 2 on" in tally.verdict("I4").detail


def test_missing_frames_and_streams_are_flips() -> None:
    expected = {"codes": np.zeros((2, 5), np.int64), "global": np.zeros((1, 1), np.int64)}
    tally = Tally()
    tally.compare_codes(expected, {"codes": np.zeros((2, 3), np.int64)}, "here")
    assert (tally.checked, tally.flips) == (11, 5)


class DecodeOnly(faulty.Honest):  # type: ignore[misc, name-defined]
    @property
    def spec(self) -> Any:
        return replace(super().spec, can_encode=False)


class NoSessions(faulty.Honest):  # type: ignore[misc, name-defined]
    def encoder(self, *, num_codebooks: int | None = None) -> Any:
        raise NotOfferedError("it has no sessions")

    decoder = encoder


class Unforked(faulty.Honest):  # type: ignore[misc, name-defined]
    class Session(faulty.HonestEncoder):  # type: ignore[misc, name-defined]
        def fork(self) -> Any:
            raise NotOfferedError("it cannot be copied")

    def encoder(self, *, num_codebooks: int | None = None) -> Any:
        return self.Session(self, num_codebooks)


class Raises(faulty.Honest):  # type: ignore[misc, name-defined]
    def encode_batch(self, waveforms: Any, sample_rate: int, *, num_codebooks: int | None = None) -> Any:
        raise ValueError("two\nlines")


def test_what_is_not_offered_is_no_fault() -> None:
    found = verify(DecodeOnly())
    assert {verdict.status for verdict in found.verdicts} == {"not offered"}
    found = verify(NoSessions(), promises=["I3", "I4"])
    assert [verdict.detail for verdict in found.verdicts] == ["not offered, because it has no sessions"] * 2
    verdict = verify(Unforked(), promises=["I3"]).verdicts[0]
    assert verdict.status == "kept"
    assert verdict.detail.endswith("no fork or restored session was tried, because it cannot be copied")


def test_an_exception_is_a_broken_promise_and_the_rest_goes_on() -> None:
    found = verify(Raises(), promises=["I1", "I10"])
    assert [(verdict.status, verdict.promise) for verdict in found.verdicts] == [
        ("broken", "I1"),
        ("kept", "I10"),
    ]
    assert found.verdicts[0].detail == "ValueError: two lines"


def _random_codec(kind: Any) -> Any:
    import torch

    from audiotokens.architectures.gain_shape import VARIANTS

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(VARIANTS["tiny"]).eval().make_exact()


def test_padding_leak_of_the_padded_call_alone_is_flagged() -> None:
    import torch

    from audiotokens.architectures.gain_shape import GainShapeCodec

    class HearsPadding(GainShapeCodec):
        def encode_codes(self, waveforms: Any, lengths: Any, num_codebooks: int | None = None) -> Any:
            total = waveforms.shape[2]
            waveforms = waveforms + 0.3 * (torch.arange(total) >= lengths[:, None])[:, None]
            codes, _ = super().encode_codes(waveforms, torch.full_like(lengths, total), num_codebooks)
            return codes, {"codes": self.encoder_net.output_lengths(lengths)}

    found = verify(_random_codec(HearsPadding), promises=["I1", "I2"], waveforms=FEW)
    assert found.broken == ("I1",), format_verification(found)
    assert "padded call" in found.verdicts[0].detail


def test_training_a_copy_that_shares_weights_is_flagged() -> None:
    from audiotokens.architectures.gain_shape import GainShapeCodec

    class SharesWeights(GainShapeCodec):
        def __deepcopy__(self, memory: object) -> Any:
            return self

    found = verify(_random_codec(SharesWeights), promises=["I5"], waveforms=FEW)
    assert "after training a copy" in found.verdicts[0].detail
    assert verify(_random_codec(GainShapeCodec), promises=["I5"], waveforms=FEW).ok


@pytest.mark.parametrize("damage", ["other tokens", "other error", "changed on the way"])
def test_storage_that_gives_other_tokens_is_flagged(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true_read = files.read_tokens
    seen: list[Any] = []

    def read(file: Any) -> Any:
        try:
            tokens = true_read(file)
        except TokenFileError:
            if damage == "other tokens":
                return seen[0].clip(0, 0.01)
            if damage == "other error":
                raise ValueError("not ours") from None
            raise
        seen.append(tokens)
        return tokens.take(1) if damage == "changed on the way" else tokens

    monkeypatch.setattr(files, "read_tokens", read)
    assert verify(faulty.Honest(), promises=["I9"]).broken == ("I9",)


def test_given_waveforms_are_used_and_named() -> None:
    class Deaf(faulty.Honest):  # type: ignore[misc, name-defined]
        def encode_batch(self, waveforms: Any, sample_rate: int, *, num_codebooks: int | None = None) -> Any:
            assert all(max(np.shape(each)) <= 1000 for each in waveforms)
            return [self.encode(np.zeros(np.shape(each)), sample_rate) for each in waveforms]

    loud = np.random.default_rng(0).uniform(-1, 1, 500).astype(np.float32)
    found = verify(Deaf(), promises=["I1"], waveforms={"a drum": loud})
    assert '"a drum"' in found.verdicts[0].detail
    assert verify(faulty.Honest(), promises=["I1"], waveforms=[loud, loud[:77]]).ok


def test_unknown_promise_and_no_waveforms_are_errors() -> None:
    with pytest.raises(AudioTokensError, match=r'no promise "I11": give some of I1, .*, I10'):
        verify(faulty.Honest(), promises=["I11"])
    with pytest.raises(AudioTokensError, match="there are no waveforms"):
        verify(faulty.Honest(), waveforms=[])


def test_promises_come_in_order_with_progress() -> None:
    lines: list[str] = []
    found = verify(faulty.Honest(), promises=["I10", "I6"], progress=lines.append)
    assert [verdict.promise for verdict in found.verdicts] == ["I6", "I10"]
    assert lines[1] == f"I10: {PROMISES['I10']}"


def test_equal_seeds_find_equal_things(honest: Verification) -> None:
    again = verify(faulty.Honest(), promises=["I3", "I9"])
    assert again.verdicts == tuple(verdict for verdict in honest.verdicts if verdict.promise in ("I3", "I9"))


def test_text_and_json(honest: Verification) -> None:
    text = format_verification(honest)
    assert text.splitlines()[-1] == "kept 9, broken 0, not offered 1"
    assert all(f"{promise} " in text for promise in PROMISES)
    plain = json.loads(json.dumps(config.to_dict(honest)))
    assert config.from_dict(Verification, plain) == honest
    assert {"checked", "flips", "per_million", "margin", "smallest_margin", "seconds"} <= {
        *plain["verdicts"][0]
    }
    assert sum(verdict["seconds"] for verdict in plain["verdicts"]) > 0
    counted = Verdict("I6", PROMISES["I6"], "counted", "3 per million", 10, 3)
    assert "counted 1" in format_verification(Verification("x", "0" * 64, False, 0, (counted,)))


def test_numpy_tokenizers_are_verified_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import faulty; from audiotokens.verify import verify; "
        "found = verify(faulty.Honest(), promises=['I1', 'I5', 'I8']); print(found.verdicts[1].detail); "
        "sys.exit(not found.ok or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "thread counts were not changed" in done.stdout


@pytest.mark.parametrize(("sample_rate", "channels", "thorough"), [(8000, 1, False), (16000, 2, True)])
def test_made_waveforms(sample_rate: int, channels: int, thorough: bool) -> None:
    made = make_waveforms(sample_rate, channels, seed=3, thorough=thorough)
    again = make_waveforms(sample_rate, channels, seed=3, thorough=thorough)
    assert all(np.array_equal(made[name], again[name]) for name in made)
    for waveform in made.values():
        assert waveform.dtype == np.float32
        assert waveform.shape[0] == channels
        assert np.abs(waveform).max() <= 1
    assert min(waveform.shape[1] for waveform in made.values()) == 1
    assert not np.array_equal(made["noise"], make_waveforms(sample_rate, channels, seed=4)["noise"])


def test_idle_look_ahead_is_remarked() -> None:
    class TooCautious(faulty.Honest):  # type: ignore[misc, name-defined]
        @property
        def spec(self) -> Any:
            return replace(super().spec, lookahead=faulty.HOP + faulty.AHEAD, streamable=False)

        def features(self, waveform: Any, sample_rate: int) -> np.ndarray:
            latents: np.ndarray = self.latents(waveform.astype(np.float64), np.zeros(1), start=True)[0]
            return latents

    verdict = verify(TooCautious(), promises=["I7"]).verdicts[0]
    assert verdict.status == "kept"
    assert "the last 40 of 53 samples of look-ahead changed no feature here" in verdict.detail


class Tilted(faulty.Honest):  # type: ignore[misc, name-defined]
    """Other threads move the latents by at most 5e-5 of their range."""

    exact = False

    def energy(self, windows: np.ndarray) -> np.ndarray:
        import torch

        energies: np.ndarray = super().energy(windows) * (1 + 5e-4 * (torch.get_num_threads() - 2))
        return energies


def test_flips_of_near_ties_are_counted_in_fast_mode_only() -> None:
    fast = verify(Tilted(), promises=["I5"])
    verdict = fast.verdicts[0]
    assert (verdict.status, fast.ok, fast.exact) == ("counted", True, False)
    assert 0 < verdict.margin < 1e-4  # type: ignore[operator]
    assert verdict.smallest_margin < verdict.margin < verdict.median_margin  # type: ignore[operator]
    assert "fast mode" in format_verification(fast)

    class Claims(Tilted):
        exact = True

    class Silent(Tilted):
        margins = None

    assert verify(Claims(), promises=["I5"]).broken == ("I5",)
    assert verify(Silent(), promises=["I5"]).broken == ("I5",), "nothing says that these were near ties"


def test_clear_codes_that_flip_are_broken_in_fast_mode_too() -> None:
    class Fast(faulty.BatchLeak):  # type: ignore[misc, name-defined]
        exact = False

    found = verify(Fast(), promises=["I1", "I2"], waveforms=FEW)
    assert found.broken == ("I2",), format_verification(found)
    assert found.verdicts[1].margin > 1e-4  # type: ignore[operator]


def test_finer_streams_follow_from_coarser_ones() -> None:
    coarse, fine = np.zeros((1, 2), np.int64), np.zeros((1, 8), np.int64)
    margins = {"coarse": np.full((1, 2), 1e-6), "fine": np.full((1, 8), 0.1)}
    for place, status in ((5, "counted"), (3, "broken")):
        tally = Tally()
        found = {"coarse": coarse + np.array([0, 1]), "fine": fine + (np.arange(8) == place)}
        tally.compare_codes({"coarse": coarse, "fine": fine}, found, "here", margins)
        assert (tally.status(1e-4), tally.flips) == (status, 2)


def test_numbers_beside_codes_differ_by_a_share_of_their_size() -> None:
    expected = {"windows of codes": np.array([[2.0, 4.0]])}
    for factor, status in ((1 + 1e-6, "counted"), (1.01, "broken")):
        tally = Tally()
        tally.compare_codes(expected, {"windows of codes": expected["windows of codes"] * factor}, "here")
        assert tally.status(1e-4) == status


class Engine(faulty.Honest):  # type: ignore[misc, name-defined]
    """Another engine, whose energies and samples are off by a little."""

    def __init__(self, energy: float = 0.0, sample: float = 0.0) -> None:
        self.off = energy, sample

    @property
    def fingerprint(self) -> str:
        return str(faulty.Honest().fingerprint)

    def energy(self, windows: np.ndarray) -> np.ndarray:
        energies: np.ndarray = super().energy(windows) * (1 + self.off[0])
        return energies

    def _decode(self, tokens: Any) -> np.ndarray:
        decoded: np.ndarray = super()._decode(tokens) + np.float32(self.off[1])
        return decoded


@pytest.mark.parametrize(
    ("energy", "sample", "status", "said"),
    [
        (0.0, 1e-4, "kept", "0 in .* codes .*decoded by other: largest difference 0.0001 in .* samples"),
        (5e-4, 0.0, "counted", r"per million \(largest margin [1-9.]+e-5\)"),
        (0.1, 0.0, "broken", r"per million \(largest margin 0.00"),
        (0.0, 2e-3, "broken", "decoded by other: differs from sample 0 on"),
    ],
)
def test_another_engine(energy: float, sample: float, status: str, said: str) -> None:
    class TwoEngines(faulty.Honest):  # type: ignore[misc, name-defined]
        fingerprint = faulty.Honest().fingerprint

        def other_engines(self) -> dict[str, Any]:
            return {"other": Engine(energy, sample)}

    verdict = verify(TwoEngines(), promises=["I6"]).verdicts[0]
    assert verdict.status == status, verdict.detail
    assert re.search(said, verdict.detail), verdict.detail


def test_decoding_in_exact_mode_has_to_be_bit_exact() -> None:
    from audiotokens.architectures.gain_shape import GainShapeCodec

    class Rounds(GainShapeCodec):
        def _decode(self, tokens: Any) -> np.ndarray:
            decoded: np.ndarray = super()._decode(tokens) * np.float32(1 + 1e-6)
            return decoded

    codec = _random_codec(Rounds)
    for exact, status in ((True, "broken"), (False, "kept")):
        verdict = verify(codec.make_exact(exact), promises=["I4"], waveforms=FEW).verdicts[0]
        assert verdict.status == status, verdict.detail


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty sounds of 0.3 to 1.4 s at two rates."""
    folder = tmp_path_factory.mktemp("recordings")
    paths = []
    for seed in range(10):
        for name, waveform in list(make_waveforms(8000, seed=seed).items())[:2]:
            paths.append(folder / f"{name} {seed}.wav")
            write_audio(paths[-1], waveform[:, : 11200 - 900 * seed], 8000 if seed % 2 else 16000)
    return paths


def test_recordings_are_tried_within_the_budget(recordings: list[Path]) -> None:
    found = verify(faulty.Honest(), audio=recordings)
    assert found.ok, format_verification(found)
    assert (found.recordings, round(found.audio_seconds)) == (20, 12)
    codes = found.audio_seconds * 600
    checked = {verdict.promise: verdict.checked for verdict in found.verdicts}
    for promise in ("I1", "I2", "I3", "I5", "I7", "I10"):
        assert 0.4 * codes < checked[promise] < 4 * codes, promise
    assert "2 batches of 16 recordings of 0." in found.verdicts[0].detail
    assert "20 recordings, 0.2 minutes, seed 0" in format_verification(found)


@pytest.mark.parametrize(
    ("budget", "seconds"), [(Budget(codes=1200), 2.0), (Budget(minutes=0.05), 3.0), (Budget(), 12.2)]
)
def test_the_budget_counts_codes_and_minutes(recordings: list[Path], budget: Any, seconds: float) -> None:
    found = verify(faulty.Honest(), audio=recordings, budget=budget, promises=["I9"])
    assert found.audio_seconds == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize("kind", list(faulty.PLANTED), ids=lambda kind: kind.__name__)
def test_planted_faults_show_on_recordings(kind: Any, recordings: list[Path]) -> None:
    found = verify(kind(), audio=recordings[:17], budget=Budget(minutes=0.1))
    assert found.broken == (faulty.PLANTED[kind],), format_verification(found)


def test_long_recordings_come_in_pieces(tmp_path: Path) -> None:
    write_audio(tmp_path / "long.wav", np.zeros((1, 8000 * 70), np.float32), 8000)
    read = read_recordings(faulty.Honest(), [tmp_path / "long.wav"], budget=Budget())
    assert sorted(waveform.shape[1] for waveform in read.values()) == [80_000, 240_000, 240_000]
    assert {Path(name).name for name in read} == {"long.wav", "long.wav from 30 s", "long.wav from 60 s"}
    few = read_recordings(faulty.Honest(), [tmp_path / "long.wav"], budget=Budget(minutes=0.5))
    assert sum(waveform.shape[1] for waveform in few.values()) == 240_000


def test_what_cannot_be_verified_with_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudioTokensError, match="both audio and waveforms"):
        verify(faulty.Honest(), audio=["a.wav"], waveforms=FEW)
    with pytest.raises(AudioTokensError, match="there are no recordings"):
        verify(faulty.Honest(), audio=[])
    with pytest.raises(AudioTokensError, match="a.wav"):
        verify(faulty.Honest(), audio=[tmp_path / "a.wav"])
    with pytest.raises(AudioTokensError, match="the budget is 0 codes and 20 minutes"):
        Budget(codes=0)
