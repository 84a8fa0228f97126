"""Which codes rounding in float32 changes, and whether arbitration finds them all.

    python benchmarks/exactness.py --data DATA --lyra FOLDER --output exactness.json
    python benchmarks/exactness.py --data DATA --models speech-16k --codes 120000

DATA holds `train` and `test` with sound files, which are only encoded. The shipped tokenizers and Lyra V2
(of its three files in the folder --lyra) take recordings in a random order, each until it has its share of
the codes, in three ways: with `exact=True`, which is float32 here, in float64, and in float32 with near ties
decided in float64. Counted are the codes that differ between the first two (flips), with the relative margin
of the first flipped book of each frame, since the later ones follow from it; those whose margin is not below
the bound of arbitration; and the codes in which arbitration differs from float64. One thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import LYRA, SHIPPED, add_data, import_lyra, recordings, waveforms

MODES: dict[str, Any] = {"float32": True, "float64": "float64", "arbitrated": "arbitrated"}
_PROGRESS_SECONDS = 30
# Margins of all codes take as long as another encode, so few recordings tell how many are near ties.
_MARGINS_EVERY = 10


def main() -> None:
    """Compare, print a table in Markdown, and write JSON."""
    options = arguments()
    torch.set_num_threads(1)
    files = recordings(options.data, "train", "test")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            place = str(import_lyra(options.lyra, Path(folder) / LYRA)) if name == LYRA else name
            share = -(-options.codes // len(options.models))
            results.append({"model": name, **compared(name, place, files, share)})
    if options.output:
        content = {"torch": torch.__version__, "results": results}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    print(table(results))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_data(parser)
    parser.add_argument("--models", nargs="+", choices=(*SHIPPED, LYRA), help="default: all")
    parser.add_argument("--codes", type=int, default=10_500_000, help="of all models together")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    options.models = options.models or [*SHIPPED, *([LYRA] if options.lyra else [])]
    if LYRA in options.models and not options.lyra:
        parser.error("give --lyra FOLDER, where its three files lie")
    return options


def compared(name: str, place: str, files: list[Path], share: int) -> dict[str, Any]:
    """Encode recordings in all ways until there are so many codes."""
    import audiotokens

    codecs: dict[str, Any] = {
        mode: audiotokens.load(place, engine="torch", exact=exact) for mode, exact in MODES.items()
    }
    plain, bound = codecs["float32"], codecs["arbitrated"].encoding_net.bound
    rate = plain.spec.sample_rate
    seconds, audio, told = dict.fromkeys(MODES, 0.0), 0.0, time.monotonic()
    counts = dict.fromkeys(("codes", "flips", "flipped_frames", "arbitrated_differs"), 0)
    margins: list[float] = []
    smallest: list[np.ndarray] = []
    for index, waveform in enumerate(waveforms(plain, files)):
        codes = {}
        for mode, codec in codecs.items():
            start = time.perf_counter()
            codes[mode] = codec.encode(waveform, rate).codes
            seconds[mode] += time.perf_counter() - start
        differ = codes["float32"] != codes["float64"]
        counts["codes"] += differ.size
        counts["flips"] += int(differ.sum())
        counts["flipped_frames"] += int(differ.any(0).sum())
        counts["arbitrated_differs"] += int((codes["arbitrated"] != codes["float64"]).sum())
        if differ.any() or index % _MARGINS_EVERY == 0:
            (found,) = plain.margins(waveform, rate).values()
            frames = np.flatnonzero(differ.any(0))
            margins += found[differ[:, frames].argmax(0), frames].tolist()
            if index % _MARGINS_EVERY == 0:
                smallest.append(found.min(0))
        audio += waveform.shape[1] / rate
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            note(f"{name}: {counts['codes']:,} of {share:,} codes, {counts['flips']} flips")
        if counts["codes"] >= share:
            break
    return {
        **counts,
        "audio_seconds": audio,
        "margins": sorted(margins, reverse=True),
        "bound": bound,
        "beyond_bound": sum(not margin < bound for margin in margins),
        "frames_below_bound": float(np.mean(np.concatenate(smallest) < bound)),
        "seconds": seconds,
    }


def note(text: str) -> None:
    """Say on stderr how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def table(results: list[dict[str, Any]]) -> str:
    """Results in Markdown."""
    head = ["tokenizer", "audio", "codes", "flips", "near ties flipped", "largest margin", "bound"]
    head += ["flips beyond it", "arbitrated differs", "frames below it"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for found in results:
        cells = [found["model"], f"{found['audio_seconds'] / 60:.0f} min", f"{found['codes']:,}"]
        cells += [f"{found['flips']:,}", f"{found['flipped_frames']:,}"]
        cells += [f"{max(found['margins']):.1e}" if found["margins"] else "-", f"{found['bound']:.1e}"]
        cells += [str(found["beyond_bound"]), str(found["arbitrated_differs"])]
        lines.append("| " + " | ".join([*cells, f"{found['frames_below_bound']:.2%}"]) + " |")
    keys = "codes", "flips", "beyond_bound", "arbitrated_differs"
    total, flips, beyond, missed = (sum(found[key] for found in results) for key in keys)
    lines += [
        "",
        f"{total:,} codes, {flips:,} flips, {beyond} beyond the bound, {missed} left by arbitration",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
