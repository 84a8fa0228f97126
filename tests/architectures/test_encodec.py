"""EnCodec against its references, and what it promises."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from codec_goldens import COPIES, PARITY, Case, assert_close, cases, full_keys
from safetensors.torch import load_file
from torch import Tensor

from audiotokens import config as configuration
from audiotokens.architectures.encodec import VARIANTS, EncodecCodec, EncodecConfig
from audiotokens.architectures.seanet import SEANetConfig
from audiotokens.checkpoints import convert, fold_weight_norm
from audiotokens.checkpoints.conversion import mismatches, rename
from audiotokens.errors import CheckpointError, ConfigError, NotOfferedError, TokensError
from audiotokens.quantizers import RVQConfig, VectorConfig, build_quantizer
from audiotokens.quantizers.residual import ResidualQuantizer
from audiotokens.quantizers.vector import EMALearning, VectorQuantizer
from audiotokens.tokens import CodeStream, Tokens

REFERENCE = EncodecCodec.reference
CASES = cases("encodec")
PUBLISHED = {
    "encodec_24khz": "encodec-24khz",
    "encodec_48khz": "encodec-48khz",
    "facebook/encodec_24khz": "encodec-24khz",
    "facebook/encodec_48khz": "encodec-48khz",
    "facebook/encodec_32khz": "encodec-32khz",
}


@functools.cache
def codec_of(case: Case) -> EncodecCodec:
    return convert(EncodecCodec, case.tensors, REFERENCE.read_config(case.arguments))


@functools.cache
def tiny(name: str) -> EncodecCodec:
    torch.manual_seed(0)
    return EncodecCodec(VARIANTS[name]).eval().make_exact()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)


def raw_audio(codec: EncodecCodec, tokens: Tokens) -> Tensor:
    """Decoded samples `[C, T]` before they are cut to the length rule."""
    return torch.from_numpy(codec._decode(tokens))


def windows(stream: CodeStream) -> list[Tensor]:
    """Codes of each window, or of the whole."""
    codes = torch.from_numpy(np.array(stream.codes))
    frames = [segment.frames for segment in stream.segments or ()] or [stream.num_frames]
    return list(codes.split(frames, 1))


def assert_codes(stream: CodeStream, case: Case, name: str) -> None:
    """Equal to the stored codes, of which transformers fills the last window up with zeros."""
    if case.has(f"{name}.codes"):
        stored = case.array(f"{name}.codes")
        expected = list(stored) if stored.ndim == 3 else [stored]
    else:
        count = len(stream.segments or ())
        expected = [case.array(f"{name}.seg{index}_codes") for index in range(count)]
        assert not case.has(f"{name}.seg{count}_codes")
    found = windows(stream)
    assert len(found) == len(expected)
    for own, stored in zip(found, expected):
        assert torch.equal(own, stored[:, : own.shape[1]])
        assert not stored[:, own.shape[1] :].any()


# Against the references


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_golden(case: Case, exact: bool) -> None:
    codec = codec_of(case).make_exact(exact)
    for run, num_samples in case.lengths.items():
        waveform = case.waveform(run)[0]
        tokens = codec.encode(waveform, codec.spec.sample_rate)
        assert tokens.num_samples == num_samples
        assert_codes(tokens.streams["codes"], case, run)
        assert_close(raw_audio(codec, tokens), case.array(f"{run}.audio"))
        if case.has(f"{run}.audio_k2"):
            assert_close(raw_audio(codec, tokens.take(2)), case.array(f"{run}.audio_k2"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_golden_latents_and_gains(case: Case) -> None:
    codec = codec_of(case).make_exact(False)
    for run in case.lengths:
        waveform = case.waveform(run)[0]
        latents = torch.from_numpy(codec.features(waveform, codec.spec.sample_rate))[None]
        stream = codec.encode(waveform, codec.spec.sample_rate).streams["codes"]
        quantized = codec.dequantize({"codes": torch.from_numpy(np.array(stream.codes))[None]})
        first = 0
        for index, window in enumerate(windows(stream)):
            name = f"{run}.seg{index}_" if stream.segments else f"{run}."
            here = slice(first, first + window.shape[1])
            first += window.shape[1]
            if case.has(f"{name}latents"):
                assert_close(latents[..., here], case.array(f"{name}latents"))
                assert_close(quantized[..., here], case.array(f"{name}quantized"))
        gains = torch.tensor([segment.scale for segment in stream.segments or ()])
        if case.has(f"{run}.scales"):
            assert_close(gains, case.array(f"{run}.scales").flatten())
        elif case.has(f"{run}.seg0_scale"):
            stored = [case.array(f"{run}.seg{index}_scale").flatten() for index in range(len(gains))]
            assert_close(gains, torch.cat(stored))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_golden_of_the_lowest_bandwidth(case: Case) -> None:
    if not case.has("short.codes_lowest_bandwidth"):
        pytest.skip("only transformers encodes at its lowest bandwidth by default")
    codec = codec_of(case).make_exact(False)
    books = codec.books_for(min(codec.config.bandwidths))
    for run in case.lengths:
        tokens = codec.encode(case.waveform(run)[0], codec.spec.sample_rate, num_codebooks=books)
        stored = case.array(f"{run}.codes_lowest_bandwidth")
        assert stored.shape[1] == books
        for own, expected in zip(windows(tokens.streams["codes"]), stored, strict=True):
            assert torch.equal(own, expected[:, : own.shape[1]])


def test_golden_training_step_of_the_books() -> None:
    """The original's way: commitment of each level, gradients through the chain of residuals."""
    folder = next(root / "encodec" / "rvq_training_step" for root in (PARITY, COPIES) if root.is_dir())

    def array(name: str) -> Tensor:
        return torch.from_numpy(np.load(folder / f"{name}.npy"))

    def close(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))

    learning = EMALearning(decay=0.99, smoothing=1e-5, expire_below=0.0)
    inner = VectorConfig(codebook_size=16, learning=learning, commitment=1 / 3)
    quantizer = build_quantizer(
        RVQConfig(num_codebooks=3, inner=inner, gradient="chain", commitment=0.0), 8
    ).train()
    assert isinstance(quantizer, ResidualQuantizer)
    stored = load_file(folder / "weights.safetensors")
    books = {f"vq.layers.{level}._codebook": quantizer.level(level) for level in range(3)}
    for key, book in books.items():
        assert isinstance(book, VectorQuantizer)
        book.book.copy_(stored[f"{key}.embed"])
        book.counts.copy_(stored[f"{key}.cluster_size"])
        book.sums.copy_(stored[f"{key}.embed_avg"])
    latents = array("train.input").requires_grad_()
    out = quantizer(latents)
    codes = array("train.codes").long()
    assert torch.equal(out.codes, codes if codes.shape == out.codes.shape else codes.transpose(0, 1))
    close(out.latents, array("train.quantized"))
    close(out.losses["commitment"], array("train.penalty").squeeze())
    weight = torch.from_numpy(np.random.RandomState(9).randn(*out.latents.shape).astype(np.float32))
    ((out.latents * weight).sum() + out.losses["commitment"]).backward()
    assert latents.grad is not None
    close(latents.grad, array("train.input_gradient"))
    quantizer.update(out.statistics)
    for key, book in books.items():
        for own, theirs in (("counts", "cluster_size"), ("sums", "embed_avg"), ("book", "embed")):
            close(getattr(book, own), array(f"after.{key}.{theirs}"))


