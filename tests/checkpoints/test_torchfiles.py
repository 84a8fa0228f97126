"""Pickled checkpoints: what published files hold is read, everything else is refused, and nothing runs."""

from __future__ import annotations

import argparse
import os
import pathlib
import pickle
import random
import struct
import sys
import types
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiotokens.checkpoints import torchfiles
from audiotokens.checkpoints.torchfiles import read_torch_file
from audiotokens.errors import CheckpointError, NotOfferedError

forms = pytest.mark.parametrize("packed", [True, False], ids=["zip", "legacy"])


def save(value: object, path: Path, packed: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=packed)
    return path


@pytest.fixture
def frameworks(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Classes under the names that Lightning gave them, for writing files as it did."""
    made = {}
    for full in (
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "pytorch_lightning.utilities.parsing.AttributeDict",
    ):
        place, _, name = full.rpartition(".")
        parts = place.split(".")
        for depth in range(1, len(parts) + 1):
            whole = ".".join(parts[:depth])
            monkeypatch.setitem(sys.modules, whole, sys.modules.get(whole) or types.ModuleType(whole))
        base = dict if name == "AttributeDict" else object
        made[name] = type(name, (base,), {"__module__": place, "__qualname__": name})
        setattr(sys.modules[place], name, made[name])
    return types.SimpleNamespace(**made)


def lightning(frameworks: types.SimpleNamespace) -> dict[str, Any]:
    """A checkpoint of a Lightning run with adversarial training, as WavTokenizer's are."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "epoch": 12,
        "global_step": 3400,
        "pytorch-lightning_version": "1.8.6",
        "state_dict": OrderedDict((f"backbone.{name}", t) for name, t in model.state_dict().items()),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3, "started": 3}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_loss'}": {
                "best_model_score": torch.tensor(4.25),
                "best_k_models": {"/runs/last.ckpt": torch.tensor(4.25)},
                "dirpath": pathlib.PosixPath("/runs"),
            },
            frameworks.ModelCheckpoint: {"best_model_score": None},
        },
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"base_lrs": [np.float64(2e-4)], "last_epoch": np.int64(12), "lr_lambdas": [None]}],
        "hparams_name": "kwargs",
        "hyper_parameters": frameworks.AttributeDict(sample_rate=24000, decay_mel_coeff=False),
        "arguments": argparse.Namespace(seed=3, folder=pathlib.PosixPath("/data")),
    }


@forms
def test_a_lightning_checkpoint_is_read(
    tmp_path: Path, frameworks: types.SimpleNamespace, packed: bool
) -> None:
    written = lightning(frameworks)
    read = read_torch_file(save(written, tmp_path / "wavtokenizer.ckpt", packed))
    assert read["state_dict"].keys() == written["state_dict"].keys()
    assert all(torch.equal(read["state_dict"][name], t) for name, t in written["state_dict"].items())
    assert read["hyper_parameters"] == {"sample_rate": 24000, "decay_mel_coeff": False}
    assert read["lr_schedulers"][0]["base_lrs"] == [2e-4]
    assert read["lr_schedulers"][0]["last_epoch"] == 12
    assert isinstance(read["arguments"], torchfiles.Unread)
    assert not vars(read["arguments"])


@pytest.mark.parametrize(
    "number",
    [
        np.float64(-2.5),
        np.float32(0.1),
        np.float16(7),
        np.int64(-9),
        np.uint8(200),
        np.bool_(True),
        np.int32(5),
    ],
    ids=lambda number: number.dtype.name,
)
def test_numbers_of_numpy_are_numbers(tmp_path: Path, number: np.generic) -> None:
    assert read_torch_file(save({"n": number}, tmp_path / "n.pt"))["n"] == number.item()


@pytest.mark.parametrize(
    ("code", "content"), [("O8", b"8" * 8), ("V4", b"1234"), ("f8", "text"), ("f8", b"12"), ("U1", b"1234")]
)
def test_other_things_of_numpy_are_refused(code: str, content: Any) -> None:
    with pytest.raises(ValueError, match="number|buffer"):
        torchfiles.number(torchfiles.NumberType(code), content)


class Runs:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@forms
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, "posix.system"), (eval, "eval"), (getattr, "getattr"), (np.load, "numpy.load")],
)
def test_a_call_is_refused_and_does_not_run(tmp_path: Path, function: Any, named: str, packed: bool) -> None:
    mark = tmp_path / "it-ran"
    value = {"state_dict": {"a": torch.ones(2)}, "x": Runs(function, f"touch {mark}")}
    path = save(value, tmp_path / "evil.pt", packed)
    with pytest.raises(
        CheckpointError, match=rf'refused, because it names "\w*\.?{named.split(".")[-1]}".*'
    ) as caught:
        read_torch_file(path)
    assert "nothing was run" in str(caught.value)
    assert "docs/import.md" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_what_others_allowed_stays_refused_here(tmp_path: Path) -> None:
    path = save({"x": Runs(random.randint, 1, 6)}, tmp_path / "dice.pt")
    before = {*torch.serialization.get_safe_globals()}
    with torch.serialization.safe_globals([(Runs, "random.Random"), (getattr, "getattr")]):
        allowed = {*torch.serialization.get_safe_globals()}
        with pytest.raises(CheckpointError, match="refused, because it names"):
            read_torch_file(path)
        assert {*torch.serialization.get_safe_globals()} == allowed
    assert {*torch.serialization.get_safe_globals()} == before


