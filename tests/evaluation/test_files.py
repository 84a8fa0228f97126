from __future__ import annotations

from pathlib import Path

import pytest

from audiotokens.errors import AudioError
from audiotokens.evaluation.files import find_files


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def test_a_manifest_says_who_speaks(tmp_path: Path) -> None:
    touch(tmp_path, "a/one.wav", "a/two.flac", "b/three.wav", "b/note.txt", "b/four.wav")
    rows = "path,domain,source_id\na/one.wav,speech,Ann\na/two.flac,music,Bach\nb/three.wav,,Cem\n"
    (tmp_path / "manifest.csv").write_text(rows)
    found = {file.key: (file.speaker, file.domain) for file in find_files(tmp_path, domain="sound")}
    assert found == {
        "a/one.wav": ("Ann", "speech"),
        "a/two.flac": ("Bach", "music"),
        "b/three.wav": ("Cem", "sound"),
        "b/four.wav": ("b/four", "sound"),
    }
    assert find_files(tmp_path / "a" / "one.wav")[0].key == "a/one.wav"


def test_a_manifest_may_name_corpus_and_words(tmp_path: Path) -> None:
    touch(tmp_path, "one.wav", "two.wav")
    rows = "path,source_id,corpus,transcript\none.wav,Ann,Libri clean,A WORD\ntwo.wav,Bo,,\n"
    (tmp_path / "manifest.csv").write_text(rows)
    found = [(file.corpus, file.transcript, file.domain) for file in find_files(tmp_path)]
    assert found == [("Libri clean", "A WORD", "unknown"), ("", "", "unknown")]


def test_names_say_it_where_no_manifest_does(tmp_path: Path) -> None:
    names = [
        "x/121-123859-0003.flac",
        "x/p225_001.wav",
        "x/p225_002.wav",
        "y/p225_001.wav",
        "y/take1.part2.wav",
    ]
    found = find_files([*touch(tmp_path, *names)])
    assert [file.speaker for file in found] == ["121", "x/p225", "x/p225", "y/p225", "y/take1"]
    assert [file.key for file in found] == names
    assert {file.domain for file in found} == {"unknown"}


def test_a_foreign_manifest_is_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "manifest.csv").write_text("name,text\na.wav,hello\n")
    assert find_files(tmp_path)[0].speaker == f"{tmp_path.name}/a"
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00")
    assert find_files(tmp_path)[0].key == "a.wav"


def test_each_file_counts_once_and_absent_ones_are_kept(tmp_path: Path) -> None:
    one, two = touch(tmp_path, "one.wav", "two.wav")
    found = find_files([tmp_path, one, tmp_path / "." / "two.wav", tmp_path / "gone.wav"])
    assert [file.path.name for file in found] == ["one.wav", "two.wav", "gone.wav"]
    assert found[1].path == two


def test_equal_paths_in_two_data_folders_are_two_files(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        touch(tmp_path / folder, "a.wav")
        (tmp_path / folder / "manifest.csv").write_text(f"path,source_id\na.wav,{folder}\n")
    found = find_files(tmp_path)
    assert [(file.key, file.speaker) for file in found] == [("x/a.wav", "x"), ("y/a.wav", "y")]


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="found no audio file"):
        find_files(tmp_path)
    with pytest.raises(AudioError, match="nothing"):
        find_files([])
