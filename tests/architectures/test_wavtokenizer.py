"""WavTokenizer: golden vectors of the original, all keys of the published files, promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_goldens import Case, assert_close, cases, copies, full_keys

from audiotokens import load
from audiotokens.architectures.fourier import ISTFTHead
from audiotokens.architectures.wavtokenizer import VARIANTS, WavTokenizerCodec, WavTokenizerConfig
from audiotokens.checkpoints.conversion import convert, fold_weight_norm, match
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError, NotOfferedError

CASES = list({str(case): case for case in (*cases("wavtokenizer"), *copies("wavtokenizer"))}.values())
FULL = full_keys("wavtokenizer")
REFERENCE = WavTokenizerCodec.reference
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def converted(case: Case, *, condition: int = 0) -> WavTokenizerCodec:
    config = REFERENCE.read_config(case.arguments)
    return convert(WavTokenizerCodec, case.tensors, replace(config, condition=condition))


def tiny(config: WavTokenizerConfig = VARIANTS["tiny"]) -> WavTokenizerCodec:
    torch.manual_seed(0)
    codec = WavTokenizerCodec(config).eval()
    with torch.no_grad():
        codec.quantizer.initialize(codec.encoder_net(0.1 * torch.randn(1, 1, 8000))[0].T)
    codec.weight_bits = 32
    return codec.make_exact()


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.5, 0.5, (1, samples)).astype(np.float32)


@each_case
@pytest.mark.parametrize("exact", [False, True])
@torch.no_grad()
def test_goldens(case: Case, exact: bool) -> None:
    codec = converted(case).make_exact(exact)
    backbone, _ = codec.decoder_net
    embed, front, *_ = backbone  # type: ignore[misc]
    for run in case.lengths:
        waveform = case.waveform(run)[0]
        tokens = codec.encode(waveform, 24000)
        assert np.array_equal(tokens.codes, case.array(f"{run}.codes").reshape(1, -1))
        assert_close(torch.from_numpy(codec.features(waveform, 24000))[None], case.array(f"{run}.latents"))
        quantized = codec.dequantize(codec.code_tensors(tokens))
        found = {
            "quantized": quantized,
            "embed": embed(quantized),
            "pos_net": front(embed(quantized)),
            "hidden": backbone(quantized).mT,
            "audio": codec.decoder_net(quantized)[:, 0],
            "audio_bw3": converted(case, condition=3).decoder_net(quantized)[:, 0],
        }
        for name, value in found.items():
            if case.has(f"{run}.{name}"):
                stored = case.array(f"{run}.{name}")
                assert_close(value, stored.reshape(1, -1) if name.startswith("audio") else stored)
        decoded = torch.from_numpy(codec.decode(tokens))
        assert_close(decoded, case.array(f"{run}.audio").reshape(1, -1)[:, : waveform.shape[1]])


@pytest.mark.parametrize("name", FULL)
def test_every_key_of_a_published_file_is_read(name: str) -> None:
    variant = VARIANTS["wavtokenizer-75hz" if name.startswith("frame75") else "wavtokenizer-40hz"]
    with torch.device("meta"):
        # A Lightning file holds the discriminators too.
        keys = {key: torch.empty(shape) for key, shape in FULL[name]["keys"].items()}
        keys["multiperioddisc.discriminators.0.convs.0.bias"] = torch.empty(32)
        codec = convert(WavTokenizerCodec, keys, variant)
    found = match(codec.state_dict(), keys, REFERENCE, variant)
    assert not found.problems
    assert len(found.used) + len(found.ignored) == len(fold_weight_norm(keys))
    unused = r"encodec.decoder.", ".inited", ".cluster_size", ".embed_avg", "istft.window", "multiperioddisc."
    assert all(any(part in key for part in unused) for key in found.ignored)
    # The original counts the gains of weight norm, which are folded here.
    gains = sum(t.numel() for key, t in keys.items() if ".encoder." in key and key.endswith(".weight_g"))
    assert codec.spec.parameters + gains == FULL[name]["parameters_used"]
    assert REFERENCE.guess({key: tuple(t.shape) for key, t in fold_weight_norm(keys).items()}) == variant


def test_rates_of_the_published_sizes() -> None:
    for name, rate, bits in (("75hz", 75, 900), ("40hz", 40, 480)):
        with torch.device("meta"):
            spec = WavTokenizerCodec(VARIANTS[f"wavtokenizer-{name}"]).spec
        assert (spec.frame_rate, spec.bitrate(), spec.num_codebooks) == (rate, bits, 1)
    assert spec.lookahead > 0 and spec.receptive_field is None and not spec.streamable


def test_decoding_reads_whole_recordings() -> None:
    codec = tiny()
    assert codec.decoder_net.unbounded == "group normalization over time"
    with pytest.raises(NotOfferedError, match="reads whole recordings, because of group normalization"):
        codec.decoder()
    tokens = codec.encode(noise(2000), 16000)
    first = codec.decode(tokens.clip(0, 0.05))
    assert not np.allclose(first, codec.decode(tokens)[:, : first.shape[1]], atol=1e-3)
    # It is one pass however long the recording is.
    long = codec.encode(noise(16000 * 5), 16000)
    with torch.no_grad():
        whole = codec.decoder_net(codec.dequantize(codec.code_tensors(long)))[0].numpy()
    np.testing.assert_allclose(codec.decode(long), whole, atol=1e-6)


@torch.no_grad()
def test_a_padded_batch_decodes_as_one_by_one() -> None:
    codec = tiny()
    items = [codec.encode(noise(samples), 16000) for samples in (900, 40, 2500, 1)]
    frames = torch.tensor([item.codes.shape[1] for item in items])
    batch = torch.zeros(len(items), 1, int(frames.max()), dtype=torch.long)
    for row, item in zip(batch, items):
        row[:, : item.codes.shape[1]] = torch.from_numpy(item.codes.copy())
    waveforms, sizes = codec.decode_codes({"codes": batch}, {"codes": frames})
    for waveform, size, item in zip(waveforms, sizes.tolist(), items):
        decoded = codec.decode(item)
        assert size == item.codes.shape[1] * 40
        np.testing.assert_allclose(waveform[:, : decoded.shape[1]].numpy(), decoded, atol=1e-5)


def test_it_is_kept_in_a_folder(tmp_path: Path) -> None:
    codec = tiny()
    again = load(codec.save(tmp_path / "codec"))
    tokens = codec.encode(noise(1000), 16000)
    assert again.encode(noise(1000), 16000) == tokens
    assert np.array_equal(again.decode(tokens), codec.decode(tokens))
    for config in VARIANTS.values():
        assert from_dict(WavTokenizerConfig, to_dict(config)) == config


def test_gradients_reach_every_parameter() -> None:
    codec = WavTokenizerCodec(VARIANTS["tiny"])
    output = codec(0.1 * torch.randn(2, 1, 800))
    (output.waveform.square().mean() + sum(output.quantized.losses.values())).backward()
    assert all(parameter.grad is not None for parameter in codec.parameters())


def arguments(**changes: Any) -> dict[str, Any]:
    """Arguments of the published 75 Hz model, as its configuration file has them."""
    parts: dict[str, dict[str, Any]] = {
        "feature_extractor": {
            "class_path": "decoder.feature_extractors.EncodecFeatures",
            "init_args": {
                "encodec_model": "encodec_24khz",
                "bandwidths": [6.6, 6.6, 6.6, 6.6],
                "train_codebooks": True,
                "num_quantizers": 1,
                "dowmsamples": [8, 5, 4, 2],
                "vq_bins": 4096,
                "vq_kmeans": 200,
            },
        },
        "backbone": {
            "class_path": "decoder.models.VocosBackbone",
            "init_args": {
                "input_channels": 512,
                "dim": 768,
                "intermediate_dim": 2304,
                "num_layers": 12,
                "adanorm_num_embeddings": 4,
            },
        },
        "head": {
            "class_path": "decoder.heads.ISTFTHead",
            "init_args": {"dim": 768, "n_fft": 1280, "hop_length": 320, "padding": "same"},
        },
    }
    for part, changed in changes.items():
        if part in parts:
            parts[part]["init_args"] |= changed
        else:
            parts[part] = changed
    return parts


def test_the_published_configuration_is_read() -> None:
    assert REFERENCE.read_config(arguments()) == VARIANTS["wavtokenizer-75hz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {}}, 'unknown key "optimizer"; valid keys: feature_extractor, backbone, head'),
        ({"feature_extractor": {"num_quantizers": 4}}, "num_quantizers is 4, expected 1"),
        (
            {"feature_extractor": {"downsamples": [2]}},
            'unknown key "downsamples"; did you mean "dowmsamples"?',
        ),
        ({"backbone": {"input_channels": 128}}, "input_channels is 128, expected 512 as elsewhere"),
        ({"backbone": {"dim": 512}}, "the head's dim is 768, expected 512 as elsewhere"),
        ({"head": {"hop_length": 600}}, "the head has a hop of 600, expected the encoder's, 320"),
    ],
)
def test_what_is_not_known_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        REFERENCE.read_config(arguments(**changes))
    assert message in str(refused.value)


def test_configurations_that_contradict_themselves_are_refused() -> None:
    config = VARIANTS["tiny"]
    with pytest.raises(ValueError, match="width is 40, expected a multiple of 32"):
        replace(config, backbone=replace(config.backbone, width=40))
    with pytest.raises(ValueError, match="condition is 2, expected 0 to 1"):
        replace(config, condition=2)


def test_centered_frames_lose_the_last_hop() -> None:
    config = replace(VARIANTS["tiny"], head=ISTFTHead(n_fft=160, hop=40, padding="center"))
    codec = tiny(config)
    decoded = codec.decode(codec.encode(noise(400), 16000))
    assert decoded.shape == (1, 400) and not decoded[:, 360:].any() and decoded[:, :360].any()
    assert "The last 40 samples at most are left out" in codec.spec.quirks[1]
