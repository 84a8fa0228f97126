from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from audiotokens.config import from_dict, to_dict
from audiotokens.errors import CheckpointError
from audiotokens.nn import search
from audiotokens.quantizers import (
    KMeans,
    KMeansConfig,
    KMeansQuantizer,
    build_quantizer,
    load_centroids,
)
from audiotokens.quantizers import clustering as clustering_module
from audiotokens.quantizers.lloyd import centroids_of, cluster_sums, lloyd, seed


def clusters(vectors: int = 600, dim: int = 5, groups: int = 12, offset: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(0)
    centers = random.standard_normal((groups, dim)) * 3
    noise = random.standard_normal((vectors, dim))
    return (centers[random.integers(groups, size=vectors)] + noise + offset).astype(np.float32)


def oracle(
    vectors: np.ndarray, centroids: np.ndarray, iterations: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Lloyd's algorithm by all differences in float64, with restarts at the farthest vectors."""
    vectors, centroids = vectors.astype(np.float64), centroids.astype(np.float64)
    for _ in range(iterations):
        apart = ((vectors[:, None] - centroids) ** 2).sum(2)
        labels, near = apart.argmin(1), apart.min(1)
        updated = centroids.copy()
        free = list(np.argsort(-near, kind="stable"))
        for k in range(len(centroids)):
            if (labels == k).any():
                updated[k] = vectors[labels == k].mean(0)
            elif near[free[0]] > 0:
                updated[k] = vectors[free.pop(0)]
        centroids = updated
    apart = ((vectors[:, None] - centroids) ** 2).sum(2)
    return centroids, apart.argmin(1), float(apart.min(1).sum())


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_lloyd_agrees_with_all_differences_in_float64(offset: float) -> None:
    data = clusters(offset=offset)
    start = data[:12].copy()
    model = KMeans(12, init=start, max_iter=6, tol=0).fit(data)
    centroids, labels, inertia = oracle(data, start, 6)
    np.testing.assert_allclose(model.cluster_centers_, centroids, rtol=1e-5, atol=1e-5)
    assert (model.labels_ == labels).all()
    assert model.inertia_ == pytest.approx(inertia, rel=1e-5)
    assert model.n_iter_ == 6


def test_empty_clusters_restart_at_the_farthest_vectors() -> None:
    data = clusters()
    start = np.concatenate([data[:9], np.full((3, 5), 1e4, dtype=np.float32)])
    one = KMeans(12, init=start, max_iter=1).fit(data)
    np.testing.assert_allclose(one.cluster_centers_, oracle(data, start, 1)[0], rtol=1e-5, atol=1e-5)
    many = KMeans(12, init=start, max_iter=9, tol=0).fit(data)
    assert many.inertia_ == pytest.approx(oracle(data, start, 9)[2], rel=1e-5)
    assert len(np.unique(many.labels_)) == 12


def test_it_stops_where_nothing_moves_and_finds_planted_clusters() -> None:
    random = np.random.default_rng(1)
    planted = random.standard_normal((8, 16)) * 20
    data = (planted[np.arange(800) % 8] + random.standard_normal((800, 16))).astype(np.float32)
    model = KMeans(8, random_state=0, tol=0).fit(data)
    assert model.n_iter_ < 20
    found = model.cluster_centers_[model.predict(planted)]
    assert np.abs(found - planted).max() < 0.5
    again = oracle(data, model.cluster_centers_, 1)
    np.testing.assert_allclose(again[0], model.cluster_centers_, rtol=1e-5, atol=1e-5)


def test_k_means_plus_plus_starts_better_than_random_vectors() -> None:
    data = torch.from_numpy(clusters(3000, 8, 40))
    left = {}
    for start in ("k-means++", "random"):
        errors = []
        for number in range(5):
            found = lloyd(
                data, 40, iterations=5, start=start, generator=torch.Generator().manual_seed(number)
            )
            errors.append(float(torch.cdist(data, found).amin(1).square().mean()))
        left[start] = np.mean(errors)
    assert left["k-means++"] < 0.8 * left["random"]


def test_k_means_plus_plus_takes_each_of_few_different_vectors_once() -> None:
    data = torch.eye(6).repeat(50, 1) * 1000 + 5000
    found = seed(data, 6, generator=torch.Generator().manual_seed(3))
    assert torch.equal(found.unique(dim=0), data.unique(dim=0))


def test_it_is_deterministic_under_a_seed() -> None:
    data = clusters()
    first, second = (KMeans(12, random_state=5).fit(data) for _ in range(2))
    assert (first.cluster_centers_ == second.cluster_centers_).all()
    assert (first.cluster_centers_ != KMeans(12, random_state=6).fit(data).cluster_centers_).any()
    torch.manual_seed(0)
    third = KMeans(12).fit(data)
    torch.manual_seed(0)
    assert (third.cluster_centers_ == KMeans(12).fit(data).cluster_centers_).all()
    with_state = KMeans(12, random_state=np.random.RandomState(4)).fit(data)
    assert (with_state.labels_ == KMeans(12, random_state=np.random.RandomState(4)).fit(data).labels_).all()


def test_the_best_of_several_starts_is_kept() -> None:
    data = clusters(400, 2, 20)
    several = KMeans(20, init="random", n_init=6, max_iter=4, random_state=0).fit(data)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.from_numpy(data)
    single = [
        KMeans(20, init=seed(vectors, 20, start="random", generator=generator).numpy(), max_iter=4).fit(data)
        for _ in range(6)
    ]
    assert several.inertia_ == min(model.inertia_ for model in single)


def test_tiles_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = clusters(2000, 24, 30)
    start = data[:30].copy()
    whole = KMeans(30, init=start, max_iter=5).fit(data)
    monkeypatch.setattr("audiotokens.quantizers.lloyd.CHUNK", 193)
    monkeypatch.setattr(clustering_module, "CHUNK", 193)
    monkeypatch.setitem(search._TILE, "cpu", 64 * 64)
    pieces = KMeans(30, init=start, max_iter=5).fit(data)
    assert (pieces.labels_ == whole.labels_).all()
    np.testing.assert_allclose(pieces.cluster_centers_, whole.cluster_centers_, rtol=1e-6, atol=1e-6)


def test_codes_do_not_depend_on_the_batch() -> None:
    data = clusters(1000, 24, 30)
    model = KMeans(30, random_state=0, max_iter=3).fit(data)
    alone = np.concatenate([model.predict(row[None]) for row in data])
    assert (alone == model.predict(data)).all()
    assert (alone == model.labels_).all()


def test_a_stream_in_any_pieces_gives_what_the_whole_gives() -> None:
    data = clusters()
    start = data[:12].copy()
    whole = KMeans(12, init=start).fit(data)
    reads: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        reads.append(0)
        yield from np.split(data, [1, 100, 101, 450])

    streamed = KMeans(12, init=start).fit_stream(blocks)
    assert (streamed.cluster_centers_ == whole.cluster_centers_).all()
    assert streamed.n_iter_ == whole.n_iter_
    assert streamed.inertia_ == pytest.approx(whole.inertia_, rel=1e-6)
    assert len(reads) == whole.n_iter_ + 2
    first = KMeans(12, random_state=0).fit_stream(blocks)
    second = KMeans(12, random_state=0).fit_stream(lambda: [data])
    assert (first.cluster_centers_ == second.cluster_centers_).all()


def test_a_stream_is_cut_into_chunks_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering_module, "CHUNK", 64)
    data = clusters()
    pieces = [KMeans(12, random_state=0).fit_stream(lambda n=n: np.array_split(data, n)) for n in (1, 7, 300)]
    for other in pieces[1:]:
        assert (other.cluster_centers_ == pieces[0].cluster_centers_).all()
        assert other.inertia_ == pieces[0].inertia_


def test_a_stream_that_cannot_begin_anew_is_an_error() -> None:
    blocks = iter([clusters()])
    with pytest.raises(ValueError, match="blocks\\(\\) must begin anew"):
        KMeans(12, random_state=0).fit_stream(lambda: blocks)


def test_mini_batches_follow_sculley_by_hand() -> None:
    data = clusters().astype(np.float64)
    start = data[:12].copy()
    model = KMeans(12, init=start)
    expected, seen = start.copy(), np.zeros(12)
    for batch in np.split(data, [200, 230]):
        model.partial_fit(batch)
        labels = ((batch[:, None] - expected) ** 2).sum(2).argmin(1)
        for vector, k in zip(batch, labels):
            seen[k] += 1
            expected[k] += (vector - expected[k]) / seen[k]
        np.testing.assert_allclose(model.cluster_centers_, expected, rtol=1e-10)
    assert model.n_iter_ == 3
    assert len(model.labels_) == 370


def test_mini_batches_restart_centroids_that_never_won_a_vector() -> None:
    data = clusters()
    start = np.concatenate([data[:9], np.full((3, 5), 1e4, dtype=np.float32)])
    model = KMeans(12, init=start)
    batch = data[:200]
    model.partial_fit(batch)
    near = ((batch[:, None] - start[:9]) ** 2).sum(2).min(1)
    assert (model.cluster_centers_[9:] == batch[np.argsort(-near)[:3]]).all()


def test_fewer_different_vectors_than_clusters() -> None:
    data = np.repeat(np.array([[0.0, 1.0], [4.0, 4.0], [9.0, 0.0]]), 5, axis=0)
    with pytest.warns(UserWarning, match="3 clusters that are not empty, expected n_clusters=5"):
        model = KMeans(5, random_state=0).fit(data)
    assert model.inertia_ == 0
    assert (model.cluster_centers_[model.labels_] == data).all()
    found = lloyd(torch.tensor([[1.0], [2.0]]), 5, generator=torch.Generator().manual_seed(0))
    assert sorted(found[:, 0].unique().tolist()) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        ({"n_clusters": 0}, np.ones((3, 2)), "n_clusters is 0, expected an integer of at least 1"),
        ({"n_clusters": 4}, np.ones((3, 2)), "n_samples=3), expected n_clusters=4"),
        ({"n_clusters": 2, "init": "best"}, np.ones((3, 2)), 'init is "best", expected'),
        (
            {"n_clusters": 2, "init": np.ones((2, 3))},
            np.ones((3, 2)),
            "init has shape (2, 3), expected (2",
        ),
        ({"n_clusters": 2, "max_iter": 0}, np.ones((3, 2)), "max_iter is 0"),
        ({"n_clusters": 1}, np.array([[np.nan, 1.0]]), "found NaN or infinity"),
        ({"n_clusters": 1}, np.ones(3), "Reshape your data"),
        ({"n_clusters": 1}, np.ones((3, 2), dtype=complex), "Complex data not supported"),
        ({"n_clusters": 1}, np.array([["a"]]), "expected real numbers"),
    ],
)
def test_what_cannot_be_clustered_is_an_error(
    changes: dict[str, object], data: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=".") as caught:
        KMeans(**changes).fit(data)
    assert message in str(caught.value)


