"""Speed of quantizers beside faiss and vector-quantize-pytorch: same data and books, in one run.

    python benchmarks/quantizers.py --peers FOLDER
    python benchmarks/quantizers.py --peers FOLDER --rounds 5 --frames 300 --codebooks 2 --threads 1

The peers live in an environment of their own, which is made in FOLDER if it is not there and borrows the
torch of the running one. Each side is a process; all wait while one runs, and they take turns, so that what
else the machine does falls on all alike. "search" gives the codes of a residual quantizer: `encode` of ours
(float64 latents to int64 codes), one `IndexFlatL2` per level of faiss, `ResidualVQ` in evaluation. The steps
are forward, backward and the update of moving averages, with restarts of unused entries. The arithmetic limit
is the float32 matrix product of the search alone. Codes are compared with those of direct differences in
float64.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from peers import environment, has_avx512, make_peers

PACKAGES = ["faiss-cpu", "vector-quantize-pytorch", "einops", "einx", "frozendict", "loguru", "packaging"]
PACKAGES += ["torch-einops-utils", "wrapt"]
OURS, VQP, FAISS, FAISS512 = "audiotokens", "vector-quantize-pytorch", "faiss", "faiss AVX-512"
SIDES = {
    "product": ("search",),
    OURS: ("search", "search, 8 bits", "RVQ step", "VQ step", "FSQ step"),
    VQP: ("search", "RVQ step", "VQ step", "FSQ step"),
    FAISS: ("search",),
    FAISS512: ("search",),
}
LEVELS = (8, 5, 5, 5)


def main() -> None:
    """Measure, print a table, and write JSON."""
    options = arguments()
    if options.side:
        serve(options)
        return
    make_peers(options.peers, PACKAGES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = write_data(folder, options)
        results = [result for count in options.threads for result in measure(folder, count, options)]
        wrong = {
            path.stem: int((np.load(path) != truth).sum()) for path in sorted(folder.glob("codes *.npy"))
        }
    report(results, wrong, truth.size)
    if options.output:
        sizes = {key: getattr(options, key) for key in ("codebooks", "size", "dim", "frames", "rounds")}
        content = {**sizes, "torch": torch.__version__, "differences": wrong, "results": results}
        options.output.write_text(json.dumps(content, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=Path, help="folder of the environment of the peers")
    parser.add_argument("--codebooks", type=int, default=8)
    parser.add_argument("--size", type=int, default=1024, help="entries of a book")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--frames", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=31, help="measurements of each; their median counts")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--side", choices=tuple(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.side and not options.peers:
        parser.error("give --peers FOLDER, where the environment of the peers is or shall be made")
    return options


def write_data(folder: Path, options: argparse.Namespace) -> np.ndarray:
    """Write latents `[T, D]` and books `[K, N, D]` trained on others; return the codes `[K, T]`."""
    from audiotokens.quantizers import VectorConfig, build_quantizer
    from audiotokens.quantizers.residual import RVQConfig

    random = torch.Generator().manual_seed(0)
    # Correlated as latents are: a spectrum over two decades.
    mix = torch.randn(options.dim, options.dim, generator=random) / options.dim**0.5
    scale = torch.logspace(1, -1, options.dim)
    config = RVQConfig(num_codebooks=options.codebooks, inner=VectorConfig(codebook_size=options.size))
    quantizer = build_quantizer(config, options.dim)
    torch.manual_seed(0)
    count = max(16 * options.size, options.frames)
    quantizer.initialize(torch.randn(count, options.dim, generator=random) * scale @ mix, generator=random)
    latents = torch.randn(options.frames, options.dim, generator=random) * scale @ mix
    books = torch.stack([level.book for level in quantizer.levels])  # type: ignore[union-attr]
    np.save(folder / "latents.npy", latents.numpy())
    np.save(folder / "books.npy", books.numpy())
    rest, codes = latents.double(), []
    rows = max(1, (1 << 20) // books[0].numel())
    for book in books.double():
        parts = [(part[:, None] - book).square().sum(2).min(1).indices for part in rest.split(rows)]
        codes.append(torch.cat(parts))
        rest = rest - book[codes[-1]]
    return torch.stack(codes).numpy()


def measure(folder: Path, threads: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the sides take turns; return seconds of every round."""
    sides = [side for side in SIDES if side != FAISS512 or has_avx512()]
    servers = {side: start(side, threads, folder, options) for side in sides}
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for side, server in servers.items():
            for job in SIDES[side]:
                seconds.setdefault((side, job), []).append(float(ask(server, job)))
    for server in servers.values():
        pipe(server.stdin).close()
        server.wait()
    return [
        {"side": side, "job": job, "threads": threads, "seconds": found}
        for (side, job), found in seconds.items()
    ]


