"""One static page that runs a tokenizer in ONNX Runtime Web; nothing leaves the machine that it runs on."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from audiotokens.audio import mix_to_channels, resample, write_audio
from audiotokens.demo_sounds import MUSIC_RATE, VOICES, chords, speak
from audiotokens.engines.graphs import GRAPHS_FILE, has_graphs, read_graphs
from audiotokens.errors import AudioTokensError, NotOfferedError
from audiotokens.evaluation.report_images import LEVELS, colour_map
from audiotokens.export.web.runtime import VERSION, RuntimeMissingError, find_runtime
from audiotokens.registry import load, read_folder_config, shipped
from audiotokens.spec import Spec

__all__ = ["VERSION", "RuntimeMissingError", "export_web"]

_PAGE = "page.json"
_SCRIPTS = ("page.js", "worker.js", "codec.js", "pictures.js", "sound.js", "recorder.js")
_WASM = "onnxruntime/ort-wasm-simd-threaded.wasm"
_SAMPLE_SECONDS = 6


def export_web(
    name_or_folder: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    runtime: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a folder with one static page that encodes and decodes with a tokenizer in the browser.

    Any server of static files can serve it, under any path; opened as a file it does not run. A folder that
    has graphs is taken as it is, and for any other tokenizer they are made.

    Args:
        name_or_folder: as in `audiotokens.load`.
        directory: is created; an older page in it is replaced.
        runtime: an unpacked npm package onnxruntime-web; None: the pinned version, which npm fetches once.

    Returns:
        The page, `index.html`.

    Raises:
        NotOfferedError: the tokenizer has no encoder or no decoder.
        RuntimeMissingError: npm cannot fetch ONNX Runtime Web.
        AudioTokensError: the directory holds something else, or the tokenizer cannot be loaded or exported.

    Example:
        >>> export_web("speech-16k-stream", "page")  # doctest: +SKIP
        PosixPath('page/index.html')
    """
    target = Path(directory)
    if target.exists() and not (target / _PAGE).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise AudioTokensError(f"{target} holds something else than such a page: name an empty or new folder")
    found = find_runtime(runtime)
    target.mkdir(parents=True, exist_ok=True)
    (target / _PAGE).write_text("{}")  # Whatever fails from here on, the next call knows its own folder.
    found.copy(target / "onnxruntime")
    spec, model_files = _copy_model(name_or_folder, target / "model")
    _write_sample(spec, target / "sample.wav")
    _write_page(spec, found.version, target)
    sizes = {name: (target / name).stat().st_size for name in (_WASM, *(f"model/{n}" for n in model_files))}
    colours = colour_map(LEVELS).tobytes().hex()
    page = {"name": spec.name, "runtime": found.version, "colours": colours, "sizes": sizes}
    (target / _PAGE).write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")
    return target / "index.html"


def _copy_model(name_or_folder: str | os.PathLike[str], target: Path) -> tuple[Spec, list[str]]:
    """Copy what the page needs of a tokenizer folder; return its facts and the names of the files."""
    known = shipped().get(os.fspath(name_or_folder)) if isinstance(name_or_folder, str) else None
    source = known or Path(name_or_folder)
    if has_graphs(source):
        return _copy_folder(source, target)
    from audiotokens.codec import Codec
    from audiotokens.export import export_onnx

    tokenizer = load(name_or_folder)
    if not isinstance(tokenizer, Codec):
        raise NotOfferedError(f"{tokenizer.spec.name} has no graphs: the page needs a codec of this package")
    with tempfile.TemporaryDirectory() as made:
        return _copy_folder(export_onnx(tokenizer, Path(made) / "model"), target)


def _copy_folder(source: Path, target: Path) -> tuple[Spec, list[str]]:
    spec = read_folder_config(source).spec
    graphs = read_graphs(source)
    if not (graphs.encoder and graphs.decoder and graphs.quantizer):
        raise NotOfferedError(f"{spec.name} does not encode and decode: the page needs both")
    names = ["config.json", GRAPHS_FILE, *sorted(graphs.files())]
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in names:
        shutil.copyfile(source / name, target / name)
    return spec, names


def _write_sample(spec: Spec, path: Path) -> None:
    """Write a synthesized sentence, or chords where no voice is installed or the tokenizer is for music."""
    try:
        if spec.taxonomy.domain == "music":
            raise AudioTokensError("no voice is wanted")
        speech, rate = speak(VOICES[0])
        waveform = speech[None]
    except AudioTokensError:
        waveform, rate = chords(0), MUSIC_RATE
    channels = min(spec.channels, len(waveform))
    waveform = mix_to_channels(waveform[:, : _SAMPLE_SECONDS * rate], channels)
    write_audio(path, resample(waveform, rate, spec.sample_rate), spec.sample_rate, overwrite=True)


def _write_page(spec: Spec, version: str, target: Path) -> None:
    resources = files(__package__) / "page"
    for name in _SCRIPTS:
        (target / name).write_bytes((resources / name).read_bytes())
    base = files("audiotokens.evaluation") / "page" / "base.css"
    style = base.read_text(encoding="utf-8") + (resources / "page.css").read_text(encoding="utf-8")
    (target / "page.css").write_text(style, encoding="utf-8")
    template = Template((resources / "index.html").read_text(encoding="utf-8"))
    terms = f"; the weights of {spec.name} are under {spec.weights_license}" if spec.weights_license else ""
    values = {"name": spec.name, "facts": _facts(spec), "runtime": version, "license": terms}
    text = template.substitute({key: escape(value) for key, value in values.items()})
    (target / "index.html").write_text(text, encoding="utf-8")


def _facts(spec: Spec) -> str:
    books = sum(len(stream.codebook_sizes) for stream in spec.streams)
    rates = [spec.bitrate(count) / 1000 for count in (min(spec.legal_prefixes), max(spec.legal_prefixes))]
    frames = max(float(stream.frame_rate) for stream in spec.streams)
    kilohertz = spec.sample_rate / 1000
    span = f"{rates[0]:.2g} to {rates[1]:.2g}" if not math.isclose(*rates) else f"{rates[0]:.2g}"
    plural = "codes" if books > 1 else "code"
    return (
        f"{kilohertz:g} kHz sound, {frames:g} frames per second, up to {books} {plural} each, {span} kbit/s"
    )
