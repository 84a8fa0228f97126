"""From files to a tokenizer folder: which configuration counts, what is refused, what is written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import audiotokens
from audiotokens import published as records
from audiotokens.checkpoints import describe_match, import_checkpoint, recognition, run_import
from audiotokens.checkpoints.cards import is_noncommercial, license_text
from audiotokens.config import to_dict
from audiotokens.errors import CheckpointError, ConfigError, MissingExtraError
from audiotokens.published import File, Origin, Published

if TYPE_CHECKING:
    from toy_codec import ToyCodec

NOISE = np.random.default_rng(0).normal(0, 0.1, 3000).astype(np.float32)


@pytest.fixture
def weights(stored: dict[str, Tensor], tmp_path: Path) -> Path:
    save_file(stored, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def wide(toy: ToyCodec, path: Path, width: int = 24) -> Path:
    """Weights of another width, which the variants "toy-wide" and "toy-wide-44k" have."""
    from toy_codec import original

    save_file(original(type(toy)(replace(toy.config, width=width))), path)
    return path


# From files to a folder


def test_a_folder_that_gives_the_codes_of_the_original(toy: ToyCodec, weights: Path, tmp_path: Path) -> None:
    codec = import_checkpoint("toy-8k", weights, output=tmp_path / "out")
    loaded = audiotokens.load(tmp_path / "out")
    expected = toy.make_exact().encode(NOISE, 8000)
    for found in (codec, loaded):
        assert np.array_equal(found.encode(NOISE, 8000).codes, expected.codes)
    assert loaded.fingerprint == codec.fingerprint
    assert loaded.spec.name == "toy-8k"
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.float32}


def test_nothing_is_written_without_output(weights: Path, toy: ToyCodec, tmp_path: Path) -> None:
    before = {*tmp_path.rglob("*")}
    codec = import_checkpoint("toy-8k", [weights], exact=False)
    assert not codec.exact
    assert {*tmp_path.rglob("*")} == before


def test_every_container_gives_the_same_tokenizer(
    toy: ToyCodec, stored: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(stored, tmp_path / "a.safetensors")
    torch.save(stored, tmp_path / "b.th")
    torch.save(stored, tmp_path / "c.th", _use_new_zipfile_serialization=False)
    torch.save(
        {"state_dict": stored, "metadata": {"kwargs": {"width": 16, "sample_rate": 8000}}}, tmp_path / "d.pth"
    )
    torch.save({"state_dict": stored, "epoch": 1, "optimizer_states": [{"state": {}}]}, tmp_path / "e.ckpt")
    halves = [{k: t for k, t in stored.items() if ("decoder" in k) == side} for side in (False, True)]
    for name, half in zip(("f.pt", "g.pt"), halves):
        torch.save(half, tmp_path / name)
    files: list[list[str]] = [["a.safetensors"], ["b.th"], ["c.th"], ["d.pth"], ["e.ckpt"], ["f.pt", "g.pt"]]
    found = {import_checkpoint("toy-8k", [tmp_path / name for name in names]).fingerprint for names in files}
    assert len(found) == 1


# Which configuration


def test_arguments_stored_with_the_weights(toy: ToyCodec, stored: dict[str, Tensor], tmp_path: Path) -> None:
    kept = {"width": 16, "sample_rate": 12345, "dropout": 0.5}
    torch.save({"state_dict": stored, "metadata": {"kwargs": kept}}, tmp_path / "w.pth")
    (tmp_path / "config.json").write_text('{"width": 16, "sample_rate": 48000}')
    done = run_import("toy", [tmp_path / "w.pth"])
    assert done.codec.spec.sample_rate == 12345
    assert (done.variant, done.config_source) == ("", "w.pth: arguments stored with the weights")


@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
def test_a_configuration_beside(toy: ToyCodec, weights: Path, name: str) -> None:
    weights.with_name(name).write_text('{"width": 16, "sample_rate": 8000}')
    done = run_import("toy", [weights])
    assert (done.variant, done.config_source) == ("toy-8k", name)


@pytest.mark.parametrize("given", ["file", "arguments", "ours", "variant"])
def test_a_given_configuration_counts_before_all(
    toy: ToyCodec, weights: Path, given: str, tmp_path: Path
) -> None:
    weights.with_name("config.json").write_text('{"width": 16, "sample_rate": 48000}')
    ours = {"format": "audiotokens", "architecture": "toy", "config": to_dict(toy.config)}
    (tmp_path / "mine.yaml").write_text("width: 16\nsample_rate: 8000\n")
    choices: dict[str, Any] = {
        "file": tmp_path / "mine.yaml",
        "arguments": {"width": 16, "sample_rate": 8000},
        "ours": ours,
        "variant": "toy-8k",
    }
    assert run_import("toy", [weights], config=choices[given]).variant == "toy-8k"


def test_a_named_variant_counts_where_the_file_beside_does_not_fit(toy: ToyCodec, weights: Path) -> None:
    beside = weights.with_name("config.json")
    beside.write_text('{"width": 24}')
    assert run_import("toy-8k", [weights]).config_source == "the variant toy-8k"
    beside.write_text('{"of": "another model"}')
    source = run_import("toy-8k", [weights]).config_source
    assert source == "the variant toy-8k, because config.json does not describe toy"
    with pytest.raises(ConfigError, match='config.json: configuration of toy: unknown key "of"'):
        run_import("toy", [weights])
    beside.write_text('{"width": 16, "sample_rate": 22050}')
    assert run_import("toy-8k", [weights]).codec.spec.sample_rate == 22050


def test_the_only_variant_with_these_shapes(toy: ToyCodec, weights: Path) -> None:
    done = run_import("toy", [weights])
    assert done.variant == "toy-8k"
    assert "only one with these shapes" in done.config_source


def test_several_variants_with_these_shapes(toy: ToyCodec, tmp_path: Path) -> None:
    path = wide(toy, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="fit toy-wide and toy-wide-44k alike: name one of them"):
        run_import("toy", [path])
    assert run_import("toy-wide-44k", [path]).codec.spec.sample_rate == 44100


def test_what_the_shapes_tell(toy: ToyCodec, tmp_path: Path) -> None:
    done = run_import("toy", [wide(toy, tmp_path / "w.safetensors", width=20)])
    assert done.config_source.startswith("the shapes; what they do not tell")
    assert (done.variant, done.codec.spec.weights_license) == ("", "")


def test_shapes_of_nothing_known(toy: ToyCodec, tmp_path: Path) -> None:
    path = wide(toy, tmp_path / "w.safetensors", width=12)
    with pytest.raises(CheckpointError, match=r"no published variant of toy .*toy-8k \d+, .*: give --config"):
        run_import("toy", [path])
    assert run_import("toy", [path], config={"width": 12}).codec.config.width == 12


# What is refused


def test_names_that_nothing_has(toy: ToyCodec, weights: Path) -> None:
    with pytest.raises(ConfigError, match='no architecture and no variant is called "toy-8"; did you mean'):
        run_import("toy-8", [weights])
    with pytest.raises(ConfigError, match="gain-shape has no checkpoints of others to import; known: .*toy"):
        run_import("gain-shape", [weights])
    with pytest.raises(ConfigError, match="found no weight files for toy: give at least one"):
        run_import("toy", [])
    with pytest.raises(ConfigError, match="absent.pt: there is no such file"):
        run_import("toy", ["absent.pt"])


def change(stored: dict[str, Tensor], what: str) -> dict[str, Tensor]:
    key = "model.decoder_net.blocks.0.linear.bias"
    changed = dict(stored)
    if what == "missing":
        del changed[key]
    elif what == "extra":
        changed["model.extra.weight"] = torch.ones(3)
    elif what == "misshapen":
        changed[key] = torch.ones(3)
    elif what == "not finite":
        changed[key] = torch.full((16,), torch.nan)
    return changed


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "missing",
            "1 tensor does not fit toy (configuration: the variant toy-8k): decoder_net.* is missing",
        ),
        (
            "extra",
            "1 tensor does not fit toy (configuration: the variant toy-8k): model.extra.weight is unknown",
        ),
        ("misshapen", "1 tensor does not fit toy (configuration: .*): .* has the shape [3], expected [16]"),
        ("not finite", "model.decoder_net.blocks.0.linear.bias holds numbers that are not finite"),
    ],
)
def test_tensors_that_do_not_fit(
    toy: ToyCodec, stored: dict[str, Tensor], tmp_path: Path, what: str, message: str
) -> None:
    save_file(change(stored, what), tmp_path / "w.safetensors")
    pattern = ".*".join(map(re.escape, message.split(".*")))
    with pytest.raises(CheckpointError, match=pattern):
        run_import("toy-8k", [tmp_path / "w.safetensors"], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_keys_of_another_family(toy: ToyCodec, stored: dict[str, Tensor], tmp_path: Path) -> None:
    others = [name for name in recognition.importable() if name != "toy"]
    assert others, "a second family that can be imported"
    save_file(stored, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="these look like keys of toy: try --architecture toy"):
        run_import(others[0], [tmp_path / "w.safetensors"])
    save_file({"bert.pooler.weight": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(
        CheckpointError, match=r'0% of 1 keys.*"bert.pooler.weight"; no family here has such keys'
    ):
        run_import("toy", [tmp_path / "x.safetensors"])


def test_existing_folders(toy: ToyCodec, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    import_checkpoint("toy-8k", weights, output=out)
    with pytest.raises(ConfigError, match="out: already exists: choose another folder, or give --force"):
        import_checkpoint("toy-8k", weights, output=out)
    (out / "leftover").write_text("old")
    import_checkpoint("toy-8k", weights, output=out, force=True, name="again")
    assert not (out / "leftover").exists()
    assert audiotokens.load(out).spec.name == "again"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="is not a tokenizer folder, and nothing else is replaced"):
        import_checkpoint("toy-8k", weights, output=tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.tex").is_file()


def test_a_failed_write_leaves_the_old_folder(
    toy: ToyCodec, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    import_checkpoint("toy-8k", weights, output=out)
    before = {p: p.read_bytes() for p in out.iterdir()}

    def full(self: ToyCodec, folder: Path, *, card: str = "") -> Path:
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(type(toy), "save", full)
    with pytest.raises(OSError, match="No space left"):
        import_checkpoint("toy-8k", weights, output=out, force=True)
    assert {p: p.read_bytes() for p in out.iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"out", "weights.safetensors"}


def test_torch_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("audiotokens.checkpoints.engine")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [n for n in sys.modules if n.startswith("audiotokens.checkpoints.") and "importing" not in n]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"Importing a checkpoint needs .*audiotokens\[torch\]"):
        import_checkpoint("toy", "w.pt")


# What is told


def test_the_report_has_every_tensor(toy: ToyCodec, weights: Path, stored: dict[str, Tensor]) -> None:
    done = run_import("toy-8k", [weights])
    lines = describe_match(done.match)
    assert "model.encoder_net.blocks.2.linear.weight -> encoder_net.blocks.2.linear.weight" in lines
    assert "discriminator.weight is not needed" in lines
    assert len(lines) == len(toy.state_dict()) + 1


@pytest.fixture
def licensed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Published]:
    def publish(**changes: Any) -> Published:
        record = Published(
            name="toy-8k-authors",
            architecture="toy",
            variant="toy-8k",
            origins=(Origin((File("weights.safetensors", "00000000"),)),),
            license="CC-BY-NC-4.0",
            noncommercial=True,
            paper="2210.13438",
            training_data="bird song",
            sample_rate=8000,
            streams=(),
            notes=("The weights are not for sale.",),
        )
        record = replace(record, **changes)
        monkeypatch.setitem(records.published, record.name, record)
        return record

    return publish


def test_a_card_names_files_and_licence(
    toy: ToyCodec, weights: Path, licensed: Callable[..., Published], tmp_path: Path
) -> None:
    licensed()
    done = run_import("toy", [weights], output=tmp_path / "out")
    spec = audiotokens.load(tmp_path / "out").spec
    assert (spec.name, spec.weights_license, spec.training_data) == (
        "toy-8k-authors",
        "CC-BY-NC-4.0",
        "bird song",
    )
    card = (tmp_path / "out" / "README.md").read_text()
    for part in (
        "# toy-8k-authors\n",
        "| licence of the weights | CC-BY-NC-4.0: no commercial use |",
        "| variant | toy-8k |",
        "https://arxiv.org/abs/2210.13438",
        f"`weights.safetensors`, {weights.stat().st_size} bytes, SHA-256 `{done.sources[0].sha256}`",
        "audiotokens.load(",
        "- The weights are not for sale.",
    ):
        assert part in card
    description = json.loads((tmp_path / "out" / "config.json").read_text())
    assert description["spec"]["weights_license"] == "CC-BY-NC-4.0"


def test_records_are_found_by_bytes_by_name_and_by_variant(
    toy: ToyCodec, weights: Path, licensed: Callable[..., Published]
) -> None:
    from audiotokens.checkpoints.containers import identify

    digest = identify(weights).sha256
    first = licensed(name="toy-first", license="MIT", noncommercial=False)
    assert run_import("toy", [weights]).record == first
    second = licensed(name="toy-second")
    assert run_import("toy", [weights]).record is None
    assert run_import("toy-second", [weights]).record == second
    assert run_import("toy", [weights], name="toy-first").record == first
    third = licensed(name="toy-third", origins=(Origin((File("w", digest[:8]),)),))
    done = run_import("toy", [weights])
    assert done.record == third
    assert done.codec.spec.name == "toy-third"


@pytest.mark.parametrize(
    ("name", "forbids"),
    [
        ("CC-BY-NC-4.0", True),
        ("CC BY-NC-SA 4.0", True),
        ("Non-commercial", True),
        ("MIT", False),
        ("NCSA", False),
    ],
)
def test_licences_that_forbid_trade(toy: ToyCodec, name: str, forbids: bool) -> None:
    assert is_noncommercial(name) == forbids
    assert license_text(replace(toy.spec, weights_license=name)).endswith("no commercial use") == forbids
    assert license_text(replace(toy.spec, weights_license="")).startswith("not known")
