"""Models of transformers behind the interface: random weights of every family that has an adapter."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import audiotokens
from audiotokens.adapters.transformers_models import FAMILIES, TransformersTokenizer, load
from audiotokens.checkpoints import convert
from audiotokens.cli import main
from audiotokens.errors import CheckpointError, NotOfferedError
from audiotokens.verify import format_verification, verify

transformers = pytest.importorskip("transformers")

_ENCODEC = {
    "sampling_rate": 24000,
    "hidden_size": 16,
    "num_filters": 4,
    "upsampling_ratios": [5, 4],
    "codebook_size": 16,
    "codebook_dim": 16,
}
_STEREO = {
    "sampling_rate": 48000,
    "audio_channels": 2,
    "codebook_size": 64,
    "target_bandwidths": [14.4, 28.8],
    "normalize": True,
    "chunk_length_s": 0.05,
    "overlap": 0.01,
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
}
_DAC = {"downsampling_ratios": [2, 5], "upsampling_ratios": [5, 2], "encoder_hidden_size": 4}
_DAC |= {"decoder_hidden_size": 16, "hidden_size": 16}
_HUBERT = {"model_type": "hubert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "encodec": ("Encodec", {**_ENCODEC, "target_bandwidths": [4.8, 9.6, 14.4, 19.2]}),
    "encodec stereo": ("Encodec", {**_ENCODEC, **_STEREO}),
    "dac": ("Dac", {**_DAC, "n_codebooks": 3, "codebook_size": 16, "codebook_dim": 4}),
    "mimi": (
        "Mimi",
        {
            "hidden_size": 32,
            "num_filters": 2,
            "codebook_size": 16,
            "codebook_dim": 16,
            "vector_quantization_hidden_dimension": 16,
            "num_quantizers": 4,
            "upsample_groups": 32,
            "num_hidden_layers": 2,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "sliding_window": 10,
        },
    ),
    "xcodec": (
        "Xcodec",
        {
            "codebook_size": 16,
            "codebook_dim": 48,
            "target_bandwidths": [0.2, 0.4],
            "acoustic_model_config": {
                **_DAC,
                "model_type": "dac",
                "downsampling_ratios": [8, 5, 4, 2],
                "upsampling_ratios": [8, 5, 4, 2],
                "decoder_hidden_size": 32,
            },
            "semantic_model_config": {**_HUBERT, "intermediate_size": 32},
        },
    ),
}


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers saves it."""
    name, options = MODELS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**options))
    path = tmp_path_factory.mktemp("hub") / request.param
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> TransformersTokenizer:
    return load(folder)


def noise(tokenizer: TransformersTokenizer, num_samples: int = 7777) -> np.ndarray:
    random = np.random.default_rng(0)
    return (0.1 * random.standard_normal((tokenizer.spec.channels, num_samples))).astype(np.float32)


def test_it_is_a_tokenizer(tokenizer: TransformersTokenizer) -> None:
    found = verify(tokenizer, promises=["I8", "I9", "I10"])
    assert found.ok, format_verification(found)
    assert {verdict.status for verdict in found.verdicts} <= {"kept", "bit-exact"}, found


