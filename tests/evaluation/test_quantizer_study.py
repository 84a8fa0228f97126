"""The study of quantizers: latents, training, books left out, intervals, pictures, and a tiny study whole."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import audiotokens
from audiotokens.codec import Codec
from audiotokens.errors import AudioError
from audiotokens.evaluation.quantizer_study.autoencoder import Autoencoder, Budget, Glimpse, train
from audiotokens.evaluation.quantizer_study.cells import (
    BookFigures,
    Cell,
    CellResult,
    Usage,
    read_result,
    without_book,
    write_result,
)
from audiotokens.evaluation.quantizer_study.figures import Results, embedding_parameters, measured_bits
from audiotokens.evaluation.quantizer_study.hypotheses import all_tables
from audiotokens.evaluation.quantizer_study.latents import About, Clips, load_latents, make_latents
from audiotokens.evaluation.quantizer_study.plan import FULL, Plan
from audiotokens.evaluation.quantizer_study.plots import Line, Panel, draw
from audiotokens.evaluation.quantizer_study.references import REFERENCES
from audiotokens.evaluation.quantizer_study.study import cells_name, run_study
from audiotokens.evaluation.quantizer_study.subjects import SUBJECTS
from audiotokens.quantizers import FSQConfig, build_quantizer

TINY = Plan(
    sizes=(8, 10),
    high_sizes=(8,),
    seeds=(0,),
    steps=((0, 4),),
    rows_per_step=64,
    max_frames=400,
    clips=2,
    opinions=False,
    subjects=("vq-plain", "vq-expiry", "kmeans", "fsq", "rvq"),
    dropped_bits=8,
    prefix_bits=20,
    sounds=(("rvq", (20,)), ("fsq", (20,))),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds of four speakers, two in each split, with silence between tones."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    time = np.arange(24000) / 16000
    for index, name in enumerate(["train/a", "train/b", "test/c", "test/d"]):
        path = folder / name / "one.wav"
        path.parent.mkdir(parents=True)
        tone = np.sin(2 * np.pi * (110 + 30 * index) * time) * (np.sin(5 * time) > 0)
        soundfile.write(path, 0.2 * tone + 0.01 * rng.standard_normal(len(time)), 16000)
    return folder


@pytest.fixture(scope="module")
def codec() -> Codec:
    loaded = audiotokens.load("speech-16k", exact=False)
    assert isinstance(loaded, Codec)
    return loaded


@pytest.fixture(scope="module")
def study(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study."""
    return run_study(data, tmp_path_factory.mktemp("study"), plan=TINY, jobs=1).parent


def test_latents_are_centred_and_go_back(data: Path, codec: Codec, tmp_path: Path) -> None:
    about = make_latents(codec, data, tmp_path, max_frames=1000)
    found = load_latents(tmp_path, "latent")
    np.testing.assert_allclose(found.train.mean(0), 0.0, atol=1e-4)
    assert found.train.var(0).mean() == pytest.approx(1.0, rel=1e-4)
    assert load_latents(tmp_path, "trunk").dim == 128
    waveform, sample_rate = audiotokens.read_audio(Path(about.test.files[0]))
    rows = found.test[about.test.slices()[0]]
    expected = codec.features(waveform, sample_rate)
    np.testing.assert_allclose(found.restored(rows), expected, atol=1e-3 * np.abs(expected).max())


def test_latents_are_made_once(data: Path, codec: Codec, tmp_path: Path) -> None:
    make_latents(codec, data, tmp_path, max_frames=100)
    before = (tmp_path / "latent-train.npy").stat().st_mtime_ns
    make_latents(codec, data, tmp_path, max_frames=100)
    assert (tmp_path / "latent-train.npy").stat().st_mtime_ns == before
    make_latents(codec, data, tmp_path, max_frames=50)
    assert (tmp_path / "latent-train.npy").stat().st_mtime_ns != before


def test_a_folder_without_a_split_is_refused(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="has no folder train, expected audio in"):
        make_latents(codec, tmp_path, tmp_path / "latents", max_frames=10)


