"""Packing: files, folders and manifests into one file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from audiotokens.audio import write_audio
from audiotokens.errors import AudioError, ConfigError
from audiotokens.training.data import open_pack
from audiotokens.training.pack import find_files, pack, read_samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    root = tmp_path / "audio"
    (root / "deep").mkdir(parents=True)
    for name, rate, shape in (
        ("b.wav", 16000, (1, 1600)),
        ("a.flac", 8000, (1, 801)),
        ("deep/c.wav", 16000, (2, 500)),
    ):
        write_audio(root / name, (0.1 * random.standard_normal(shape)).astype(np.float32), rate)
    (root / "notes.txt").write_text("not audio")
    rows = [
        "path,split,domain,share_alike",
        "b.wav,train,speech,no",
        "a.flac,test,speech,no",
        "deep/c.wav,train,music,yes",
    ]
    (root / "manifest.csv").write_text("\n".join(rows))
    return root


def names(source: Path, *where: str) -> list[str]:
    return [name for name, _ in find_files([source], where=where)]


def test_a_folder_packs_at_one_rate(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    packed = pack(
        [folder], tmp_path / "x.pack", 16000, progress=lambda done, total: seen.append((done, total))
    )
    assert packed.names == ("a.flac", "b.wav", "deep/c.wav")
    assert packed.lengths.tolist() == [1602, 1600, 500]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    opened = open_pack(tmp_path / "x.pack")
    assert np.array_equal(opened.samples[1602:3202], read_samples(folder / "b.wav", 16000))
    assert not list(tmp_path.glob("*.partial"))


def test_manifest_rows_are_selected(folder: Path) -> None:
    manifest = folder / "manifest.csv"
    assert names(manifest) == ["b.wav", "deep/c.wav"]
    assert names(manifest, "domain=speech") == ["b.wav"]
    assert names(manifest, "share_alike!=yes") == ["b.wav"]
    assert names(manifest, "split=test") == ["a.flac"]
    assert names(manifest, "split!=none", "domain=speech") == ["b.wav", "a.flac"]


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    manifest, output = folder / "manifest.csv", tmp_path / "x.pack"
    with pytest.raises(ConfigError, match='no column "langage"; it has path, split'):
        pack([manifest], output, 16000, where=["langage=en"])
    with pytest.raises(ConfigError, match='condition "speech", expected "column=value"'):
        pack([manifest], output, 16000, where=["speech"])
    with pytest.raises(ConfigError, match="found no audio"):
        pack([manifest], output, 16000, where=["domain=noise"])
    with pytest.raises(ConfigError, match="no such file or folder"):
        pack([tmp_path / "none"], output, 16000)
    output.write_bytes(b"x")
    with pytest.raises(ConfigError, match="already exists"):
        pack([folder], output, 16000)
    assert pack([folder], output, 16000, overwrite=True).sample_rate == 16000


def test_a_bad_file_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    (folder / "z.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"z\.wav"):
        pack([folder], tmp_path / "x.pack", 16000)
    assert [path.name for path in tmp_path.iterdir()] == ["audio"]


def test_loud_samples_are_clipped_not_wrapped(tmp_path: Path) -> None:
    write_audio(tmp_path / "x.wav", np.array([[1.0, -1.0, 0.5]], dtype=np.float32), 16000)
    assert np.abs(read_samples(tmp_path / "x.wav", 16000) - np.array([32767, -32768, 16384])).max() <= 1


def test_a_limit_of_size_takes_the_same_files_everywhere(folder: Path, tmp_path: Path) -> None:
    by_hash = sorted(
        ["a.flac", "b.wav", "deep/c.wav"], key=lambda name: hashlib.sha256(name.encode()).digest()
    )
    whole = pack([folder], tmp_path / "whole.pack", 16000, max_mib=1)
    assert list(whole.names) == by_hash
    size = whole.path.stat().st_size
    same = pack([folder], tmp_path / "same.pack", 16000, max_mib=(size + 20) / 2**20)
    assert same.path.read_bytes() == whole.path.read_bytes()
    less = pack([folder], tmp_path / "less.pack", 16000, max_mib=(size - 1) / 2**20)
    assert list(less.names) == by_hash[:2]
    assert less.path.stat().st_size <= size - 1
    with pytest.raises(ConfigError, match=r"alone is larger than 0\.0001 MiB; allow more"):
        pack([folder], tmp_path / "none.pack", 16000, max_mib=0.0001)


@pytest.mark.slow
def test_the_shared_speech_packs(shared: Path, tmp_path: Path) -> None:
    where = ["domain=speech", "corpus=VCTK", "share_alike!=yes"]
    packed = pack([shared / "data" / "manifest.csv"], tmp_path / "x.pack", 16000, where=where)
    assert len(packed.names) == 10
    assert all(name.startswith("train/") for name in packed.names)