def test_a_model_without_centroids_or_with_other_dimensions_says_so() -> None:
    with pytest.raises(ValueError, match="no centroids yet"):
        KMeans(2).predict(np.ones((3, 2)))
    model = KMeans(2, random_state=0).fit(clusters())
    with pytest.raises(ValueError, match="X has 2 features, but KMeans is expecting 5 features"):
        model.predict(np.ones((3, 2)))


def test_transform_and_score() -> None:
    data = clusters()
    model = KMeans(12, random_state=0).fit(data)
    expected = np.sqrt(((data[:, None].astype(np.float64) - model.cluster_centers_) ** 2).sum(2))
    np.testing.assert_allclose(model.transform(data), expected, rtol=1e-4)
    assert model.score(data) == pytest.approx(-(expected.min(1) ** 2).sum(), rel=1e-5)


def test_tensors_and_read_only_arrays_are_taken() -> None:
    data = clusters()
    expected = KMeans(12, random_state=0).fit(data).cluster_centers_
    locked = data.copy()
    locked.setflags(write=False)
    for same in (torch.from_numpy(data), locked, np.asfortranarray(data), data.astype(">f4")):
        assert (KMeans(12, random_state=0).fit(same).cluster_centers_ == expected).all()
    assert KMeans(12, random_state=0).fit(data.astype(np.float64)).cluster_centers_.dtype == np.float64


