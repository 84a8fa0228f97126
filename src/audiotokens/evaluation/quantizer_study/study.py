"""The study: make latents, learn and measure every cell in processes, write tables, pictures and a page."""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

import audiotokens
from audiotokens.codec import Codec
from audiotokens.config import to_dict
from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.quantizer_study.cells import (
    Cell,
    read_result,
    run_cell,
    write_result,
)
from audiotokens.evaluation.quantizer_study.figures import Results
from audiotokens.evaluation.quantizer_study.latents import About, LatentSet, load_latents, make_latents
from audiotokens.evaluation.quantizer_study.listening import Listener
from audiotokens.evaluation.quantizer_study.page import write_page
from audiotokens.evaluation.quantizer_study.plan import FULL, Plan
from audiotokens.evaluation.quantizer_study.references import REFERENCES, run_reference

TOKENIZER = "speech-16k"


def run_study(
    data: str | Path,
    output: str | Path,
    *,
    plan: Plan = FULL,
    jobs: int = 2,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Run what is missing of the study in a folder, and write its page.

    Args:
        data: folder with the subfolders "train" and "test", of speech.
        output: folder for latents, results, tables and pictures. A study that was stopped goes on there.
        plan: `FULL`, or `QUICK` for a study of a minute, to see that everything works.
        jobs: processes, of one thread each.
        progress: called with a line from time to time.

    Returns:
        The page, a Markdown file; figures lie beside it as CSV and JSON, pictures in "images".

    Raises:
        AudioError: there is no speech in one of the subfolders.
        AudioTokensError: a process died.
    """
    folder = Path(output)
    about = make_latents(
        _codec(), Path(data), folder / "latents", max_frames=plan.max_frames, progress=progress
    )
    cells = folder / cells_name(plan, about)
    cells.mkdir(exist_ok=True)
    wanted = list(plan.cells())
    missing = [cell for cell in wanted if not (cells / f"{cell.name}.json").is_file()]
    for count, name in enumerate(_done(missing, plan, cells, jobs)):
        if progress:
            progress(f"cells: {len(wanted) - len(missing) + count + 1} of {len(wanted)}, {name}")
    found = [read_result(cells / f"{cell.name}.json") for cell in wanted]
    return write_page(Results(found, about), plan, folder)


def cells_name(plan: Plan, about: About) -> str:
    """Name of the folder of results: another one for another plan or other latents."""
    content = json.dumps([to_dict(plan), about.source])
    return f"cells-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _done(missing: list[Cell], plan: Plan, cells: Path, jobs: int) -> Iterator[str]:
    if jobs == 1 or len(missing) < 2:
        yield from (_work(cell, plan, cells) for cell in missing)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_set_up) as pool:
        try:
            futures = [pool.submit(_work, cell, plan, cells) for cell in missing]
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


def _work(cell: Cell, plan: Plan, cells: Path) -> str:
    folder = cells.parent / "latents"
    latents = _latents(folder, cell.features)
    listener = None if cell.task == "grid" else _listener(folder, plan.clips, plan.opinions)
    if cell.subject in REFERENCES:
        result = run_reference(cell, latents, plan.budget(cell), _codec(), listener)
    else:
        result = run_cell(cell, latents, plan.budget(cell), listener)
    write_result(result, cells)
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
