"""Quantizers by kind: in configurations, by name, and from other packages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import FSQConfig, Quantizer, QuantizerConfig, build_quantizer
from audiotokens.quantizers.registry import quantizer_class, quantizers

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from audiotokens.quantizers import Quantized, Quantizer, QuantizerConfig


@dataclass(frozen=True)
class SignConfig(QuantizerConfig):
    kind: Literal["sign"] = "sign"


class SignQuantizer(Quantizer):
    config_class: ClassVar = SignConfig
    label = "Sign"

    @property
    def codebook_sizes(self):
        return (2,) * self.dim

    def forward(self, latents, *, num_codebooks=None, mask=None):
        codes = self.encode(latents)
        return Quantized(latents + (self.decode(codes) - latents).detach(), codes)

    def encode(self, latents, *, num_codebooks=None):
        return (latents > 0).long()

    def decode(self, codes):
        return codes * 2.0 - 1.0


NOT_A_QUANTIZER = 3
"""


@dataclass(frozen=True)
class Model:
    quantizer: QuantizerConfig = field(default_factory=FSQConfig)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package that is installed and brings quantizers."""
    (tmp_path / "sign_quantizer.py").write_text(PLUGIN)
    facts = tmp_path / "sign_quantizer-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: sign-quantizer\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[audiotokens.quantizers]\n"
        "sign = sign_quantizer:SignQuantizer\n"
        "three = sign_quantizer:NOT_A_QUANTIZER\n"
        "fsq = sign_quantizer:SignQuantizer\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("kind", sorted(quantizers))
def test_every_kind_names_its_own_class_and_configuration(kind: str) -> None:
    found = quantizer_class(kind)
    assert issubclass(found, Quantizer) and found.label
    assert found.config_class.class_of(kind) is found.config_class
    assert kind in found.config_class.__dataclass_fields__["kind"].type


def test_a_configuration_comes_back_from_plain_values() -> None:
    model = Model(FSQConfig(levels=(7, 3)))
    assert from_dict(Model, to_dict(model)) == model


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"levels": [3]}, 'config.quantizer: the key "kind" is missing'),
        ({"kind": "fsqq"}, 'config.quantizer.kind: no quantizer is of the kind "fsqq"; did you mean "fsq"?'),
        ({"kind": 3}, 'config.quantizer.kind: no quantizer is of the kind "3"; expected one of'),
        ({"kind": "fsq", "level": [3]}, 'config.quantizer: unknown key "level"; did you mean "levels"?'),
        (3, "config.quantizer: found int 3, expected a mapping"),
    ],
)
def test_a_mistake_in_a_configuration_is_named(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message.replace('?', '[?]')}"):
        from_dict(Model, {"quantizer": values})


@pytest.mark.usefixtures("plugin")
def test_a_quantizer_of_another_package_is_found_by_its_kind() -> None:
    config = from_dict(Model, {"quantizer": {"kind": "sign"}}).quantizer
    quantizer = build_quantizer(config, dim=3)
    latents = torch.tensor([[[0.5, -2.0], [-1.0, 0.1], [0.0, 3.0]]])
    assert quantizer.encode(latents).tolist() == [[[1, 0], [0, 1], [0, 1]]]


@pytest.mark.usefixtures("plugin")
def test_an_entry_point_that_is_no_quantizer_is_refused() -> None:
    with pytest.raises(ValueError, match='the quantizer "three" of sign_quantizer:NOT_A_QUANTIZER is not'):
        quantizer_class("three")


@pytest.mark.usefixtures("plugin")
def test_another_package_cannot_take_over_a_kind_of_ours() -> None:
    assert quantizer_class("fsq").__module__ == "audiotokens.quantizers.fsq"
