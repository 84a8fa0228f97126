"""The study: make latents, learn and measure every cell in processes, write tables, pictures and a page."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch

import audiotokens
from audiotokens.codec import Codec
from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.quantizer_study.cells import (
    Cell,
    CellResult,
    file_errors,
    read_result,
    run_cell,
    usage_figures,
    write_result,
)
from audiotokens.evaluation.quantizer_study.latents import LatentSet, load_latents, make_latents
from audiotokens.evaluation.quantizer_study.listening import Listener
from audiotokens.evaluation.quantizer_study.plan import FULL, QUICK, SHIPPED, UNQUANTIZED, Plan

TOKENIZER = "speech-16k"
_CHUNK = 1024


def run_study(
    data: str | Path,
    output: str | Path,
    *,
    quick: bool = False,
    jobs: int = 2,
    progress: Callable[[str], None] | None = None,
) -> list[CellResult]:
    """Run what is missing of the study in a folder.

    Args:
        data: folder with the subfolders "train" and "test", of speech.
        output: folder for latents, results, tables and pictures. A study that was stopped goes on there.
        quick: a study of a minute, to see that everything works.
        jobs: processes, of one thread each.
        progress: called with a line from time to time.

    Returns:
        Results of all cells, in the order of the plan.

    Raises:
        AudioError: there is no speech in one of the subfolders.
        AudioTokensError: a process died.
    """
    plan, folder = QUICK if quick else FULL, Path(output)
    cells = folder / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    make_latents(_codec(), Path(data), folder / "latents", max_frames=plan.max_frames, progress=progress)
    wanted = list(plan.cells())
    missing = [cell for cell in wanted if not (cells / f"{cell.name}.json").is_file()]
    for count, name in enumerate(_done(missing, plan, folder, jobs)):
        if progress:
            progress(f"cells: {len(wanted) - len(missing) + count + 1} of {len(wanted)}, {name}")
    return [read_result(cells / f"{cell.name}.json") for cell in wanted]


def _done(missing: list[Cell], plan: Plan, folder: Path, jobs: int) -> Iterator[str]:
    if jobs == 1 or len(missing) < 2:
        yield from (_work(cell, plan, folder) for cell in missing)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_set_up) as pool:
        try:
            futures = [pool.submit(_work, cell, plan, folder) for cell in missing]
            yield from (future.result() for future in as_completed(futures))
        except BrokenProcessPool:
            raise AudioTokensError(
                "a process of the study died, perhaps for want of memory: run again with fewer jobs; it goes "
                "on from here"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _set_up() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def _work(cell: Cell, plan: Plan, folder: Path) -> str:
    latents = _latents(folder / "latents", cell.features)
    listener = None if cell.task == "grid" else _listener(folder / "latents", plan.clips, plan.opinions)
    if cell.subject in (SHIPPED, UNQUANTIZED):
        result = _reference(cell, latents, listener)
    else:
        result = run_cell(cell, latents, plan.budget(cell), listener)
    write_result(result, folder / "cells")
    return cell.name


@functools.cache
def _codec() -> Codec:
    codec = audiotokens.load(TOKENIZER, exact=False)
    if not isinstance(codec, Codec):
        raise AudioTokensError(f"{TOKENIZER} is no codec of this package: load another one")
    return codec


@functools.cache
def _latents(folder: Path, kind: str) -> LatentSet:
    return load_latents(folder, "trunk" if kind == "trunk" else "latent")


@functools.cache
def _listener(folder: Path, clips: int, opinions: bool) -> Listener:
    return Listener(_codec(), _latents(folder, "latent"), clips, opinions=opinions)


@torch.inference_mode()
def _reference(cell: Cell, latents: LatentSet, listener: Listener | None) -> CellResult:
    """The books of the frozen tokenizer by number of books, or the latents as they are."""
    test = np.asarray(latents.test)
    quantizer = _codec().quantizer
    variants: dict[str, np.ndarray] = {}
    codes = torch.zeros(1, len(test), dtype=torch.int64)
    sizes: tuple[int, ...] = (2,)
    if cell.subject == SHIPPED:
        sizes = quantizer.codebook_sizes
        raw = torch.from_numpy(latents.restored(test))[None]
        codes = torch.cat([quantizer.encode(part)[0] for part in raw.split(_CHUNK, 2)], 1)
        variants["0"] = np.zeros_like(test)
        for books in quantizer.legal_prefixes:
            decoded = quantizer.decode(codes[None, :books])[0].T.numpy()
            variants[str(books)] = ((decoded - latents.mean) / latents.scale).astype(np.float32)
    restored = variants[str(len(sizes))] if variants else test
    heard = {}
    if listener is not None:
        measures = ("pesq-wb",) if variants else listener.all
        heard = {
            name: listener.hear(latents, rows, measures) for name, rows in (variants or {"all": test}).items()
        }
    return CellResult(
        cell=cell,
        usage=usage_figures(sizes, codes),
        errors=file_errors(latents, test, restored),
        reduced={name: float(np.square(rows - test).mean()) for name, rows in variants.items()},
        heard=heard,
    )
