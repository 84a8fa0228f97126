"""`verify` finds planted faults, each at exactly its promise."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from audiotokens import config
from audiotokens.errors import AudioTokensError, NotOfferedError, TokenFileError
from audiotokens.verify import (
    PROMISES,
    Verdict,
    Verification,
    files,
    format_verification,
    make_waveforms,
    verify,
)
from audiotokens.verify.verdicts import Tally


def _neighbour(name: str) -> ModuleType:
    """Import a file that stands beside this one."""
    found = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


faulty = _neighbour("faulty")


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
    assert "per million codes (largest margin" in verdict.detail
    assert "threads" in verdict.detail


def test_thread_count_is_restored() -> None:
    import torch

    before = torch.get_num_threads()
    verify(faulty.Honest(), promises=["I5"])
    assert torch.get_num_threads() == before


def test_verdict_words(honest: Verification) -> None:
    details = {verdict.promise: verdict.detail for verdict in honest.verdicts}
    assert details["I1"].startswith("0 in ")
    assert details["I4"].startswith("bit-exact in ")
    assert details["I6"] == "not offered, because it has no ONNX export"
    assert details["I8"].endswith("samples")


def test_difference_of_samples_within_tolerance_is_kept_and_reported() -> None:
    tally = Tally(unit="samples", tolerance=1e-5)
    tally.compare_samples(np.zeros((1, 4), np.float32), np.full((1, 4), 3e-6, np.float32), "here")
    assert tally.verdict("I4").detail == "within 1e-05 in 4 samples (largest difference 3e-06)"
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


class Raises(faulty.Honest):  # type: ignore[misc, name-defined]
    def encode_batch(self, waveforms: Any, sample_rate: int, *, num_codebooks: int | None = None) -> Any:
        raise ValueError("two\nlines")


def test_what_is_not_offered_is_no_fault() -> None:
    found = verify(DecodeOnly())
    assert {verdict.status for verdict in found.verdicts} == {"not offered"}
    found = verify(NoSessions(), promises=["I3", "I4"])
    assert [verdict.detail for verdict in found.verdicts] == ["not offered, because it has no sessions"] * 2


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
    counted = Verdict("I6", PROMISES["I6"], "counted", "3 per million", 10, 3, 1e-7)
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
