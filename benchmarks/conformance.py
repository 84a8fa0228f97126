"""The ten promises tried on codecs of other packages, beside ours with the same weights.

    python benchmarks/conformance.py --peers FOLDER --data DATA
    python benchmarks/conformance.py --peers FOLDER --data DATA --families encodec mimi --minutes 5

DATA holds `train` and `test` with sound files. The peers (transformers, moshi, snac) live in an environment
of their own, which is made in FOLDER if it is not there and borrows the torch of the running one. Models are
small and have random weights, of which tokens mean nothing: so every layer is first scaled to a variance of 1
on real audio, every book fitted by k-means to what it searches on recordings of `train`, and its perplexity
on those of `test` is stated. What is tried is the code of the packages: padding, batches, chunks, threads.
None of them claims exact codes, so a flip with a margin that rounding explains is counted, and every other
one breaks the promise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import PACKAGES, SOURCE, STUBS
from peers import environment, make_peers

FAMILIES = ("encodec", "dac", "mimi", "moshi", "snac")


def main() -> None:
    """Try, print a table in Markdown, and write JSON."""
    options = arguments()
    if options.family:
        print(json.dumps(worker(options)))
        return
    make_peers(options.peers, PACKAGES, STUBS)
    results = []
    for family in options.families:
        results += run(options, family)
        print(f"{family}: done", flush=True)
    if options.output:
        content = {"torch": torch.__version__, "packages": versions(), "results": results}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    print(table(results))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder of the environment of the peers")
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--minutes", type=float, default=1.0, help="of test audio for each promise")
    parser.add_argument("--fit-minutes", type=float, default=4.0, help="of training audio for the books")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--family", choices=FAMILIES, help=argparse.SUPPRESS)
    return parser.parse_args()


def versions() -> list[str]:
    """Pinned versions of the packages tried."""
    return [name for name in PACKAGES if name.startswith(("transformers", "moshi", "snac"))]


def run(options: argparse.Namespace, family: str) -> list[dict[str, Any]]:
    """Start the process of one family."""
    command = [str(options.peers / "bin" / "python"), __file__, "--family", family]
    for name in ("peers", "data", "minutes", "fit_minutes", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    names = {**environment(options.threads), "PYTHONPATH": str(SOURCE)}
    finished = subprocess.run(command, env=names, check=True, stdout=subprocess.PIPE, text=True)
    found: list[dict[str, Any]] = json.loads(finished.stdout.splitlines()[-1])
    return found


def worker(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Fit and verify one family: the package's model, then ours in both modes."""
    from audiotokens.config import to_dict
    from audiotokens.verify import Budget, verify
    from audiotokens.verify.recordings import read_recordings

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    peer, ours = BUILDERS[options.family]()
    fit = read_recordings(peer, sounds(options.data / "train"), budget=budget(options.fit_minutes))
    balance(peer.model)
    fit_books(peer, list(fit.values()))
    longest = max(fit.values(), key=lambda waveform: waveform.shape[1])
    peer.decode(peer.encode(longest, peer.spec.sample_rate))
    test = sounds(options.data / "test")
    heard = read_recordings(peer, test, budget=budget(options.fit_minutes))
    shares = {
        "train": perplexities(peer, list(fit.values())),
        "test": perplexities(peer, list(heard.values())),
    }
    results = []
    for label, tokenizer in (("package", peer), *ours(peer).items()):
        note(f"{options.family}, {label}")
        found = verify(tokenizer, audio=test, budget=Budget(minutes=options.minutes), progress=note)
        results.append({"family": options.family, "side": label, "perplexity": shares, **to_dict(found)})
    return results


