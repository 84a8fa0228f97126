"""SpeechTokenizer against the golden vectors of the original, its distilled features, its promises."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_goldens import Case, assert_close, cases, full_keys
from torch import Tensor

from audiotokens import load
from audiotokens.architectures.speechtokenizer import (
    VARIANTS,
    SpeechTokenizerCodec,
    SpeechTokenizerConfig,
)
from audiotokens.checkpoints.conversion import convert, match
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError, NotOfferedError, TokensError

CASES = cases("speechtokenizer")
FULL = full_keys("speechtokenizer")
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def converted(case: Case) -> SpeechTokenizerCodec:
    config = SpeechTokenizerCodec.reference.read_config(case.arguments)
    return convert(SpeechTokenizerCodec, case.tensors, config)


def tiny(config: SpeechTokenizerConfig = VARIANTS["tiny"]) -> SpeechTokenizerCodec:
    torch.manual_seed(0)
    codec = SpeechTokenizerCodec(config).eval()
    with torch.no_grad():
        latents = codec.encoder_net(torch.randn(1, 1, 200 * config.seanet.hop))
        codec.quantizer.initialize(latents[0].T)
    codec.weight_bits = 32
    return codec.make_exact()


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.5, 0.5, (1, samples)).astype(np.float32)


def codes_from(codec: SpeechTokenizerCodec, latents: Tensor, first: int) -> Tensor:
    """The reference's encode from a later book on, which quantizes the latents themselves."""
    rest, codes = latents, []
    for index in range(first, codec.spec.num_codebooks):
        codes.append(codec.quantizer.level(index).encode(rest))
        rest = rest - codec.quantizer.level(index).decode(codes[-1])
    return torch.cat(codes, 1)


@each_case
@pytest.mark.parametrize("exact", [False, True])
@torch.no_grad()
def test_goldens(case: Case, exact: bool) -> None:
    codec = converted(case).make_exact(exact)
    books = codec.spec.num_codebooks
    for run in case.lengths:
        latents = codec.encoder_net(case.waveform(run).to(codec.sample.dtype)).float()
        codes = codec.quantize(latents, books)
        assert isinstance(codes, Tensor)
        assert torch.equal(codes[0], case.array(f"{run}.codes"))
        assert torch.equal(codes_from(codec, latents, 1)[0], case.array(f"{run}.codes_from_book1"))
        first = codec.quantizer.level(0).decode(codes[:, :1])
        later = codec.quantizer.decode(codes) - first
        found = {
            "latents": latents,
            "quantized": codec.quantizer.decode(codes),
            "audio": codec.decoder_net(codec.quantizer.decode(codes)),
            "audio_k2": codec.decoder_net(codec.quantizer.decode(codes[:, :2])),
            "audio_books1on": codec.decoder_net(later),
            "semantic_feature": codec.transform(first.mT),
        }
        for name, tensor in found.items():
            if case.has(f"{run}.{name}"):
                expected = case.array(f"{run}.{name}")
                assert_close(tensor.reshape(expected.shape), expected)


@each_case
def test_goldens_as_tokens(case: Case) -> None:
    codec = converted(case).make_exact()
    for run, samples in case.lengths.items():
        waveform = case.waveform(run)[0].numpy()
        tokens = codec.encode(waveform, codec.spec.sample_rate)
        assert np.array_equal(tokens.codes, case.array(f"{run}.codes").numpy())
        expected = case.array(f"{run}.semantic_feature")[0].T
        for source in (tokens, tokens.take(1), waveform):
            assert_close(torch.from_numpy(codec.semantic_features(source)), expected)
        decoded = {
            "audio": codec.decode(tokens),
            "audio_k2": codec.decode(tokens, num_codebooks=2),
            "audio_books1on": codec.decode_books(tokens, first=1),
        }
        for name, audio in decoded.items():
            assert audio.shape == (1, samples)
            if case.has(f"{run}.{name}"):
                whole = case.array(f"{run}.{name}")
                assert_close(torch.from_numpy(audio), whole.view(1, -1)[:, :samples])


@pytest.mark.skipif(not FULL, reason="needs the shared data")
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("speechtokenizer_hubert_avg", "speechtokenizer-hubert-avg"),
        ("speechtokenizer_snake", "speechtokenizer-snake"),
    ],
)
def test_every_published_key_has_its_place(name: str, variant: str) -> None:
    entry = FULL[name]
    config = SpeechTokenizerCodec.reference.read_config(entry["config"])
    assert config == VARIANTS[variant]
    with torch.device("meta"):
        codec = SpeechTokenizerCodec(config)
        tensors = {key: torch.empty(shape) for key, shape in entry["keys"].items()}
    found = match(codec.state_dict(), tensors, SpeechTokenizerCodec.reference, config)
    assert not found.problems
    folded = {key.replace("weight_v", "weight") for key in tensors if not key.endswith("weight_g")}
    assert set(found.used) | set(found.ignored) == folded
    # The published count holds the lengths g of weight norm, which are folded into the weights here.
    lengths = sum(tensor.numel() for key, tensor in tensors.items() if key.endswith("weight_g"))
    own = sum(parameter.numel() for parameter in codec.parameters())
    assert own + lengths == entry["parameters"]
    assert entry["parameters"] == {"elu": 103_675_586, "snake": 103_683_458}[config.seanet.activation]
    shapes = {key: tuple(shape) for key, shape in entry["keys"].items()}
    shapes |= {key.replace("weight_v", "weight"): shape for key, shape in shapes.items()}
    assert SpeechTokenizerCodec.reference.guess(shapes) == config


