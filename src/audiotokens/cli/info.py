"""`audiotokens info`: what a token file, a tokenizer or an audio file holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audiotokens.cli import paths
from audiotokens.cli.batch import Record, run_batch
from audiotokens.cli.options import BatchOptions, json_option
from audiotokens.cli.text import format_facts, number, one_line, size

if TYPE_CHECKING:
    from audiotokens.registry import TokenizerRecord
    from audiotokens.spec import Spec
    from audiotokens.tokens import Tokens


@click.command(epilog="Example: audiotokens info speech.tok speech-16k speech.wav")
@click.argument("targets", nargs=-1, required=True, metavar="FILE|TOKENIZER...")
@json_option
def info(targets: tuple[str, ...], as_json: bool) -> None:
    """Show what a token file, a tokenizer or an audio file holds.

    A tokenizer is a name of "audiotokens list", a tokenizer folder or hf:org/name; any other folder stands
    for the token files and audio files below it; - stands for tokens on stdin.
    """
    items = [item for target in targets for item in _items(target)]
    run_batch(items, _inspect, _describe, BatchOptions(as_json=as_json))


def _items(target: str) -> list[paths.Item]:
    folder = os.path.isdir(target) and not os.path.isfile(os.path.join(target, "config.json"))
    if not folder and (os.path.exists(target) or not paths.is_pattern(target)):
        return [paths.Item(target)]
    from audiotokens.audio import AUDIO_SUFFIXES

    return [paths.Item(found.source) for found in paths.collect([target], {*AUDIO_SUFFIXES, ".tok"})]


def _inspect(item: paths.Item) -> Record:
    source = item.source
    if os.path.isfile(source):
        return _inspect_tokens(source) if _is_token_file(source) else _inspect_audio(source)
    if source == paths.PIPE or source.lower().endswith(".tok"):
        return _inspect_tokens(source)
    return _inspect_tokenizer(source)


def _is_token_file(path: str) -> bool:
    from audiotokens.tokformat.layout import MAGIC

    with open(path, "rb") as file:
        return path.lower().endswith(".tok") or file.read(len(MAGIC)) == MAGIC


def _inspect_audio(path: str) -> Record:
    from audiotokens.audio import audio_info

    facts = audio_info(path)
    return {
        "kind": "audio",
        "format": facts.format,
        "codec": facts.codec,
        "sample_rate": facts.sample_rate,
        "channels": facts.channels,
        "num_samples": facts.num_samples,
        "seconds": facts.duration,
        "bytes": os.path.getsize(path),
    }


def _inspect_tokens(path: str) -> Record:
    from audiotokens.config import to_dict
    from audiotokens.tokenfile import read_tokens

    tokens = read_tokens(path)
    num_bytes = os.path.getsize(path) if os.path.isfile(path) else None
    return {
        "kind": "tokens",
        "tokenizer": tokens.tokenizer,
        "fingerprint": tokens.fingerprint,
        "seconds": tokens.duration,
        "sample_rate": tokens.sample_rate,
        "num_samples": tokens.num_samples,
        "channels": tokens.channels,
        "num_codebooks": tokens.num_codebooks,
        "streams": _stream_facts(tokens),
        "conditioning": {
            name: {
                "dimensions": item.values.shape[0],
                "frames": item.num_frames,
                "frame_rate": str(item.frame_rate),
            }
            for name, item in tokens.conditioning.items()
        },
        "bytes": num_bytes,
        "bitrate": tokens.bitrate,
        "file_bitrate": 8 * num_bytes / tokens.duration if num_bytes and tokens.num_samples else None,
        "source": to_dict(tokens.source) if tokens.source else None,
    }


def _stream_facts(tokens: Tokens) -> dict[str, Any]:
    return {
        name: {
            "frames": stream.num_frames,
            "frame_rate": str(stream.frame_rate),
            "codebook_sizes": list(stream.codebook_sizes),
            "durations": stream.durations is not None,
            "segments": len(stream.segments or ()),
        }
        for name, stream in tokens.streams.items()
    }


def _inspect_tokenizer(name: str) -> Record:
    from audiotokens import hub, registry
    from audiotokens.config import to_dict

    known = next((record for record in registry.list_tokenizers() if record.name == name), None)
    folder = registry.shipped().get(name)
    if folder is None and name.startswith("hf:"):
        folder = hub.hub_folder(name)
    if folder is None and os.path.isdir(name) and name not in registry.known_names():
        folder = Path(name)
    if folder is None and known is not None and known.published is not None:
        if known.state != "imported":
            return _published(known)
        folder = Path(known.origin)
    if folder is None or registry.model_type(folder):
        tokenizer = registry.load(name if folder is None else folder)
        named = {"origin": known.origin if known else "", "fingerprint": tokenizer.fingerprint}
        return {"kind": "tokenizer", **named, **_spec_facts(tokenizer.spec)}
    config = registry.read_folder_config(folder)
    facts = {"origin": str(folder), "weights": _weights(folder), "config": to_dict(config)["config"]}
    return {"kind": "tokenizer", **_spec_facts(config.spec), **facts}


def _published(record: TokenizerRecord) -> Record:
    """Facts of a published checkpoint that was not imported: it is not fetched for that."""
    from audiotokens.originals import originals_folder
    from audiotokens.published import facts, published

    place = originals_folder(published[record.name])
    return {
        "kind": "published checkpoint",
        "state": record.state,
        "put_files_into": str(place),
        **facts(record.name),
    }


def _spec_facts(spec: Spec) -> dict[str, Any]:
    from audiotokens.config import to_dict

    return {
        "spec": to_dict(spec),
        "bitrates": {str(prefix): spec.bitrate(prefix) for prefix in spec.legal_prefixes},
        "macs": spec.macs or None,
        "latency_ms": {
            name: 1000 * getattr(spec, name) / spec.sample_rate for name in ("lookahead", "decoder_lookahead")
        },
    }


def _weights(folder: Path) -> dict[str, int] | None:
    """Count tensors and parameters from the head of model.safetensors."""
    from safetensors import SafetensorError, safe_open

    from audiotokens.errors import CheckpointError

    path = folder / "model.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a safetensors file ({one_line(str(error))}): fetch the folder again"
        ) from None
    return {"tensors": len(shapes), "parameters": sum(map(_product, shapes)), "bytes": path.stat().st_size}


def _product(shape: list[int]) -> int:
    product = 1
    for extent in shape:
        product *= extent
    return product


def _describe(record: Record) -> str:
    hidden = ("input", "status", "config", "bitrates", "macs", "latency_ms")
    facts = {name: fact for name, fact in record.items() if name not in hidden}
    spec = facts.pop("spec", {})
    streams = facts.pop("streams", None) or {s["name"]: s for s in spec.get("streams", [])}
    facts |= {name: fact for name, fact in spec.items() if name != "streams"}
    if spec:
        facts |= _readable_facts(spec, facts.pop("weights", None))
    for name, stream in streams.items():
        shown = {key: fact for key, fact in stream.items() if fact and key != "name"}
        facts[f'stream "{name}"'] = shown
    for key in ("bitrate", "file_bitrate"):
        if facts.get(key):
            facts[key] = f"{facts[key] / 1000:.3f} kbit/s"
    if record.get("bitrates"):
        facts["bitrates"] = (
            ", ".join(f"{k}: {v / 1000:.3g}" for k, v in record["bitrates"].items()) + " kbit/s"
        )
    if facts.get("bytes"):
        facts["bytes"] = f"{facts['bytes']} ({size(facts['bytes'])})"
    return f"{one_line(record['input'])}\n{format_facts(facts)}\n"


def _readable_facts(spec: dict[str, Any], weights: dict[str, int] | None) -> dict[str, str]:
    """What numbers alone do not tell: units, and what 0 and nothing stand for."""
    counted = f"{number(spec['parameters'])} trainable" if spec["parameters"] else "not counted"
    stored = f", {number(weights['parameters'])} stored ({size(weights['bytes'])})" if weights else ""
    # What streams on one side only states how far that side looks ahead.
    whole = spec["receptive_field"] is None and not (spec["streamable"] or spec["lookahead"])
    waits = spec["streamable"] or spec["decoder_lookahead"]

    def samples(name: str) -> str:
        return f"{spec[name]} samples ({1000 * spec[name] / spec['sample_rate']:.4g} ms)"

    def work(name: str) -> str:
        return f"{number(spec[name])} per second of audio" if spec[name] else "-"

    return {
        "parameters": counted + stored,
        "encoder_macs": work("encoder_macs"),
        "decoder_macs": work("decoder_macs"),
        "lookahead": "the whole recording" if whole else samples("lookahead"),
        "decoder_lookahead": samples("decoder_lookahead") if waits else "-",
        "receptive_field": "no bound" if spec["receptive_field"] is None else samples("receptive_field"),
        "taxonomy": ", ".join(text for text in spec["taxonomy"].values() if text),
    }
