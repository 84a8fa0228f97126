"""k-means as an estimator with scikit-learn's conventions, also of data larger than memory.

Lloyd's algorithm as in `lloyd`, in memory or over a stream of blocks that is read once per iteration, and
mini-batches with a learning rate 1 / n per centroid (Sculley 2010): c <- c + sum of (x - c) / n over the x
that it wins in the batch, with n all that it has won so far. scikit-learn itself is not needed.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiotokens.nn.search import Searcher
from audiotokens.quantizers.lloyd import CHUNK, Start, centroids_of, cluster_sums, distances, seed
from audiotokens.quantizers.statistics import drawn, sample
from audiotokens.quantizers.vectors import Moments, as_vectors, rechunked

Array: TypeAlias = NDArray[Any]

_ROWS = 4096
_SAMPLE_PER_CLUSTER = 64


class KMeans:
    """k-means with the parameters, methods and attributes of `sklearn.cluster.KMeans`.

    Data are arrays or tensors `[M, D]`; tensors are clustered on their device. Results are NumPy arrays. An
    empty cluster restarts at the vector farthest from its centroid, and of equal distances the lowest index
    wins. Where there are fewer different vectors than clusters, some centroids are equal and their clusters
    but the first are empty.

    Args:
        n_clusters: number of centroids K.
        init: "k-means++", "random", or centroids `[K, D]`.
        n_init: how many starts are tried; the one with the least inertia is kept.
        max_iter: most iterations of one start.
        tol: stop when the centroids move less: ||c' - c||^2 <= tol * mean variance of the dimensions.
        random_state: seed, or a NumPy `RandomState` that one is drawn from; None: torch's global generator.

    Attributes:
        cluster_centers_: `[K, D]`.
        labels_: int64 `[M]` of the data of `fit` or of the last `partial_fit`; none after `fit_stream`.
        inertia_: sum of squared distances from the nearest centroids, of the same data.
        n_iter_: iterations run.
        n_features_in_: D.

    Example:
        >>> model = KMeans(2, random_state=0).fit([[0.0], [1.0], [10.0], [11.0]])
        >>> sorted(model.cluster_centers_[:, 0].tolist()), model.inertia_
        ([0.5, 10.5], 1.0)
    """

    cluster_centers_: Array
    labels_: Array
    inertia_: float
    n_iter_: int
    n_features_in_: int
    _estimator_type = "clusterer"

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | Array = "k-means++",
        n_init: int = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: object, y: None = None) -> KMeans:
        """Cluster vectors `[M, D]`, M >= K.

        Raises:
            ValueError: the data or a parameter cannot be used.
        """
        vectors = self._checked(X, reset=True)
        moments = Moments()
        for rows in vectors.split(CHUNK):
            moments.add(rows)
        self.labels_ = self._run(lambda: vectors.split(CHUNK), vectors, moments, keep_labels=True)
        used = len(np.unique(self.labels_))
        if used < self.n_clusters:
            warnings.warn(
                f"found {used} clusters that are not empty, expected n_clusters={self.n_clusters}: there are "
                "fewer different vectors, and some centroids are equal; ask for fewer clusters",
                stacklevel=2,
            )
        return self

    def fit_stream(self, blocks: Callable[[], Iterable[object]]) -> KMeans:
        """Cluster data larger than memory; the sizes of the blocks change nothing.

        The start and the restarts come from a sample of up to 64 vectors per cluster, which the bits of the
        vectors decide. One pass is read for the sample, and one per iteration and for the inertia.

        Args:
            blocks: gives an iterator over blocks `[m, D]`, anew for every pass.

        Raises:
            ValueError: the data or a parameter cannot be used.
        """
        self.__dict__.pop("n_features_in_", None)
        self.__dict__.pop("labels_", None)

        def chunks() -> Iterator[Tensor]:
            fresh = (self._checked(block, reset=not hasattr(self, "n_features_in_")) for block in blocks())
            return rechunked(fresh, CHUNK)

        moments = Moments()
        found: Tensor | None = None
        room = _SAMPLE_PER_CLUSTER * self.n_clusters
        for rows in chunks():
            moments.add(rows)
            pool = rows.float() if found is None else torch.cat([found, rows.float()])
            picked, number = drawn(*sample(pool, room))
            found = picked[: int(number)]
        if found is None:
            raise ValueError("found no blocks, expected at least one")
        self._run(chunks, found, moments, keep_labels=False)
        return self

    def partial_fit(self, X: object, y: None = None) -> KMeans:
        """Learn from one mini-batch; the first one starts the centroids and needs at least K vectors.

        Raises:
            ValueError: the data or a parameter cannot be used.
        """
        first = not hasattr(self, "_seen")
        vectors = self._checked(X, reset=first)
        if first:
            self._check_parameters(len(vectors))
            self.cluster_centers_ = self._start(vectors, self._generator()).cpu().numpy()
            self._seen = torch.zeros(self.n_clusters, dtype=torch.long)
            self.n_iter_ = 0
        centroids = torch.from_numpy(self.cluster_centers_).to(vectors)
        labels = Searcher(centroids).nearest(vectors)
        sums, counts = cluster_sums(vectors, labels, self.n_clusters)
        before = self._seen.to(counts.device)
        total = sums + centroids.double() * before[:, None]
        self._seen = before + counts
        centroids = centroids_of(total, self._seen, centroids, vectors)
        self._keep(centroids, self.n_iter_ + 1)
        labels = Searcher(centroids).nearest(vectors)
        self.labels_ = labels.cpu().numpy()
        self.inertia_ = float(distances(vectors, centroids, labels).double().sum())
        return self

    def predict(self, X: object) -> Array:
        """Return the index int64 `[M]` of the nearest centroid of each vector, the same in any batch."""
        vectors, centroids = self._fitted(X)
        return Searcher(centroids).nearest(vectors).cpu().numpy()

    def transform(self, X: object) -> Array:
        """Return the distances `[M, K]` of vectors from all centroids."""
        vectors, centroids = self._fitted(X)
        parts = [torch.cdist(rows, centroids) for rows in vectors.split(_ROWS)]
        return torch.cat(parts).cpu().numpy()

    def score(self, X: object, y: None = None) -> float:
        """Return minus the sum of squared distances of vectors from their nearest centroids."""
        vectors, centroids = self._fitted(X)
        return -float(distances(vectors, centroids, Searcher(centroids).nearest(vectors)).double().sum())

    def fit_predict(self, X: object, y: None = None) -> Array:
        """`fit`, and return `labels_`."""
        return self.fit(X).labels_

    def fit_transform(self, X: object, y: None = None) -> Array:
        """`fit`, and return the distances `[M, K]`."""
        return self.fit(X).transform(X)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def _set_params(self, **values: Any) -> KMeans:
        """Set constructor's arguments by name.

        Raises:
            ValueError: there is no such argument.
        """
        known = self.get_params()
        for name, value in values.items():
            if name not in known:
                raise ValueError(f'found the parameter "{name}", expected one of {", ".join(known)}')
            setattr(self, name, value)
        return self

    # Keywords of any name are what scikit-learn's protocol asks for, and the house elsewhere refuses.
    set_params = _set_params

    def __repr__(self) -> str:
        return f"KMeans({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="clusterer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cluster_centers_")

    def _run(
        self, chunks: Callable[[], Iterable[Tensor]], found: Tensor, moments: Moments, *, keep_labels: bool
    ) -> Array:
        """Try the starts and keep the best; empty clusters restart among the vectors `found`."""
        self._check_parameters(moments.count)
        generator = self._generator()
        best, best_labels = float("inf"), np.zeros(0, dtype=np.int64)
        for _ in range(self.n_init if isinstance(self.init, str) else 1):
            centroids = self._start(found, generator)
            iterations, moved = 0, float("inf")
            while iterations < self.max_iter and moved > self.tol * moments.variance:
                iterations += 1
                sums, counts = _totals(chunks(), centroids, moments.count)
                updated = centroids_of(sums, counts, centroids, found)
                moved = float((updated - centroids).double().square().sum())
                centroids = updated
            labels, inertia = _label_pass(chunks(), centroids, keep_labels=keep_labels)
            if inertia < best:
                best, best_labels = inertia, labels
                self._keep(centroids, iterations)
        self.inertia_ = best
        return best_labels

    def _keep(self, centroids: Tensor, iterations: int) -> None:
        self.cluster_centers_ = centroids.cpu().numpy()
        self.n_iter_ = iterations

    def _start(self, vectors: Tensor, generator: torch.Generator | None) -> Tensor:
        if isinstance(self.init, str):
            start: Start = "random" if self.init == "random" else "k-means++"
            return seed(vectors, self.n_clusters, start=start, generator=generator)
        given = torch.as_tensor(np.array(self.init)).to(vectors)
        if given.shape != (self.n_clusters, vectors.shape[1]):
            raise ValueError(
                f"init has shape {tuple(given.shape)}, expected {(self.n_clusters, vectors.shape[1])}"
            )
        return given

    def _generator(self) -> torch.Generator | None:
        if self.random_state is None:
            return None
        value = self.random_state
        if isinstance(value, np.random.RandomState):
            value = int(value.randint(2**31))
        return torch.Generator().manual_seed(int(value))

    def _check_parameters(self, count: int) -> None:
        for name, least in (("n_clusters", 1), ("n_init", 1), ("max_iter", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name} is {value!r}, expected an integer of at least {least}")
        if isinstance(self.init, str) and self.init not in ("k-means++", "random"):
            raise ValueError(f'init is "{self.init}", expected "k-means++", "random" or centroids [K, D]')
        if count < self.n_clusters:
            raise ValueError(
                f"found {count} vectors (n_samples={count}), expected n_clusters={self.n_clusters} or more"
            )

    def _fitted(self, X: object) -> tuple[Tensor, Tensor]:
        if not self.__sklearn_is_fitted__():
            # Where scikit-learn is in use, its own error is expected, which is a ValueError too.
            error = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", ValueError)
            raise error("this KMeans has no centroids yet; call fit, fit_stream or partial_fit first")
        vectors = self._checked(X, reset=False)
        return vectors, torch.from_numpy(self.cluster_centers_).to(vectors)

    def _checked(self, X: object, *, reset: bool) -> Tensor:
        """Vectors `[M, D]`, float32 or float64, contiguous and finite."""
        vectors = as_vectors(X)
        if vectors.ndim != 2:
            raise ValueError(
                f"found an array of shape {tuple(vectors.shape)}, expected vectors [M, D]. Reshape your data"
            )
        for axis, name in enumerate(("sample", "feature")):
            if not vectors.shape[axis]:
                shape = tuple(vectors.shape)
                raise ValueError(f"found 0 {name}(s) (shape={shape}) while a minimum of 1 is required.")
        # NaN is the least and the greatest of all.
        if not all(bool(bound.isfinite()) for bound in torch.aminmax(vectors)):
            raise ValueError("found NaN or infinity in the data, expected finite numbers")
        if reset:
            self.n_features_in_ = vectors.shape[1]
        elif vectors.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {vectors.shape[1]} features, but KMeans is expecting {self.n_features_in_} features "
                "as input"
            )
        return vectors


def _totals(chunks: Iterable[Tensor], centroids: Tensor, expected: int) -> tuple[Tensor, Tensor]:
    """Sums `[K, D]` and counts `[K]` of the vectors nearest to each centroid, of as many as expected."""
    sums = torch.zeros_like(centroids, dtype=torch.float64)
    counts = torch.zeros(len(centroids), dtype=torch.long, device=centroids.device)
    searcher = Searcher(centroids)
    for rows in chunks:
        more_sums, more_counts = cluster_sums(rows, searcher.nearest(rows), len(centroids))
        sums += more_sums
        counts += more_counts
    if int(counts.sum()) != expected:
        raise ValueError(
            f"found {int(counts.sum())} vectors in a later pass and {expected} in the first; blocks() must "
            "begin anew at each call"
        )
    return sums, counts


def _label_pass(chunks: Iterable[Tensor], centroids: Tensor, *, keep_labels: bool) -> tuple[Array, float]:
    """Labels `[M]`, or none of them, and the inertia."""
    inertia, kept, searcher = 0.0, [np.zeros(0, dtype=np.int64)], Searcher(centroids)
    for rows in chunks:
        labels = searcher.nearest(rows)
        inertia += float(distances(rows, centroids, labels).double().sum())
        if keep_labels:
            kept.append(labels.cpu().numpy())
    return np.concatenate(kept), inertia
