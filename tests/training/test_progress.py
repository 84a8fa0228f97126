"""Progress goes to stderr; warnings are shown even when it is off."""

from __future__ import annotations

import pytest

from audiotokens.training.progress import Progress

RECORD: dict[str, object] = {"step": 40, "loss": 0.51234, "audio_seconds_per_second": 33.3}


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(100)
    progress.show(RECORD)
    progress.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "    40/100  loss 0.5123  33 audio-s/s\n"


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress(100)
    progress.show(RECORD)
    progress.close()
    err = capsys.readouterr().err
    assert err.count("█") == 10 and err.count("░") == 14
    assert err.startswith("\r") and err.endswith("\n")


def test_warnings_are_never_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(100, enabled=False).show({**RECORD, "warnings": ["book 3 collapses"]})
    assert capsys.readouterr().err == "warning: step 40: book 3 collapses\n"
