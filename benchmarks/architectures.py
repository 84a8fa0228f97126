"""Speed of codec families beside their original packages: same weights, same audio, in one run.

    python benchmarks/architectures.py --peers FOLDER
    python benchmarks/architectures.py --peers FOLDER --families dac snac --seconds 10 --threads 1 --rounds 3

The peers (transformers, encodec, snac, vocos, moshi) live in an environment of their own, which is made
in FOLDER if it is not there and borrows the torch of the running one. For each family and number of
threads one process builds the peers' full-size model with random weights, converts its state dict, and
lets both sides take turns. "encode" is a waveform to codes, "decode" codes to a waveform, for Vocos a
mel spectrogram to a waveform. "exact" is the mode in which codes do not depend on batch, chunks or
threads. Peak memory is that of a process of its own. The arithmetic limit is the time that the multiply-
adds of the nets take at the speed of one large float32 matrix product.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import environment, make_peers

PACKAGES = ["transformers==5.24.0", "tokenizers", "regex", "tqdm", "typer", "encodec==0.1.1", "einops"]
PACKAGES += ["snac==1.2.1", "vocos==0.1.0", "moshi==0.2.13"]
FAMILIES = ("encodec", "dac", "mimi", "snac", "vocos")
SOURCE = Path(__file__).resolve().parent.parent / "src"
STUBS = {
    "torchaudio/__init__.py": "from torchaudio import functional, transforms\n",
    "torchaudio/functional/__init__.py": "",
    "torchaudio/functional/functional.py": "_hz_to_mel = _mel_to_hz = None\n",
    "torchaudio/transforms.py": "MelSpectrogram = Resample = None\n",
    "sentencepiece.py": "SentencePieceProcessor = None\n",
    "sphn.py": "",
    "bitsandbytes.py": "",
}
"""Empty modules for what the peers import and what is measured does not use: file -> text."""
Job = Callable[[], Any]


def main() -> None:
    """Measure, print a table, and write JSON."""
    options = arguments()
    if options.family:
        print(json.dumps(worker(options)))
        return
    make_peers(options.peers, PACKAGES, STUBS)
    results = []
    for family in options.families:
        for threads in options.threads:
            found = run(options, family, threads)
            results += found
            report(found)
    summarize(results)
    if options.output:
        content = {"torch": torch.__version__, "rounds": options.rounds, "results": results}
        options.output.write_text(json.dumps(content, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=Path, help="folder of the environment of the peers")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--seconds", type=float, nargs="+", default=[10, 60], help="lengths of the audio")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of the shortest; medians count")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--family", choices=FAMILIES, help=argparse.SUPPRESS)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.family and not options.peers:
        parser.error("give --peers FOLDER, where the environment of the peers is or shall be made")
    return options


def run(options: argparse.Namespace, family: str, threads: int) -> list[dict[str, Any]]:
    """Start the process of one family and number of threads; then one per side for its memory."""
    python = str(options.peers / "bin" / "python")
    command = [
        python,
        __file__,
        "--family",
        family,
        "--threads",
        str(threads),
        "--rounds",
        str(options.rounds),
    ]
    command += ["--seconds", *map(str, options.seconds)]
    names = {**environment(threads), "PYTHONPATH": str(SOURCE)}

    def call(*more: str) -> list[dict[str, Any]]:
        finished = subprocess.run([*command, *more], env=names, check=True, capture_output=True, text=True)
        found: list[dict[str, Any]] = json.loads(finished.stdout.splitlines()[-1])
        return found

    results = call()
    if threads == options.threads[0]:
        # Memory in exact mode is that of the fast mode with wider numbers.
        for side in dict.fromkeys(result["side"] for result in results if result["side"] != "exact"):
            results += call("--memory", side)
    return results


def worker(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one family."""
    threads = options.threads[0]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if options.memory:
        return memory(options, threads)
    sides = SIDES[options.family]()
    results = []
    with torch.inference_mode():
        work = counted(sides["fast"][1])
        limit = {job: macs / speed(threads) for job, macs in work.items()}
        shortest = min(options.seconds)
        for seconds in sorted(options.seconds):
            # Longer audio is measured less often, and in fast mode only.
            first = seconds == shortest
            rounds = max(1, int(options.rounds * shortest / seconds))
            jobs = {side: make(seconds) for side, (make, _) in sides.items() if first or side != "exact"}
            times: dict[tuple[str, str], list[float]] = {}
            for round_ in range(rounds + first):
                for side, pair in jobs.items():
                    for job, call in pair.items():
                        start = time.perf_counter()
                        call()
                        if round_ or not first:
                            times.setdefault((side, job), []).append(time.perf_counter() - start)
            for (side, job), measured in times.items():
                results.append(
                    {
                        "family": options.family,
                        "threads": threads,
                        "audio_seconds": seconds,
                        "side": side,
                        "job": job,
                        "seconds": measured,
                        "limit": limit.get(job, 0.0) * seconds,
                    }
                )
    return results


