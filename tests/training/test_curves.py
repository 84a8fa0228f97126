"""The log survives a cut, and the picture is valid SVG."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from audiotokens.training.curves import append_record, read_records, truncate_log, write_curves


def test_a_cut_line_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    for step in (10, 20, 30):
        append_record(log, {"step": step, "loss": 1.0})
    log.write_text(log.read_text() + '{"step": 40, "lo')
    assert [record["step"] for record in read_records(log)] == [10, 20, 30]
    truncate_log(log, 20)
    append_record(log, {"step": 25})
    assert [record["step"] for record in read_records(log)] == [10, 20, 25]
    assert read_records(tmp_path / "none") == []


def test_curves_show_what_was_recorded(tmp_path: Path) -> None:
    records = [{"step": step, "loss": 1 / step, "si_sdr": float("nan")} for step in range(1, 2000)]
    write_curves([*records, {"step": 2000, "log_mel": 1}], tmp_path / "curves.svg", title="a < b & c")
    root = ElementTree.parse(tmp_path / "curves.svg").getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
    assert "a < b & c" in texts
    assert "loss" in texts
    assert "log mel" not in texts
    assert len(lines) == 1
    assert 300 < len(lines[0].attrib["points"].split()) <= 600


def test_no_records_make_an_empty_picture(tmp_path: Path) -> None:
    write_curves([], tmp_path / "curves.svg", title="x")
    ElementTree.parse(tmp_path / "curves.svg")