# Keys, shapes and arguments of the published files


def shapes_only(config: EncodecConfig) -> EncodecCodec:
    with torch.device("meta"):
        return EncodecCodec(config)


def published(name: str) -> tuple[dict[str, Tensor], int, Any]:
    entry = full_keys("encodec").get(name)
    if entry is None:
        pytest.skip("the lists of published keys are in the shared data")
    tensors = {key: torch.empty(shape, device="meta") for key, shape in entry["keys"].items()}
    return tensors, entry["parameters"], entry["config"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_keys_are_covered(name: str) -> None:
    tensors, parameters, arguments = published(name)
    config = VARIANTS[PUBLISHED[name]]
    codec = shapes_only(config)
    folded = fold_weight_norm(tensors)
    renamed, unknown = rename(folded, REFERENCE)
    assert not unknown
    assert not mismatches(codec.state_dict(), REFERENCE.rework(renamed, config))
    assert REFERENCE.guess({key: tuple(tensor.shape) for key, tensor in folded.items()}) == config
    if isinstance(arguments, Mapping):
        assert REFERENCE.read_config(arguments) == config
    # The gains of weight norm are folded into the weights.
    gains = sum(tensor.numel() for key, tensor in tensors.items() if key.endswith("weight_g"))
    assert sum(weight.numel() for weight in codec.parameters()) == parameters - gains


def test_a_file_of_no_published_size_is_not_guessed() -> None:
    shapes = {key: tuple(tensor.shape) for key, tensor in fold_weight_norm(CASES[0].tensors).items()}
    assert REFERENCE.guess(shapes) is None
    assert REFERENCE.guess({}) is None


@pytest.mark.parametrize("case", CASES[:2], ids=str)
def test_spellings_of_weight_norm(case: Case) -> None:
    spelled = {
        key.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): tensor
        for key, tensor in case.tensors.items()
    }
    for tensors in (spelled, fold_weight_norm(case.tensors)):
        other = convert(EncodecCodec, tensors, codec_of(case).config)
        assert other.fingerprint == codec_of(case).fingerprint