def note(text: str) -> None:
    """Say on stderr what is being done."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def budget(minutes: float) -> Any:
    """So many minutes, however many codes."""
    from audiotokens.verify import Budget

    return Budget(codes=10**9, minutes=minutes)


def sounds(folder: Path) -> list[Path]:
    """Sound files below a folder."""
    from audiotokens.audio import AUDIO_SUFFIXES

    return sorted(path for path in folder.rglob("*") if path.suffix in AUDIO_SUFFIXES)


def balance(model: torch.nn.Module) -> None:
    """Let each layer scale its output to a variance of 1, on the first audio that comes, and have no bias.

    As the packages draw them, weights damp the signal from layer to layer, until biases are nearly all that
    is left, and the latents of all sounds are nearly one vector.
    """
    kinds = torch.nn.Conv1d, torch.nn.ConvTranspose1d, torch.nn.Linear

    def scale(layer: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
        handles.pop(layer).remove()
        size = float(output.std()) or 1.0
        normed = getattr(getattr(layer, "parametrizations", None), "weight", None)
        weight = (
            layer.weight_g if hasattr(layer, "weight_g") else normed.original0 if normed else layer.weight
        )
        weight.data /= size
        return output / size

    handles: dict[Any, Any] = {}
    for layer in model.modules():
        if isinstance(layer, kinds):
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)
            handles[layer] = layer.register_forward_hook(scale)


def fit_books(peer: Any, waveforms: list[np.ndarray]) -> None:
    """Fit one book after the other to what those before it left over."""
    generator = torch.Generator().manual_seed(0)
    for books in peer.books:
        left: torch.Tensor | None = None
        for book in books:
            # Between books that compare directions there are maps, so that the package computes what is left.
            vectors = searched(peer, book, waveforms) if left is None or book.directions else left
            note(f"a book of {len(book.entries())} for {len(vectors):,} vectors")
            size = float(vectors.norm(dim=1).mean()) if book.directions else 1.0
            compared = torch.nn.functional.normalize(vectors) if book.directions else vectors
            entries = cluster(compared, len(book.entries()), generator)
            left = vectors - entries[nearest(vectors, entries)]
            book.store(size * entries)


def searched(peer: Any, book: Any, waveforms: list[np.ndarray]) -> torch.Tensor:
    """The vectors `[N, D]` that a book searches when waveforms are encoded."""
    with book.watched() as seen, torch.inference_mode():
        for waveform in waveforms:
            peer.encode(waveform, peer.spec.sample_rate)
    return torch.cat(seen).clone()


def nearest(vectors: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """Index of the nearest entry."""
    return torch.cat([torch.cdist(part, entries).argmin(1) for part in vectors.split(8192)])


def cluster(vectors: torch.Tensor, size: int, generator: torch.Generator, rounds: int = 12) -> torch.Tensor:
    """k-means as codecs train their books: entries of little use start again at vectors drawn at random."""
    entries = vectors[torch.randperm(len(vectors), generator=generator)[:size]].clone()
    for round_ in range(rounds):
        codes = nearest(vectors, entries)
        counts = torch.bincount(codes, minlength=size)
        sums = torch.zeros_like(entries).index_add_(0, codes, vectors)
        entries = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), entries)
        rare = counts < 0.5 * len(vectors) / size
        if round_ < rounds - 1:
            drawn = torch.randint(len(vectors), (int(rare.sum()),), generator=generator)
            entries[rare] = vectors[drawn]
    return entries


def perplexities(peer: Any, waveforms: list[np.ndarray]) -> list[float]:
    """Perplexity of every book as a share of its size."""
    counts = {stream.name: [np.zeros(size) for size in stream.codebook_sizes] for stream in peer.spec.streams}
    for waveform in waveforms:
        for name, stream in peer.encode(waveform, peer.spec.sample_rate).streams.items():
            for count, codes in zip(counts[name], stream.codes, strict=True):
                np.add.at(count, codes, 1)
    shares = []
    for count in (count for stream in counts.values() for count in stream):
        share = count[count > 0] / count.sum()
        shares.append(round(float(np.exp(-(share * np.log(share)).sum())) / len(count), 3))
    return shares


def both_modes(codec: Any) -> dict[str, Any]:
    """Our codec in exact mode, and a copy of it in fast mode."""
    import copy

    return {"ours, exact": codec.make_exact(), "ours, fast": copy.deepcopy(codec).make_exact(False)}


def imported(family: str) -> Callable[[Any], dict[str, Any]]:
    """Import a model of transformers through its own folder."""

    def make(peer: Any) -> dict[str, Any]:
        import audiotokens

        with tempfile.TemporaryDirectory() as folder:
            peer.model.save_pretrained(folder)
            return both_modes(audiotokens.import_checkpoint(family, folder))

    return make


def converted(family: Any, config: Any) -> Callable[[Any], dict[str, Any]]:
    """Convert the weights of a model of the authors' package."""

    def make(peer: Any) -> dict[str, Any]:
        from audiotokens.checkpoints import convert

        return both_modes(convert(family, dict(peer.model.state_dict()), config).eval())

    return make


def encodec() -> tuple[Any, Any]:
    """EnCodec at 24 kHz with a quarter of the channels and five books of 256."""
    from conformance_peers import TransformersPeer
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(num_filters=8, codebook_size=256, target_bandwidths=[3.0])
    return TransformersPeer(EncodecModel(config), name="transformers Encodec"), imported("encodec")