def test_codes_and_sound_are_those_of_the_model(tokenizer: TransformersTokenizer) -> None:
    waveform = noise(tokenizer)[:, :7200]
    x = torch.from_numpy(waveform)[None]
    tokens = tokenizer.encode(waveform, tokenizer.spec.sample_rate)
    missing = -x.shape[2] % int(tokenizer.spec.hop)
    options = {} if missing == 0 else {"input": torch.nn.functional.pad(x, (0, missing))}
    with torch.inference_mode():
        if tokenizer.model.config.model_type == "encodec":
            given = tokenizer.model.encode(x, bandwidth=max(tokenizer.model.config.target_bandwidths))
            count = tokens.codes.shape[1]
            windows = torch.cat(list(given.audio_codes[:, 0]), 1)[:, :count]
            arguments = (given.audio_codes, given.audio_scales)
            sound = tokenizer.model.decode(*arguments, last_frame_pad_length=given.last_frame_pad_length)
        else:
            given = tokenizer.model.encode(options.get("input", x))
            windows = given.audio_codes[0]
            sound = tokenizer.model.decode(audio_codes=given.audio_codes)
    assert np.array_equal(tokens.codes, windows.numpy())
    expected = sound.audio_values.reshape(tokenizer.spec.channels, -1).numpy()[:, :7200]
    found = tokenizer.decode(tokens)[:, : expected.shape[1]]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_it_does_not_stream(tokenizer: TransformersTokenizer) -> None:
    with pytest.raises(NotOfferedError, match="does not offer streaming"):
        tokenizer.encoder()


def test_equal_folders_have_equal_fingerprints(folder: Path, tokenizer: TransformersTokenizer) -> None:
    assert load(folder).fingerprint == tokenizer.fingerprint
    description = json.loads((folder / "config.json").read_text())
    assert description["model_type"] in FAMILIES


def test_other_models_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(NotOfferedError, match="'bert' have no adapter; there is one for encodec, dac"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"config.json cannot be read"):
        load(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "dac"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match=r"no model.safetensors, and pickled weights are not read"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="transformers cannot load it"):
        load(tmp_path)


def test_its_folder_loads_as_any_other(folder: Path, tokenizer: TransformersTokenizer) -> None:
    assert audiotokens.load(folder).fingerprint == tokenizer.fingerprint
    with pytest.raises(NotOfferedError, match="leave search_width out"):
        audiotokens.load(folder, search_width=4)
    shown = json.loads(CliRunner().invoke(main, ["info", str(folder), "--json"]).stdout)
    assert shown["results"][0]["spec"]["sample_rate"] == tokenizer.spec.sample_rate


def test_a_snapshot_of_the_hub_loads(folder: Path, tokenizer: TransformersTokenizer, tmp_path: Path) -> None:
    revision = "0" * 40
    snapshot = tmp_path / "models--org--codec" / "snapshots" / revision
    shutil.copytree(folder, snapshot)
    (tmp_path / "models--org--codec" / "refs").mkdir()
    (tmp_path / "models--org--codec" / "refs" / "main").write_text(revision)
    found = audiotokens.load("hf:org/codec", cache_dir=tmp_path)
    assert found.fingerprint == tokenizer.fingerprint


NATIVE = {
    "encodec": "encodec:EncodecCodec",
    "dac": "dac:DACCodec",
    "mimi": "mimi:MimiCodec",
}


def test_the_family_of_this_package_gives_the_same_codes(
    folder: Path, tokenizer: TransformersTokenizer
) -> None:
    place = NATIVE.get(tokenizer.model.config.model_type)
    if place is None:
        pytest.skip("this package does not have the family")
    module, _, name = place.partition(":")
    family = getattr(importlib.import_module(f"audiotokens.architectures.{module}"), name)
    config = family.reference.read_config(json.loads((folder / "config.json").read_text()))
    own = convert(family, load_file(folder / "model.safetensors"), config)
    for exact in (False, True):
        own.make_exact(exact)
        for num_samples in (7777, 1920, 500):
            waveform = noise(tokenizer, num_samples)
            rate = tokenizer.spec.sample_rate
            theirs, ours = tokenizer.encode(waveform, rate), own.encode(waveform, rate)
            frames = min(stream.num_frames for stream in theirs.streams.values())
            for stream in theirs.streams:
                assert np.array_equal(ours.streams[stream].codes[:, :frames], theirs.streams[stream].codes), (
                    stream,
                    num_samples,
                )
            sound = tokenizer.decode(theirs)
            np.testing.assert_allclose(own.decode(ours), sound, atol=1e-4 * np.abs(sound).max())