def memory(options: argparse.Namespace, threads: int) -> list[dict[str, Any]]:
    """Peak memory of one side with the longest audio, over that with the shortest."""
    make, _ = SIDES[options.family]()[options.memory]
    found = []
    with torch.inference_mode():
        for seconds in sorted(options.seconds):
            for job, call in make(seconds).items():
                call()
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                found.append({"audio_seconds": seconds, "job": job, "peak_bytes": peak})
    shared = {"family": options.family, "threads": threads, "side": options.memory}
    return [{**shared, **each} for each in found]


def speed(threads: int) -> float:
    """Multiply-adds per second of a large float32 matrix product."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 1024**3 / best


def counted(model: Any) -> dict[str, int]:
    """Multiply-adds per second of audio of one of our models."""
    from audiotokens.codec import Codec
    from audiotokens.codec.complexity import complexity

    if isinstance(model, Codec):
        found = complexity(model)
        return {"encode": found.encoder_macs, "decode": found.decoder_macs}
    return {"decode": model.counted().decoder_macs}


def noise(rate: int, seconds: float) -> np.ndarray:
    """Two tones in noise, float32 `[1, T]`."""
    random = np.random.default_rng(0)
    t = np.arange(int(rate * seconds)) / rate
    tones = 0.2 * np.sin(2 * np.pi * 220 * t) + 0.1 * np.sin(2 * np.pi * 1871 * t)
    return (tones + 0.05 * random.standard_normal(len(t))).astype(np.float32)[None]


def ours(family: Any, tensors: dict[str, torch.Tensor], config: Any) -> dict[str, tuple[Any, Any]]:
    """Both modes of one of our codecs."""
    from audiotokens.checkpoints import convert

    sides: dict[str, tuple[Any, Any]] = {}
    for name in ("fast", "exact"):
        codec = convert(family, tensors, config).make_exact(name == "exact")
        codec.fingerprint  # noqa: B018 (hashed once, not in the first measurement)

        def make(seconds: float, codec: Any = codec) -> dict[str, Job]:
            rate = codec.spec.sample_rate
            waveform = noise(rate, seconds)
            tokens = codec.encode(waveform, rate)
            return {"encode": lambda: codec.encode(waveform, rate), "decode": lambda: codec.decode(tokens)}

        sides[name] = make, codec
    return sides


def simple(encode: Callable[[torch.Tensor], Any], decode: Callable[[Any], Any], rate: int, hop: int) -> Any:
    """Jobs of a peer from its two calls; the waveform is padded to whole hops outside of the measurement."""

    def make(seconds: float) -> dict[str, Job]:
        x = torch.from_numpy(noise(rate, seconds))[None]
        x = torch.nn.functional.pad(x, (0, -x.shape[2] % hop))
        codes = encode(x)
        return {"encode": lambda: encode(x), "decode": lambda: decode(codes)}

    return make, None


def encodec() -> dict[str, tuple[Any, Any]]:
    """EnCodec at 24 kHz, all 32 books: encodec 0.1.1 and transformers."""
    from encodec import EncodecModel as Original
    from transformers import EncodecConfig, EncodecModel

    from audiotokens.architectures.encodec import VARIANTS, EncodecCodec

    original = Original.encodec_model_24khz(pretrained=False).eval()
    original.set_target_bandwidth(24.0)
    randomize(original)
    port = EncodecModel(EncodecConfig()).eval()
    return {
        **ours(EncodecCodec, dict(original.state_dict()), VARIANTS["encodec-24khz"]),
        "encodec": simple(original.encode, original.decode, 24000, 320),
        "transformers": simple(
            lambda x: port.encode(x, bandwidth=24.0).audio_codes, lambda c: port.decode(c, [None]), 24000, 320
        ),
    }


def dac() -> dict[str, tuple[Any, Any]]:
    """DAC at 44.1 kHz: transformers."""
    from transformers import DacConfig, DacModel

    from audiotokens.architectures.dac import VARIANTS, DACCodec

    port = DacModel(DacConfig(sampling_rate=44100)).eval()
    return {
        **ours(DACCodec, dict(port.state_dict()), VARIANTS["dac-44khz"]),
        "transformers": simple(
            lambda x: port.encode(x).audio_codes, lambda c: port.decode(audio_codes=c), 44100, 512
        ),
    }


def mimi() -> dict[str, tuple[Any, Any]]:
    """Mimi with 32 books: moshi and transformers."""
    from moshi.models import loaders
    from transformers import MimiConfig, MimiModel

    from audiotokens.architectures.mimi import VARIANTS, MimiCodec

    original = loaders.get_mimi(None, device="cpu", num_codebooks=32).eval()
    randomize(original)
    port = MimiModel(MimiConfig(num_quantizers=32)).eval()
    return {
        **ours(MimiCodec, dict(original.state_dict()), VARIANTS["mimi"]),
        "moshi": simple(original.encode, original.decode, 24000, 1920),
        "transformers": simple(
            lambda x: port.encode(x, num_quantizers=32).audio_codes,
            lambda c: port.decode(audio_codes=c),
            24000,
            1920,
        ),
    }


def snac() -> dict[str, tuple[Any, Any]]:
    """SNAC at 24 kHz: snac, with its noise in the decoder."""
    from snac import SNAC

    from audiotokens.architectures.snac import VARIANTS, SNACCodec

    shape = {"encoder_dim": 48, "encoder_rates": [2, 4, 8, 8], "decoder_dim": 1024, "vq_strides": [4, 2, 1]}
    more = {"decoder_rates": [8, 8, 4, 2], "attn_window_size": None, "codebook_size": 4096, "codebook_dim": 8}
    original = SNAC(sampling_rate=24000, **shape, **more).eval()
    return {
        **ours(SNACCodec, dict(original.state_dict()), VARIANTS["snac-24khz"]),
        "snac": simple(original.encode, original.decode, 24000, 2048),
    }


def vocos() -> dict[str, tuple[Any, Any]]:
    """Vocos at 24 kHz from mel spectrograms: vocos. There is one mode and no codes."""
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    from audiotokens.architectures.vocos import VARIANTS, MelVocos
    from audiotokens.checkpoints import convert

    backbone = VocosBackbone(input_channels=100, dim=512, intermediate_dim=1536, num_layers=8).eval()
    head = ISTFTHead(dim=512, n_fft=1024, hop_length=256, padding="center").eval()
    tensors = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    tensors |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    vocoder = convert(MelVocos, tensors, VARIANTS["vocos-mel-24khz"])

    def make(synthesize: Callable[[np.ndarray], Any], model: Any) -> Any:
        def jobs(seconds: float) -> dict[str, Job]:
            features = vocoder.features(noise(24000, seconds), 24000)
            return {"decode": lambda: synthesize(features)}

        return jobs, model

    return {
        "fast": make(vocoder.synthesize, vocoder),
        "vocos": make(lambda features: head(backbone(torch.from_numpy(features)[None])), None),
    }


def randomize(model: torch.nn.Module) -> None:
    """Give books that begin as zeros random entries."""
    for name, tensor in model.state_dict().items():
        if name.endswith(("embed", "embed_avg", "embedding_sum")):
            tensor.normal_()
        if name.endswith(("inited", "_initialized", "cluster_size", "cluster_usage")):
            tensor.fill_(1)


SIDES: dict[str, Callable[[], dict[str, tuple[Any, Any]]]] = {
    "encodec": encodec,
    "dac": dac,
    "mimi": mimi,
    "snac": snac,
    "vocos": vocos,
}


def report(results: list[dict[str, Any]]) -> None:
    """Print medians, and how many times as long as ours in fast mode they are."""
    timed = [result for result in results if "seconds" in result]
    key = ("family", "threads", "audio_seconds", "job")
    median = {(*(r[k] for k in key), r["side"]): statistics.median(r["seconds"]) for r in timed}
    for result in timed:
        where = tuple(result[k] for k in key)
        own = median[(*where, result["side"])]
        ratio = own / median[(*where, "fast")]
        row = f"{result['family']:8} {result['threads']} thread(s) {result['audio_seconds']:5g} s "
        row += f"{result['job']:7} {result['side']:13} {own:8.3f} s, {ratio:5.2f} x ours, "
        row += f"{own / result['limit']:5.1f} x limit, {result['audio_seconds'] / own:6.1f} x real time"
        print(row, flush=True)
    for result in results:
        if "peak_bytes" in result:
            row = f"{result['family']:8} {result['side']:13} {result['audio_seconds']:5g} s {result['job']:7}"
            print(f"{row} peak {result['peak_bytes'] / 2**20:7.0f} MiB", flush=True)


def summarize(results: list[dict[str, Any]]) -> None:
    """Print the geometric mean of the ratios to the fastest peer, and the worst."""
    timed = [result for result in results if "seconds" in result]
    ratios = []
    for result in timed:
        if result["side"] != "fast":
            continue
        same = [
            r for r in timed if all(r[k] == result[k] for k in ("family", "threads", "audio_seconds", "job"))
        ]
        peers = [statistics.median(r["seconds"]) for r in same if r["side"] not in ("fast", "exact")]
        ratios.append(min(peers) / statistics.median(result["seconds"]))
    if ratios:
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        print(f"fastest peer over ours: {mean:.2f} on the geometric mean, {min(ratios):.2f} at least")


if __name__ == "__main__":
    main()