def trained(seed: int, *, steps: int = 60) -> tuple[list[Glimpse], np.ndarray]:
    rows = np.random.default_rng(5).standard_normal((2000, 6)).astype(np.float32)
    torch.manual_seed(seed)
    model = Autoencoder(build_quantizer(FSQConfig(levels=(5, 5, 5)), 6), 6)
    glimpses = train(model, rows, Budget(256, steps), seed=seed)
    return glimpses, model.decode(model.encode(rows[:100]))


def test_training_lowers_the_error_and_repeats_itself() -> None:
    first, restored = trained(0)
    assert first[-1].error < 0.75 * first[0].error
    assert trained(0)[0] == first
    assert trained(1)[0] != first
    assert restored.shape == (100, 6)


@pytest.mark.parametrize("name", ["rvq", "gvq"])
def test_a_book_left_out_is_replaced_by_its_mean(name: str) -> None:
    torch.manual_seed(0)
    make = SUBJECTS[name].make
    assert make is not None
    model = Autoencoder(build_quantizer(make(8, 64), 6), 6)
    codes = torch.randint(0, 16, (2, 50))
    with torch.inference_mode():
        whole = model.quantizer.decode(codes[None])[0].T
        one = torch.stack([codes[0], torch.zeros_like(codes[1])])
        apart = whole - model.quantizer.decode(one[None])[0].T
    # The second book adds its part, up to what its entry 0 adds everywhere.
    expected = whole - apart + apart.mean(0)
    np.testing.assert_allclose(without_book(model, codes, 1), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SUBJECTS if name not in REFERENCES])
def test_every_subject_comes_near_its_nominal_bits(name: str) -> None:
    subject = SUBJECTS[name]
    assert subject.make is not None
    for bits in (bits for bits in FULL.sizes if bits <= min(subject.bits, 12)):
        quantizer = build_quantizer(subject.make(bits, 1024), 48)
        assert sum(map(np.log2, quantizer.codebook_sizes)) == pytest.approx(bits, abs=0.7)


def about(files: int) -> About:
    names = tuple(f"{i}.wav" for i in range(files))
    clips = Clips(names, tuple(f"s{i}" for i in range(files)), (10,) * files)
    return About("", "t", 50.0, clips, 100, 5, {"latent": 1.0, "trunk": 1.0}, 1.0)


def result(cell: Cell, *, entropy: float, error: float, **more: object) -> CellResult:
    book = BookFigures(2**cell.bits, 200, 256.0, entropy, entropy, 1.0)
    errors = tuple(10 * error * (1 + 0.1 * i) for i in range(6))
    found = CellResult(cell, Usage((book,), None, None), errors)
    return replace(found, **more)  # type: ignore[arg-type]


def test_distortions_are_compared_at_equal_measured_bits() -> None:
    cells = [
        result(Cell("grid", "fsq", 8, 0), entropy=6.0, error=0.4),
        result(Cell("grid", "fsq", 10, 0), entropy=8.0, error=0.1),
        result(Cell("grid", "rvq", 8, 0), entropy=7.0, error=0.1),
        result(Cell("grid", "rvq", 10, 0), entropy=9.0, error=0.025),
    ]
    results = Results(cells, about(6))
    fsq, rvq = results.errors_at("fsq", 7.0), results.errors_at("rvq", 7.0)
    assert fsq["0.wav"] == pytest.approx(10 * np.log10(0.2))
    difference = results.compared(rvq, fsq)
    assert difference.mean == pytest.approx(10 * np.log10(0.5))
    assert difference.low is not None and difference.high is not None
    assert difference.low <= difference.high < 0


def test_shares_of_the_books_add_up_to_one() -> None:
    curve = {"0": 1.0, "1": 0.4, "2": 0.2}
    books = (BookFigures(4, 4, 4.0, 2.0, 2.0, 1.0),) * 2
    found = result(Cell("prefix", "rvq", 20, 0), entropy=8.0, error=0.2, reduced=curve)
    found = replace(found, usage=Usage(books, None, None))
    table = next(table for table in all_tables(Results([found], about(6))) if table.name == "H5")
    assert [row[2] for row in table.rows] == ["0.750", "0.250"]


