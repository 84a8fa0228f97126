"""Names, folders, entry points, the hub: what loads, what is listed, and what is said when nothing does."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiotokens import registry
from audiotokens.errors import (
    AudioTokensError,
    CheckpointError,
    ConfigError,
    MissingExtraError,
    NotOfferedError,
    TokenizerNotFoundError,
)
from audiotokens.hub import FOLDER_FILES, GRAPH_FILES, hub_folder
from audiotokens.registry import (
    known_names,
    list_tokenizers,
    load_folder,
    read_folder_config,
)

load: Any = registry.load

SPEC: dict[str, Any] = {
    "name": "tiny",
    "sample_rate": 16000,
    "output_sample_rate": 16000,
    "streams": [{"name": "codes", "codebook_sizes": [4, 4], "frame_rate": "50"}],
    "legal_prefixes": [1, 2],
}
CONFIG = {"format": "audiotokens", "version": 1, "architecture": "fake", "config": {"width": 3}, "spec": SPEC}
PLUGIN = """
from fractions import Fraction
from audiotokens import Spec, StreamSpec, Tokenizer

class Plain(Tokenizer):
    fingerprint = "0" * 64
    spec = Spec("plain", 8000, 8000, (StreamSpec("codes", (4,), Fraction(50)),), (1,))

class Movable(Plain):
    def to(self, device):
        self.device = device
        return self

def factory():
    return Plain()

def broken():
    raise RuntimeError("no\\nweights")

def needy():
    from audiotokens.errors import MissingExtraError
    raise MissingExtraError("It", "torch")
