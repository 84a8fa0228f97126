"""Time of a step in streams: beside moshi's streaming Mimi, of every streamable family, and of lanes.

    python benchmarks/streaming.py --peers FOLDER --lyra FOLDER --output streaming.json
    python benchmarks/streaming.py --models speech-16k-stream lyra-v2 --seconds 20

"peer": moshi and Mimi of this package have the same random weights and 32 books, and take turns, frame by
frame of 80 ms, in one process of the peers' environment, which is made in FOLDER if it is not there.
"models": steps of one frame of the shipped tokenizers, of Lyra V2 (of its three files in the folder --lyra),
and of the families at full size with random weights, in fast and exact mode, and from exported graphs where a
tokenizer has them. "lanes": steps of so many streams in one batch, and one after the other. All with one
thread; a step takes a frame of sound, or its codes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import PACKAGES, SOURCE, STUBS, noise, randomize
from peers import environment, make_peers

FAMILIES = {
    "soundstream-24khz": "soundstream",
    "encodec-24khz": "encodec",
    "encodec-32khz": "encodec",
    "dac-16khz": "dac",
    "dac-44khz": "dac",
    "snac-24khz": "snac",
    "mimi": "mimi",
}
"""Variants of full size whose both sides stream -> family."""
SHIPPED = ("speech-16k-stream", "speech-16k")
LANES = ("speech-16k-stream", "lyra-v2", "mimi")
Row = dict[str, Any]


def main() -> None:
    """Measure, print tables, and write JSON."""
    options = arguments()
    if options.worker:
        print(json.dumps(peer(options.seconds)))
        return
    os.environ.update(environment(1))
    torch.set_num_threads(1)
    results: list[Row] = []
    if options.peers:
        results += shown(started(options))
    with tempfile.TemporaryDirectory() as folder:
        loaders = models(options, Path(folder))
        chosen = options.models or [*loaders]
        for name in chosen:
            results += shown(steps(name, loaders[name], options.seconds))
        for name in (name for name in LANES if name in chosen):
            results += shown(lanes(name, loaders[name]("fast"), options.lanes, options.seconds))
    if options.output:
        content = {"torch": torch.__version__, "seconds": options.seconds, "results": results}
        options.output.write_text(json.dumps(content, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--peers", type=Path, help="folder of the environment of the peers; none: without them"
    )
    parser.add_argument("--lyra", type=Path, help="folder of the files of Lyra V2; none: without it")
    parser.add_argument("--models", nargs="*", help="names to measure; default: all")
    parser.add_argument("--seconds", type=float, default=20, help="of sound through each side")
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def shown(rows: list[Row]) -> list[Row]:
    """Print rows as they come."""
    for row in rows:
        low, high, highest = row["milliseconds"]
        line = f"{row['part']:6} {row['model']:18} {row['side']:9} {row['job']:7} {row['chunk_ms']:5.1f} ms: "
        line += f"p50 {low:7.2f}, p95 {high:7.2f}, p99 {highest:7.2f} ms, {row['real_time']:6.1f} x real time"
        print(line + (f", {row['times_ours']:.2f} x ours" if "times_ours" in row else ""), flush=True)
    return rows


def row(part: str, model: str, side: str, job: str, seconds: float, times: list[float]) -> Row:
    """Percentiles of the times of steps through so many seconds each."""
    low, high, highest = (1000 * float(value) for value in np.percentile(times, (50, 95, 99)))
    return {
        "part": part,
        "model": model,
        "side": side,
        "job": job,
        "chunk_ms": 1000 * seconds,
        "milliseconds": (low, high, highest),
        "real_time": seconds * len(times) / sum(times),
        "steps": len(times),
    }


# moshi


def started(options: argparse.Namespace) -> list[Row]:
    """Start the process in which both take turns."""
    make_peers(options.peers, PACKAGES, STUBS)
    command = [str(options.peers / "bin" / "python"), __file__, "--worker", "--seconds", str(options.seconds)]
    names = {**environment(1), "PYTHONPATH": str(SOURCE)}
    finished = subprocess.run(command, env=names, check=True, capture_output=True, text=True)
    found: list[Row] = json.loads(finished.stdout.splitlines()[-1])
    return found


def peer(seconds: float) -> list[Row]:
    """Time moshi and this package's Mimi, step by step in turns."""
    from moshi.models import loaders

    from audiotokens.architectures.mimi import VARIANTS, MimiCodec
    from audiotokens.checkpoints import convert

    torch.set_num_threads(1)
    torch.manual_seed(0)
    original = loaders.get_mimi(None, device="cpu", num_codebooks=32).eval()
    randomize(original)
    sides: dict[str, tuple[Callable[[np.ndarray], Any], Callable[[Any], Any]]] = {}
    for name in ("fast", "exact"):
        codec = convert(MimiCodec, dict(original.state_dict()), VARIANTS["mimi"]).make_exact(name == "exact")
        codec.fingerprint  # noqa: B018 (hashed once, not in the first measurement)
        sides[name] = codec.encoder().push, codec.decoder().push
    sides["moshi"] = (lambda chunk: original.encode(torch.from_numpy(chunk)[None])), original.decode
    times: dict[tuple[str, str], list[float]] = {}
    warm = 13
    with torch.inference_mode(), original.streaming(1):
        for index, chunk in enumerate(chunks(24000, 1920, seconds + warm * 0.08)):
            for side, (encode, decode) in sides.items():
                codes = timed(times, side, "encode", index >= warm, encode, chunk)
                timed(times, side, "decode", index >= warm, decode, codes)
    rows = [row("peer", "mimi", side, job, 0.08, found) for (side, job), found in times.items()]
    medians = {(each["side"], each["job"]): each["milliseconds"][0] for each in rows}
    for each in rows:
        each["times_ours"] = each["milliseconds"][0] / medians["fast", each["job"]]
    return rows


