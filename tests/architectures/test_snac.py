"""SNAC against golden vectors of the original: codes of all levels, sound with and without noise."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_goldens import Case, assert_close, cases, full_keys

from audiotokens.architectures.dac import factorized_book
from audiotokens.architectures.snac import (
    VARIANTS,
    SNACCodec,
    SNACConfig,
    factorized_levels,
    guess,
    read_config,
)
from audiotokens.checkpoints.conversion import convert, fold_weight_norm, rename
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError, TokensError
from audiotokens.nn.noise_block import NoiseBlock
from audiotokens.tokens import Tokens
from audiotokens.verify import format_verification, verify

CASES = cases("snac")
FULL = full_keys("snac")


def converted(case: Case) -> SNACCodec:
    return convert(SNACCodec, case.tensors, read_config(case.arguments))


def tiny(config: SNACConfig = VARIANTS["tiny"]) -> SNACCodec:
    torch.manual_seed(0)
    return SNACCodec(config).eval()


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("exact", [False, True])
@torch.no_grad()
def test_goldens(case: Case, exact: bool) -> None:
    codec = converted(case).make_exact(exact)
    levels = codec.spec.num_codebooks
    for run in case.lengths:
        latents = codec.encoder_net(case.waveform(run).to(codec.sample))
        codes = codec.quantize(latents, levels)
        assert len(codes) == levels
        for level, own in enumerate(codes):
            assert torch.equal(own[0, 0], case.array(f"{run}.codes_level{level}"))
        quantized = codec.quantizer.decode(codes)
        found = {
            "latents": latents.float(),
            "quantized": quantized,
            "audio_noise0": codec.decoder_net(quantized),
        }
        for count in range(1, levels):
            found[f"audio_noise0_k{count}"] = codec.decoder_net(codec.quantizer.decode(codes[:count]))
        for name, tensor in found.items():
            if case.has(f"{run}.{name}"):
                assert_close(tensor, case.array(f"{run}.{name}").view(1, tensor.shape[1], -1))


@pytest.mark.parametrize("case", [case for case in CASES if case.has("short.audio_noise")], ids=str)
@torch.no_grad()
def test_recorded_noise_gives_the_original_sound(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = converted(case)
    blocks = [module for module in codec.decoder_net.modules() if isinstance(module, NoiseBlock)]
    recorded = [case.array(f"short.noise{layer}").flatten() for layer in range(len(blocks))]
    monkeypatch.setattr(
        NoiseBlock, "noise", lambda self, start, count: recorded[self.layer][start : start + count]
    )
    codec.make_noisy(0)
    codes = tuple(
        case.array(f"short.codes_level{level}").view(1, 1, -1) for level in range(codec.spec.num_codebooks)
    )
    found = codec.decoder_net(codec.quantizer.decode(codes))
    assert_close(found[0], case.array("short.audio_noise").view(1, -1))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tokens_hold_every_level_at_its_rate(case: Case) -> None:
    codec = converted(case).make_exact()
    samples = case.lengths["short"]
    tokens = codec.encode(case.waveform("short")[0].numpy(), codec.spec.sample_rate)
    frame = Fraction(codec.spec.sample_rate, codec.config.frame)
    for level, (stride, stream) in enumerate(zip(codec.config.quantizer.strides, tokens.streams.values())):
        assert stream.frame_rate == frame / stride
        assert np.array_equal(stream.codes[0], case.array(f"short.codes_level{level}"))
    assert_close(
        torch.from_numpy(codec.decode(tokens)), case.array("short.audio_noise0").view(1, -1)[:, :samples]
    )


@pytest.mark.skipif(not FULL, reason="the full lists of keys are in the shared data")
@pytest.mark.parametrize("name", FULL)
def test_full_size_keys_are_covered(name: str) -> None:
    config = read_config(FULL[name]["config"])
    assert config == VARIANTS[name.replace("_", "-")]
    shapes = {key: torch.empty(shape, device="meta") for key, shape in FULL[name]["keys"].items()}
    buffers = sum(tensor.numel() for key, tensor in shapes.items() if key.endswith("inv_freq"))
    assert sum(tensor.numel() for tensor in shapes.values()) - buffers == FULL[name]["parameters"]
    folded = fold_weight_norm(shapes)
    renamed, unknown = rename(folded, SNACCodec.reference)
    assert not unknown
    with torch.device("meta"):
        expected = SNACCodec(config).state_dict()
    found = SNACCodec.reference.rework(renamed, config)
    assert {key: tensor.shape for key, tensor in found.items()} == {
        key: tensor.shape for key, tensor in expected.items()
    }
    found_variant = guess({key: tuple(tensor.shape) for key, tensor in folded.items()})
    assert found_variant == (config if name == "snac_24khz" else None)


@pytest.mark.parametrize(("name", "parameters"), [("snac-24khz", 19_842_914), ("snac-44khz", 54_546_338)])
def test_parameters_of_the_published_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        codec = SNACCodec(VARIANTS[name])
    # The published counts have a gain of weight norm for each row of every convolution and projection.
    gains = sum(
        module.weight.shape[0]
        for name, module in codec.named_modules()
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d | torch.nn.Linear)
        and ".to_" not in name
    )
    assert sum(parameter.numel() for parameter in codec.parameters()) + gains == parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_rate": [2]}, 'unknown key "encoder_rate"'),
        ({"encoder_rates": [2, 4]}, "product 8 and decoder_strides"),
        ({"latent_dim": 3}, "latent_dim is 3, the encoder gives 1024"),
        ({"vq_strides": [3, 2]}, "stride 2 does not divide"),
        ({"decoder_dim": 100}, "decoder_width have 100 channels, attention needs a multiple of 64"),
        ({"attn_window_size": -1}, "window is -1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(change)


def test_configurations_survive_files(tmp_path: Path) -> None:
    assert all(from_dict(SNACConfig, to_dict(config)) == config for config in VARIANTS.values())
    codec = tiny()
    codec.weight_bits = 32
    again = SNACCodec.load(codec.save(tmp_path / "snac"))
    assert again.fingerprint == codec.fingerprint
    assert again.encode(noise(777), 16000) == codec.make_exact().encode(noise(777), 16000)


def test_decoding_is_the_same_each_time_and_noise_can_be_asked_for() -> None:
    codec = tiny()
    tokens = codec.encode(noise(2000), 16000)
    silent = codec.decode(tokens)
    assert np.array_equal(codec.decode(tokens), silent)
    noisy = codec.make_noisy(7).decode(tokens)
    assert np.array_equal(codec.decode(tokens), noisy)
    assert not np.array_equal(noisy, silent)
    assert not np.array_equal(codec.make_noisy(8).decode(tokens), noisy)
    assert np.array_equal(codec.make_noisy(None).decode(tokens), silent)
    seeded = tiny(replace(VARIANTS["tiny"], noise_seed=7))
    seeded.load_state_dict(codec.state_dict())
    codes = {name: torch.from_numpy(stream.codes.copy())[None] for name, stream in tokens.streams.items()}
    frames = {name: torch.tensor([part.shape[2]]) for name, part in codes.items()}
    sound, _ = seeded.decode_codes(codes, frames)
    np.testing.assert_allclose(sound[0, :, :2000], noisy, atol=1e-5)
    assert "off" in codec.spec.quirks[0] and "fixed by a seed" in seeded.spec.quirks[0]


def test_training_draws_noise() -> None:
    codec = tiny().train()
    x = torch.from_numpy(noise(960))[None, None]
    first, second = codec(x).waveform, codec(x).waveform
    assert first.shape == x.shape and not torch.equal(first, second)
    first.square().mean().backward()
    assert all(parameter.grad is not None for parameter in codec.decoder_net.parameters())


@pytest.mark.parametrize("strides", [(3,), (4, 4, 2), (1,)])
def test_levels_need_not_have_the_rate_of_the_frames(strides: tuple[int, ...]) -> None:
    codec = tiny(
        replace(VARIANTS["tiny"], quantizer=factorized_levels(64, strides, size=16, dim=4))
    ).make_exact()
    waveform = noise(1001)
    tokens = codec.encode(waveform, 16000)
    session = codec.encoder()
    parts = [session.push(waveform[:400]), session.push(waveform[400:]), session.finish()]
    assert Tokens.concatenate([part for part in parts if part is not None]) == tokens
    batch = torch.zeros(2, 1, 1300)
    batch[0, 0, :1001] = torch.from_numpy(waveform)
    codes, frames = codec.encode_codes(batch, torch.tensor([1001, 1300]))
    for name, stream in tokens.streams.items():
        assert np.array_equal(codes[name][0, :, : frames[name][0]], stream.codes)
    sound, _ = codec.decode_codes(codes, frames)
    np.testing.assert_allclose(sound[0, :, :1001], codec.decode(tokens), atol=1e-5)


def test_one_level_of_one_book_is_factorized() -> None:
    assert factorized_levels(64, (2, 1), size=16, dim=4).inner == factorized_book(64, 16, 4)


def test_prefixes_are_whole_levels() -> None:
    codec = tiny()
    assert codec.spec.legal_prefixes == (1, 2, 3)
    tokens = codec.encode(noise(500), 16000, num_codebooks=2)
    assert list(tokens.streams) == ["level0", "level1"]
    assert codec.decode(tokens).shape == (1, 500)
    with pytest.raises(TokensError, match="num_codebooks is 4"):
        codec.encode(noise(500), 16000, num_codebooks=4)


def test_noise_of_a_seed_is_the_same_in_any_chunks() -> None:
    codec = tiny(replace(VARIANTS["tiny"], noise_seed=3)).make_exact()
    waveforms = {f"{samples} samples": noise(samples) for samples in (1, 49, 1500)}
    found = verify(codec, promises=["I4"], waveforms=waveforms)
    assert found.ok, format_verification(found)
