"""Golden checkpoints of every family, in every container: the imported folder gives the original's codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from codec_goldens import Case, cases
from torch import Tensor

import audiotokens
from audiotokens.checkpoints import fold_weight_norm, run_import
from audiotokens.checkpoints.configs import read_arguments, read_config_file
from audiotokens.checkpoints.recognition import importable, known_share, variant_of
from audiotokens.codec import Codec
from audiotokens.errors import CheckpointError

FAMILIES = ("dac", "encodec", "mimi", "snac", "speechtokenizer", "vocos", "wavtokenizer")
CASES = [case for family in FAMILIES for case in cases(family)]

FIRST = [next(case for case in CASES if case.folder.parent.name == family) for family in FAMILIES]

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_family = pytest.mark.parametrize("case", FIRST, ids=str)


def family_name(case: Case) -> str:
    return case.folder.parent.name


def expected_codes(case: Case, run: str) -> list[np.ndarray]:
    """Codes `[K, T]` of each stream, windows one after the other; [] where the original takes no waveform."""
    levels = sorted(case.folder.glob(f"{run}.codes_level*.npy"))
    windows = sorted(case.folder.glob(f"{run}.seg*_codes.npy"))
    if levels:
        return [np.load(path).reshape(1, -1) for path in levels]
    if windows:
        return [np.concatenate([np.load(path) for path in windows], 1)]
    if not case.has(f"{run}.codes"):
        return []
    codes = case.array(f"{run}.codes").numpy()
    return [codes] if codes.ndim == 2 else [np.concatenate([*codes], 1)]


def found_codes(codec: Codec, case: Case, run: str) -> list[np.ndarray]:
    waveform = case.waveform(run)[0].numpy()
    streams = [*codec.encode(waveform, codec.spec.sample_rate).streams.values()]
    if len({stream.frame_rate for stream in streams}) == 1:
        return [np.concatenate([stream.codes for stream in streams])]
    return [stream.codes for stream in streams]


@each_case
def test_an_imported_folder_gives_the_codes_of_the_original(case: Case, tmp_path: Path) -> None:
    done = run_import(
        family_name(case),
        [case.folder / "weights.safetensors"],
        config=case.arguments,
        output=tmp_path / "out",
    )
    loaded = audiotokens.load(tmp_path / "out")
    assert loaded.fingerprint == done.codec.fingerprint
    assert loaded.spec.weights_license == ""
    run = "short" if "short" in case.lengths else next(iter(case.lengths))
    expected = expected_codes(case, run)
    if not expected:
        assert family_name(case) == "vocos", "only a vocoder has no codes"
        return
    for found, original in zip(found_codes(loaded, case, run), expected, strict=True):
        assert np.array_equal(found, original[:, : found.shape[1]])
        # The port in transformers fills its last window up.
        assert found.shape == original.shape or "transformers_48khz" in str(case)


CONTAINERS: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], Any]] = {
    "weights.th": lambda tensors, arguments: tensors,
    "legacy.th": lambda tensors, arguments: tensors,
    "weights.pth": lambda tensors, arguments: {"state_dict": tensors, "metadata": {"kwargs": arguments}},
    "lightning.ckpt": lambda tensors, arguments: {
        "state_dict": tensors,
        "epoch": 1,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-4}]}],
        "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.tensor(4.0)}},
        "hyper_parameters": {"initial_learning_rate": np.float64(2e-4)},
    },
}


@each_family
def test_every_container_gives_the_same_weights(case: Case, tmp_path: Path) -> None:
    family = family_name(case)
    plain = run_import(family, [case.folder / "weights.safetensors"], config=case.arguments)
    for container, fill in CONTAINERS.items():
        folder = tmp_path / container
        folder.mkdir()
        packed = container != "legacy.th"
        content = fill(case.tensors, case.arguments)
        torch.save(content, folder / container, _use_new_zipfile_serialization=packed)
        if container == "legacy.th":
            (folder / "config.yaml").write_text(yaml.safe_dump(case.arguments))
        elif container != "weights.pth":
            (folder / "config.json").write_text(json.dumps(case.arguments))
        done = run_import(family, [folder / container])
        assert done.codec.fingerprint == plain.codec.fingerprint, container
        assert done.config_source.startswith(container if container == "weights.pth" else "config.")


@each_family
def test_a_lost_tensor_is_named(case: Case, tmp_path: Path) -> None:
    family = family_name(case)
    plain = run_import(family, [case.folder / "weights.safetensors"], config=case.arguments)
    used = [key for key in plain.match.used if key in case.tensors]
    for key in (used[0], used[-1]):
        torch.save({n: t for n, t in case.tensors.items() if n != key}, tmp_path / "w.pt")
        with pytest.raises(CheckpointError, match="is missing"):
            run_import(family, [tmp_path / "w.pt"], config=case.arguments)
    torch.save({**case.tensors, "not.of.this.model": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"not\.of\.this\.model is unknown"):
        run_import(family, [tmp_path / "w.pt"], config=case.arguments)


@each_case
def test_the_keys_tell_the_family(case: Case) -> None:
    folded = fold_weight_norm(case.tensors)
    assert known_share(importable()[family_name(case)], folded) == 1


CLASSES = {"encodec": "feature_extractors.EncodecFeatures", "convnext": "models.VocosBackbone"}
CLASSES |= {"istft": "heads.ISTFTHead"}


def test_vocos_and_the_encodec_that_it_needs(tmp_path: Path) -> None:
    (case,) = (case for case in CASES if str(case) == "vocos/encodec_adanorm")
    prefix = "feature_extractor.encodec."
    encodec = {n.removeprefix(prefix): t for n, t in case.tensors.items() if n.startswith(prefix)}
    vocos = {n: t for n, t in case.tensors.items() if not n.startswith(prefix)}
    assert encodec
    torch.save(encodec, tmp_path / "encodec_24khz.th")
    torch.save(vocos, tmp_path / "pytorch_model.bin")
    parts = {
        part: {"class_path": f"vocos.{CLASSES[given['class']]}", "init_args": given["args"]}
        for part, given in case.arguments.items()
        if isinstance(given, dict)
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(parts))
    together = [tmp_path / "pytorch_model.bin", tmp_path / "encodec_24khz.th"]
    plain = run_import("vocos", [case.folder / "weights.safetensors"], config=case.arguments)
    assert run_import("vocos", together).codec.fingerprint == plain.codec.fingerprint
    alone = run_import("vocos", together[:1]).codec
    assert (plain.codec.spec.can_encode, alone.spec.can_encode) == (True, False)


WAVTOKENIZER = """
seed_everything: 3407
data:
  class_path: decoder.dataset.VocosDataModule
  init_args: {train_params: {filelist_path: ./data/train, sampling_rate: 24000, num_samples: 72000}}