def test_stand_ins_do_nothing_with_what_they_are_given(tmp_path: Path, frameworks: Any) -> None:
    mark = tmp_path / "it-ran"
    hostile = frameworks.ModelCheckpoint()
    hostile.__dict__["__class__"] = "os.system"
    hostile.command = f"touch {mark}"
    read = read_torch_file(save([hostile], tmp_path / "state.pt"))
    assert not vars(read[0])
    assert not mark.exists()


@forms
def test_every_cut_is_an_error(tmp_path: Path, packed: bool) -> None:
    whole = save({"a": torch.randn(5, 7), "b": torch.ones(3)}, tmp_path / "w.pt", packed).read_bytes()
    cut = tmp_path / "cut.pt"
    for length in range(0, len(whole), 23):
        cut.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="again|authors|refused"):
            read_torch_file(cut)


@forms
def test_flipped_bits_are_an_error_or_change_numbers_only_where_nothing_checks(
    tmp_path: Path, packed: bool
) -> None:
    value = {"a": torch.arange(200.0)}
    whole = save(value, tmp_path / "w.pt", packed).read_bytes()
    chance = random.Random(0)
    outcomes: Counter[str] = Counter()
    for _ in range(150):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (tmp_path / "bad.pt").write_bytes(content)
        try:
            read = read_torch_file(tmp_path / "bad.pt")
        except CheckpointError:
            outcomes["refused"] += 1
        else:
            same = isinstance(read, dict) and "a" in read and torch.equal(read["a"], value["a"])
            outcomes["same" if same else "other"] += 1
    # The zip form has checksums; the legacy form has none over its tensors.
    assert outcomes["refused"]
    assert not packed or not outcomes["other"]


def repack(
    source: Path, target: Path, changed: dict[str, bytes], compression: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for member in old.infolist():
            base = member.filename.partition("/")[2]
            new.writestr(member.filename, changed.get(base, old.read(member)))
    return target


def test_an_archive_that_unpacks_to_more_than_it_is(tmp_path: Path) -> None:
    source = save({"a": torch.zeros(1 << 20)}, tmp_path / "zeros.pt")
    bomb = repack(source, tmp_path / "bomb.pt", {}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < source.stat().st_size / 100
    with pytest.raises(CheckpointError, match="a compressed archive, .* bytes that unpack to 419"):
        read_torch_file(bomb)


def test_a_tensor_that_declares_more_than_its_record(tmp_path: Path) -> None:
    source = save({"a": torch.zeros(16)}, tmp_path / "a.pt")
    with zipfile.ZipFile(source) as archive:
        program = archive.read("a/data.pkl")
    assert program.count(b"K\x10") == 2
    forged = repack(source, tmp_path / "b.pt", {"data.pkl": program.replace(b"K\x10", b"J\x00\x00\x00\x40")})
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_torch_file(forged)


def test_a_legacy_tensor_that_declares_more_than_the_file(tmp_path: Path) -> None:
    whole = save({"a": torch.zeros(16)}, tmp_path / "a.pt", packed=False).read_bytes()
    forged = whole.replace(b"K\x10", b"\x8a\x06" + (1 << 44).to_bytes(6, "little"))
    assert forged != whole
    (tmp_path / "b.pt").write_bytes(forged)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_torch_file(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("member", "kind"),
    [("DAC/.data/extern_modules", "torch.package archive"), ("m/constants.pkl", "TorchScript program")],
)
def test_archives_with_code_are_refused(tmp_path: Path, member: str, kind: str) -> None:
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
        archive.writestr(member, "dac.model")
        archive.writestr("DAC/DAC.pth", pickle.dumps(Runs(os.system, "true")))
    with pytest.raises(CheckpointError, match=f"{kind}.*docs/import.md"):
        read_torch_file(tmp_path / "weights.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_real_program_of_torch_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_torch_file(tmp_path / "script.pt")


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"not a checkpoint", struct.pack("<Q", 5) + b"{}"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a torch file"):
        read_torch_file(tmp_path / "x.pt")


@pytest.mark.parametrize("version", ["2.5.1", "2.9.1+cpu", "1.13.0"])
def test_torch_that_can_be_tricked_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    path = save({"a": torch.ones(1)}, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(NotOfferedError, match="update torch to 2.10 or later"):
        read_torch_file(path)
    monkeypatch.setattr(torch, "__version__", "2.10.0")
    assert read_torch_file(path)["a"].tolist() == [1]


def test_every_stand_in_is_of_this_package() -> None:
    assert {standin.__module__ for standin in torchfiles.STANDINS.values()} == {torchfiles.__name__}