def test_the_published_model() -> None:
    with torch.device("meta"):
        spec = SpeechTokenizerCodec(VARIANTS["speechtokenizer-hubert-avg"]).spec
    assert (spec.sample_rate, spec.hop, spec.frame_rate) == (16000, 320, 50)
    assert spec.legal_prefixes == tuple(range(1, 9))
    assert (spec.bitrate(), spec.bitrate(1)) == (4000, 500)
    assert (spec.streamable, spec.receptive_field) == (False, None)


def arguments(**changes: Any) -> dict[str, Any]:
    return {**CASES[0].arguments, **changes}


def test_reads_the_arguments_of_the_original() -> None:
    read = SpeechTokenizerCodec.reference.read_config
    assert read(arguments(batch_size=6, betas=[0.9, 0.99], distill_type="d_axis")) == read(arguments())
    with pytest.raises(ConfigError, match='unknown key "n_filter"; did you mean "n_filters"'):
        read(arguments(n_filter=2))
    with pytest.raises(ConfigError, match="activation: found 'PReLU', expected one of 'ELU', 'Snake'"):
        read(arguments(activation="PReLU"))


def test_features_of_equal_width_need_no_transform() -> None:
    base = VARIANTS["tiny"]
    codec = tiny(replace(base, semantic_dimension=base.seanet.dimension))
    assert not any(name.startswith("transform") for name in codec.state_dict())
    tokens = codec.encode(noise(3000), 16000)
    first = codec.quantizer.level(0).decode(torch.from_numpy(np.array(tokens.codes[None, :1])))
    assert np.array_equal(codec.semantic_features(tokens), first[0].numpy())


def test_without_the_first_books() -> None:
    codec = tiny()
    tokens = codec.encode(noise(3000), 16000)
    np.testing.assert_allclose(codec.decode_books(tokens, first=0), codec.decode(tokens), atol=1e-6)
    assert np.abs(codec.decode_books(tokens, first=1) - codec.decode(tokens)).max() > 1e-4
    with pytest.raises(TokensError, match="first is 4, expected 0 to 3: the tokens have 4 books"):
        codec.decode_books(tokens, first=4)
    with pytest.raises(TokensError, match="decode them with the tokenizer that made them"):
        tiny(replace(VARIANTS["tiny"], semantic_dimension=5)).semantic_features(tokens)


def test_encodes_whole_recordings_and_streams_the_decoder() -> None:
    codec = tiny()
    with pytest.raises(NotOfferedError, match="because of a bidirectional LSTM"):
        codec.encoder()
    tokens = codec.encode(noise(9000), 16000)
    whole, session = codec.decode(tokens), codec.decoder()
    parts = [session.push(tokens.clip(start / 10, min(start / 10 + 0.1, 0.5625))) for start in range(6)]
    streamed = np.concatenate([*parts, session.finish()], 1)
    assert 1600 - codec.spec.decoder_lookahead <= parts[0].shape[1] < 1600
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_a_causal_encoder_streams() -> None:
    base = VARIANTS["tiny"]
    codec = tiny(replace(base, seanet=replace(base.seanet, bidirectional=False)))
    assert codec.spec.streamable
    session, waveform = codec.encoder(), noise(5000)
    parts = [session.push(waveform[:, start : start + 700]) for start in range(0, 5000, 700)]
    streamed = np.concatenate([part.codes for part in (*parts, session.finish()) if part], 1)
    assert np.array_equal(streamed, codec.encode(waveform, 16000).codes)


def test_configurations_are_plain_data() -> None:
    for config in VARIANTS.values():
        assert from_dict(SpeechTokenizerConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_saved_and_loaded(tmp_path: Path) -> None:
    codec = tiny()
    again = load(codec.save(tmp_path / "speechtokenizer"))
    assert again.fingerprint == codec.fingerprint
    assert isinstance(again, SpeechTokenizerCodec)
    tokens = again.encode(noise(3000), 16000)
    assert tokens == codec.encode(noise(3000), 16000)
    assert np.array_equal(again.semantic_features(tokens), codec.semantic_features(tokens))
