"""The part of the report about the ten promises."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audiotokens.evaluation.report import write_report
from audiotokens.evaluation.report_promises import promises_section
from audiotokens.evaluation.results import Comparison
from audiotokens.verify import PROMISES, Verdict, Verification

EVIL = "<img src=x>"
KEPT = Verdict("I3", PROMISES["I3"], "kept", "0 in 12,000 codes", 12000, seconds=1.25)
BROKEN = Verdict("I1", PROMISES["I1"], "broken", f"9.5 per million in 9 codes; {EVIL} differs", 9, 1)
MISSING = Verdict("I6", PROMISES["I6"], "not offered", "not offered, because it has no other engine here")
FOUND = Verification("digits", "ab" * 32, False, 0, (BROKEN, KEPT, MISSING), recordings=9, audio_seconds=90.0)


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_no_verification_no_section() -> None:
    assert promises_section([]) == ""


def test_each_verdict_has_a_row() -> None:
    html = promises_section([FOUND])
    text = words(html)
    assert "abababab, 9 recordings, 1.5 minutes, seed 0: kept 1, broken 1, not offered 1." in text
    assert (
        "I3 encoding in chunks of any sizes gives the codes of one pass ✓ kept 0 in 12,000 codes 1.2 s"
        in text
    )
    assert "✗ broken 9.5 per million in 9 codes &lt;img src=x&gt; differs" in text
    assert "– not offered , because it has no other engine here" in text
    assert EVIL not in html and "margin" not in text.lower()


def test_margins_have_columns_where_there_are_some() -> None:
    counted = replace(
        KEPT,
        status="counted",
        margin=3e-7,
        smallest_margin=1e-9,
        median_margin=0.02,
        detail="12 per million (largest margin 3e-7) in 12,000 codes (smallest margin 1e-9, ...); here",
    )
    text = words(promises_section([replace(FOUND, verdicts=(counted, MISSING), exact=False)]))
    assert "≈ counted 12 per million (largest margin 3e-7) in 12,000 codes here 3e-7 1e-9 0.02" in text
    assert "fast mode" in text and "flips of up to 0.0001" in text


def test_the_report_has_the_section_with_and_without_a_comparison(tmp_path: Path) -> None:
    nothing = Comparison(points=(), rows=())
    text = write_report(tmp_path / "a.html", nothing, [], title="t", verifications=[FOUND]).read_text()
    assert '<a href="#promises">Promises</a>' in text and 'id="promises"' in text
    assert "digits: ten promises about tokens" in text and "#listen" not in text
    assert "Promises" not in write_report(tmp_path / "b.html", nothing, [], title="t").read_text()


@pytest.mark.slow
@pytest.mark.browser
def test_the_section_fits_on_a_phone(tmp_path: Path, browse: Callable[..., dict[str, Any]]) -> None:
    nothing = Comparison(points=(), rows=())
    write_report(tmp_path / "a.html", nothing, [], title="t", verifications=[FOUND])
    seen = browse("promises_browser.js", tmp_path / "a.html")
    assert seen["log"] == []
    for layout in seen["layouts"]:
        assert layout["page"] <= layout["window"] and not layout["nameless"]
