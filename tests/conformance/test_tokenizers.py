"""Every shipped tokenizer, and the house codec with random weights, against the ten promises."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import audiotokens
from audiotokens.architectures.gain_shape import VARIANTS, GainShapeCodec, GainShapeConfig
from audiotokens.audio import read_audio, resample
from audiotokens.codec import Codec
from audiotokens.quantizers import FSQConfig
from audiotokens.tokenizer import Tokenizer
from audiotokens.verify import Verification, format_verification, make_waveforms, verify

TINY = VARIANTS["tiny"]
RANDOM: dict[str, GainShapeConfig] = {
    "random tiny": TINY,
    "random tiny causal": replace(TINY, encoder_lookahead=0, decoder_lookahead=0),
    "random tiny FSQ": replace(TINY, quantizer=FSQConfig()),
}
SHIPPED = [record.name for record in audiotokens.list_tokenizers() if record.kind == "shipped"]


@pytest.fixture(scope="module", params=[*SHIPPED, *RANDOM])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param in SHIPPED:
        return audiotokens.load(request.param)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = GainShapeCodec(RANDOM[request.param])
    return codec.eval().make_exact()


@pytest.fixture(scope="module")
def utterances(tokenizer: Tokenizer, shared: Path) -> dict[str, np.ndarray]:
    """Sixteen real utterances of different lengths at the tokenizer's rate."""
    with (shared / "data" / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["corpus"].startswith("LibriSpeech")]
    chosen = [row["path"] for row in rows if row["split"] == "test"][:16]
    assert len(chosen) == 16
    waveforms = {}
    for path in chosen:
        waveform, rate = read_audio(shared / "data" / path)
        waveforms[path] = resample(waveform, rate, tokenizer.spec.sample_rate)
    return waveforms


def assert_kept(found: Verification, tokenizer: Tokenizer) -> None:
    """All promises are kept; only what the spec excuses is not offered."""
    assert found.ok, format_verification(found)
    excused = {"I6"} | ({"I10"} if len(tokenizer.spec.legal_prefixes) == 1 else set())
    if not tokenizer.spec.streamable:
        excused |= {"I3", "I4", "I7"}
    missing = {verdict.promise for verdict in found.verdicts if verdict.status == "not offered"}
    assert missing <= excused, format_verification(found)


def test_quick(tokenizer: Tokenizer) -> None:
    made = make_waveforms(tokenizer.spec.sample_rate, tokenizer.spec.channels)
    chosen = {name: made[name][:, :5001] for name in ("speech", "half silence", "7 samples", "1 sample")}
    assert_kept(verify(tokenizer, waveforms=chosen), tokenizer)


@pytest.mark.slow
def test_thorough(tokenizer: Tokenizer) -> None:
    """Among others 200 random chunkings each way, all lengths from 1 to 3 hops + 7, 200 random lengths."""
    found = verify(tokenizer, thorough=True)
    assert_kept(found, tokenizer)
    lengths = next(verdict for verdict in found.verdicts if verdict.promise == "I8")
    assert lengths.checked >= 3 * tokenizer.spec.hop + 7 + 100


@pytest.mark.slow
def test_real_utterances_keep_the_promises(tokenizer: Tokenizer, utterances: dict[str, np.ndarray]) -> None:
    few = {name: utterances[name] for name in list(utterances)[:3]}
    assert_kept(verify(tokenizer, waveforms=few), tokenizer)


@pytest.mark.slow
def test_batch_of_real_utterances(tokenizer: Tokenizer, utterances: dict[str, np.ndarray]) -> None:
    """One by one, as a list, and in one forced padded call: equal codes, counted without `verify`."""
    waveforms = list(utterances.values())
    rate = tokenizer.spec.sample_rate
    alone = [tokenizer.encode(waveform, rate) for waveform in waveforms]
    for one, other in zip(alone, tokenizer.encode_batch(waveforms, rate), strict=True):
        assert one.streams == other.streams
    if not isinstance(tokenizer, Codec):
        return
    lengths = torch.tensor([waveform.shape[1] for waveform in waveforms])
    batch = torch.zeros(len(waveforms), tokenizer.spec.channels, int(lengths.max()))
    for row, waveform in zip(batch, waveforms):
        row[:, : waveform.shape[1]] = torch.from_numpy(waveform)
    codes, frames = tokenizer.encode_codes(batch, lengths)
    flips = 0
    for index, one in enumerate(alone):
        for name, stream in one.streams.items():
            assert int(frames[name][index]) == stream.num_frames
            flips += int((codes[name][index, :, : stream.num_frames].cpu().numpy() != stream.codes).sum())
    assert flips == 0
