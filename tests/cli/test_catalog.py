"""catalog: a table, a filter, a record, JSON; without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from click.testing import Result

Run = Callable[..., Result]


def names(result: Result) -> list[str]:
    """First column of a table."""
    lines = result.stdout.splitlines()
    width = lines[0].index("year")
    return [line[:width].strip() for line in lines[1:]]


def test_the_table_has_every_tokenizer(run: Run) -> None:
    lines = run("catalog").stdout.splitlines()
    assert len(lines) == 108
    header = "name year kind quantizer kHz frames/s kbit/s streams domains here"
    assert " ".join(lines[0].split()) == header
    (encodec,) = (line for line in lines if line.startswith("EnCodec 24 kHz "))
    said = " ".join(encodec.split()[3:])
    assert said == "2022 acoustic RVQ 24 75 1.5 to 24 yes speech+music+audio imports"
    (ervq,) = (line for line in lines if line.startswith("ERVQ"))
    assert ervq.split()[2:] == ["2024", "acoustic", "RVQ", "-", "-", "-", "-", "-", "neither"]


def test_filters_narrow_the_table(run: Run) -> None:
    found = names(run("catalog", "--streamable", "--domain", "speech", "--sort", "bitrate"))
    assert found.index("TS3-Codec") < found.index("Mimi") < found.index("EnCodec 24 kHz")
    assert "DAC 24 kHz" not in found
    assert names(run("catalog", "--quantizer", "msrvq", "--built")) == ["SNAC"]
    low = names(run("catalog", "--kind", "semantic", "--max-bitrate", "0.31"))
    assert "S3 tokenizer v1 (CosyVoice)" in low
    assert "WavLM + k-means" not in low
    nothing = run("catalog", "--kind", "classical", "--built").stdout
    assert nothing == "no tokenizer of the catalog is all of that\n"
    assert "is not one of" in run("catalog", "--quantizer", "magic", code=2).stderr


def test_a_name_shows_everything(run: Run) -> None:
    said = run("catalog", "DAC", "24kHz", code=2).stderr
    assert "unexpected extra argument" in said
    said = run("catalog", "dac 24khz").stdout
    assert "here             imports, architecture dac" in said
    assert "24000 Hz, 1 to 32 x 1024 at 75/s, 0.75 to 24 kbit/s, 74.7 M parameters, 83.4 G" in said
    assert "Its output is 8 samples early" in said
    assert "survey-4: Mousavi et al. 2025, Table 4" in said
    (row,) = (line for line in said.splitlines() if "DAC-SMA-24" in line and "SDR 1.79" in line)
    assert " 8      6 " in row
    assert "PESQ 3.4, UTMOS 3.6" in row
    assert "±" in said
    assert "sources" in run("catalog", "VRVQ").stdout


def test_json_has_what_the_page_has(run: Run) -> None:
    found = json.loads(run("catalog", "--built", "--json").stdout)
    assert {each["status"] for each in found["tokenizers"]} <= {"builds", "imports"}
    assert "survey-4" in found["sources"]
    one = json.loads(run("catalog", "snac", "--json").stdout)
    assert one["settings"][0]["books"][0] == {"counts": [1], "size": 4096, "frame_rate": 11.71875}
    assert one["bitrates"] == [980, 2600]
    assert set(one["sources"]) == {"survey-1", "review-2", "repository", "licence"}


def test_unknown_names_give_the_nearest(run: Run) -> None:
    said = run("catalog", "wavtoknizer", code=2).stderr
    assert said.startswith('error: the catalog has no "wavtoknizer"; did you mean "WavTokenizer')


def test_it_needs_no_torch() -> None:
    code = """
import sys
from audiotokens.cli import main
try:
    main(["catalog", "--built"])
except SystemExit as end:
    sys.exit(end.code or "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