def dac() -> tuple[Any, Any]:
    """DAC at 44.1 kHz with an eighth of the channels and four books of 256."""
    from conformance_peers import TransformersPeer
    from transformers import DacConfig, DacModel

    sizes = {"encoder_hidden_size": 8, "hidden_size": 128, "decoder_hidden_size": 128}
    config = DacConfig(sampling_rate=44100, n_codebooks=4, codebook_size=256, **sizes)
    return TransformersPeer(DacModel(config), name="transformers Dac"), imported("dac")


def mimi() -> tuple[Any, Any]:
    """Mimi with a quarter of the channels, two layers in each transformer, and four books of 256."""
    from conformance_peers import TransformersPeer
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        hidden_size=128,
        num_filters=16,
        codebook_size=256,
        codebook_dim=64,
        vector_quantization_hidden_dimension=64,
        num_quantizers=4,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        intermediate_size=512,
        upsample_groups=128,
    )
    return TransformersPeer(MimiModel(config), name="transformers Mimi"), imported("mimi")


def moshi() -> tuple[Any, Any]:
    """The same Mimi, of moshi."""
    from conformance_peers import MoshiPeer
    from moshi.models import loaders

    from audiotokens.architectures.mimi import VARIANTS, MimiCodec, split_rvq

    config = dict(loaders._mimi_config)
    config["seanet"] = {**config["seanet"], "dimension": 128, "n_filters": 16}
    config["transformer"] = {
        **config["transformer"],
        "d_model": 128,
        "num_heads": 4,
        "num_layers": 2,
        "dim_feedforward": 512,
        "input_dimension": 128,
        "output_dimensions": [128],
    }
    config["quantizer"] = {
        "dimension": 64,
        "n_q": 4,
        "bins": 256,
        "input_dimension": 128,
        "output_dimension": 128,
    }
    model = loaders.get_mimi(None, config, num_codebooks=4).eval()
    published = VARIANTS["mimi"]
    own = replace(
        published,
        seanet=replace(published.seanet, dimension=128, filters=16),
        transformer=replace(published.transformer, layers=2, width=128, heads=4, hidden=512),
        quantizer=split_rvq(256, 4, 64),
    )

    def others(peer: Any) -> dict[str, Any]:
        several = MoshiPeer(peer.model, one_by_one=False)
        return {"several frames a call": several, **converted(MimiCodec, own)(peer)}

    return MoshiPeer(model), others


def snac() -> tuple[Any, Any]:
    """SNAC at 24 kHz with a third of the channels, and books of 256."""
    from conformance_peers import SnacPeer
    from snac import SNAC

    from audiotokens.architectures.snac import VARIANTS, SNACCodec, factorized_levels

    strides = {"encoder_rates": [2, 4, 8, 8], "decoder_rates": [8, 8, 4, 2], "vq_strides": [4, 2, 1]}
    sizes = {"encoder_dim": 16, "decoder_dim": 256, "codebook_size": 256, "codebook_dim": 8}
    model = SNAC(sampling_rate=24000, attn_window_size=None, **strides, **sizes).eval()
    own = replace(
        VARIANTS["snac-24khz"],
        encoder_width=16,
        decoder_width=256,
        quantizer=factorized_levels(256, (4, 2, 1), size=256, dim=8),
    )
    return SnacPeer(model), converted(SNACCodec, own)


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "encodec": encodec,
    "dac": dac,
    "mimi": mimi,
    "moshi": moshi,
    "snac": snac,
}


def table(results: list[dict[str, Any]]) -> str:
    """One row for each promise, one column for each codec, in Markdown."""
    parts = []
    for family in dict.fromkeys(result["family"] for result in results):
        sides = [result for result in results if result["family"] == family]
        heads = [side["tokenizer"] if side["side"] == "package" else side["side"] for side in sides]
        shares = sides[0]["perplexity"]
        (low, high), (least, most) = ((min(shares[part]), max(shares[part])) for part in ("train", "test"))
        parts += ["", f"### {heads[0]}", ""]
        perplexity = (
            f"Perplexity of the books: {low:.0%} to {high:.0%} of their size on what they were fitted to"
        )
        parts += [f"{perplexity}, {least:.0%} to {most:.0%} on test recordings.", ""]
        parts += [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for verdicts in zip(*(side["verdicts"] for side in sides), strict=True):
            parts.append(f"| {verdicts[0]['promise']} | {' | '.join(map(cell, verdicts))} |")
    return "\n".join(parts)


def cell(verdict: dict[str, Any]) -> str:
    """A verdict in few words."""
    finding = verdict["detail"].partition("; ")[0].partition(" (smallest margin")[0]
    if verdict["status"] == "not offered":
        return finding
    return f"**{finding}**" if verdict["status"] == "broken" else finding


if __name__ == "__main__":
    main()
