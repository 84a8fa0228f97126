"""`audiotokens export`: a tokenizer in, graphs that run without torch out, or a page for the browser."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import click

from audiotokens.cli.options import json_option
from audiotokens.cli.text import one_line, print_json
from audiotokens.errors import AudioTokensError


@click.command(epilog="Example: audiotokens export speech-16k-stream --onnx speech-16k-onnx")
@click.argument("name")
@click.option("--onnx", metavar="DIR", help="Tokenizer folder to write: weights, and ONNX graphs of them.")
@click.option(
    "--streaming/--no-streaming", default=True, show_default=True, help="Graphs of single steps too."
)
@click.option("--web", metavar="DIR", help="Folder to write: a page that runs the tokenizer in a browser.")
@click.option(
    "--runtime",
    metavar="FOLDER",
    help="Unpacked npm package onnxruntime-web for the page; default: fetched by npm.",
)
@json_option
def export(
    name: str, onnx: str | None, streaming: bool, web: str | None, runtime: str | None, as_json: bool
) -> None:
    """Write a tokenizer as graphs that run without torch.

    NAME is a name of "audiotokens list", a folder, or hf:org/name. The graphs are run on noise and compared
    with the tokenizer.
    """
    if onnx is None and web is None:
        raise AudioTokensError("nothing to write was named: give --onnx DIR, --web DIR, or both")
    facts: dict[str, Any] = {}
    if onnx is not None:
        facts["onnx"] = str(_write_graphs(name, Path(onnx), streaming))
    if web is not None:
        from audiotokens.export.web import export_web

        facts["page"] = str(export_web(name, web, runtime=runtime))
    if as_json:
        print_json(facts)
        return
    for kind, path in facts.items():
        click.echo(one_line(f"{kind}: {path}"))
    if onnx is not None:
        click.echo("try: " + one_line(f"audiotokens reconstruct speech.wav --engine onnx -m {facts['onnx']}"))
    if web is not None:
        click.echo("try: " + one_line(f"python -m http.server --directory {shlex.quote(web)}"))


def _write_graphs(name: str, folder: Path, streaming: bool) -> Path:
    from audiotokens.codec import Codec
    from audiotokens.codec.vocoder import NetVocoder
    from audiotokens.export import export_onnx
    from audiotokens.registry import load, shipped

    codec: object = load(name, engine="torch")
    if not isinstance(codec, Codec | NetVocoder):
        raise AudioTokensError(f"{name} is kept by another package, whose code no graph can be written of")
    source = shipped().get(name) or Path(name)
    if not (folder / "config.json").exists() and (source / "config.json").is_file():
        # The card and the bytes of the weights stay what they are.
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "model.safetensors", "README.md"):
            if (source / file).is_file():
                shutil.copyfile(source / file, folder / file)
    return export_onnx(codec, folder, streaming=streaming)
