from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from audiotokens.errors import AudioTokensError, MissingExtraError
from audiotokens.evaluation.anchors import ANCHORS, GROUPS, Anchor, Coded, get_anchors


class Nothing(Anchor):
    name = title = definition = "nothing"

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        return Coded(waveform, sample_rate, num_bytes=0)


def test_every_anchor_stands_under_its_name(shared: Path, lyra_folder: Path, recordings: list[Path]) -> None:
    for package in ("imageio_ffmpeg", "pycodec2"):
        pytest.importorskip(package)
    selection = get_anchors(["anchors", "calibration"], lyra=lyra_folder, files=recordings)
    assert [anchor.name for anchor in selection.anchors] == [*GROUPS["anchors"], *GROUPS["calibration"]]
    assert not selection.left_out
    assert {anchor.name for anchor in selection.anchors} == set(ANCHORS)
    kinds = {anchor.name: anchor.kind for anchor in selection.anchors}
    assert {name for name, kind in kinds.items() if kind == "calibration"} == set(GROUPS["calibration"])
    assert len({anchor.definition for anchor in selection.anchors}) == len(ANCHORS)
    assert len({anchor.title for anchor in selection.anchors}) == len(ANCHORS)
    coded = [anchor.nominal_bitrate for anchor in selection.anchors if anchor.nominal_bitrate]
    assert len(coded) == len(GROUPS["anchors"]) - 1


def test_groups_cover_the_names() -> None:
    families = [name for group in ("opus", "amr", "codec2", "lyra") for name in GROUPS[group]]
    assert ["lowpass-4k", *families] == list(GROUPS["anchors"])
    assert set(GROUPS["anchors"]) | set(GROUPS["calibration"]) == set(ANCHORS)


def test_names_are_taken_once_in_their_order() -> None:
    found = get_anchors(["shift-8", "lowpass-4k", "shift-8", "original"]).anchors
    assert [anchor.name for anchor in found] == ["shift-8", "lowpass-4k", "original"]
    assert get_anchors("silence").anchors[0].name == "silence"


def test_unknown_names_are_told_with_the_known_ones() -> None:
    with pytest.raises(
        AudioTokensError, match=r'no anchor "opus-9" \(did you mean "opus-.k"\?\); groups: available'
    ):
        get_anchors("opus-9")
    with pytest.raises(AudioTokensError, match=r"names: lowpass-4k, opus-6k, .*, another-utterance$"):
        get_anchors("zzz")


def test_what_is_asked_for_by_name_or_group_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycodec2", None)
    for name in ("codec2-1200", "codec2"):
        with pytest.raises(MissingExtraError, match='Codec2 needs the extra "anchors"'):
            get_anchors(name)
    with pytest.raises(AudioTokensError, match="another-utterance: needs two files at least, found 0"):
        get_anchors("calibration")


def test_available_says_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUDIOTOKENS_LYRA", raising=False)
    monkeypatch.setitem(sys.modules, "pycodec2", None)
    selection = get_anchors("available")
    names = [anchor.name for anchor in selection.anchors]
    assert "lowpass-4k" in names and not any(name.startswith(("lyra", "codec2")) for name in names)
    assert set(names) | set(selection.left_out) == set(GROUPS["anchors"])
    assert 'needs the extra "anchors"' in selection.left_out["codec2-1200"]
    assert "needs a folder with soundstream_encoder.tflite" in selection.left_out["lyra-6k"]


def test_anchors_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANCHORS, "nothing", lambda needs: Nothing())
    (anchor,) = get_anchors("nothing").anchors
    assert anchor.align and anchor.kind == "anchor" and anchor.nominal_bitrate is None
