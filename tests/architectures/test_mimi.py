"""Mimi against the golden vectors of moshi and transformers, its key styles, its streaming, its promises."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_goldens import Case, assert_close, cases, full_keys
from torch import Tensor

from audiotokens import load
from audiotokens.architectures.mimi import VARIANTS, MimiCodec, MimiConfig, split_rvq
from audiotokens.checkpoints.conversion import MismatchError, convert, match
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError, TokensError
from audiotokens.tokens import Tokens

CASES = cases("mimi")
FULL = full_keys("mimi")
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def converted(case: Case) -> MimiCodec:
    return convert(MimiCodec, case.tensors, MimiCodec.reference.read_config(case.arguments))


def moshi_case() -> Case:
    return next(case for case in CASES if "seanet" in case.arguments)


def tiny(config: MimiConfig = VARIANTS["tiny"]) -> MimiCodec:
    torch.manual_seed(0)
    codec = MimiCodec(config).eval()
    with torch.no_grad():
        latents = codec.encoder_net(torch.randn(1, config.seanet.channels, 300 * config.hop))
        codec.quantizer.initialize(latents[0].T)
    codec.weight_bits = 32
    return codec.make_exact()


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


@each_case
@pytest.mark.parametrize("exact", [False, True])
@torch.no_grad()
def test_goldens(case: Case, exact: bool) -> None:
    codec = converted(case).make_exact(exact)
    books = codec.spec.num_codebooks
    for run in case.lengths:
        found: dict[str, Tensor] = {}
        x = case.waveform(run).to(codec.sample.dtype)
        for block, name in zip(codec.encoder_net, ("", "seanet", "encoder_transformer", "latents")):
            x = block(x)
            found[name] = x.float()
        codes = codec.quantize(found["latents"], books)
        assert isinstance(codes, Tensor)
        assert torch.equal(codes, case.array(f"{run}.codes").view(1, books, -1))
        found["quantized"] = x = codec.quantizer.decode(codes)
        for block, name in zip(codec.decoder_net, ("upsampled", "decoder_transformer", "audio")):
            found[name] = x = block(x)
        found["audio_last7680"] = found["audio"][..., -7680:]
        found["audio_k2"] = codec.decoder_net(codec.quantizer.decode(codes[:, :2]))
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
        assert np.array_equal(tokens.codes, case.array(f"{run}.codes").view(4, -1).numpy())
        assert tokens.streams["semantic"].codes.shape[0] == 1
        decoded = codec.decode(tokens)
        assert decoded.shape == (1, samples)
        if case.has(f"{run}.audio"):
            assert_close(torch.from_numpy(decoded), case.array(f"{run}.audio").view(1, -1)[:, :samples])


@pytest.mark.skipif(not any(case.has("full.stream_codes") for case in CASES), reason="needs the full runs")
def test_our_streaming_is_the_offline_pass_and_that_of_moshi_is_not() -> None:
    """moshi drops a key that the first of the two steps of a push still reads: from half the window on."""
    case = moshi_case()
    codec = converted(case).make_exact()
    ours = stream(codec, case.waveform("full")[0].numpy(), [codec.config.hop])
    offline, theirs = case.array("full.codes").numpy(), case.array("full.stream_codes").numpy()
    assert np.array_equal(ours.codes, offline.reshape(4, -1))
    window = codec.config.transformer.window
    assert window is not None
    same = window // codec.config.stride
    assert np.array_equal(theirs.reshape(4, -1)[:, :same], ours.codes[:, :same])
    assert (theirs.reshape(4, -1) != ours.codes).sum() > 0


def stream(codec: MimiCodec, waveform: np.ndarray, sizes: list[int]) -> Tokens:
    session, parts, start = codec.encoder(), [], 0
    while start < waveform.shape[1]:
        size = sizes[len(parts) % len(sizes)]
        parts.append(session.push(waveform[:, start : start + size]))
        start += size
    return Tokens.concatenate([part for part in (*parts, session.finish()) if part and part.num_samples])


@pytest.mark.parametrize("whole_frames", [True, False])
def test_streams_longer_than_the_window(whole_frames: bool) -> None:
    codec = tiny(replace(VARIANTS["tiny"], whole_frames=whole_frames))
    hop, window = codec.config.hop, codec.config.transformer.window
    assert window is not None
    waveform = noise(3 * window * hop // codec.config.stride + 77)
    whole = codec.encode(waveform, 24000)
    for sizes in ([hop], [1, 5 * hop, hop - 1], [3 * hop + 5]):
        assert stream(codec, waveform, sizes) == whole
    session = codec.decoder()
    edges = [Fraction(min(t * hop, whole.num_samples), 24000) for t in range(whole.codes.shape[1] + 1)]
    frames = [whole.clip(start, end) for start, end in zip(edges, edges[1:])]
    parts = [session.push(frame) for frame in frames]
    assert [part.shape[1] for part in parts[:-1]] == [hop] * (len(parts) - 1)
    streamed = np.concatenate([*parts, session.finish()], 1)
    np.testing.assert_allclose(streamed, codec.decode(whole), atol=1e-5)


def test_a_frame_is_final_when_it_has_been_heard() -> None:
    spec = tiny().spec
    assert spec.streamable
    assert spec.causal
    assert (spec.lookahead, spec.decoder_lookahead) == (0, 0)


@pytest.mark.skipif(not FULL, reason="needs the shared data")
@pytest.mark.parametrize("style", FULL)
def test_every_published_key_has_its_place(style: str) -> None:
    entry = FULL[style]
    arguments = entry["config"]
    if isinstance(arguments, str):
        arguments = next(e["config"] for e in FULL.values() if "seanet" in e["config"])
    config = MimiCodec.reference.read_config(arguments)
    with torch.device("meta"):
        codec = MimiCodec(config)
        tensors = {key: torch.empty(shape) for key, shape in entry["keys"].items()}
    found = match(codec.state_dict(), tensors, MimiCodec.reference, config)
    assert not found.problems
    assert set(found.used) | set(found.ignored) == set(tensors)
    assert sum(p.numel() for p in codec.parameters()) == entry["parameters"] == 79_308_609
    assert config == replace(VARIANTS["mimi"], whole_frames="seanet" in arguments)
    shapes = {key: tuple(shape) for key, shape in entry["keys"].items()}
    assert MimiCodec.reference.guess(shapes) == VARIANTS["mimi"]


def test_the_published_model() -> None:
    with torch.device("meta"):
        spec = MimiCodec(VARIANTS["mimi"]).spec
    assert (spec.sample_rate, spec.hop, spec.num_codebooks) == (24000, 1920, 32)
    assert [stream.num_codebooks for stream in spec.streams] == [1, 31]
    assert spec.legal_prefixes == tuple(range(1, 33))
    assert spec.bitrate(8) == 1100
    assert spec.bitrate() == 4400
    # Eight layers of 249 steps of 960 samples, and the convolutions.
    assert spec.receptive_field is not None
    assert 8 * 249 * 960 < spec.receptive_field < 8 * 249 * 960 + 10 * 1920


def restyled(tensors: dict[str, Tensor], changes: dict[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in tensors.items():
        for old, new in changes.items():
            key = key.replace(old, new)
        renamed[key] = tensor
    return renamed


@pytest.mark.parametrize(
    "changes",
    [
        {"self_attn.in_proj_weight": "self_attn.in_projs.0.weight", "out_proj.": "out_projs.0."},
        {"self_attn.in_proj_weight": "self_attn.in_proj.weight"},
        {"_initialized": "inited", "cluster_usage": "cluster_size", "embedding_sum": "embed_avg"},
        {"embedding_sum": "embed_sum"},
    ],
    ids=["moshi 0.2", "between", "aliases", "sum"],
)
def test_key_styles_of_moshi(changes: dict[str, str]) -> None:
    case = moshi_case()
    config = MimiCodec.reference.read_config(case.arguments)
    codec = convert(MimiCodec, restyled(case.tensors, changes), config)
    assert codec.fingerprint == converted(case).fingerprint


def as_transformers(tensors: dict[str, Tensor], heads: int, *, nested: bool) -> dict[str, Tensor]:
    """Rename the tensors of moshi, with the rows of queries and keys by halves of a head."""
    changes = {
        "coder.model.": "coder.layers.",
        "conv.conv.conv.": "conv.",
        "convtr.convtr.convtr.": "conv.",
        "conv.conv.": "conv.",
        "convtr.convtr.": "conv.",
        "transformer.transformer.": "transformer.",
        "self_attn.out_proj.": "self_attn.o_proj.",
        "norm1.": "input_layernorm.",
        "norm2.": "post_attention_layernorm.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "layer_scale_1": "self_attn_layer_scale",
        "layer_scale_2": "mlp_layer_scale",
        "rvq_first.": "semantic_residual_vector_quantizer.",
        "rvq_rest.": "acoustic_residual_vector_quantizer.",
        "vq.layers.": "layers.",
        "_codebook._": "codebook.",
        "_codebook.": "codebook.",
        "embedding_sum": "embed_sum",
    }
    renamed = restyled(tensors, changes)
    for key in [key for key in renamed if key.endswith("in_proj_weight")]:
        parts = renamed.pop(key).chunk(3)
        for letter, rows in zip("qkv", parts):
            if letter != "v":
                rows = rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
            renamed[key.replace("in_proj_weight", f"{letter}_proj.weight")] = rows
    if not nested:
        return renamed
    inner = {}
    for key, tensor in renamed.items():
        for side in ("encoder", "decoder"):
            key = key.replace(f"{side}.layers.", f"{side}.{side}_seanet.layers.")
            key = f"{side}.{key}" if key.startswith(f"{side}_transformer.") else key
        key = f"encoder.{key}" if key.startswith("downsample.") else key
        inner[f"decoder.{key}" if key.startswith("upsample.") else key] = tensor
    return inner


@pytest.mark.parametrize("nested", [False, True], ids=["transformers 4", "transformers 5"])
def test_key_styles_of_transformers(nested: bool) -> None:
    case = moshi_case()
    config = MimiCodec.reference.read_config(case.arguments)
    tensors = as_transformers(case.tensors, config.transformer.heads, nested=nested)
    for other in CASES:
        if other is not case and not nested:
            assert set(other.tensors) == set(tensors)
    assert convert(MimiCodec, tensors, config).fingerprint == converted(case).fingerprint


def test_what_does_not_fit_is_named() -> None:
    case = moshi_case()
    tensors = dict(case.tensors)
    del tensors["downsample.conv.conv.conv.weight"]
    tensors["extra"] = torch.zeros(1)
    with pytest.raises(MismatchError, match=r"encoder_net\.blocks\.3.* is missing; extra is unknown"):
        convert(MimiCodec, tensors, MimiCodec.reference.read_config(case.arguments))


@torch.no_grad()
def test_only_the_last_frame_depends_on_who_fills_it_up() -> None:
    """Golden cases of both packages hold the same weights; here a codec of random ones, at many lengths."""
    ours = tiny()
    theirs = MimiCodec(replace(ours.config, whole_frames=False)).eval()
    theirs.load_state_dict(ours.state_dict())
    ours.make_exact("float64")
    theirs.make_exact("float64")
    hop = ours.config.hop
    for samples in (1, 7, hop - 1, hop, 3 * hop, 3 * hop + 1, 5 * hop - 1):
        x = torch.from_numpy(noise(samples)).double()[None]
        a, b = ours.encoder_net(x), theirs.encoder_net(x)
        whole = samples // hop
        assert a.shape == b.shape == (1, 16, -(-samples // hop))
        torch.testing.assert_close(a[..., :whole], b[..., :whole], rtol=0, atol=1e-9)
        assert bool((a[..., whole:] - b[..., whole:]).abs().any()) == bool(samples % hop)


def moshi_arguments(**changes: Any) -> dict[str, Any]:
    """The configuration of the golden case, with changes such as transformer={"context": 4}."""
    arguments: dict[str, Any] = json.loads(json.dumps(moshi_case().arguments))
    for part, values in changes.items():
        arguments[part] = {**arguments[part], **values} if isinstance(values, dict) else values
    return arguments


def test_reads_the_arguments_of_moshi() -> None:
    read = MimiCodec.reference.read_config
    config = read(
        moshi_arguments(
            frame_rate=25.0,
            transformer={"context": None, "kv_repeat": 2, "positional_embedding": "rope_concat"},
            quantizer={"n_q_semantic": 2},
        )
    )
    assert (config.stride, config.hop) == (1, 960)
    assert (config.transformer.window, config.transformer.key_heads) == (None, 2)
    assert config.transformer.rotary == "half"
    assert MimiCodec(config).spec.legal_prefixes == (2, 3, 4)
    assert read(moshi_arguments(transformer={"positional_embedding": "none"})).transformer.rotary is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seanet": {"ratio": [2]}}, 'unknown key "ratio"; did you mean "ratios"'),
        ({"seanet": {"causal": False}}, r"seanet\.causal: found False, expected one of True"),
        ({"transformer": {"gating": "silu"}}, r"transformer\.gating: found 'silu', expected one of 'none'"),
        ({"transformer": {"positional_embedding": "sin"}}, "expected one of 'rope', 'rope_concat', 'none'"),
        ({"transformer": {"input_dimension": 7}}, r"dimensions \[7, 32\] at their ends, expected one"),
        ({"frame_rate": 11.0}, "the frame rate is 11.0 Hz, expected 25.0 Hz over a whole number"),
        ({"channels": 2}, "channels is 2, expected that of seanet, 1"),
    ],
)
def test_refuses_what_it_does_not_build(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MimiCodec.reference.read_config(moshi_arguments(**changes))


def test_reads_the_configuration_of_transformers() -> None:
    read = MimiCodec.reference.read_config
    published = read({"model_type": "mimi", "transformers_version": "4.57.1", "frame_rate": 12.5})
    assert published == replace(VARIANTS["mimi"], whole_frames=False)
    config = read(
        {
            "model_type": "mimi",
            "hidden_size": 64,
            "vector_quantization_hidden_dimension": 64,
            "codebook_dim": None,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
            "upsample_groups": 1,
            "use_conv_shortcut": True,
        }
    )
    assert (config.transformer.channels_of_head, config.transformer.key_heads) == (10, 2)
    assert (config.transformer.rotary_base, config.upsample_groups) == (500.0, 1)
    assert config.quantizer == split_rvq(2048, 32, None)
    assert not config.seanet.true_skip
    with pytest.raises(ConfigError, match='unknown key "hidden_sizes"; did you mean "hidden_size"'):
        read({"model_type": "mimi", "hidden_sizes": 64})
    with pytest.raises(ConfigError, match='rope_type is "yarn", expected "default"'):
        read({"model_type": "mimi", "rope_parameters": {"rope_type": "yarn"}})
    with pytest.raises(ConfigError, match="codebook_dim is 8, expected vector_quantization"):
        read({"model_type": "mimi", "codebook_dim": 8})


@torch.no_grad()
def test_widths_and_parts_that_the_published_model_does_not_have() -> None:
    """Linear maps around a transformer of another width, no resampling, books in the space of the latents."""
    base = VARIANTS["tiny"]
    config = replace(
        base,
        transformer=replace(base.transformer, width=12, heads=3, key_heads=1, window=None),
        stride=1,
        quantizer=split_rvq(16, 3, None, semantic=2),
    )
    codec = tiny(config)
    names = dict(codec.named_parameters())
    assert names["encoder_net.blocks.2.blocks.0.blocks.0.linear.weight"].shape == (12, 16)
    assert names["decoder_net.blocks.1.blocks.2.blocks.0.linear.weight"].shape == (16, 12)
    waveform = noise(20 * config.hop + 3)
    whole = codec.encode(waveform, 24000)
    assert whole.codes.shape == (3, 21)
    assert stream(codec, waveform, [50, 700]) == whole
    assert codec.spec.receptive_field is None


def test_prefixes() -> None:
    codec = tiny()
    whole = codec.encode(noise(4000), 24000)
    for books in codec.spec.legal_prefixes:
        part = codec.encode(noise(4000), 24000, num_codebooks=books)
        assert np.array_equal(np.concatenate([s.codes for s in part.streams.values()]), whole.codes[:books])
        assert codec.decode(part).shape == (1, 4000)
    assert list(codec.encode(noise(4000), 24000, num_codebooks=1).streams) == ["semantic"]
    with pytest.raises(TokensError, match="num_codebooks is 5, legal values are 1, 2, 3, 4"):
        codec.encode(noise(4000), 24000, num_codebooks=5)


def test_configurations_are_plain_data() -> None:
    for config in VARIANTS.values():
        assert from_dict(MimiConfig, json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ConfigError, match="stride is 0, expected at least 1"):
        from_dict(MimiConfig, {"stride": 0})


def test_saved_and_loaded(tmp_path: Path) -> None:
    codec = tiny()
    again = load(codec.save(tmp_path / "mimi"))
    assert again.fingerprint == codec.fingerprint
    assert again.encode(noise(3000), 24000) == codec.encode(noise(3000), 24000)
