"""Which engine is fastest, whether its tokens are the same, and what exact mode costs.

    python benchmarks/engines.py --data DATA --lyra FOLDER --output engines.json
    python benchmarks/engines.py --data DATA --families speech-16k mimi --seconds 10 --threads 1

DATA holds `train` and `test` with sound files. The shipped tokenizers, Lyra V2 (of its three files in the
folder --lyra) and families at full size, with random weights and books started from latents, are exported as
graphs and run in one process each by every engine in turns: torch in fast mode, in exact mode, in float64 and
with near ties decided in float64, and ONNX Runtime in exact and in fast mode. Times are those of a session
that is pushed one hop, 100 ms or 1 s, and of a whole recording, as milliseconds per second of audio; the
median of rounds counts. Flips are codes of recordings that differ from torch in exact mode, with the largest
relative margin of one. ONNX Runtime always has one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import LYRA, SHIPPED, add_data, import_lyra, random_codec, recordings, sound, waveforms
from peers import environment

FAMILIES = (
    *SHIPPED,
    LYRA,
    "soundstream-24khz",
    "encodec-24khz",
    "dac-16khz",
    "snac-24khz",
    "mimi",
    "speechtokenizer-hubert-avg",
    "vocos-encodec-24khz-codec",
    "wavtokenizer-75hz",
)
SIDES: dict[str, tuple[Any, Any]] = {
    "torch fast": ("torch", False),
    "torch exact": ("torch", True),
    "torch float64": ("torch", "float64"),
    "torch arbitrated": ("torch", "arbitrated"),
    "onnx exact": ("onnx", True),
    "onnx fast": ("onnx", False),
}
"""Name -> engine and mode."""
EXACT = "torch exact"
FREE = ("torch exact", "torch float64", "torch arbitrated", "onnx exact")
"""Sides whose codes do not depend on pieces, batches and threads."""
WHOLE = "whole"
Row = dict[str, Any]


def main() -> None:
    """Measure, print tables in Markdown, and write JSON."""
    options = arguments()
    if options.family:
        print(json.dumps(worker(options)))
        return
    results: list[Row] = []
    for family in options.families:
        results += run(options, family)
        if options.output:
            content = {"torch": torch.__version__, "threads": options.threads, "results": results}
            options.output.write_text(json.dumps(content, indent=1) + "\n")
    print("\n\n".join((times_table(results), cost_table(results), flips_table(results))))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_data(parser)
    parser.add_argument("--families", nargs="+", help="names or variants; default: all")
    parser.add_argument("--seconds", type=float, default=10, help="of the whole recording")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="at most")
    parser.add_argument(
        "--budget", type=float, default=8, help="seconds after which no round of a chunk size begins"
    )
    parser.add_argument("--flips", type=float, default=10, help="seconds in which flips are counted")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--family", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.families = options.families or [name for name in FAMILIES if name != LYRA or options.lyra]
    if LYRA in options.families and not options.lyra:
        parser.error("give --lyra FOLDER, where its three files lie")
    return options


def run(options: argparse.Namespace, family: str) -> list[Row]:
    """Start the process of one family."""
    command = [sys.executable, __file__, "--family", family]
    for name in ("data", "lyra", "seconds", "threads", "rounds", "budget", "flips"):
        value = getattr(options, name)
        command += [] if value is None else [f"--{name}", str(value)]
    names = environment(options.threads)
    finished = subprocess.run(command, env=names, check=True, stdout=subprocess.PIPE, text=True)
    found: list[Row] = json.loads(finished.stdout.splitlines()[-1])
    return found


def note(text: str) -> None:
    """Say on stderr what is being done."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# One family


def worker(options: argparse.Namespace) -> list[Row]:
    """Measure one family."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        codecs = loaded(options, Path(folder))
        rows = []
        hop, rate = (getattr(codecs[EXACT].spec, name) for name in ("hop", "frame_rate"))
        for hops in dict.fromkeys((1, max(round(rate / 10), 1), max(round(rate), 1))):
            note(f"{options.family}: chunks of {hops} hops")
            rows += streamed(codecs, hops * int(hop), options)
        note(f"{options.family}: whole recordings")
        rows += whole(codecs, options)
        note(f"{options.family}: flips")
        rows += flips(codecs, options)
    return [{"family": options.family, **row} for row in rows]


def loaded(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The tokenizer in every engine and mode that it has."""
    import audiotokens
    from audiotokens.errors import AudioTokensError, NotOfferedError
    from audiotokens.export import export_onnx

    family, place = options.family, str(folder / "tokenizer")
    if family in SHIPPED:
        place = family
    else:
        note(f"{family}: weights and graphs")
        if family == LYRA:
            codec: Any = audiotokens.load(import_lyra(options.lyra, Path(place)), engine="torch")
        else:
            codec = random_codec(family, recordings(options.data, "train"))
            codec.save(place)
        try:
            export_onnx(codec.make_exact(False), place)
        except NotOfferedError as error:
            note(f"{family}: no graphs: {error}")
    codecs: dict[str, Any] = {}
    for side, (engine, mode) in SIDES.items():
        try:
            codecs[side] = audiotokens.load(place, engine=engine, exact=mode)
        except AudioTokensError as error:
            note(f"{family}: no {side}: {error}")
    return codecs