"""


class Family:
    """Stands for an architecture; remembers what it was asked."""

    @classmethod
    def load(
        cls, folder: Path, *, exact: bool = True, device: str = "cpu", search_width: int = 1
    ) -> tuple[Path, bool, str, int]:
        return folder, exact, device, search_width


@pytest.fixture(autouse=True)
def family(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An architecture "fake", one shipped tokenizer "tiny-16k", and an empty current folder."""
    module = types.ModuleType("fake_family")
    module.__dict__["Family"] = Family
    monkeypatch.setitem(sys.modules, "fake_family", module)
    monkeypatch.setitem(registry.architectures, "fake", "fake_family:Family")
    monkeypatch.setattr(registry, "SHIPPED", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    return make_folder(tmp_path / "weights" / "tiny-16k")


def make_folder(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    return folder


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make another distribution visible that offers entry points."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "plugin_module.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "plugin_module", raising=False)

    def install(distribution: str, **points: str) -> None:
        folder = site / f"{distribution}-0.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n")
        lines = [f"{name} = plugin_module:{attribute}" for name, attribute in points.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[audiotokens.tokenizers]", *lines]))
        importlib.invalidate_caches()

    yield install
    sys.modules.pop("plugin_module", None)


def test_shipped_names_and_folders_load_through_their_architecture(family: Path, tmp_path: Path) -> None:
    assert load("tiny-16k") == (family, True, "cpu", 1)
    assert load("tiny-16k", exact=False) == (family, False, "cpu", 1)
    assert load("tiny-16k", search_width=8) == (family, True, "cpu", 8)
    own = make_folder(tmp_path / "own")
    assert load(own) == load(str(own)) == (own, True, "cpu", 1)
    assert registry.load_folder(own) is not None


def test_devices_are_checked(family: Path) -> None:
    pytest.importorskip("torch")
    assert load("tiny-16k", device="meta") == (family, True, "meta", 1)
    for device in ("cuda:77", "abacus"):
        with pytest.raises(NotOfferedError, match=f'the device "{device}" is not available here'):
            load("tiny-16k", device=device)


def test_a_name_wins_over_a_folder_of_that_name(family: Path, tmp_path: Path) -> None:
    make_folder(tmp_path / "tiny-16k")
    assert load("tiny-16k") == (family, True, "cpu", 1)
    assert load("./tiny-16k")[0] == Path("tiny-16k")
    assert load(Path("tiny-16k"))[0] == Path("tiny-16k")


def test_list_reads_facts_of_shipped_tokenizers_and_imports_no_other_package(
    family: Path, offer: Any
) -> None:
    offer("plugin", plain="Plain", broken="broken")
    records = list_tokenizers()
    assert [(r.name, r.kind) for r in records if r.kind != "published"] == [
        ("tiny-16k", "shipped"),
        ("broken", "entry point"),
        ("plain", "entry point"),
    ]
    assert records[0].spec is not None
    assert records[0].spec.bitrate() == 200
    assert records[0].origin == str(family)
    assert records[2].spec is None
    assert records[2].origin == "plugin 0.1 (plugin_module:Plain)"
    assert "plugin_module" not in sys.modules
    assert known_names()[:3] == ["tiny-16k", "broken", "plain"]


def test_entry_points_are_classes_or_factories(offer: Any) -> None:
    offer("plugin", plain="Plain", made="factory", movable="Movable")
    assert load("plain").spec.name == load("made").spec.name == "plain"
    assert load("movable", device="cuda").device == "cuda"
    with pytest.raises(NotOfferedError, match='plain runs on the device "cpu" only, not on "cuda"'):
        load("plain", device="cuda")
    with pytest.raises(NotOfferedError, match="leave search_width out"):
        load("movable", search_width=8)


@pytest.mark.parametrize(
    ("attribute", "kind", "message"),
    [
        (
            "broken",
            TokenizerNotFoundError,
            r'"x" of plugin 0.1 .* cannot be loaded: RuntimeError: no weights$',
        ),
        ("absent", TokenizerNotFoundError, "cannot be loaded: AttributeError"),
        ("Fraction", TokenizerNotFoundError, "gave a Fraction, expected a subclass of audiotokens.Tokenizer"),
        ("needy", MissingExtraError, 'It needs the extra "torch"'),
    ],
)
def test_entry_points_that_do_not_load(
    offer: Any, attribute: str, kind: type[Exception], message: str
) -> None:
    offer("plugin", x=attribute)
    with pytest.raises(kind, match=message):
        load("x")


def test_entry_points_cannot_take_names_from_others(family: Path, offer: Any) -> None:
    offer("first", double="Plain", **{"tiny-16k": "Plain"})
    offer("second", double="factory")
    assert load("tiny-16k")[0] == family
    assert any("hidden by the shipped one" in record.origin for record in list_tokenizers())
    with pytest.raises(
        TokenizerNotFoundError, match=r"offered by first 0\.1 .* and second 0\.1 .*: uninstall"
    ):
        load("double")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny-16", 'called "tiny-16"; did you mean "tiny-16k"\\? "audiotokens list" shows all names'),
        ("zebra", 'called "zebra"; known names: tiny-16k and published ones; "audiotokens list"'),
        ("hf:tiny", 'not of the form "hf:organisation/name'),
        ("hf:a/b@", 'not of the form "hf:organisation/name'),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(TokenizerNotFoundError, match=message):
        load(name)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TokenizerNotFoundError, match=r"has no config\.json: expected a tokenizer folder"):
        load(tmp_path)
    with pytest.raises(TokenizerNotFoundError, match="does not exist"):
        load_folder(tmp_path / "absent")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "format is 'other', expected \"audiotokens\""),
        ({"version": 2}, "version is 2, this release reads 1: update"),
        ({"architecture": "fakes"}, 'unknown architecture "fakes"; known: gain-shape, .*fake$'),
        ({"colour": 1}, 'unknown key "colour"'),
        ({"config": 3}, "config: found int 3, expected a mapping"),
        ({"spec": SPEC | {"sample_rate": "16000"}}, "spec.sample_rate: found str '16000', expected int"),
        ({"spec": SPEC | {"sample_rate": 0}}, "sample rates and channels must be at least 1"),
        ({"spec": SPEC | {"streams": []}}, "found no streams"),
        ({"spec": SPEC | {"legal_prefixes": [3]}}, r"legal_prefixes are \[3\], expected values from 1 to 2"),
        (
            {"spec": SPEC | {"streams": [{**SPEC["streams"][0], "codebook_sizes": [0]}]}},
            'stream "codes" needs',
        ),
        ({"spec": SPEC | {"streams": [{**SPEC["streams"][0], "frame_rate": "9e999999999"}]}}, "frame_rate"),
    ],
)
def test_configs_are_read_strictly(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = make_folder(tmp_path / "folder", **changes)
    with pytest.raises(ConfigError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"{", CheckpointError, "not valid JSON"),
        (b"\xff", CheckpointError, "not valid JSON"),
        (b"[" * 100_000, CheckpointError, "not valid JSON"),
        (b" " * (1 << 20) + b"{}", CheckpointError, "larger than 1 MiB"),
        (b"[]", ConfigError, "found a list, expected a mapping"),
        (b"{}", ConfigError, "format is None"),
    ],
)
def test_configs_that_are_no_mapping(
    tmp_path: Path, content: bytes, kind: type[AudioTokensError], message: str
) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(kind, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_read_folder_config_gives_the_architectures_own_part_unchanged(family: Path) -> None:
    config = read_folder_config(family)
    assert (config.architecture, config.config, config.spec.legal_prefixes) == ("fake", {"width": 3}, (1, 2))


def test_a_missing_torch_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: Path
) -> None:
    (tmp_path / "needs_torch_module.py").write_text("import torch.nn")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(registry.architectures, "fake", "needs_torch_module:Family")
    with pytest.raises(MissingExtraError, match='"fake" needs the extra "torch"'):
        load("tiny-16k")