def test_missing_and_unknown_tensors_are_named() -> None:
    case = CASES[0]
    tensors = dict(case.tensors)
    del tensors[next(key for key in tensors if key.endswith("lstm.weight_ih_l0"))]
    with pytest.raises(CheckpointError, match=r"lstm\.weight_ih_l0 is missing; encoder\.extra is unknown"):
        convert(EncodecCodec, {**tensors, "encoder.extra": torch.zeros(1)}, codec_of(case).config)


ORIGINAL: dict[str, Any] = {"quantizer": {"dimension": 128, "n_q": 4}, "target_bandwidths": [3.0]}


def test_arguments_of_the_original_have_its_defaults() -> None:
    config = REFERENCE.read_config(ORIGINAL)
    assert config.seanet == SEANetConfig(causal=False)
    assert (config.sample_rate, config.segment, config.overlap) == (24000, None, 0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({**ORIGINAL, "sampel_rate": 1}, 'unknown key "sampel_rate"; did you mean "sample_rate"'),
        ({**ORIGINAL, "seanet": {"activation": "Snake"}}, "activation: found 'Snake', expected one of 'ELU'"),
        ({**ORIGINAL, "seanet": {"activation_params": {"alpha": 2.0}}}, "activation_params are"),
        ({**ORIGINAL, "seanet": {"norm": "layer_norm"}}, "norm: found 'layer_norm'"),
        ({**ORIGINAL, "seanet": {"norm_params": {"eps": 1.0}}}, "norm_params are .* expected none"),
        ({**ORIGINAL, "channels": 2}, "seanet has 1 channels and 128 dimensions"),
        ({"model_type": "dac"}, 'model_type is "dac", expected "encodec"'),
        ({"model_type": "encodec", "num_filter": 3}, 'unknown key "num_filter"; did you mean "num_filters"'),
        ({"model_type": "encodec", "codebook_dim": 3}, "codebook_dim is 3, expected hidden_size, 128"),
        ({"model_type": "encodec", "norm_type": "time_group_norm"}, "expected causal false"),
    ],
)
def test_arguments_that_are_not_built_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        REFERENCE.read_config(arguments)


