"""The house codec on random weights; its conformance to the promises is tested in tests/conformance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audiotokens.architectures.gain_shape import VARIANTS, GainShapeCodec, GainShapeConfig
from audiotokens.errors import AudioError, CheckpointError, ConfigError, NotOfferedError, TokensError
from audiotokens.quantizers import FSQConfig
from audiotokens.tokens import Tokens
from audiotokens.verify import verify


def make_codec(config: GainShapeConfig = VARIANTS["tiny"]) -> GainShapeCodec:
    torch.manual_seed(0)
    codec = GainShapeCodec(config)
    waveforms = torch.from_numpy(noise(16000))[None]
    codec.quantizer.initialize(codec.encoder_net(waveforms).detach().mT.flatten(0, 1))
    return codec.eval().make_exact()


def noise(length: int, seed: int = 0) -> np.ndarray:
    envelope = np.abs(np.sin(np.arange(length) / 3000)) * 0.3
    samples = np.random.default_rng(seed).standard_normal(length) * envelope
    return samples.astype(np.float32)[None]


@pytest.fixture(scope="module")
def codec() -> GainShapeCodec:
    return make_codec()


def test_every_length_obeys_the_length_rule(codec: GainShapeCodec) -> None:
    hop = int(codec.spec.hop)
    for length in [*range(1, 3 * hop + 8), 4001]:
        tokens = codec.encode(noise(length), 16000)
        assert tokens.codes.shape == (4, -(-length // hop))
        assert codec.decode(tokens).shape == (1, length)


def test_batch_and_forced_padded_call_equal_one_by_one(codec: GainShapeCodec) -> None:
    lengths = [4000, 1, 79, 8001, 12345]
    waveforms = [noise(length, seed) for seed, length in enumerate(lengths)]
    alone = [codec.encode(waveform, 16000) for waveform in waveforms]
    assert codec.encode_batch(waveforms, 16000) == alone
    padded = torch.zeros(len(lengths), 1, max(lengths))
    for row, waveform in zip(padded, waveforms):
        row[:, : waveform.shape[1]] = torch.from_numpy(waveform)
    codes, frames = codec.encode_codes(padded, torch.tensor(lengths))
    waveforms_out, samples = codec.decode_codes(codes, frames)
    for item, tokens in enumerate(alone):
        count = int(frames["codes"][item])
        assert np.array_equal(codes["codes"][item, :, :count].numpy(), tokens.codes)
        decoded = codec.decode(tokens)
        assert int(samples[item]) >= decoded.shape[1]
        found = waveforms_out[item, :, : decoded.shape[1]].numpy()
        np.testing.assert_allclose(found, decoded, rtol=0, atol=1e-5)


def test_lists_decode_one_by_one(codec: GainShapeCodec) -> None:
    items = [codec.encode(noise(length, length), 16000) for length in (1, 900, 3001)]
    for books in (None, 2):
        for waveform, tokens in zip(codec.decode_batch(items, num_codebooks=books), items):
            assert np.array_equal(waveform, codec.decode(tokens, num_codebooks=books))


def test_features_are_the_latents_that_are_quantized(codec: GainShapeCodec) -> None:
    waveform = noise(3001)
    features = codec.features(waveform, 16000)
    codes = codec.quantizer.encode(torch.from_numpy(features)[None])[0].numpy()
    assert features.dtype == np.float32
    assert np.array_equal(codes, codec.encode(waveform, 16000).codes)


def test_latents_go_straight_into_the_decoder(codec: GainShapeCodec) -> None:
    tokens = codec.encode(noise(90_000), 16000)
    quantized = codec.quantizer.decode(torch.from_numpy(np.array(tokens.codes))[None])[0].numpy()
    decoded = codec.fit_length(codec.decode_features(quantized), tokens.num_samples)
    assert np.array_equal(decoded, codec.decode(tokens))
    untouched = codec.decode_features(codec.features(noise(90_000), 16000))
    assert untouched.dtype == np.float32
    assert not np.array_equal(codec.fit_length(untouched, tokens.num_samples), decoded)
    for wrong in (quantized[:-1], quantized[:, :0], quantized[0]):
        with pytest.raises(TokensError, match=rf"expected \[{len(quantized)}, T\]"):
            codec.decode_features(wrong)


def test_long_input_runs_in_blocks_with_the_codes_of_one_pass(codec: GainShapeCodec) -> None:
    waveform = noise(11 * 16000 + 123)
    with torch.inference_mode():
        whole = codec.encoder_net(torch.from_numpy(waveform)[None])
    blocks = codec.encode(waveform, 16000)
    assert np.array_equal(blocks.codes, codec.quantize(whole, 4)[0].numpy())


def test_saved_and_loaded_codec_is_the_same_tokenizer(codec: GainShapeCodec, tmp_path: Path) -> None:
    codec.save(tmp_path / "one")
    loaded = GainShapeCodec.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    again = GainShapeCodec.load(tmp_path / "two")
    assert loaded.fingerprint == again.fingerprint == codec.fingerprint
    assert loaded.spec == codec.spec
    tokens = loaded.encode(noise(5000), 16000)
    assert again.encode(noise(5000), 16000) == tokens
    assert np.array_equal(again.decode(tokens), loaded.decode(tokens))


def test_spec_states_the_latency_of_the_default_variants() -> None:
    speech = GainShapeCodec(VARIANTS["speech-16k"]).spec
    assert (speech.lookahead + speech.decoder_lookahead) / speech.sample_rate == 0.5
    stream = GainShapeCodec(VARIANTS["speech-16k-stream"]).spec
    assert stream.causal and stream.lookahead + int(stream.hop) == 640 and stream.decoder_lookahead == 0
    assert [round(speech.bitrate(k)) for k in (1, 6, 12)] == [500, 3000, 6000]


def test_fsq_variant_encodes_and_decodes(tmp_path: Path) -> None:
    config = replace(VARIANTS["tiny"], quantizer=FSQConfig(levels=(8, 5, 5, 5)))
    codec = GainShapeCodec(config).eval().make_exact()
    loaded = GainShapeCodec.load(codec.save(tmp_path))
    tokens = loaded.encode(noise(3000), 16000)
    assert tokens.codes.shape == (1, 38) and tokens.streams["codes"].codebook_sizes == (1000,)
    assert loaded.decode(tokens).shape == (1, 3000)


def test_search_width_never_lowers_and_usually_raises_fidelity(codec: GainShapeCodec) -> None:
    latents = codec.encoder_net(torch.from_numpy(noise(16000))[None])
    errors = []
    for width in (1, 8):
        codec.search_width = width
        errors.append((codec.quantizer.decode(codec.quantize(latents, 4)) - latents).square().mean())
    codec.search_width = 1
    assert errors[1] < errors[0]


def test_tokens_of_another_tokenizer_are_refused(codec: GainShapeCodec) -> None:
    tokens = codec.encode(noise(800), 16000)
    with pytest.raises(TokensError, match="decode them with the tokenizer that made them"):
        codec.decode(replace(tokens, fingerprint="0" * 64))
    with pytest.raises(TokensError, match="legal values are 1, 2, 3, 4"):
        codec.decode(tokens, num_codebooks=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_samples": 10**11}, '10 frames of stream "codes" stand for at most 880'),
        ({"sample_rate": 8000}, "the tokens are of 8000 Hz and 1 channels"),
        ({"channels": 2}, "16000 Hz and 2 channels"),
    ],
)
def test_impossible_claims_are_refused_before_decoding(
    codec: GainShapeCodec, change: dict[str, int], message: str
) -> None:
    tokens = codec.encode(noise(800), 16000)
    with pytest.raises(TokensError, match=message):
        codec.decode(replace(tokens, **change))


def test_a_wide_search_says_that_its_codes_are_not_nested(codec: GainShapeCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    assert GainShapeCodec.load(tmp_path).spec.nested
    wide = GainShapeCodec.load(tmp_path, search_width=4)
    assert not wide.spec.nested
    (verdict,) = verify(wide, promises=["I10"]).verdicts
    assert verdict.status == "not offered"


def test_search_width_is_refused_without_residual_books(tmp_path: Path) -> None:
    config = replace(VARIANTS["tiny"], quantizer=FSQConfig(levels=(5, 5)))
    GainShapeCodec(config).save(tmp_path)
    with pytest.raises(NotOfferedError, match="search_width must be 1"):
        GainShapeCodec.load(tmp_path, search_width=4)


@pytest.mark.parametrize("damage", ["missing", "cut", "shape", "json", "key"])
def test_damaged_folders_are_one_line_errors(codec: GainShapeCodec, tmp_path: Path, damage: str) -> None:
    codec.save(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "json":
        config.write_text(config.read_text()[:50])
    else:
        values = json.loads(config.read_text())
        values["config"]["width" if damage == "shape" else "widht"] = 32
        config.write_text(json.dumps(values))
    error = ConfigError if damage == "key" else CheckpointError
    with pytest.raises(error) as caught:
        GainShapeCodec.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_training_pass_gives_gradients_to_every_parameter(codec: GainShapeCodec) -> None:
    model = make_codec().train().make_exact(False)
    waveform = torch.from_numpy(noise(4000))[None]
    out = model(waveform, num_codebooks=torch.tensor([3]))
    assert out.waveform.shape == waveform.shape and out.quantized is not None
    loss = (out.waveform - waveform).square().mean() + out.quantized.losses["commitment"]
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_noise_is_fresh_in_training_and_else_a_function_of_the_frame() -> None:
    noisy = make_codec(replace(VARIANTS["tiny"], noise=True)).make_exact(False)
    waveform = torch.from_numpy(noise(8000))[None]
    with torch.inference_mode():
        out = noisy(waveform)
        assert out.second is None and torch.equal(out.waveform, noisy(waveform).waveform)
        noisy.train()
        draws = noisy(waveform)
    assert draws.second is not None and draws.second.shape == waveform.shape
    assert not torch.equal(draws.waveform, draws.second)
    (chunks,) = verify(noisy.eval(), waveforms=[noise(40000)], promises=["I4"]).verdicts
    assert chunks.status == "kept", chunks


def test_resampled_input_records_how_it_was_fed(codec: GainShapeCodec) -> None:
    tokens = codec.encode(np.concatenate([noise(4800), noise(4800)]), 48000)
    assert tokens.source is not None
    assert (tokens.num_samples, tokens.source.num_samples) == (1600, 4800)
    assert (tokens.source.resampler, tokens.source.mixdown) == ("soxr-vhq", "2 to 1")


class TestSessions:
    def test_encoder_in_chunks_equals_one_pass(self, codec: GainShapeCodec) -> None:
        waveform = noise(6001)
        random = np.random.default_rng(0)
        whole = codec.encode(waveform, 16000)
        for _ in range(20):
            session = codec.encoder()
            cuts = sorted(random.integers(0, 6001, random.integers(0, 12)).tolist())
            parts = [session.push(piece) for piece in np.split(waveform, cuts, axis=1) if piece.shape[1]]
            parts.append(session.finish())
            assert Tokens.concatenate([part for part in parts if part is not None]) == whole

    def test_decoder_in_chunks_equals_one_pass(self, codec: GainShapeCodec) -> None:
        tokens = codec.encode(noise(6001), 16000)
        whole = codec.decode(tokens)
        for step in (80, 240, 1600):
            session = codec.decoder()
            bounds = [*range(0, 6001, step), 6001]
            parts = [session.push(tokens.clip(a / 16000, b / 16000)) for a, b in zip(bounds, bounds[1:])]
            joined = np.concatenate([*parts, session.finish()], axis=1)
            np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-5)

    def test_state_can_be_saved_restored_and_forked(self, codec: GainShapeCodec) -> None:
        waveform = noise(5000)
        session = codec.encoder()
        first = session.push(waveform[:, :2345])
        saved, twin = session.save(), session.fork()
        rest = [session.push(waveform[:, 2345:]), session.finish()]
        assert [twin.push(waveform[:, 2345:]), twin.finish()] == rest
        other = codec.encoder()
        other.restore(saved)
        assert [other.push(waveform[:, 2345:]), other.finish()] == rest
        assert Tokens.concatenate([part for part in (first, *rest) if part]) == codec.encode(waveform, 16000)

    def test_foreign_or_damaged_state_is_refused(self, codec: GainShapeCodec) -> None:
        session = codec.encoder()
        with pytest.raises(TokensError, match="cannot be read"):
            session.restore(b"nonsense")
        with pytest.raises(TokensError, match="CodecDecoder"):
            session.restore(codec.decoder().save())

    def test_misuse_is_said(self, codec: GainShapeCodec) -> None:
        session = codec.encoder()
        with pytest.raises(AudioError, match="before any sample"):
            session.finish()
        session.push(noise(10))
        session.finish()
        with pytest.raises(TokensError, match="session is finished"):
            session.push(noise(10))


def test_eight_bits_are_kept_by_load_and_save(codec: GainShapeCodec, tmp_path: Path) -> None:
    model = make_codec(replace(VARIANTS["tiny"], width=64, encoder_hidden=128))
    sixteen = model.fingerprint
    model.weight_bits, model._fingerprint = 8, None
    loaded = GainShapeCodec.load(model.save(tmp_path / "eight"))
    assert loaded.weight_bits == 8 and loaded.fingerprint == model.fingerprint != sixteen
    again = GainShapeCodec.load(loaded.save(tmp_path / "again"))
    assert again.fingerprint == loaded.fingerprint
    waveform = noise(6000)
    assert again.encode(waveform, 16000) == loaded.encode(waveform, 16000)
