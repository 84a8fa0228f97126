"""DAC against golden vectors of the original and of transformers: codes, sound, odd strides, key styles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from codec_goldens import COPIES, PARITY, Case, assert_close, cases, full_keys
from safetensors.torch import load_file
from torch import Tensor

from audiotokens.architectures.dac import (
    VARIANTS,
    DACCodec,
    DACConfig,
    OddStrides,
    decode_chunked,
    encode_chunked,
    factorized_rvq,
    guess,
    read_config,
)
from audiotokens.checkpoints.conversion import convert, fold_weight_norm, rename
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import AudioError, CheckpointError, ConfigError
from audiotokens.nn.conv import Conv1d, ConvTranspose1d

CASES = cases("dac")
FULL = full_keys("dac")
CHUNKED = [case for case in CASES if case.has("chunked.codes")]


def converted(case: Case) -> DACCodec:
    return convert(DACCodec, case.tensors, read_config(case.arguments))


def tiny(config: DACConfig = VARIANTS["tiny"]) -> DACCodec:
    torch.manual_seed(0)
    return DACCodec(config).eval()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("exact", [False, True])
@torch.no_grad()
def test_goldens(case: Case, exact: bool) -> None:
    codec = converted(case).make_exact(exact)
    for run in case.lengths:
        latents = codec.encoder_net(case.waveform(run).to(codec.sample))
        codes = codec.quantize(latents, codec.spec.num_codebooks)
        assert isinstance(codes, Tensor)
        assert torch.equal(codes[0], case.array(f"{run}.codes").view(codes[0].shape))
        quantized = codec.quantizer.decode(codes)
        found = {
            "latents": latents.float(),
            "quantized": quantized,
            "quantized_from_codes": quantized,
            "audio": codec.decoder_net(quantized),
            "audio_k2": codec.decoder_net(codec.quantizer.decode(codes[:, :2])),
            "projected": projected(codec, latents.float(), codes),
        }
        for name, tensor in found.items():
            if case.has(f"{run}.{name}"):
                expected = case.array(f"{run}.{name}").view(1, tensor.shape[1], -1)
                assert_close(tensor[..., : expected.shape[-1]], expected)
        if case.has(f"{run}.losses"):
            losses = codec.quantizer(latents.float()).losses
            pair = torch.stack([losses["commitment"] / 0.25, losses["codebook"]])
            assert_close(pair, case.array(f"{run}.losses"))


def projected(codec: DACCodec, rest: Tensor, codes: Tensor) -> Tensor:
    """What each level compares with its book."""
    parts = []
    for level, own in zip(codec.quantizer.levels, codes.unbind(1)):
        parts.append(level.project(rest[0].mT).mT)
        rest = rest - level.decode(own[:, None])
    return torch.cat(parts)[None]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tokens_decode_to_the_golden_sound_filled_up(case: Case) -> None:
    codec = converted(case).make_exact()
    run, samples = "short", case.lengths["short"]
    tokens = codec.encode(case.waveform(run)[0].numpy(), codec.spec.sample_rate)
    expected = case.array(f"{run}.audio").flatten()[:samples]
    found = torch.from_numpy(codec.decode(tokens))
    assert found.shape == (1, samples)
    assert_close(found[0, : len(expected)], expected)
    assert not found[0, len(expected) :].any()


@pytest.mark.parametrize("case", CHUNKED, ids=str)
def test_chunked_codes_are_those_of_the_command_line(case: Case) -> None:
    codec = converted(case)
    facts = json.loads((case.folder / "meta.json").read_text())["chunked"]
    samples, _ = soundfile.read(case.folder / "input.wav", dtype="float32")
    gain = 10 ** ((facts["normalize_db"] - float(case.array("chunked.input_db"))) / 20)
    loud = torch.from_numpy(samples[: facts["original_length"]])[None, None] * gain
    loud = loud / loud.abs().max().clamp(min=1)
    codes, frames = encode_chunked(codec, loud, int(facts["win_duration"] * facts["sample_rate"]))
    assert frames == facts["chunk_length"]
    assert torch.equal(codes[0], case.array("chunked.codes"))
    sound = decode_chunked(codec, codes, frames)[0, 0, : facts["original_length"]]
    assert len(sound) == facts["original_length"]
    if case.has("chunked.audio"):
        expected = case.array("chunked.audio")[0]
        # The original changes the loudness at the end, by a factor for the whole recording.
        assert_close(sound * (sound @ expected / (sound @ sound)), expected)


def test_a_window_without_output_is_refused() -> None:
    with pytest.raises(AudioError, match="a window of 100 samples decodes to nothing"):
        encode_chunked(tiny(), torch.zeros(1, 1, 1000), 100)


def test_a_training_step_of_the_quantizer() -> None:
    roots = (root / "dac" / "rvq_training_step" for root in (PARITY, COPIES))
    folder = next(root for root in roots if root.is_dir())
    arguments = json.loads((folder / "config.json").read_text())
    quantizer = tiny(
        DACConfig(
            latent=arguments["input_dim"],
            quantizer=factorized_rvq(
                arguments["input_dim"],
                arguments["n_codebooks"],
                size=arguments["codebook_size"],
                dims=(arguments["codebook_dim"],),
            ),
        )
    ).quantizer
    tensors = {
        f"quantizer.{name}": tensor for name, tensor in load_file(folder / "weights.safetensors").items()
    }
    renamed, unknown = rename(fold_weight_norm(tensors), DACCodec.reference)
    assert not unknown
    reworked = DACCodec.reference.rework(renamed, DACConfig(quantizer=quantizer.config))
    quantizer.load_state_dict({name.removeprefix("quantizer."): tensor for name, tensor in reworked.items()})
    quantizer.train()

    latents = torch.from_numpy(np.load(folder / "train.input.npy")).requires_grad_()
    quantized = quantizer(latents)
    weights = np.random.RandomState(9).randn(*quantized.latents.shape).astype(np.float32)
    ((quantized.latents * torch.from_numpy(weights)).sum() + sum(quantized.losses.values())).backward()
    assert np.array_equal(quantized.codes, np.load(folder / "train.codes.npy"))
    found = {"quantized": quantized.latents.detach(), "input_gradient": latents.grad}
    for level, name in enumerate(f"grad_quantizers_{level}" for level in range(arguments["n_codebooks"])):
        own = quantizer.levels[level]
        found[f"{name}_codebook_weight"] = own.book.grad
        found[f"{name}_in_proj_bias"] = own.project_in.bias.grad
        found[f"{name}_out_proj_bias"] = own.project_out.bias.grad
    for name, tensor in found.items():
        assert_close(tensor, torch.from_numpy(np.load(folder / f"train.{name}.npy")), tolerance=1e-5)


@pytest.mark.skipif(not FULL, reason="the full lists of keys are in the shared data")
@pytest.mark.parametrize("name", FULL)
def test_full_size_keys_are_covered(name: str) -> None:
    config = read_config(FULL[name]["config"])
    assert config in VARIANTS.values()
    shapes = {key: torch.empty(shape, device="meta") for key, shape in FULL[name]["keys"].items()}
    assert sum(tensor.numel() for tensor in shapes.values()) == FULL[name]["parameters"]
    renamed, unknown = rename(fold_weight_norm(shapes), DACCodec.reference)
    assert not unknown
    with torch.device("meta"):
        expected = DACCodec(config).state_dict()
    found = DACCodec.reference.rework(renamed, config)
    assert {key: tensor.shape for key, tensor in found.items()} == {
        key: tensor.shape for key, tensor in expected.items()
    }
    folded = fold_weight_norm(shapes)
    assert guess({key: tuple(tensor.shape) for key, tensor in folded.items()}) == config


@pytest.mark.parametrize(
    ("name", "parameters"),
    # With weight norm folded, as transformers counts; the originals' counts have a gain for each row too.
    [
        ("dac-16khz", 74_141_697),
        ("dac-24khz", 74_653_857),
        ("dac-44khz", 76_620_777),
        ("dac-44khz-16kbps", None),
    ],
)
def test_parameters_of_the_published_sizes(name: str, parameters: int | None) -> None:
    with torch.device("meta"):
        codec = DACCodec(VARIANTS[name])
    gains = sum(
        module.weight.shape[0]
        for module in codec.modules()
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d | torch.nn.Linear)
    )
    count = sum(parameter.numel() for parameter in codec.parameters())
    assert parameters is None or count == parameters
    original = {"dac-16khz": 74_175_906, "dac-24khz": 74_708_706, "dac-44khz": 76_651_890}
    assert count + gains == original.get(name, 64_213_250)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_rate": [2]}, 'unknown key "encoder_rate"'),
        ({"encoder_rates": [2, 4]}, "product 8 and decoder_strides"),
        ({"encoder_rates": [1, 4], "decoder_rates": [4, 1]}, "numbers of at least 2"),
        ({"codebook_dim": [8, 8]}, "codebook_dim has 2 entries, expected n_codebooks, 9"),
        ({"codebook_size": 1}, "codebook_size is 1"),
        ({"decoder_dim": 8}, "decoder_width is 8"),
        ({"model_type": "dac", "encoder_dim": 2}, 'unknown key "encoder_dim"'),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(change)


def test_arguments_of_both_kinds_mean_the_same() -> None:
    transformers = {
        "model_type": "dac",
        "sampling_rate": 44100,
        "_name_or_path": "descript/dac_44khz",
        "transformers_version": "4.44",
        "quantizer_dropout": 0,
    }
    assert read_config({}) == read_config(transformers) == VARIANTS["dac-44khz"]
    assert all(from_dict(DACConfig, to_dict(config)) == config for config in VARIANTS.values())
    assert guess({"encoder.block.0.weight": (64, 1, 7)}) is None


def test_a_damaged_checkpoint_is_refused_tensor_by_tensor() -> None:
    case = CASES[0]
    tensors = dict(case.tensors)
    name = next(name for name in tensors if name.endswith("alpha"))
    tensors[name] = tensors[name][:, :-1]
    with pytest.raises(CheckpointError, match="has the shape"):
        convert(DACCodec, tensors, read_config(case.arguments))
    with pytest.raises(CheckpointError, match=r"encoder\.block\.9\.thing"):
        convert(
            DACCodec, {**case.tensors, "encoder.block.9.thing": tensors[name]}, read_config(case.arguments)
        )


def test_a_book_as_wide_as_the_latents_keeps_its_projections() -> None:
    codec = tiny(replace(VARIANTS["tiny"], quantizer=factorized_rvq(16, 2, size=8, dims=(16, 4))))
    assert {"levels.0.project_in.weight", "levels.0.inner.book"} < set(codec.quantizer.state_dict())
    renamed = {
        "quantizer.levels.0.book": torch.zeros(8, 16),
        "quantizer.levels.1.book": torch.zeros(8, 4),
        "quantizer.levels.0.project_in.weight": torch.zeros(16, 16, 1),
    }
    found = DACCodec.reference.rework(renamed, codec.config)
    assert found["quantizer.levels.0.project_in.weight"].shape == (16, 16)
    assert {"quantizer.levels.0.inner.book", "quantizer.levels.1.book"} < set(found)


# Odd strides


def linear(odd_strides: OddStrides, strides: tuple[int, ...]) -> DACCodec:
    """A linear DAC, whose strided kernels are symmetric triangles: a low-pass filter there and back."""
    config = DACConfig(
        sample_rate=16000,
        encoder_width=1,
        encoder_strides=strides,
        latent=1 << len(strides),
        decoder_width=1 << len(strides),
        decoder_strides=strides[::-1],
        odd_strides=odd_strides,
        quantizer=factorized_rvq(1 << len(strides), 1, size=2, dims=(1,)),
    )
    codec = tiny(config)
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.zero_()
        # Without alpha, Snake is the identity; residual units add nothing.
        outer = [block for net in (codec.encoder_net, codec.decoder_net) for block in net]
        for block in outer:
            if isinstance(block, Conv1d):
                block.conv.weight[0, 0, block.span // 2] = 0.1
        for module in codec.modules():
            if isinstance(module, ConvTranspose1d) or (isinstance(module, Conv1d) and module.stride > 1):
                taps = torch.arange(module.span) + 0.5
                taps = torch.minimum(taps, module.span - taps)
                module.conv.weight[0, 0] = taps / taps.max()
    return codec


def center_of_response(codec: DACCodec) -> float:
    """Where an impulse comes out, on the average over all places in a hop, relative to where it was."""
    hop, center = codec.config.hop, 40 * codec.config.hop
    found = []
    for place in range(center, center + hop, max(hop // 40, 1)):
        impulse = torch.zeros(1, 1, 80 * hop, dtype=torch.float64)
        impulse[..., place] = 1
        output = codec.double().decoder_net(codec.encoder_net(impulse))[0, 0]
        where = torch.arange(len(output)) - place
        found.append(float((output * where).sum() / output.sum()))
    return float(np.mean(found))


@pytest.mark.parametrize(("strides", "lost"), [((2, 4, 5, 8), 8), ((3, 7), 4), ((2, 4), 0)])
@torch.no_grad()
def test_paddings_shift_nothing_unless_told_to(strides: tuple[int, ...], lost: int) -> None:
    for odd_strides, late in (("short", 0), ("end", 0), ("start", lost)):
        codec = linear(odd_strides, strides)
        assert codec.config.lost_samples == (lost if odd_strides == "short" else 0)
        assert abs(center_of_response(codec) - late) < 1e-3


@torch.no_grad()
def test_odd_strides_cut_the_same_sound() -> None:
    codecs = {cut: tiny(replace(VARIANTS["tiny"], odd_strides=cut)) for cut in ("short", "start", "end")}
    latents = torch.randn(1, 16, 60)
    short, start, end = (codec.decoder_net(latents)[0, 0] for codec in codecs.values())
    # 5 then 2: one sample is lost at stride 5, two at the end.
    assert (len(short), len(start), len(end)) == (598, 600, 600)
    edge = 150
    torch.testing.assert_close(short[:-edge], end[: len(short) - edge])
    torch.testing.assert_close(short[edge:-edge], start[edge + 2 : len(short) - edge + 2])
    texts = [" ".join(codec.spec.quirks) for codec in codecs.values()]
    assert (
        "ends with 2 zeros" in texts[0] and "2 samples early and 2 samples short" in texts[1] and not texts[2]
    )


def test_published_odd_strides_line_up_and_say_so() -> None:
    for name in ("dac-16khz", "dac-24khz"):
        with torch.device("meta"):
            spec = DACCodec(VARIANTS[name]).spec
        assert VARIANTS[name].odd_strides == "start"
        assert any("8 samples early" in quirk for quirk in spec.quirks)
        assert spec.output_length(16000) == 16000
    assert VARIANTS["dac-44khz"].lost_samples == 0


# Promises


def test_a_saved_codec_is_equal(tmp_path: Path) -> None:
    codec = tiny()
    codec.weight_bits = 32
    again = DACCodec.load(codec.save(tmp_path / "dac"))
    assert again.fingerprint == codec.fingerprint
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 777).astype(np.float32)
    assert again.encode(sound, 16000) == codec.make_exact().encode(sound, 16000)