def start(side: str, threads: int, folder: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Start the process of a side, and wait until it has warmed up."""
    python = sys.executable if side in ("product", OURS) else str(options.peers / "bin" / "python")
    command = [python, __file__, "--side", side, "--folder", str(folder), "--threads", str(threads)]
    server = subprocess.Popen(
        command,
        env=environment(threads, fast_faiss=side == FAISS512),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    for job in SIDES[side]:
        ask(server, job)
    return server


def ask(server: subprocess.Popen[str], job: str) -> str:
    """Have a job done once; return what the process answers."""
    stream = pipe(server.stdin)
    stream.write(job + "\n")
    stream.flush()
    answer = pipe(server.stdout).readline()
    if not answer:
        raise RuntimeError(f"{' '.join(map(str, server.args))} ended")  # type: ignore[arg-type]
    return answer


def pipe(stream: IO[str] | None) -> IO[str]:
    """Return a pipe that is there."""
    if stream is None:
        raise RuntimeError("the process has no pipes")
    return stream


def serve(options: argparse.Namespace) -> None:
    """Do the jobs that standard input names, one a line, and print the seconds of each."""
    torch.set_num_threads(options.threads[0])
    make = {"product": product, OURS: ours, VQP: vector_quantize, FAISS: faiss, FAISS512: faiss}
    latents, books = (np.load(options.folder / f"{name}.npy") for name in ("latents", "books"))
    jobs: dict[str, Callable[[], Any]] = make[options.side](latents, books, options.threads[0])
    for job, call in jobs.items():
        codes = call()
        if job.startswith("search") and codes is not None:
            np.save(options.folder / f"codes {options.side} {job} {options.threads[0]}.npy", codes)
    for line in sys.stdin:
        job = jobs[line.strip()]
        job()  # Another side has just had the caches.
        begun = time.perf_counter()
        job()
        print(time.perf_counter() - begun, flush=True)


def product(latents: np.ndarray, books: np.ndarray, threads: int) -> dict[str, Callable[[], Any]]:
    """Products of the latents with each book, into the same place."""
    vectors = torch.from_numpy(latents)
    factors = [torch.from_numpy(book).T.contiguous() for book in books]
    room = torch.empty(len(latents), books.shape[1])

    def search() -> None:
        for factor in factors:
            torch.mm(vectors, factor, out=room)

    return {"search": search}


def ours(latents: np.ndarray, books: np.ndarray, threads: int) -> dict[str, Callable[[], Any]]:
    """The jobs of audiotokens."""
    from audiotokens.nn.search import Searcher
    from audiotokens.quantizers import FSQConfig, VectorConfig, build_quantizer
    from audiotokens.quantizers.residual import RVQConfig

    size, dim = books.shape[1:]
    vector = VectorConfig(codebook_size=size)
    stack = build_quantizer(RVQConfig(num_codebooks=len(books), inner=vector), dim)
    learning = build_quantizer(RVQConfig(num_codebooks=len(books), inner=vector), dim)
    single = build_quantizer(vector, dim)
    finite = build_quantizer(FSQConfig(levels=LEVELS), len(LEVELS))
    entries = torch.from_numpy(books)
    for quantizer in (stack, learning):
        for level, book in zip(quantizer.levels, entries):  # type: ignore[arg-type]
            level.set_book(book)
    single.set_book(entries[0])  # type: ignore[operator]
    waves = torch.from_numpy(latents).T[None].contiguous()
    wide = [book.double() for book in entries]
    searchers = [Searcher(book, eight_bits=True) for book in wide]

    def with_eight_bits() -> np.ndarray:
        rest, codes = torch.from_numpy(latents).double(), []
        for searcher, book in zip(searchers, wide):
            codes.append(searcher.nearest(rest))
            rest = rest - book.index_select(0, codes[-1])
        return torch.stack(codes).numpy()

    def step(quantizer: Any, values: torch.Tensor) -> Callable[[], None]:
        quantizer.train()

        def call() -> None:
            given = values.clone().requires_grad_()
            result = quantizer(given)
            (result.latents.square().mean() + sum(result.losses.values())).backward()
            quantizer.update(result.statistics)

        return call

    return {
        "search": lambda: stack.eval().encode(waves)[0].numpy(),
        "search, 8 bits": with_eight_bits,
        "RVQ step": step(learning, waves),
        "VQ step": step(single, waves),
        "FSQ step": step(finite, waves[:, : len(LEVELS)].contiguous()),
    }


def vector_quantize(latents: np.ndarray, books: np.ndarray, threads: int) -> dict[str, Callable[[], Any]]:
    """The jobs of vector-quantize-pytorch."""
    from vector_quantize_pytorch import FSQ, ResidualVQ, VectorQuantize

    size, dim = books.shape[1:]
    shared = {"dim": dim, "codebook_size": size, "decay": 0.98, "threshold_ema_dead_code": 0.003}
    stack = ResidualVQ(num_quantizers=len(books), **shared)
    learning = ResidualVQ(num_quantizers=len(books), **shared)
    single = VectorQuantize(**shared)
    vectors = torch.from_numpy(latents)[None]
    for layers in (stack.layers, learning.layers, [single]):
        for layer, book in zip(layers, torch.from_numpy(books)):
            layer._codebook.embed.data.copy_(book[None])
            layer._codebook.embed_avg.data.copy_(book[None])
            layer._codebook.cluster_size.data.fill_(1)

    def search() -> np.ndarray:
        with torch.no_grad():
            return stack.eval()(vectors)[1][0].T.numpy()

    def step(module: Any, values: torch.Tensor) -> Callable[[], None]:
        module.train()

        def call() -> None:
            given = values.clone().requires_grad_()
            quantized, _, *losses = module(given)
            loss = quantized.square().mean()
            (loss + losses[0].sum() if losses else loss).backward()

        return call

    return {
        "search": search,
        "RVQ step": step(learning, vectors),
        "VQ step": step(single, vectors),
        "FSQ step": step(FSQ(list(LEVELS)), vectors[..., : len(LEVELS)].contiguous()),
    }


def faiss(latents: np.ndarray, books: np.ndarray, threads: int) -> dict[str, Callable[[], Any]]:
    """Residuals searched in one flat index per level."""
    import faiss as library

    library.omp_set_num_threads(threads)
    indices = [library.IndexFlatL2(books.shape[2]) for _ in books]
    for index, book in zip(indices, books):
        index.add(np.ascontiguousarray(book))

    def search() -> np.ndarray:
        rest, codes = latents, []
        for index, book in zip(indices, books):
            codes.append(index.search(rest, 1)[1][:, 0])
            rest = rest - book[codes[-1]]
        return np.stack(codes)

    return {"search": search}


def report(results: list[dict[str, Any]], wrong: dict[str, int], total: int) -> None:
    """Print medians with quartiles, and how many times as long as ours and as the product they are."""
    print(f"{'threads':>7} {'job':18} {'side':24} {'ms':>8} {'quartiles':>17} {'/ ours':>7} {'/ product':>9}")
    medians = {(r["threads"], r["job"], r["side"]): statistics.median(r["seconds"]) for r in results}
    for result in sorted(results, key=lambda r: (r["threads"], r["job"])):
        threads, job, side = (result[key] for key in ("threads", "job", "side"))
        low, middle, high = statistics.quantiles(result["seconds"], n=4, method="inclusive")
        reference = medians[threads, "search" if "search" in job else job, OURS]
        limit = f"{middle / medians[threads, 'search', 'product']:9.2f}" if "search" in job else ""
        spread = f"{low * 1e3:.2f} to {high * 1e3:.2f}"
        row = f"{threads:7} {job:18} {side:24} {middle * 1e3:8.2f} {spread:>17} {middle / reference:7.2f}"
        print(row, limit)
    print(f"codes other than those of float64, of {total}:")
    for name, count in wrong.items():
        print(f"  {name.removeprefix('codes ')} thread(s): {count}")


if __name__ == "__main__":
    main()
