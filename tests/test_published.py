"""Records of published checkpoints: complete, consistent, and agreeing with the families that read them."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from audiotokens import config, registry
from audiotokens.cache import cache_folder
from audiotokens.errors import TokenizerNotFoundError
from audiotokens.published import Origin, Published, facts, published

each = pytest.mark.parametrize("record", published.values(), ids=published)


@each
def test_a_record_says_everything_that_is_needed(record: Published) -> None:
    assert published[record.name] is record
    assert re.fullmatch(r"[a-z0-9-]+", record.name)
    assert re.fullmatch(r"\d{4}\.\d{5}", record.paper)
    assert re.fullmatch(r"[A-Za-z0-9.-]+", record.license)
    assert record.noncommercial == ("-NC" in record.license)
    assert record.sample_rate > 0
    assert record.origins
    assert all(note.endswith(".") for note in record.notes)
    assert max(record.bitrates, default=record.bitrate) == pytest.approx(record.bitrate)


@each
def test_every_origin_tells_where_its_files_are(record: Published) -> None:
    for origin in record.origins:
        assert origin.weights
        assert bool(origin.hub) != bool(origin.address)
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", origin.hub) or origin.address.endswith("/")
        assert origin.page.startswith("https://")
        for file in origin.files:
            assert re.fullmatch(r"(?:[0-9a-f]{8}|[0-9a-f]{64})?", file.sha256)
            assert not file.name.startswith("/")
            assert ".." not in file.name
        bases = [file.base for file in origin.files]
        assert len(bases) == len(set(bases))


def test_one_folder_can_hold_the_files_of_any_origin() -> None:
    """Files of two origins of a record that have one name would be mistaken for each other."""
    for record in published.values():
        names = [name for o in record.origins for f in o.weights for name in (f.base, *f.aliases)]
        assert len(names) == len(set(names))


def test_every_family_is_here() -> None:
    families = {record.architecture for record in published.values()}
    assert families == {
        "encodec",
        "dac",
        "snac",
        "vocos",
        "mimi",
        "speechtokenizer",
        "wavtokenizer",
        "soundstream",
    }


@each
def test_records_are_plain_data(record: Published) -> None:
    values = json.loads(json.dumps(config.to_dict(record)))
    assert config.from_dict(Published, values) == record
    assert json.loads(json.dumps(facts(record.name)))["weights_license"] == record.license


def test_what_is_not_verified_is_told() -> None:
    origins = facts("encodec-16khz")["origins"]
    assert origins[0]["not_verified"] == "layout inside the file"
    assert origins[0]["files"] == {"compression_state_dict.bin": "SHA-256 not verified"}
    assert facts("snac-24khz")["training_data"] == "not stated"


def test_unknown_names() -> None:
    with pytest.raises(TokenizerNotFoundError, match='no published checkpoint is called "mimic"'):
        facts("mimic")


def test_pages() -> None:
    assert Origin((), hub="a/b").page == "https://huggingface.co/a/b"
    assert Origin((), address="https://x.org/y/").page == "https://x.org/y/"


def test_known_rates() -> None:
    """Bits per second as the papers and cards print them."""
    rates = {name: round(record.bitrate / 1000, 2) for name, record in published.items()}
    assert rates["encodec-24khz"] == rates["encodec-48khz"] == rates["dac-24khz"] == 24
    assert (rates["dac-44khz"], rates["snac-24khz"], rates["mimi"]) == (7.75, 0.98, 4.4)
    assert (rates["wavtokenizer-large-unify-40token"], rates["lyra-v2"]) == (0.48, 9.2)


@each
def test_the_family_agrees_with_the_record(record: Published) -> None:
    """The variant makes the record's codes; the authors count the gains of weight norm as parameters too."""
    torch = pytest.importorskip("torch")
    home, _, name = registry.architectures.get(record.architecture, "").partition(":")
    if not home:
        pytest.skip(f"{record.architecture} is not built")
    module = importlib.import_module(home)
    with torch.device("meta"):
        codec = getattr(module, name)(module.VARIANTS[record.variant])
    assert codec.spec.streams == record.streams
    assert (codec.spec.sample_rate, codec.spec.channels) == (record.sample_rate, record.channels)
    if record.parameters:
        counted = sum(parameter.numel() for parameter in codec.parameters())
        assert counted == pytest.approx(record.parameters, rel=2e-3)


def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOTOKENS_CACHE", "given")
    assert cache_folder() == Path("given")
    monkeypatch.delenv("AUDIOTOKENS_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "xdg")
    assert cache_folder() == Path("xdg/audiotokens")
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "audiotokens"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "local")
    assert cache_folder() == Path("local/audiotokens")


def table() -> str:
    """The table of docs/weights.md."""
    lines = ["| `load(...)` | Hz | frames/s | books | kbit/s | weights, M | licence | paper | files |"]
    lines.append("|---" * 9 + "|")
    for record in published.values():
        sizes = [size for stream in record.streams for size in stream.codebook_sizes]
        frames = dict.fromkeys(f"{float(stream.frame_rate):.4g}" for stream in record.streams)
        cells = [
            f"`{record.name}`",
            f"{record.sample_rate}" + (", stereo" if record.channels == 2 else ""),
            " + ".join(frames),
            f"{len(sizes)} x {sizes[0]}" if sizes else "",
            ", ".join(f"{rate / 1000:.3g}" for rate in record.bitrates or (record.bitrate,) if rate),
            f"{record.parameters / 1e6:.1f}" if record.parameters else "",
            record.license,
            f"[{record.paper}](https://arxiv.org/abs/{record.paper})",
            f"[{record.origins[0].hub or record.origins[0].weights[0].base}]({record.origins[0].page})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_page_shows_the_records(root: Path) -> None:
    page = (root / "docs" / "weights.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- published: [^>]* -->\n(.*?)\n?<!-- end -->", page, re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == table(), f"docs/weights.md should show\n\n{table()}\n"
