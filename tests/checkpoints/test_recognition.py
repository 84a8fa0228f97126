"""Published sizes, as shapes without numbers: the keys tell the family, and the shapes tell the variant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from codec_goldens import full_keys
from torch import Tensor

from audiotokens.checkpoints import fold_weight_norm, recognition
from audiotokens.checkpoints.configs import read_arguments
from audiotokens.checkpoints.recognition import Candidate
from audiotokens.errors import CheckpointError
from audiotokens.published import published

FAMILIES = ("dac", "encodec", "mimi", "snac", "speechtokenizer", "vocos", "wavtokenizer")


@dataclass(frozen=True)
class Size:
    """One entry of `full_keys.json`."""

    family: str
    name: str
    facts: dict[str, Any]

    @cached_property
    def shapes(self) -> dict[str, Tensor]:
        """Its tensors on the meta device, weight norm folded."""
        shapes = {key: torch.empty(shape, device="meta") for key, shape in self.facts["keys"].items()}
        return fold_weight_norm(shapes)

    def __str__(self) -> str:
        return f"{self.family}-{self.name}"


SIZES = [
    Size(family, name, facts)
    for family in FAMILIES
    for name, facts in full_keys(family).items()
    if "_lm_" not in name
]
ALIKE = {"dac": {"snac"}, "encodec": {"speechtokenizer", "vocos"}, "speechtokenizer": {"encodec"}}
"""Families whose rules know all keys of another, because they name their layers alike or hold one."""

each_size = pytest.mark.parametrize("size", SIZES, ids=str)


@each_size
def test_the_keys_tell_the_family(size: Size) -> None:
    shares = {
        name: recognition.known_share(family, size.shapes)
        for name, family in recognition.importable().items()
    }
    own = shares.pop(size.family)
    assert own == 1
    alike = {name for name, share in shares.items() if share == 1}
    assert alike <= ALIKE.get(size.family, set())


@each_size
def test_the_shapes_tell_the_variant(size: Size) -> None:
    family = recognition.importable()[size.family]
    if size.name in ("snac_32khz", "snac_44khz"):
        with pytest.raises(CheckpointError, match="fit snac-32khz and snac-44khz alike"):
            recognition.guess(family, size.shapes)
        return
    found = recognition.guess(family, size.shapes)
    assert recognition.variant_of(family, found.config), found.source
    assert not recognition.fit(family, found, size.shapes).match.problems


@each_size
def test_the_configuration_beside_tells_the_variant(size: Size) -> None:
    arguments = size.facts["config"]
    if not isinstance(arguments, dict) or size.family == "wavtokenizer":
        pytest.skip("no configuration file is stored for it")
    family = recognition.importable()[size.family]
    config = read_arguments(family, arguments, where="config.json")
    found = recognition.choose(family, [Candidate(config, "config.json")], size.shapes)
    assert not found.match.problems
    # Its strided layers fill up their own inputs, which the authors' do not.
    assert recognition.variant_of(family, found.candidate.config) or "transformers" in size.name


def test_a_checkpoint_of_a_family_with_the_same_keys() -> None:
    for size in SIZES:
        if size.name == "24khz_8kbps":
            fits = recognition.fitting_elsewhere(recognition.importable()["snac"], size.shapes)
            assert fits == "; they are those of dac-24khz, of the family dac"
            with pytest.raises(CheckpointError, match="they are those of dac-24khz.*give --config"):
                recognition.guess(recognition.importable()["snac"], size.shapes)


def test_records_of_published_checkpoints_name_what_there_is() -> None:
    families = recognition.importable()
    for record in published.values():
        family = families[record.architecture]
        assert record.variant in recognition.published_variants(family), record.name
        assert recognition.find_family(record.name)[0] is family