def test_a_codec_comes_back_from_its_folder_and_damage_is_told(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from audiotokens.architectures.gain_shape import GainShapeCodec, GainShapeConfig

    codec = GainShapeCodec(GainShapeConfig())
    folder = codec.save(tmp_path / "codec")
    assert load(folder).fingerprint == codec.fingerprint
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(folder)
    config = json.loads((folder / "config.json").read_text())
    config["config"]["colour"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match='unknown key "colour"'):
        load(folder)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One tokenizer in the layout of the hub's cache; the network is out of reach."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    root = tmp_path / "cache" / "models--org--tiny"
    make_folder(root / "snapshots" / ("c" * 40))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("c" * 40)
    return tmp_path / "cache"


def test_the_hubs_cache_is_enough(hub_cache: Path) -> None:
    found = load("hf:org/tiny", cache_dir=hub_cache)
    assert found[0] == hub_cache / "models--org--tiny" / "snapshots" / ("c" * 40)
    assert load(f"hf:org/tiny@{'c' * 40}", cache_dir=hub_cache, exact=False) == (found[0], False, "cpu", 1)


@pytest.mark.parametrize("name", ["hf:org/absent", "hf:org/tiny@v2"])
def test_without_network_one_sentence_says_what_to_put_where(hub_cache: Path, name: str) -> None:
    with pytest.raises(
        TokenizerNotFoundError, match=r"put config\.json and model\.safetensors of org/"
    ) as caught:
        load(name, cache_dir=hub_cache)
    assert str(hub_cache) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_files_of_a_tokenizer_are_asked_for(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: dict[str, object] = {}

    def fetch(repository: str, **options: object) -> str:
        asked.update(repository=repository, **options)
        return str(hub_cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setenv("AUDIOTOKENS_OFFLINE", "1")
    hub_folder("hf:org/tiny@v2", cache_dir=hub_cache)
    assert asked == {
        "repository": "org/tiny",
        "revision": "v2",
        "cache_dir": hub_cache,
        "allow_patterns": [*FOLDER_FILES, *GRAPH_FILES],
        "local_files_only": True,
    }


def test_the_hub_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match='needs the extra "hub"'):
        load("hf:org/tiny")


def test_listing_imports_no_torch() -> None:
    code = "import sys, audiotokens; audiotokens.list_tokenizers(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_new_tokenizer_needs_four_names(offer: Any) -> None:
    """What docs/tokenizers.md promises: spec, fingerprint, _encode, _decode; the rest is inherited."""
    offer("plugin", plain="Plain")
    with pytest.raises(NotOfferedError, match="plain cannot encode"):
        load("plain").encode(np.zeros(100, np.float32), 8000)


def test_published_names_come_after_shipped_ones_and_entry_points(
    family: Path, offer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOTOKENS_OFFLINE", "1")
    with pytest.raises(TokenizerNotFoundError, match='the files of "mimi" are not on this machine'):
        load("mimi")
    with pytest.raises(TokenizerNotFoundError, match='did you mean "mimi"'):
        load("mimmi")
    offer("plugin", mimi="Plain")
    assert load("mimi").spec.name == "plain"
    make_folder(family.parent / "encodec-24khz")
    assert load("encodec-24khz")[0] == family.parent / "encodec-24khz"
    kinds = {record.name: record.kind for record in list_tokenizers()}
    assert (kinds["mimi"], kinds["encodec-24khz"], kinds["encodec-48khz"]) == (
        "entry point",
        "shipped",
        "published",
    )
    assert len(known_names()) == len(set(known_names()))