model:
  class_path: decoder.experiment.WavTokenizer
  init_args:
    sample_rate: 24000
    initial_learning_rate: 2e-4
    mel_loss_coeff: 45
    evaluate_utmos: true
    resume: false
    feature_extractor:
      class_path: decoder.feature_extractors.EncodecFeatures
      init_args:
        encodec_model: encodec_24khz
        bandwidths: [6.6, 6.6, 6.6, 6.6]
        train_codebooks: true
        num_quantizers: 1
        dowmsamples: [6, 5, 5, 4]
        vq_bins: 4096
        vq_kmeans: 200
    backbone:
      class_path: decoder.models.VocosBackbone
      init_args:
        {input_channels: 512, dim: 768, intermediate_dim: 2304, num_layers: 12, adanorm_num_embeddings: 4}
    head:
      class_path: decoder.heads.ISTFTHead
      init_args: {dim: 768, n_fft: 2400, hop_length: 600, padding: same}
trainer:
  logger: {class_path: pytorch_lightning.loggers.TensorBoardLogger, init_args: {save_dir: ./result/train}}
  max_steps: 20000000
"""


def test_the_training_configuration_of_wavtokenizer_is_its_40_hz_variant(tmp_path: Path) -> None:
    (tmp_path / "frame40.yaml").write_text(WAVTOKENIZER)
    family = importable()["wavtokenizer"]
    config = read_arguments(family, read_config_file(tmp_path / "frame40.yaml"), where="frame40.yaml")
    assert variant_of(family, config) == "wavtokenizer-40hz"


def test_a_training_checkpoint_of_wavtokenizer(tmp_path: Path) -> None:
    (case,) = (case for case in CASES if str(case) == "wavtokenizer/frame75_style")
    training = {
        "multiperioddisc.discriminators.0.convs.0.weight_g": torch.ones(4, 1, 1, 1),
        "multiperioddisc.discriminators.0.convs.0.weight_v": torch.ones(4, 1, 5, 1),
        "multiresddisc.discriminators.0.band_convs.0.0.bias": torch.ones(4),
        "melspec_loss.mel_spec.mel_scale.fb": torch.ones(513, 100),
    }
    tensors = {**case.tensors, **training}
    stored = {"state_dict": tensors, "epoch": 24, "global_step": 1, "hparams_name": "kwargs", "callbacks": {}}
    torch.save(stored, tmp_path / "wavtokenizer.ckpt")
    given = yaml.safe_load(WAVTOKENIZER)
    arguments = given["model"]["init_args"]
    for part in ("feature_extractor", "backbone", "head"):
        arguments[part]["init_args"] = case.arguments[part]
    (tmp_path / "wavtokenizer.yaml").write_text(yaml.safe_dump(given))
    plain = run_import("wavtokenizer", [case.folder / "weights.safetensors"], config=case.arguments)
    done = run_import("wavtokenizer", [tmp_path / "wavtokenizer.ckpt"], config=tmp_path / "wavtokenizer.yaml")
    assert done.codec.fingerprint == plain.codec.fingerprint
    assert len(done.match.ignored) == len(plain.match.ignored) + 3
