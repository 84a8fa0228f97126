"""The page on quantizers: it names everything, and what it does in another package is done here."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml

from audiotokens.config import from_dict
from audiotokens.quantizers import QuantizerConfig, build_quantizer
from audiotokens.quantizers.conversion import _CLASSES, FIXED, FREE
from audiotokens.quantizers.registry import quantizer_class, quantizers

PAGE = (Path(__file__).parents[2] / "docs" / "quantizers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def block(language: str, part: str) -> str:
    (found,) = [text for kind, text in BLOCKS if kind == language and part in text]
    return found


@pytest.mark.parametrize("kind", sorted(quantizers))
def test_every_kind_has_its_class_its_name_and_its_options_on_the_page(kind: str) -> None:
    found = quantizer_class(kind)
    first, second = (line for line in PAGE.split("\n") if line.startswith(f"| `{kind}` |"))
    assert f"`{found.__name__}`" in first and found.label in first
    if kind != "bsq":  # described by what it shares with lfq
        options = set(inspect.signature(found.config_class).parameters) - {"kind"}
        assert not {option for option in options if f"`{option}`" not in second}


def test_every_class_and_option_of_vector_quantize_pytorch_is_on_the_page() -> None:
    table = PAGE[PAGE.index("## Moving from") :]
    assert not [
        name for name in (*_CLASSES, *FREE, *FIXED) if f"`{name}`" not in table and f"`{name}=" not in table
    ]


def test_configurations_in_yaml_are_those_in_python() -> None:
    names: dict[str, object] = {"build_quantizer": build_quantizer}
    exec("from audiotokens.quantizers import *", names)
    exec(block("python", "configs = {"), names)
    plain = yaml.safe_load(block("yaml", "dac:"))
    read = {key: from_dict(QuantizerConfig.class_of(item["kind"]), item) for key, item in plain.items()}
    assert read == names["configs"]


def test_a_quantizer_of_the_reader_is_registered_configured_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_package.py").write_text(block("python", "class TernaryQuantizer"))
    facts = tmp_path / "my_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    entry = re.search(r'^(\w+) = "(.*)"$', block("toml", "audiotokens.quantizers"), flags=re.MULTILINE)
    assert entry is not None
    (facts / "entry_points.txt").write_text(f"[audiotokens.quantizers]\n{entry[1]} = {entry[2]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, object] = {}
    exec(block("python", "yaml.safe_load"), names)
    quantizer, values = names["quantizer"], yaml.safe_load(block("yaml", "kind: ternary"))
    assert values["quantizer"] == names["values"]
    assert isinstance(quantizer, quantizer_class("grouped"))
    assert quantizer.codebook_sizes == (3,) * 8
    # One step has moved every scale.
    assert all(bool((inner.scale != 1).all()) for _, inner in quantizer.inner_quantizers())
