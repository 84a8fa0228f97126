from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from audiotokens.errors import AudioTokensError, ConfigError
from audiotokens.evaluation.results import (
    BookUsage,
    Comparison,
    Difference,
    FileRecord,
    OperatingPoint,
    Point,
    Reference,
    Row,
    Summary,
    Table,
)

VALUES = (-9.47, math.inf, -math.inf, 1e-5, 0.0, 123456789.123456789)


def row(value: float | None, **changes: str) -> Row:
    return Row("inf", "speech", "a", "t", 2, "si-sdr", value, **changes)  # type: ignore[arg-type]


def example() -> Comparison:
    return Comparison(
        points=(
            OperatingPoint(
                "speech", "t", 2, "0" * 64, 100.0, 1000.0, 1100.5, None, None, 250.0, 1, files=200, failed=2
            ),
        ),
        rows=(*tuple(row(value) for value in VALUES), row(None, status="failed", reason="too short")),
        records=(FileRecord("inf", "speech", "a", "t", 2, delay=-8, shift=-8, peak=0.9, gain=-1e-5),),
        summaries=(Summary("speech", "t", 2, "si-sdr", -9.47, -math.inf, None, 6, 1, 6, 7),),
        differences=(Difference("speech", "si-sdr", "t", 2, "t", 1, 1.0, -1e-5, 2.0, 6, 1),),
        usage=(BookUsage("speech", "t", 2, "codes", 0, (1, 0, 3), 2, 2.5, 1.0, 0.9, 2.0),),
        metrics=("si-sdr",),
        settings={"resampler": "soxr-vhq"},
        notes=("inf",),
    )


def test_every_number_survives_json(tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    example().write_json(path)
    assert Comparison.read_json(path) == example()
    strict = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [item["value"] for item in strict["rows"]] == [-9.47, "inf", "-inf", 1e-5, 0.0, VALUES[-1], None]


def test_nan_and_sentinels_are_no_values() -> None:
    with pytest.raises(ValueError, match="NaN"):
        row(math.nan)
    with pytest.raises(ValueError, match="status failed with value 1"):
        row(1.0, status="failed", reason="because")
    with pytest.raises(ValueError, match="status ok with value None"):
        row(None)
    with pytest.raises(ValueError, match="without a reason"):
        row(None, status="skipped")


def test_reading_something_else_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AudioTokensError, match="not a readable comparison"):
        Comparison.read_json(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(AudioTokensError, match="not a readable comparison"):
        Comparison.read_json(tmp_path / "bad.json")
    values = example().to_dict()
    values["rows"][0]["valeu"] = 1
    with pytest.raises(ConfigError, match='unknown key "valeu"'):
        Comparison.from_dict(values)


def test_derived_facts() -> None:
    comparison = example()
    point = Point("speech", "t", 2)
    assert comparison.domains == ("speech",)
    assert comparison.points[0].point == point
    assert not comparison.points[0].flagged
    assert comparison.summary(point, "si-sdr") == comparison.summaries[0]
    assert comparison.summary(point, "stoi") is None
    assert comparison.summaries[0].flagged
    assert comparison.differences[0].tie
    usage = comparison.usage[0]
    assert (usage.size, usage.codes, usage.dead, usage.utilisation) == (3, 4, 1, 2 / 3)


def test_tables_and_the_reference() -> None:
    points = [
        replace(example().points[0], group=group, tokenizer=name, num_codebooks=books)
        for group in ("clean", "other")
        for name, books in (("t", 2), ("lyra", 0))
    ]
    against = Difference("speech", "si-sdr", "t", 2, "lyra", 0, 1.0, 0.5, 2.0, 6, 3, "clean", "better")
    between = replace(against, second_tokenizer="t", second_codebooks=1)
    found = Comparison(tuple(points), (), differences=(between, against), reference=Reference("lyra"))
    assert found.domains == ("speech",)
    assert found.tables == (Table("speech", "clean"), Table("speech", "other"))
    assert found.tables[1].title == "speech, other"
    assert found.points[0].point == against.first == Point("speech", "t", 2, "clean")
    assert against.second == found.points[1].point
    assert found.against == (against,)
    assert example().against == ()
    assert Comparison.from_dict(found.to_dict()) == found


def test_older_files_are_read() -> None:
    values = example().to_dict()
    del values["reference"], values["rows"][0]["group"], values["differences"][0]["verdict"]
    for name in ("group", "kind", "title", "definition", "payload_bitrate", "processor", "timed"):
        del values["points"][0][name]
    assert Comparison.from_dict(values) == example()


def test_entropy_of_active_frames_is_a_share_of_the_size() -> None:
    usage = replace(example().usage[0], counts=(1, 0, 3, 0), active_codes=4, active_entropy=0.5)
    assert usage.active_share == 0.25
    assert replace(usage, counts=(4,)).active_share is None
    assert example().usage[0].active_share is None
