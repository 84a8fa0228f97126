"""Which points are heard, and that every version begins where the original does."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import audiotokens
from audiotokens import CodeStream, Conditioning, Spec, StreamSpec, Tokenizer, Tokens
from audiotokens.errors import AudioTokensError
from audiotokens.evaluation import compare
from audiotokens.evaluation.anchors import Anchor, Coded, LowPass, Silence
from audiotokens.evaluation.choosing import choose_anchors, choose_tokenizers
from audiotokens.evaluation.report_examples import choose_heard, choose_rivals, make_examples
from audiotokens.evaluation.results import Comparison
from audiotokens.evaluation.systems import System

RATE = 8000
LATE = 37


class Bits(Tokenizer):
    """Each of eight books adds one bit to a sample."""

    fingerprint = "1" * 64

    spec = Spec(
        "bits", RATE, RATE, (StreamSpec("codes", (2,) * 8, Fraction(RATE)),), legal_prefixes=(2, 4, 8)
    )

    def _encode(
        self, waveform: np.ndarray, num_codebooks: int
    ) -> tuple[dict[str, CodeStream], dict[str, Conditioning]]:
        level = np.clip((waveform[0] + 1) * 128, 0, 255).astype(np.int64)
        codes = np.stack([(level >> (7 - k)) & 1 for k in range(num_codebooks)])
        return {"codes": CodeStream(codes, (2,) * num_codebooks, Fraction(RATE))}, {}

    def _decode(self, tokens: Tokens) -> np.ndarray:
        level = sum(codes * 2.0 ** (7 - k) for k, codes in enumerate(tokens.codes))
        return np.asarray((level + 0.5 * 2 ** (8 - len(tokens.codes))) / 128 - 1, np.float32)[None]


class Late(Anchor):
    """The original, late by some samples."""

    def __init__(self, kilobits: int) -> None:
        self.name, self.title = f"late-{kilobits}k", f"Late {kilobits} kbit/s"
        self.nominal_bitrate = 1000.0 * kilobits
        self.definition = "late"

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        late = np.pad(waveform, ((0, 0), (LATE, 0)))[:, : waveform.shape[1]]
        seconds = waveform.shape[1] / sample_rate
        return Coded(
            late, sample_rate, round(self.nominal_bitrate * seconds / 8) if self.nominal_bitrate else 0
        )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "noise.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, (2, RATE)).astype(np.float32)
    audiotokens.write_audio(path, noise, RATE)
    return path


ANCHORS = [Late(8), Late(16), Late(32), LowPass(), Silence()]


@pytest.fixture(scope="module")
def systems(file: Path) -> list[System]:
    chosen: list[System] = [*choose_tokenizers(Bits(), None, False)]
    return [*chosen, *choose_anchors(ANCHORS, chosen, lyra=None, files=[file])[0]]


@pytest.fixture(scope="module")
def found(file: Path) -> Comparison:
    return compare(Bits(), file, metrics=["si-sdr"], anchors=ANCHORS, against="late-16k")


def labels(found: Comparison, systems: list[System], *names: str, most: int = 14) -> list[str]:
    return [one.label for one in choose_heard(found, systems, names=names, most=most)]


def test_everything_but_calibrations_is_heard_where_it_fits(found: Comparison, systems: list[System]) -> None:
    heard = choose_heard(found, systems)
    bits = ["bits 16 kbit/s", "bits 32 kbit/s", "bits 64 kbit/s"]
    late = ["Late 8 kbit/s", "Late 16 kbit/s", "Late 32 kbit/s"]
    assert [one.label for one in heard] == [*bits, *late, "Original below 4 kHz"]
    assert [one.group for one in heard] == ["bits"] * 3 + ["Late"] * 3 + ["Original below 4 kHz"]


def test_fewer_are_spread_and_hold_the_reference(found: Comparison, systems: list[System]) -> None:
    few = labels(found, systems, most=5)
    assert few == ["bits 16 kbit/s", "bits 64 kbit/s", *labels(found, systems)[3:]]
    assert labels(found, systems, most=1)[0] == "bits 16 kbit/s"
    assert "Late 16 kbit/s" in labels(found, systems, most=1)


def test_names_choose(found: Comparison, systems: list[System]) -> None:
    assert labels(found, systems, "late-8k", "bits:4", "silence") == [
        "Late 8 kbit/s",
        "bits 32 kbit/s",
        "Silence",
    ]
    assert len(labels(found, systems, "bits")) == 3
    with pytest.raises(
        AudioTokensError, match='"bits:3" cannot be heard, expected NAME or NAME:BOOKS of late-8k, bits'
    ):
        labels(found, systems, "bits:3")


def test_rivals_have_the_rate_of_the_reference(found: Comparison, systems: list[System]) -> None:
    heard = choose_heard(found, systems)
    assert choose_rivals(found, heard) == ["bits 16 kbit/s", "Late 16 kbit/s"]
    own = [one for one in heard if one.group == "bits"]
    assert choose_rivals(found, own) == [one.label for one in own]


def test_a_single_tokenizer_needs_no_names(file: Path) -> None:
    found = compare(Bits(), file, metrics=["si-sdr"], num_codebooks=[2, 8])
    heard = choose_heard(found, choose_tokenizers(Bits(), [2, 8], False))
    assert [(one.label, one.group) for one in heard] == [("16 kbit/s", ""), ("64 kbit/s", "")]
    assert choose_heard(Comparison((), ()), []) == []


def test_versions_are_aligned_and_as_long_as_the_original(
    found: Comparison, systems: list[System], file: Path
) -> None:
    heard = choose_heard(found, systems, names=["bits", "late-16k"])
    assert heard[-1].delay_milliseconds == pytest.approx(1000 * LATE / RATE)
    [example] = make_examples([file], heard)
    assert (example.name, example.sample_rate, len(example.original)) == ("noise.wav", RATE, RATE)
    late = example.versions["Late 16 kbit/s"]
    np.testing.assert_allclose(late[:-LATE], example.original[:-LATE], atol=1e-6)
    assert not late[-LATE:].any()
    assert np.abs(example.versions["bits 64 kbit/s"] - example.original).max() < 0.01
    assert example.tokens.num_codebooks == 8
    assert example.groups["Late 16 kbit/s"] == "Late"
    with pytest.raises(AudioTokensError, match="let them play at least one"):
        make_examples([file], heard[-1:])
