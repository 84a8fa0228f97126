"""The catalog: typed, whole, within ranges, true to its sources, and honest about what this package does."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from audiotokens import registry
from audiotokens.catalog import SORTS, Entry, Setting, catalog, entry, find, metrics, sources
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError, TokenizerNotFoundError
from audiotokens.published import published

ROOT = Path(__file__).resolve().parent.parent
OWN = {"gain-shape"}
"""Architectures of this package that are in no survey."""

REVIEW = """SoundStream|EnCodec 24 kHz|DAC 44.1 kHz|HiFi-Codec|AudioDec|FunCodec / FreqCodec|TF-Codec
Disen-TF-Codec|LMCodec|TiCodec|APCodec|APCodec+|SRCodec|SQ-Codec|ESC|HILCodec|Single-Codec|SuperCodec
WavTokenizer 75 Hz|BigCodec|TS3-Codec|Stable-Codec / TAAE|NDVQ|VRVQ|SNAC|CoFi-Codec|FreeCodec|LaDiffCodec
MBD (multi-band diffusion)|Vocos|ERVQ (quantizer)|SpeechTokenizer|LLM-Codec (UniAudio 1.5)|Mimi
Siahkoohi et al. 2022|SemantiCodec|SoCodec|X-Codec|X-Codec 2.0|SSVC tokenizer|FACodec (NaturalSpeech 3)
Prompt Codec / PSCodec|LSCodec 50 Hz|SD-Codec|vq-wav2vec|wav2vec 2.0 (inner quantizer)
wav2vec 2.0 + k-means|XLSR-53 / XLS-R|HuBERT + k-means|WavLM + k-means|BEST-RQ|NEST-RQ|LAST|RepCodec
MaskGCT semantic codec|MMM|Gat et al. augmentation-invariant|CCC-wav2vec 2.0|SPIRAL|NAST|ContentVec|Spin
DC-Spin|Hwang et al. soft pooling|S3 tokenizer v1 (CosyVoice)|S3 tokenizer v2 (CosyVoice 2)
GLM-4-Voice tokenizer|Sylber|SyllableLM (SylBoost)|SD-HuBERT"""
"""Named in the review's taxonomy."""

SURVEY_2 = """EnCodec 24 kHz|EnCodec 32 kHz (MusicGen)|EnCodec 16 kHz (AudioGen)|DAC 44.1 kHz|DAC 24 kHz
DAC 16 kHz|SpeechTokenizer|Mimi|Discrete WavLM (DASB)|SQ-Codec|WavTokenizer 75 Hz|WavTokenizer 40 Hz"""
"""Measured by the survey (its Table 2)."""

LICENSES = {"", "none", "Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"}
LICENSES |= {"Stability AI Community"}
METRICS = {"SDR", "SI-SDR", "SI-SNR", "CI-SDR", "SI-SDRi", "SAR", "SIR", "PESQ", "STOI", "ViSQOL", "WARP-Q"}
METRICS |= {"UTMOS", "UTMOS v2", "DNSMOS", "DNSMOS P.808", "DNSMOS P.835", "PLCMOS", "SingMOS", "MOS"}
METRICS |= {"WER", "dWER", "EER", "accuracy", "SpkSim", "SECS", "GPE", "P.Corr", "F0 correlation", "PNMI"}
METRICS |= {"FAD", "KLD", "CLAP", "mel distance", "sBLIMP", "sWUGGY", "sSC", "tSC", "SALMon gender"}
METRICS |= {"SALMon sentiment", "SALMon speaker", "SALMon sentiment alignment"}
RANGES = {
    "PESQ": (1, 4.7),
    "STOI": (0, 1),
    "UTMOS": (1, 5),
    "ViSQOL": (1, 5),
    "WER": (0, 100),
    "EER": (0, 50),
}
RANGES |= {"accuracy": (0, 100), "SpkSim": (0, 1), "SECS": (0, 1), "PNMI": (0, 1), "DNSMOS P.808": (1, 5)}

each_entry = pytest.mark.parametrize("found", catalog(), ids=lambda found: found.name)


def names(text: str) -> list[str]:
    return [name for line in text.split("\n") for name in line.split("|")]


def test_every_tokenizer_of_both_surveys_is_here() -> None:
    known = [found.name for found in catalog()]
    assert len(known) == len(set(known)) == 107
    assert not set(names(REVIEW) + names(SURVEY_2)) - set(known)
    # Some of the 52 entries of the survey's first table are told apart by sample rate.
    assert sum(found.surveyed for found in catalog()) == 55
    assert len(resources.files("audiotokens").joinpath("catalog.json").read_bytes()) < 250_000