def timed(
    times: dict[tuple[str, str], list[float]], side: str, job: str, counts: bool, call: Any, given: Any
) -> Any:
    """Call, and note the time if it counts."""
    start = time.perf_counter()
    found = call(given)
    if counts:
        times.setdefault((side, job), []).append(time.perf_counter() - start)
    return found


def chunks(rate: int, size: int, seconds: float, channels: int = 1) -> Iterator[np.ndarray]:
    """Pieces `[C, size]` of sound."""
    sound = np.repeat(noise(rate, seconds), channels, 0)
    for start in range(0, sound.shape[1] - size + 1, size):
        yield sound[:, start : start + size]


# Models


def models(options: argparse.Namespace, folder: Path) -> dict[str, Callable[[str], Any]]:
    """Name -> what loads it in a mode: fast, exact, or onnx."""
    import audiotokens
    from audiotokens import registry

    def of_folder(name: str) -> Callable[[str], Any]:
        return lambda mode: (
            audiotokens.load(name, engine="onnx")
            if mode == "onnx"
            else audiotokens.load(name, exact=mode == "exact", engine="torch")
        )

    def random(variant: str) -> Callable[[str], Any]:
        import importlib

        module, _, attribute = registry.architectures[FAMILIES[variant]].partition(":")
        found = importlib.import_module(module)

        def make(mode: str) -> Any:
            if mode == "onnx":
                raise audiotokens.AudioTokensError("random weights have no graphs")
            torch.manual_seed(0)
            codec = getattr(found, attribute)(found.VARIANTS[variant]).eval()
            return codec.make_exact(mode == "exact")

        return make

    loaders = {name: of_folder(name) for name in SHIPPED}
    if options.lyra:
        from audiotokens.checkpoints import import_checkpoint

        files = [options.lyra / f"{name}.tflite" for name in ("soundstream_encoder", "quantizer", "lyragan")]
        import_checkpoint("lyra-v2", files, output=folder / "lyra")
        loaders["lyra-v2"] = of_folder(str(folder / "lyra"))
    return loaders | {variant: random(variant) for variant in FAMILIES}


def steps(name: str, load: Callable[[str], Any], seconds: float) -> list[Row]:
    """Times of one model's steps in every mode that it has."""
    import audiotokens
    from audiotokens.latency import measure_steps

    rows = []
    for mode in ("fast", "exact", "onnx"):
        try:
            codec = load(mode)
        except audiotokens.AudioTokensError as error:
            if mode != "onnx":
                raise
            print(f"models {name}: no engine onnx ({error})", flush=True)
            continue
        found = measure_steps(codec, seconds=seconds)
        for job, side in (("encode", found.encoder), ("decode", found.decoder)):
            if side is not None:
                rows.append(
                    {
                        "part": "models",
                        "model": name,
                        "side": mode,
                        "job": job,
                        "chunk_ms": 1000 * found.chunk / codec.spec.sample_rate,
                        "milliseconds": side.milliseconds,
                        "real_time": side.real_time_factor,
                        "steps": side.count,
                    }
                )
    return rows


# Lanes


def lanes(name: str, codec: Any, count: int, seconds: float) -> list[Row]:
    """Times of a step of all lanes in one batch, and of as many sessions, in turns."""
    from audiotokens.lanes import DecoderLanes, EncoderLanes

    hop, rate = int(codec.spec.hop), codec.spec.sample_rate
    encoding, decoding = EncoderLanes(codec, count), DecoderLanes(codec, count)
    encoders = [codec.encoder() for _ in range(count)]
    decoders = [codec.decoder() for _ in range(count)]
    times: dict[tuple[str, str], list[float]] = {}
    warm = 2 + -(-codec.spec.lookahead // hop)
    steps = min(max(int(seconds * rate / hop / count), 10), 100) + warm
    for index, chunk in enumerate(chunks(rate, hop, steps * hop / rate, codec.spec.channels)):
        given = dict.fromkeys(range(count), chunk)
        counts = index >= warm

        def alone(sessions: list[Any], pieces: dict[int, Any]) -> list[Any]:
            return [session.push(pieces[lane]) for lane, session in enumerate(sessions) if lane in pieces]

        found = timed(times, "lanes", "encode", counts, encoding.push, given)
        timed(times, "sessions", "encode", counts, lambda pieces: alone(encoders, pieces), given)
        timed(times, "lanes", "decode", counts, decoding.push, found)
        timed(times, "sessions", "decode", counts, lambda pieces: alone(decoders, pieces), found)
    rows = [row("lanes", name, side, job, hop / rate, t) for (side, job), t in times.items()]
    medians = {(each["side"], each["job"]): each["milliseconds"][0] for each in rows}
    for each in rows:
        each["lanes"], each["real_time"] = count, count * each["real_time"]
        each["times_ours"] = each["milliseconds"][0] / medians["lanes", each["job"]]
    return rows


if __name__ == "__main__":
    main()
