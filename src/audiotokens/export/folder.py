"""A tokenizer's folder with graphs: what lies in it, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from audiotokens.codec import Codec
from audiotokens.errors import AudioTokensError, MissingExtraError
from audiotokens.export.check import check_codec
from audiotokens.export.graph import OPSET, Graph
from audiotokens.export.nets import NetTracer, Steps, find_steps
from audiotokens.export.quantizers import decoder_graph, encoder_graph
from audiotokens.export.weights import WEIGHTS, StoredWeights
from audiotokens.nn.block import Sequential

GRAPHS = "graphs.json"
FORMAT_VERSION = 1


def export_onnx(codec: Codec, folder: Path | str, *, streaming: bool = True) -> Path:
    """Write a tokenizer's folder with graphs that run it without torch.

    Every graph is run on noise and compared with the tokenizer where onnxruntime is installed.

    Args:
        codec: any codec of this package.
        folder: is made where it does not exist. Where it holds this tokenizer already, the graphs and
            `graphs.json` are written beside what is there.
        streaming: whether graphs of single steps are written where the codec can be stepped.

    Returns:
        The folder.

    Raises:
        NotOfferedError: a part of the codec has no form as a graph.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("Writing graphs", "export") from None
    folder = Path(folder)
    if not _holds(folder, codec):
        codec.save(folder)
    exact, device = codec.exact, codec.device
    codec.to("cpu").eval().make_exact(False)
    try:
        writer = _Writer(codec, folder, streaming)
        description = writer.written()
        check_codec(codec, folder, description)
        (folder / GRAPHS).write_text(json.dumps(description, indent=1) + "\n")
    finally:
        codec.to(device).make_exact(exact)
    return folder


def _holds(folder: Path, codec: Codec) -> bool:
    """Whether a folder holds a codec already."""
    try:
        return type(codec).read(folder).fingerprint == codec.fingerprint
    except (AudioTokensError, OSError):
        return False


class _Writer:
    def __init__(self, codec: Codec, folder: Path, streaming: bool) -> None:
        self.codec, self.folder, self.streaming = codec, folder, streaming
        self.weights = StoredWeights(folder / WEIGHTS, codec.state_dict(keep_vars=True))

    def written(self) -> dict[str, Any]:
        """Write all graphs; return their description."""
        codec, spec = self.codec, self.codec.spec
        hop = int(spec.hop)
        encoder = decoder = encode = None
        if spec.can_encode:
            encoder = self._net("encoder", codec.encoder_net, spec.channels, hop, spec.min_samples)
            encode = self._graph("quantizer.encode", encoder_graph(codec, self.weights))
        if spec.can_decode:
            frames = codec.frames_per_hop
            decoder = self._net("decoder", codec.decoder_net, codec.quantizer.dim, frames, frames)
        return {
            "format": "audiotokens-graphs",
            "version": FORMAT_VERSION,
            "opset": OPSET,
            "fingerprint": codec.fingerprint,
            "hop": hop,
            "latent": codec.quantizer.dim,
            "frames_per_hop": codec.frames_per_hop,
            "external": [WEIGHTS],
            "encoder": encoder,
            "decoder": decoder,
            "quantizer": {
                "encode": encode,
                "decode": self._graph("quantizer.decode", decoder_graph(codec, self.weights)),
            },
        }

    def _net(self, name: str, net: Sequential, channels: int, hop: int, least: int) -> dict[str, Any]:
        tracer = NetTracer(net, channels, self.weights, self.codec.config, least=least)
        found: dict[str, Any] = {"offline": self._graph(name, tracer.offline())}
        if self.streaming and not net.unbounded:
            found |= self._steps(name, tracer, find_steps(net, channels, hop))
        return found

    def _steps(self, name: str, tracer: NetTracer, steps: Steps) -> dict[str, Any]:
        first = self._graph(f"{name}.first", tracer.first(steps))
        middle = self._graph(f"{name}.middle", tracer.middle(steps))
        states = [{"name": p.name, "shape": list(p.shape), "type": p.dtype} for p in steps.ports]
        return {
            "first": {**first, "size": steps.first, "gives": steps.first_gives},
            "middle": {**middle, "size": steps.size, "gives": steps.gives},
            "last": self._graph(f"{name}.last", tracer.last(steps)),
            "states": states,
        }

    def _graph(self, name: str, graph: Graph) -> dict[str, Any]:
        file = f"{name}.onnx"
        (self.folder / file).write_bytes(graph.model().SerializeToString())
        return {"file": file}


def remove_graphs(folder: Path) -> None:
    """Remove the graphs of a folder, and nothing else."""
    for path in (*folder.glob("*.onnx"), folder / GRAPHS):
        path.unlink(missing_ok=True)


Check = Callable[[Codec, Path, dict[str, Any]], None]
__all__ = ["FORMAT_VERSION", "GRAPHS", "export_onnx", "remove_graphs", "torch"]