@each_entry
def test_facts_are_within_their_ranges(found: Entry) -> None:
    assert found.year is None or 2012 <= found.year <= 2026
    assert not re.match(r"\d", found.paper) or re.fullmatch(r"\d{4}\.\d{5}", found.paper)
    assert found.code == "" or re.fullmatch(r"[\w.-]+/[\w.-]+", found.code)
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", name) for name in found.hub)
    assert {found.code_license, found.weights_license} <= LICENSES
    assert found.sources
    assert set(found.sources) <= set(sources())
    assert {result.source for result in found.results} <= set(found.sources)
    assert all(8000 <= rate <= 48000 for rate in found.sample_rates)
    assert all(4 <= rate <= 44100 for rate in found.frame_rates)
    assert all(0 < parameters < 1e9 for parameters in found.parameters)
    semantic = {"self-supervised", "perturbation-invariant", "supervised"}
    assert not found.family or (found.family in semantic) == (found.kind == "semantic")
    texts = (*found.remarks, *(result.remark for result in found.results if result.remark))
    assert all(text[0].isupper() and text.endswith(".") for text in texts)
    assert from_dict(Entry, json.loads(json.dumps(to_dict(found)))) == found


@each_entry
def test_books_give_the_published_bitrates(found: Entry) -> None:
    for setting in found.settings:
        assert list(setting.bitrates) == sorted(setting.bitrates)
        for group in setting.books:
            assert list(group.counts) == sorted(set(group.counts))
            assert group.size is None or 2 <= group.size <= 2**18
        for end, nominal in zip((0, -1), setting.nominal_bitrates):
            if setting.bitrates and not explained(found, setting):
                assert 0.97 * nominal <= setting.bitrates[end] <= 1.03 * ceiling(setting, end), setting


def ceiling(setting: Setting, end: int) -> float:
    """Bits per second when each code takes whole bits, as the review counts."""
    return sum(g.counts[end] * (g.frame_rate or 0) * math.ceil(math.log2(g.size or 1)) for g in setting.books)


def explained(found: Entry, setting: Setting) -> bool:
    """Bitrates that are not books times bits times rate; the entry says why."""
    reasons = {"TF-Codec": "without redundancy", "VRVQ": "how many books", "Mimi": "uses 8 of its 32 books"}
    said = reasons.get(found.name)
    assert said is None or any(said in remark for remark in found.remarks)
    return said is not None


@each_entry
def test_results_are_numbers_of_known_metrics(found: Entry) -> None:
    for result in found.results:
        assert result.values
        assert set(result.values) <= METRICS
        assert set(result.deviations) <= set(result.values)
        assert result.bitrate is None or 100 <= result.bitrate <= 24000
        for metric, value in result.values.items():
            low, high = RANGES.get(metric, (-60, 400))
            assert low <= value <= high or "dWER" in metric, (metric, value)


def test_every_metric_is_used() -> None:
    assert set(metrics()) == METRICS


@each_entry
def test_what_this_package_does_is_true(found: Entry) -> None:
    assert found.architecture == "" or found.architecture in registry.architectures
    for name in found.published:
        assert published[name].architecture == found.architecture
        assert any(published[name].sample_rate == setting.sample_rate for setting in found.settings)
    assert found.status == ("imports" if found.published else "builds" if found.architecture else "neither")


def test_nothing_that_this_package_does_is_left_out() -> None:
    named = [name for found in catalog() for name in found.published]
    assert sorted(named) == sorted(published)
    assert {found.architecture for found in catalog()} - {""} == set(registry.architectures) - OWN


def test_published_sizes_are_the_published_ones() -> None:
    for found in catalog():
        for name in found.published:
            record = published[name]
            exact = found.architecture not in {"wavtokenizer", "speechtokenizer"}
            if record.parameters and exact:
                assert record.parameters in found.parameters, name


def test_loading_is_strict() -> None:
    values = to_dict(entry("Mimi"))
    with pytest.raises(ConfigError, match="did you mean"):
        from_dict(Entry, values | {"quantiser": "RVQ"})
    with pytest.raises(ConfigError, match="expected one of 'acoustic', 'semantic', 'classical'"):
        from_dict(Entry, values | {"kind": "hybrid"})
    with pytest.raises(ConfigError, match="expected int"):
        from_dict(Setting, {"sample_rate": "24000"})


def test_names_are_found_as_people_write_them() -> None:
    assert entry("mimi") is entry("MIMI") is next(each for each in catalog() if each.name == "Mimi")
    assert entry("encodec 24khz").name == "EnCodec 24 kHz"
    with pytest.raises(TokenizerNotFoundError, match='did you mean "EnCodec 24 kHz" or "EnCodec 48 kHz'):
        entry("encodec")
    with pytest.raises(TokenizerNotFoundError, match='did you mean "WavTokenizer'):
        entry("wavtoknizer")
    with pytest.raises(TokenizerNotFoundError, match="shows all names"):
        entry("&")


