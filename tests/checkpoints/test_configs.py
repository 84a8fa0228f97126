"""Configurations of others: JSON and YAML, ours and theirs, and one line for what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from audiotokens.checkpoints.configs import find_beside, read_arguments, read_config_file
from audiotokens.config import to_dict
from audiotokens.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from toy_codec import ToyCodec

LIGHTNING = """
seed_everything: 4444
data:
  class_path: vocos.dataset.VocosDataModule
  init_args: {train_params: {filelist_path: train.txt, batch_size: 16}}
model:
  class_path: vocos.experiment.VocosExp
  init_args:
    sample_rate: 24000
    initial_learning_rate: 5e-4
    mel_loss_coeff: 45
    feature_extractor:
      class_path: vocos.feature_extractors.MelSpectrogramFeatures
      init_args: {sample_rate: 24000, n_fft: 1024, hop_length: 256, n_mels: 100, padding: center}
    backbone:
      class_path: vocos.models.VocosBackbone
      init_args: {input_channels: 100, dim: 512, intermediate_dim: 1536, num_layers: 8}
    head:
      class_path: vocos.heads.ISTFTHead
      init_args: {dim: 24, n_fft: 1024, hop_length: 256, padding: center}
trainer:
  logger: {class_path: pytorch_lightning.loggers.TensorBoardLogger}
"""


def test_json_and_yaml(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"width": 24, "rate": 1e-4}')
    (tmp_path / "config.yaml").write_text("width: 24\nrate: 0.0001\n")
    assert read_config_file(tmp_path / "config.json") == {"width": 24, "rate": 1e-4}
    assert read_config_file(tmp_path / "config.yaml") == {"width": 24, "rate": 1e-4}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "neither JSON nor YAML"),
        ("config.json", "[" * 100_000, "neither JSON nor YAML"),
        ("config.json", "[1]", "found a list, expected a mapping"),
        ("config.yaml", "a: [", "neither JSON nor YAML"),
        ("config.yaml", "!!python/object/apply:os.system ['touch ran']", "neither JSON nor YAML"),
        ("config.yaml", "text", "found a str, expected a mapping"),
        ("config.json", " " * (1 << 20) + "{}", "larger than 1 MiB"),
    ],
)
def test_files_that_are_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config_file(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        read_config_file(tmp_path / "config.json")


def test_yaml_is_part_of_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("a: 1")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"audiotokens\[torch\]"):
        read_config_file(tmp_path / "config.yaml")


def test_what_lies_beside(tmp_path: Path) -> None:
    assert find_beside(tmp_path / "model.pt") is None
    (tmp_path / "config.yaml").write_text("a: 1")
    assert find_beside(tmp_path / "model.pt") == tmp_path / "config.yaml"
    (tmp_path / "config.json").write_text("{}")
    assert find_beside(tmp_path / "model.pt") == tmp_path / "config.json"


def test_our_own_form_and_the_original_s(toy: ToyCodec) -> None:
    from toy_codec import VARIANTS

    ours = {
        "format": "audiotokens",
        "version": 1,
        "architecture": "toy",
        "config": to_dict(VARIANTS["toy-wide"]),
    }
    through_json = json.loads(json.dumps(ours))
    assert read_arguments(type(toy), through_json, where="config.json") == VARIANTS["toy-wide"]
    assert read_arguments(type(toy), {"width": 24}, where="config.json") == VARIANTS["toy-wide"]


def test_the_model_s_part_of_a_training_configuration(toy: ToyCodec, tmp_path: Path) -> None:
    (tmp_path / "vocos.yaml").write_text(LIGHTNING)
    values = read_config_file(tmp_path / "vocos.yaml")
    found = read_arguments(type(toy), values, where="vocos.yaml")
    assert (found.width, found.sample_rate) == (24, 24000)


def test_a_small_file_that_means_a_large_one(toy: ToyCodec, tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    (tmp_path / "self.yaml").write_text("width: &w [*w]")
    for name in ("config.yaml", "self.yaml"):
        values = read_config_file(tmp_path / name)
        with pytest.raises(ConfigError, match="holds more than 10000 values"):
            read_arguments(type(toy), values, where=name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"width": 16, "widht": 3},
            'config.json: configuration of toy: unknown key "widht"; did you mean "width"',
        ),
        ({}, 'config.json: configuration of toy: the key "width" is missing'),
        ({"width": "16"}, "config.json: configuration of toy.width: found str '16', expected int"),
        ({"width": 0}, "config.json: configuration of toy: width is 0, expected at least 1"),
        (
            {"format": "audiotokens", "architecture": "dac"},
            "config.json: describes the architecture 'dac', exp",
        ),
        ({"head": {}, "sample_rate": 1}, "config.json: the key 'init_args' is missing for toy"),
        ({"head": None, "sample_rate": 1}, "config.json: does not describe toy"),
    ],
)
def test_mistakes_are_one_line(toy: ToyCodec, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_arguments(type(toy), values, where="config.json")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