def test_sums_are_those_of_each_label() -> None:
    data = torch.from_numpy(clusters())
    labels = torch.arange(600) % 7
    labels[labels == 3] = 4
    sums, counts = cluster_sums(data, labels, 8)
    expected = torch.zeros(8, 5, dtype=torch.float64).index_add_(0, labels, data.double())
    torch.testing.assert_close(sums, expected, rtol=1e-6, atol=1e-4)
    assert counts.tolist() == torch.bincount(labels, minlength=8).tolist()
    assert torch.equal(centroids_of(sums, counts, data[:8], data[:8])[3], data[3])


def quantizer() -> KMeansQuantizer:
    torch.manual_seed(0)
    built = build_quantizer(KMeansConfig(codebook_size=12), dim=5)
    if not isinstance(built, KMeansQuantizer):
        raise TypeError(type(built).__name__)
    return built


def test_as_a_quantizer_it_gives_the_nearest_centroid_and_learns_nothing() -> None:
    units = quantizer()
    data = torch.from_numpy(clusters())
    units.initialize(data, generator=torch.Generator().manual_seed(0))
    latents = data.view(4, 150, 5).mT
    expected = torch.cdist(latents.mT.double(), units.book.double().expand(4, -1, -1)).argmin(2)[:, None]
    assert torch.equal(units.encode(latents), expected)
    result = units.train()(latents.clone().requires_grad_())
    assert torch.equal(result.codes, expected)
    assert torch.equal(result.latents, units.decode(expected))
    assert not result.latents.requires_grad
    assert not result.losses
    assert not result.statistics
    assert list(units.state_dict()) == ["book"]
    assert not list(units.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(units(latents).codes, expected)
    error = float((units.decode(expected) - latents).square().sum())
    assert error <= 1.05 * KMeans(12, random_state=0, n_init=3).fit(data).inertia_


def test_its_configuration_survives_and_is_checked() -> None:
    config = KMeansConfig(codebook_size=50, iterations=3, start="random")
    assert from_dict(KMeansConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match="codebook_size is 1, expected at least 2"):
        KMeansConfig(codebook_size=1)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_centroids_of_fairseq_are_read(tmp_path: Path, kind: str) -> None:
    values = clusters(20).astype(kind)
    np.save(tmp_path / "km.npy", values)
    save_file({"centroids": values.astype(np.float32)}, tmp_path / "km.safetensors")
    for name in ("km.npy", "km.safetensors"):
        centroids = load_centroids(tmp_path / name)
        assert centroids.dtype == torch.float32
        assert (centroids.numpy() == values.astype(np.float32)).all()
    assert KMeansQuantizer.from_centroids(centroids).codebook_sizes == (20,)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was run",))


PICKLED = pickle.dumps(Evil())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("km.bin", PICKLED),
        ("km500", PICKLED),
        ("km.joblib", zlib.compress(PICKLED)),
        ("km", zlib.compress(PICKLED)),
        ("km.pkl", pickle.dumps([1], protocol=0)),
    ],
)
def test_pickles_are_refused_with_a_recipe(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is a pickle") as caught:
        load_centroids(path)
    assert "cluster_centers_)" in str(caught.value)
    assert "\n" not in str(caught.value)


def npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def saved(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 768), }\n"
FORGED = {
    "empty": b"",
    "text": b"hello, this is no array",
    "objects": saved(np.array([[Evil()]], dtype=object)),
    "whole numbers": saved(np.ones((3, 2), dtype=np.int64)),
    "complex": saved(np.ones((3, 2), dtype=np.complex64)),
    "one axis": saved(np.ones(3)),
    "no rows": saved(np.ones((0, 3))),
    "not finite": saved(np.array([[1.0, np.inf]])),
    "overflow": saved(np.array([[1.0, 1e300]])),
    "cut": saved(np.ones((30, 20)))[:-1],
    "huge": npy(HUGE, b"\0" * 64),
    "negative": npy(HUGE.replace("1000000000000", "-1"), b"\0" * 64),
    "no header": b"\x93NUMPY\x01\x00\xff",
    "program": npy("__import__('os').abort()\n"),
    "nested": npy("(" * 4000),
    "version": b"\x93NUMPY\x09\x00" + bytes(64),
    "structured": saved(np.zeros((2, 2), dtype=[("a", "f4")])),
}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
def test_forged_files_are_errors_of_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "centroids.npy"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_centroids(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_safetensors_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "two.safetensors"
    save_file({"a": np.ones((2, 2), "f4"), "b": np.ones((2, 2), "f4")}, path)
    with pytest.raises(CheckpointError, match="holds the tensors a, b, expected one"):
        load_centroids(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_centroids(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_centroids(tmp_path / "none.npy")


def test_scikit_learn_accepts_it_as_an_estimator() -> None:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    results = checks.check_estimator(KMeans(random_state=0), on_fail=None, on_skip=None)
    failed = {
        result["check_name"]: str(result["exception"]) for result in results if result["status"] == "failed"
    }
    assert not failed
    assert sum(result["status"] == "passed" for result in results) >= 40


def test_it_is_as_good_as_that_of_scikit_learn_from_the_same_start() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    data = clusters(2000, 24, 30)
    start = data[:40].copy()
    theirs = cluster.KMeans(40, init=start, n_init=1, max_iter=8, tol=0).fit(data)
    ours = KMeans(40, init=start, max_iter=8, tol=0).fit(data)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-4, atol=1e-4)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-5)
