"""compare writes pages to look at and to listen to, and votes counts what listeners say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Run = Callable[..., Result]


def test_compare_writes_both_pages(folder: Path, plugin: str, run: Run) -> None:
    measure = ["compare", plugin, "in", "--metrics", "si-sdr", "--anchors", "lowpass-4k", "--no-cache"]
    run(*measure, "--report", "page.html", "--blind", "blind.html", "--hidden-reference")
    page, blind = (Path(name).read_text(encoding="utf-8") for name in ("page.html", "blind.html"))
    assert (
        page.count('data-label="Original below 4 kHz"') == 2 and f'data-label="{plugin} 128 kbit/s"' in page
    )
    assert "Which one sounds better?" in blind and plugin not in blind and "Original below" not in blind
    assert "6 trials" in blind and "6 trials" not in page
    assert "page.html exists: give --force" in run(*measure, "--blind", "page.html", code=2).stderr


def test_hear_chooses_for_both_pages(folder: Path, plugin: str, run: Run) -> None:
    measure = [
        "compare",
        plugin,
        "in/one.wav",
        "--metrics",
        "si-sdr",
        "--anchors",
        "int16,lowpass-4k",
        "--no-cache",
    ]
    wanted = ["--hear", f"{plugin},int16", "--blind-form", "abx"]
    run(*measure, *wanted, "--blind", "blind.html", "--report", "page.html")
    assert "Can you tell them apart?" in Path("blind.html").read_text(encoding="utf-8")
    page = Path("page.html").read_text(encoding="utf-8")
    assert 'data-label="Original as int16"' in page and 'data-label="Original below 4 kHz"' not in page
    failed = run(*measure, "--hear", "opus-9k", "--blind", "other.html", code=2)
    assert '"opus-9k" cannot be heard, expected NAME or NAME:BOOKS of' in failed.stderr
    none = run(*measure, "--examples", "0", "--blind", "other.html", code=2)
    assert "found no recording, expected at least one for a blind test" in none.stderr