def test_an_interval_over_seeds_stands_in_the_first_claim() -> None:
    cells = [
        result(Cell("grid", name, 8, seed), entropy=entropy + 0.1 * seed, error=0.2)
        for name, entropy in (("vq-plain", 5.0), ("fsq", 7.0))
        for seed in range(3)
    ]
    table = all_tables(Results(cells, about(6)))[0]
    assert [(row[1], row[5]) for row in table.rows] == [
        ("VQ, gradients, no tricks", ""),
        ("FSQ", "2.00 (2.00 to 2.00)"),
    ]


def test_embeddings_of_two_small_books_cost_less_than_those_of_one() -> None:
    assert embedding_parameters((65536,), 512) == 2 * 65536 * 512
    assert embedding_parameters((256, 256), 512) == 2 * 512 * 512


def test_results_survive_a_file(tmp_path: Path) -> None:
    found = result(Cell("audio", "rvq", 8, 3), entropy=7.0, error=0.1, heard={"all": {"stoi": (0.5, None)}})
    write_result(found, tmp_path)
    assert read_result(tmp_path / "audio-latent-rvq-8-3.json") == found


@pytest.mark.parametrize("logarithmic", [False, True])
def test_pictures_are_xml_with_every_name(logarithmic: bool) -> None:
    lines = tuple(Line(f"a < {i}", ((10.0, 0.2, 0.1, 0.3), (4000.0, 0.5, 0.4, 0.6)), i) for i in range(3))
    picture = draw([Panel("t", lines, "x", logarithmic)], label="l", y_label="y", y_range=(0.0, 1.0))
    texts = {element.text for element in ElementTree.fromstring(picture).iter() if element.text}
    assert {"a < 0", "a < 1", "a < 2", "x", "y", "t"} <= texts


def test_a_study_has_figures_pictures_and_a_page(study: Path) -> None:
    content = json.loads((study / "figures.json").read_text())
    assert {row["quantizer"] for row in content["grid"]} >= {"FSQ", "RVQ", "k-means, offline"}
    assert [table["name"] for table in content["claims"]] == ["H1", "H2", "H3", "H4", "H5"]
    page = (study / "quantizer-study.md").read_text()
    for picture in (study / "images").glob("*.svg"):
        ElementTree.fromstring(picture.read_text())
        assert f"images/{picture.name}" in page
    assert len((study / "figures.csv").read_text().splitlines()) == 1 + len(content["grid"])


def test_a_study_goes_on_where_it_was_stopped(study: Path, data: Path) -> None:
    (cells,) = study.glob("cells-*")
    lost = cells / "grid-latent-fsq-8-0.json"
    before = read_result(lost)
    kept = {path: path.stat().st_mtime_ns for path in cells.iterdir() if path != lost}
    lost.unlink()
    lines: list[str] = []
    run_study(data, study, plan=TINY, jobs=1, progress=lines.append)
    again = read_result(lost)
    assert replace(again, seconds=0.0) == replace(before, seconds=0.0)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert lines == [f"cells: {len(kept) + 1} of {len(kept) + 1}, grid-latent-fsq-8-0"]


def test_results_of_another_plan_lie_elsewhere() -> None:
    assert cells_name(TINY, about(2)) == cells_name(TINY, about(2))
    assert cells_name(TINY, about(2)) != cells_name(replace(TINY, clips=3), about(2))
    assert cells_name(TINY, about(2)) != cells_name(TINY, replace(about(2), source="other"))


def test_measured_bits_are_those_of_the_codes(study: Path) -> None:
    (path,) = study.glob("cells-*/grid-latent-vq-expiry-8-0.json")
    found = read_result(path)
    assert 0 < measured_bits(found) <= found.usage.nominal_bits == 8.0
    assert found.rows == TINY.budget(found.cell).rows == 256
    assert found.training[-1].step == 4