def test_books_of_the_published_bandwidths() -> None:
    books = {
        name: [shapes_only(VARIANTS[name]).books_for(bandwidth) for bandwidth in VARIANTS[name].bandwidths]
        for name in ("encodec-24khz", "encodec-48khz", "encodec-32khz")
    }
    assert books == {
        "encodec-24khz": [2, 4, 8, 16, 32],
        "encodec-48khz": [2, 4, 8, 16],
        "encodec-32khz": [4],
    }
    with pytest.raises(TokensError, match=r"bandwidth is 5 kbit/s, expected one of 1\.6, 3\.2, 6\.4"):
        tiny("tiny").books_for(5)


def test_facts_of_the_published_sizes() -> None:
    facts = {name: shapes_only(config).spec for name, config in VARIANTS.items()}
    # Three frames of 320 samples on both sides of the last convolution are reflected at the beginning.
    assert facts["encodec-24khz"].lookahead == 1920
    assert facts["encodec-32khz"].lookahead == 2386
    assert facts["encodec-24khz"].streamable
    assert not facts["encodec-24khz"].causal
    stereo = facts["encodec-48khz"]
    assert (stereo.channels, stereo.streamable, int(stereo.frame_rate)) == (2, False, 150)
    assert facts["encodec-16khz"].frame_rate == 50
    assert facts["encodec-24khz"].bitrate() == 24000
    assert facts["encodec-32khz"].bitrate() == 2200
    constant = replace(VARIANTS["tiny"], seanet=replace(VARIANTS["tiny"].seanet, pad_mode="constant"))
    assert (shapes_only(constant).spec.causal, shapes_only(constant).spec.lookahead) == (True, 0)


def test_configurations_survive() -> None:
    for config in VARIANTS.values():
        assert configuration.from_dict(EncodecConfig, configuration.to_dict(config)) == config


def test_values_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap is 1"):
        EncodecConfig(overlap=1.0)
    with pytest.raises(ValueError, match="segment is 0"):
        EncodecConfig(segment=0.0)
    with pytest.raises(ValueError, match="ratios are"):
        SEANetConfig(ratios=())
    with pytest.raises(ValueError, match="trim_right_ratio is 2"):
        SEANetConfig(trim_right_ratio=2.0)


@pytest.mark.parametrize("name", ["tiny", "tiny-stereo"])
def test_training_pass(name: str) -> None:
    torch.manual_seed(0)
    codec = EncodecCodec(VARIANTS[name]).train()
    waveform = torch.from_numpy(noise(2, codec.spec.channels, 1601))
    output = codec(waveform, num_codebooks=torch.tensor([2, 4]))
    assert output.waveform.shape == waveform.shape
    output.waveform.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in codec.parameters())


# Windows


def test_windows_of_the_published_stereo_size() -> None:
    config = VARIANTS["encodec-48khz"]
    assert config.windows(48000) == [(0, 48000), (47520, 480)]
    assert config.windows(100000) == [(0, 48000), (47520, 48000), (95040, 4960)]
    assert config.windows(1) == [(0, 1)]
    assert VARIANTS["encodec-24khz"].windows(100000) == [(0, 100000)]


def test_windows_are_normalized_and_joined() -> None:
    """The rule of the module's text, window by window."""
    codec = tiny("tiny-stereo")
    waveform = noise(2, 4000)
    tokens = codec.encode(waveform, 16000)
    stream = tokens.streams["codes"]
    assert stream.segments is not None
    assert [(s.start_sample, s.num_samples) for s in stream.segments] == [
        (0, 1600),
        (1440, 1600),
        (2880, 1120),
    ]
    total, weights = np.zeros((2, 4000)), np.zeros(4000)
    triangle = 0.5 - np.abs(np.arange(1, 1601) / 1601 - 0.5)
    for codes, segment in zip(windows(stream), stream.segments):
        here = slice(segment.start_sample, segment.end_sample)
        gain = np.sqrt(np.mean(waveform[:, here].astype(np.float64).mean(0) ** 2)) + 1e-8
        assert segment.scale == pytest.approx(gain, rel=1e-6)
        decoded = codec.decoder_net(codec.dequantize({"codes": codes[None]}))[0].detach().numpy()
        total[:, here] += triangle[: segment.num_samples] * decoded * segment.scale
        weights[here] += triangle[: segment.num_samples]
    np.testing.assert_allclose(codec.decode(tokens), total / weights, atol=1e-5 * np.abs(total).max())