def streamed(codecs: dict[str, Any], chunk: int, options: argparse.Namespace) -> list[Row]:
    """Times of sessions in chunks of so many samples."""
    from audiotokens.errors import NotOfferedError
    from audiotokens.latency import measure_steps

    duration = chunk / codecs[EXACT].spec.sample_rate
    times: dict[tuple[str, str], list[float]] = {}

    def once() -> None:
        for side, codec in codecs.items():
            try:
                steps = measure_steps(codec, chunk=chunk, seconds=2)
            except NotOfferedError:
                continue
            for job, found in (("encode", steps.encoder), ("decode", steps.decoder)):
                if found is not None:
                    times.setdefault((side, job), []).append(found.milliseconds[0] / duration)

    rounds(once, options)
    return rows_of(times, 1000 * duration)


def whole(codecs: dict[str, Any], options: argparse.Namespace) -> list[Row]:
    """Times of a whole recording."""
    waveform = sound(codecs[EXACT], recordings(options.data, "test"), options.seconds)
    rate = codecs[EXACT].spec.sample_rate
    seconds = waveform.shape[1] / rate
    tokens = codecs[EXACT].encode(waveform, rate)
    times: dict[tuple[str, str], list[float]] = {}
    for codec in codecs.values():
        # What is loaded or hashed once is not in the first measurement.
        codec.decode(codec.encode(waveform[:, : 2 * rate], rate))

    def once() -> None:
        for side, codec in codecs.items():
            start = time.perf_counter()
            codec.encode(waveform, rate)
            between = time.perf_counter()
            codec.decode(tokens)
            for job, spent in (("encode", between - start), ("decode", time.perf_counter() - between)):
                times.setdefault((side, job), []).append(1000 * spent / seconds)

    rounds(once, options)
    return rows_of(times, WHOLE)


def rounds(once: Any, options: argparse.Namespace) -> None:
    """Call so often, or until the time is over, but at least twice."""
    start = time.monotonic()
    for count in range(options.rounds):
        if count >= 2 and time.monotonic() - start > options.budget:
            break
        once()


def rows_of(times: dict[tuple[str, str], list[float]], chunk: float | str) -> list[Row]:
    """One row per side and job; arbitration has the decoder of exact mode."""
    return [
        {"side": side, "job": job, "chunk_ms": chunk, "milliseconds_per_second": found}
        for (side, job), found in times.items()
        if (side, job) != ("torch arbitrated", "decode")
    ]


def flips(codecs: dict[str, Any], options: argparse.Namespace) -> list[Row]:
    """Codes of recordings that differ from exact mode, until the time is over."""
    from audiotokens.errors import NotOfferedError
    from audiotokens.verify.tally import Tally, arrays

    plain = codecs[EXACT]
    rate, start = plain.spec.sample_rate, time.monotonic()
    tallies = {side: Tally() for side in codecs if side != EXACT}
    for waveform in waveforms(plain, recordings(options.data, "test")):
        waveform = waveform[:, : 10 * rate]
        expected = arrays(plain.encode(waveform, rate))
        margins: dict[str, np.ndarray] | None = None
        for side, tally in tallies.items():
            found = arrays(codecs[side].encode(waveform, rate))
            if margins is None and any(not np.array_equal(expected[name], found[name]) for name in expected):
                try:
                    margins = plain.margins(waveform, rate)
                except NotOfferedError:
                    margins = {}
            tally.compare_codes(expected, found, side, margins)
        if time.monotonic() - start > options.flips:
            break
    return [
        {"side": side, "codes": tally.checked, "flips": tally.flips, "margin": tally.margin}
        for side, tally in tallies.items()
    ]


# Tables


def medians(results: list[Row]) -> dict[tuple[str, str, Any], dict[str, float]]:
    """Family, job and chunk -> side -> median time."""
    found: dict[tuple[str, str, Any], dict[str, float]] = {}
    for row in results:
        if "chunk_ms" in row:
            key = row["family"], row["job"], row["chunk_ms"]
            found.setdefault(key, {})[row["side"]] = statistics.median(row["milliseconds_per_second"])
    return found


def times_table(results: list[Row]) -> str:
    """Milliseconds per second of audio; the fastest, and the fastest of those that are exact."""
    lines = header("tokenizer", "job", "chunk", *SIDES, "fastest", "fastest exact")
    for (family, job, chunk), times in medians(results).items():
        cells = [f"{times[side]:.1f}" if side in times else "-" for side in SIDES]
        best = min(times, key=times.__getitem__)
        exact = min((side for side in times if side in FREE), key=times.__getitem__)
        length = chunk if chunk == WHOLE else f"{chunk:.0f} ms"
        lines.append(line(family, job, length, *cells, f"{best}, {1000 / times[best]:.3g} x", exact))
    return "\n".join(lines)


def cost_table(results: list[Row]) -> str:
    """How many times as long as fast mode exact mode takes for whole recordings."""
    ways = "torch exact", "torch float64", "torch arbitrated"
    lines = header("tokenizer", "job", *ways)
    for (family, job, chunk), times in medians(results).items():
        if chunk == WHOLE:
            ratios = [f"{times[way] / times['torch fast']:.2f}" if way in times else "-" for way in ways]
            lines.append(line(family, job, *ratios))
    return "\n".join(lines)


def flips_table(results: list[Row]) -> str:
    """Flips per million against torch in exact mode."""
    lines = header("tokenizer", "engine", "codes", "flips", "per million", "largest margin")
    for row in results:
        if "flips" in row:
            margin = f"{row['margin']:.1e}" if row["margin"] is not None else "-"
            rate = f"{1e6 * row['flips'] / max(row['codes'], 1):.1f}"
            cells = f"{row['codes']:,}", str(row["flips"]), rate, margin
            lines.append(line(row["family"], row["side"], *cells))
    return "\n".join(lines)


def header(*cells: str) -> list[str]:
    """The first two lines of a table."""
    return [line(*cells), "|---" * len(cells) + "|"]


def line(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