def test_filters_and_order() -> None:
    assert len(find()) == 107
    speech = find(streamable=True, domain="speech", sort="bitrate")
    rates = [each.bitrates[0] for each in speech if each.bitrates]
    assert rates == sorted(rates)
    assert len(rates) > 10
    assert all(each.streamable and "speech" in each.domains for each in speech)
    assert {"Mimi", "EnCodec 24 kHz"} <= {each.name for each in speech}
    assert not {"DAC 24 kHz", "LMCodec"} & {each.name for each in speech}
    assert {each.kind for each in find(kind="semantic")} == {"semantic"}
    assert find(quantizer="msrvq") == [entry("SNAC"), entry("LLM-Codec (UniAudio 1.5)")]
    low = find(max_bitrate=300)
    assert entry("LSCodec 25 Hz") in low
    assert all(each.bitrates and each.bitrates[0] <= 300 for each in low)
    assert [each for each in find(built=True) if each.status == "neither"] == []
    assert len(find(built=True)) + len(find(built=False)) == 107
    by_name = [each.name.casefold() for each in find(sort="name")]
    assert by_name == sorted(by_name)
    assert find(sort="year")[0].name == "Opus"
    assert find(sort="frame-rate")[0].frame_rates[0] < 5
    assert all(len(find(sort=order)) == 107 for order in SORTS)
    with pytest.raises(ValueError, match="expected one of name, year"):
        find(sort="size")


def test_derived_facts() -> None:
    encodec = entry("EnCodec 24 kHz")
    assert encodec.bitrates == (1500, 24000)
    assert encodec.settings[0].nominal_bitrates == (1500, 24000)
    assert encodec.parameters == (14_851_810,)
    assert entry("TiCodec").frame_rates == (75,)
    assert entry("TFNet").bitrates is None
    assert Setting().nominal_bitrates == ()
    (row,) = (r for r in encodec.results if r.source == "survey-4" and r.codebooks == 8)
    assert (row.bitrate, row.values["PESQ"], row.values["WER"], row.data) == (
        6000,
        2.77,
        2.78,
        "LibriSpeech test-clean",
    )


def rows(text: str) -> Iterator[list[str]]:
    """The rows of all tables of a Markdown text."""
    for line in text.split("\n"):
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_results_of_the_survey_stand_in_its_tables(shared: Path) -> None:
    text = (shared / "reference" / "surveys.md").read_text(encoding="utf-8")
    table = list(rows(text))
    for found in catalog():
        for result in found.results:
            if not re.fullmatch(r"survey-([45789]|1[0123])", result.source):
                continue
            lines = [r for r in table if r[0] == result.system and r[1] == str(result.codebooks)]
            printed = [{float(c.split("±")[0]) for c in r[2:] if re.match(r"-?\.?\d", c)} for r in lines]
            at_all = {float(x) for x in re.findall(r"(?<![\w.])-?\d*\.\d+", text)}
            wanted = set(result.values.values())
            assert any(wanted <= line for line in printed) or wanted <= at_all, result
            assert lines, result


def test_facts_of_the_table_are_kept(shared: Path) -> None:
    with (shared / "reference" / "catalog.csv").open(encoding="utf-8") as file:
        table = {row["name"]: row for row in csv.DictReader(file)}
    renamed = {"Vocos": "Vocos (EnCodec-token vocoder)"}
    renamed |= {name: f"{name} (anchor)" for name in ("Opus", "EVS")} | {"LPCNet": "LPCNet codec (anchor)"}
    seen = {renamed.get(found.name, found.name) for found in catalog()} - {"ESPnet-Codec (ablation)"}
    assert seen == set(table)
    for found in catalog():
        row = table.get(renamed.get(found.name, found.name))
        if row is None:
            continue
        assert not row["year"].isdigit() or found.year == int(row["year"])
        assert row["paper_id"] in ("", found.paper)
        said = {"yes": True, "no": False, "": None}.get(row["streamable"], True)
        assert found.streamable is said
        for term in found.objectives:
            if term not in {"clustering", "teacher-student", "flow matching"}:
                assert term.casefold() in row["objectives"].casefold() or found.name == "NEST-RQ"


def table_of_the_page() -> str:
    """The table in docs/catalog.md."""
    lines = ["| tokenizer | here | architecture | names for `load` |", "|---|---|---|---|"]
    for found in find(built=True):
        loadable = ", ".join(f"`{name}`" for name in found.published)
        lines.append(f"| {found.name} | {found.status} | `{found.architecture}` | {loadable or '-'} |")
    return "\n".join(lines)


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "catalog.md").read_text(encoding="utf-8")
    assert table_of_the_page() in page, f"put this into docs/catalog.md:\n{table_of_the_page()}"