def test_a_last_window_that_ends_before_the_one_before_it() -> None:
    """Windows that do not begin at frames are rounded up to other ends; the original cannot join these."""
    codec = EncodecCodec(replace(VARIANTS["tiny-stereo"], segment=0.099)).eval()
    early = 0
    for num_samples in range(1426, 1584, 7):
        tokens = codec.encode(noise(2, num_samples), 16000)
        segments = tokens.streams["codes"].segments
        assert segments is not None
        ends = [segment.start_sample + 40 * segment.frames for segment in segments]
        early += ends[1] < ends[0]
        assert np.isfinite(codec.decode(tokens)).all()
    assert early


def test_tokens_cut_and_joined_at_windows_decode() -> None:
    codec = tiny("tiny-stereo")
    tokens = codec.encode(noise(2, 5000), 16000)
    start, end = 1440 / 16000, 4320 / 16000
    assert codec.decode(tokens.clip(start, end)).shape == (2, 2880)
    joined = Tokens.concatenate([codec.encode(noise(2, 1440), 16000), tokens])
    assert codec.decode(joined).shape == (2, 6440)


def test_long_recordings_run_in_groups_of_windows() -> None:
    codec = tiny("tiny-stereo")
    waveform = noise(2, 20011)
    tokens = codec.encode(waveform, 16000)
    codes, frames = codec.encode_codes(torch.from_numpy(waveform)[None], torch.tensor([20011]))
    assert int(frames["codes"]) == tokens.streams["codes"].num_frames
    assert np.array_equal(codes["codes"][0].numpy(), tokens.streams["codes"].codes)


def test_what_windows_do_not_offer() -> None:
    codec = tiny("tiny-stereo")
    for start in (codec.encoder, codec.decoder):
        with pytest.raises(
            NotOfferedError, match="reads whole recordings, because of its overlapping windows"
        ):
            start()
    codes, frames = codec.encode_codes(torch.from_numpy(noise(1, 2, 100)), torch.tensor([100]))
    with pytest.raises(NotOfferedError, match="decodes windows with their gains"):
        codec.decode_codes(codes, frames)
    with pytest.raises(NotOfferedError, match="decodes windows with their gains"):
        codec.decode_features(codec.features(noise(2, 100), 16000))
    whole = EncodecCodec(replace(VARIANTS["tiny"], normalize=True))
    with pytest.raises(NotOfferedError, match="because of its gain"):
        whole.encoder()


def test_a_gain_over_the_whole_recording() -> None:
    torch.manual_seed(0)
    codec = EncodecCodec(replace(VARIANTS["tiny"], normalize=True)).eval().make_exact()
    quiet = codec.encode(noise(1, 3000) / 64, 16000).streams["codes"]
    loud = codec.encode(noise(1, 3000), 16000).streams["codes"]
    assert quiet.segments is not None
    assert loud.segments is not None
    assert len(loud.segments) == 1
    assert quiet.segments[0].scale == pytest.approx(loud.segments[0].scale / 64, rel=1e-5)
    assert np.mean(quiet.codes == loud.codes) > 0.99


def test_windows_that_contradict_the_codes_are_refused() -> None:
    codec = tiny("tiny-stereo")
    tokens = codec.encode(noise(2, 1700), 16000)
    stream = tokens.streams["codes"]
    assert stream.segments is not None
    first = replace(stream.segments[0], frames=stream.segments[0].frames - 1)
    second = replace(stream.segments[1], frames=stream.segments[1].frames + 1)
    wrong = replace(tokens, streams={"codes": replace(stream, segments=(first, second))})
    with pytest.raises(TokensError, match="window 0 has 39 frames for 1600 samples, expected 40"):
        codec.decode(wrong)
    none = replace(tokens, streams={"codes": replace(stream, segments=None)})
    with pytest.raises(TokensError, match="codes windows, but the tokens have none"):
        codec.decode(none)
