"""Speed of k-means beside scikit-learn and faiss: same data, start and number of iterations, in one run.

    python benchmarks/kmeans.py --peers FOLDER
    python benchmarks/kmeans.py --peers FOLDER --vectors 1000000 --iterations 3 --rounds 1

The peers live in an environment of their own, which is made in FOLDER if it is not there. Each measurement is
a process of its own with the given number of threads, and the three take turns. Data are a mixture of normal
distributions whose spectrum falls as that of speech features does. The arithmetic limit is the time of the
matrix products alone, 2 M D K operations an iteration at the rate of a large float32 product of the same run.
The full size needs about 10 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import environment, has_avx512

SIDES = ("audiotokens", "scikit-learn", "faiss")
PACKAGES = ("scikit-learn", "faiss-cpu")


def main() -> None:
    """Measure, print a table, and write JSON."""
    options = arguments()
    if options.side:
        print(json.dumps(measure(options)))
        return
    python = peer_python(options.peers)
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), options)
        results = [
            {"side": side, "threads": threads, "round": number, **run(side, threads, python, folder, options)}
            for threads in options.threads
            for number in range(options.rounds)
            for side in ("product", *SIDES)
        ]
    report(results, options)
    if options.output:
        sizes = {name: getattr(options, name) for name in ("vectors", "dim", "clusters", "iterations")}
        options.output.write_text(json.dumps({**sizes, "results": results}, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=Path, help="folder of the environment of scikit-learn and faiss")
    parser.add_argument("--vectors", type=int, default=65536)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--clusters", type=int, default=1024)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each; the best one counts")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--side", choices=("product", *SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.side and not options.peers:
        parser.error("give --peers FOLDER, where the environment of the peers is or shall be made")
    return options


def peer_python(folder: Path) -> Path:
    """Return the Python of the peers' environment, which is made where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return python


def write_data(folder: Path, options: argparse.Namespace) -> None:
    """Write vectors and the start, `data.npy` `[M, D]` and `start.npy` `[K, D]`, float32."""
    random = np.random.default_rng(options.seed)
    scale = (np.arange(1, options.dim + 1) ** -0.5).astype(np.float32)
    centers = random.standard_normal((4 * options.clusters, options.dim), dtype=np.float32) * scale
    shape = (options.vectors, options.dim)
    data = np.lib.format.open_memmap(folder / "data.npy", mode="w+", dtype=np.float32, shape=shape)
    for first in range(0, options.vectors, 16384):
        rows = data[first : first + 16384]
        noise = random.standard_normal(rows.shape, dtype=np.float32) * scale
        rows[:] = centers[random.integers(len(centers), size=len(rows))] + 0.7 * noise
    data.flush()
    chosen = np.sort(random.choice(options.vectors, options.clusters, replace=False))
    np.save(folder / "start.npy", data[chosen])


def run(side: str, threads: int, python: Path, folder: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure one side in a process of its own."""
    program = sys.executable if side in ("audiotokens", "product") else str(python)
    command = [program, __file__, "--side", side, "--folder", folder, "--threads", str(threads)]
    command += ["--clusters", str(options.clusters), "--iterations", str(options.iterations)]
    finished = subprocess.run(
        command,
        env=environment(threads, fast_faiss=side == "faiss" and has_avx512()),
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    print(f"{side}, {threads} threads: {found['seconds']:.2f} s", file=sys.stderr, flush=True)
    return found


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run one side: seconds, processor seconds, and the mean squared distance of its centroids."""
    data, start = (np.load(options.folder / f"{name}.npy") for name in ("data", "start"))
    fit = {"audiotokens": ours, "scikit-learn": scikit_learn, "faiss": faiss_kmeans, "product": product}
    prepared = fit[options.side](data, start, options.iterations, options.threads[0])
    begun, used = time.perf_counter(), time.process_time()
    centroids = prepared()
    seconds, processor = time.perf_counter() - begun, time.process_time() - used
    found = {"seconds": seconds, "processor_seconds": processor}
    return found if centroids is None else {**found, "distortion": distortion(data, centroids)}


def distortion(data: np.ndarray, centroids: np.ndarray) -> float:
    """Mean squared distance of vectors from their nearest centroids, in float64 of the same sample."""
    sample = data[:: max(1, len(data) // 16384)].astype(np.float64)
    centroids = centroids.astype(np.float64)
    lengths = (centroids**2).sum(1)
    parts = [
        (part**2).sum(1) + (lengths - 2 * part @ centroids.T).min(1) for part in np.array_split(sample, 64)
    ]
    return float(np.concatenate(parts).mean())


def product(data: np.ndarray, start: np.ndarray, iterations: int, threads: int) -> Any:
    """The matrix products alone, once over the data and as often as there are iterations."""
    import torch

    torch.set_num_threads(threads)
    vectors, weights = torch.from_numpy(data), torch.from_numpy(start).T.contiguous()
    room = torch.empty(4096, len(start))

    def call() -> None:
        for _ in range(iterations):
            for part in vectors.split(4096):
                torch.mm(part, weights, out=room[: len(part)])

    return call


def ours(data: np.ndarray, start: np.ndarray, iterations: int, threads: int) -> Any:
    """`audiotokens.quantizers.KMeans`."""
    import torch

    from audiotokens.quantizers import KMeans

    torch.set_num_threads(threads)
    model = KMeans(len(start), init=start, max_iter=iterations, tol=-1.0)
    return lambda: model.fit(data).cluster_centers_


def scikit_learn(data: np.ndarray, start: np.ndarray, iterations: int, threads: int) -> Any:
    """`sklearn.cluster.KMeans`, Lloyd's algorithm; threads come from the environment."""
    import warnings

    from sklearn.cluster import KMeans

    warnings.simplefilter("ignore")
    model = KMeans(len(start), init=start, n_init=1, max_iter=iterations, tol=0, copy_x=False)
    return lambda: model.fit(data).cluster_centers_


def faiss_kmeans(data: np.ndarray, start: np.ndarray, iterations: int, threads: int) -> Any:
    """`faiss.Kmeans` on all vectors."""
    import faiss

    faiss.omp_set_num_threads(threads)
    model = faiss.Kmeans(
        data.shape[1],
        len(start),
        niter=iterations,
        min_points_per_centroid=1,
        max_points_per_centroid=len(data),
    )

    def call() -> np.ndarray:
        model.train(data, init_centroids=start)
        centroids: np.ndarray = model.centroids
        return centroids

    return call


def report(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print the best round of each side, and how it compares."""
    print(
        f"{options.vectors} x {options.dim}, K = {options.clusters}, {options.iterations} iterations, "
        f"best of {options.rounds}"
    )
    for threads in options.threads:
        best = {
            side: min(
                (result for result in results if result["side"] == side and result["threads"] == threads),
                key=lambda result: result["seconds"],
            )
            for side in ("product", *SIDES)
        }
        limit, own = best["product"]["seconds"], best["audiotokens"]["seconds"]
        operations = 2 * options.vectors * options.dim * options.clusters * options.iterations
        print(f"\n{threads} threads; products alone {limit:.2f} s, {operations / limit / 1e9:.0f} GFLOP/s")
        for side in SIDES:
            seconds = best[side]["seconds"]
            print(
                f"  {side:13} {seconds:8.2f} s   {seconds / limit:5.2f} x the limit   "
                f"{seconds / own:5.2f} x ours   distortion {best[side]['distortion']:.6f}"
            )


if __name__ == "__main__":
    main()
