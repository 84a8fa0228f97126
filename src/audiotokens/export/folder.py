"""A tokenizer's folder with graphs: what lies in it, and how it is written."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from audiotokens.architectures.encodec import EncodecCodec
from audiotokens.codec import Codec
from audiotokens.codec.vocoder import NetVocoder
from audiotokens.engines.graphs import GRAPHS_FILE, GRAPHS_FORMAT, GRAPHS_VERSION, read_graphs
from audiotokens.errors import AudioTokensError, MissingExtraError, NotOfferedError
from audiotokens.export.check import check_graphs
from audiotokens.export.graph import OPSET, Graph
from audiotokens.export.nets import NetTracer, Steps, find_steps
from audiotokens.export.quantizers import decoder_graph, encoder_graph
from audiotokens.export.weights import LARGER, WEIGHTS, StoredWeights
from audiotokens.nn.block import Sequential

CONFIG = "config.json"


def export_onnx(codec: Codec | NetVocoder, folder: Path | str, *, streaming: bool = True) -> Path:
    """Write a tokenizer's folder with graphs that run it without torch.

    Where onnxruntime is installed, every graph is run on noise and compared with the tokenizer.

    Args:
        codec: a codec or a vocoder of this package.
        folder: is made where it does not exist. Where it holds this tokenizer already, the graphs and
            `graphs.json` are written beside what is there.
        streaming: whether graphs of single steps are written where the nets can be stepped.

    Returns:
        The folder.

    Raises:
        NotOfferedError: a part of the tokenizer has no form as a graph.
        MissingExtraError: onnx is not installed.
        AudioTokensError: the folder holds another tokenizer.

    Example:
        >>> export_onnx(audiotokens.load("speech-16k"), "speech-16k-onnx")  # doctest: +SKIP
        PosixPath('speech-16k-onnx')
    """
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtraError("Writing graphs", "export")
    if isinstance(codec, EncodecCodec) and codec.config.windowed:
        raise NotOfferedError(
            f"{codec.spec.name} codes overlapping windows with gains of their own, which graphs do not hold"
        )
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        codec.save(folder)
    # What was stored, which may be rounded, is what the graphs have to do.
    stored = type(codec).read(folder).eval()
    if stored.fingerprint != codec.fingerprint:
        raise AudioTokensError(
            f"{folder} holds another tokenizer than {codec.spec.name}: choose an empty folder, or its own"
        )
    (folder / GRAPHS_FILE).unlink(missing_ok=True)
    description = _Writer(stored, folder, streaming).written()
    check_graphs(stored, folder, description)
    (folder / GRAPHS_FILE).write_text(json.dumps(description, indent=1) + "\n")
    needed = read_graphs(folder).files()
    for path in folder.glob("*.onnx"):
        if path.name not in needed:
            path.unlink()
    return folder


class _Writer:
    def __init__(self, codec: Codec | NetVocoder, folder: Path, streaming: bool) -> None:
        self.codec, self.folder, self.streaming = codec, folder, streaming
        self.weights = StoredWeights(folder / WEIGHTS, codec.state_dict(keep_vars=True))

    def written(self) -> dict[str, Any]:
        """Write all graphs; return their description."""
        head = {
            "format": GRAPHS_FORMAT,
            "version": GRAPHS_VERSION,
            "opset": OPSET,
            "fingerprint": self.codec.fingerprint,
        }
        parts = self._codec(self.codec) if isinstance(self.codec, Codec) else self._vocoder(self.codec)
        larger = self.folder / LARGER
        if self.weights.larger:
            larger.write_bytes(self.weights.larger)
        else:
            larger.unlink(missing_ok=True)
        return head | {"external": [WEIGHTS, *([LARGER] if self.weights.larger else [])]} | parts

    def _codec(self, codec: Codec) -> dict[str, Any]:
        spec, group = codec.spec, codec.frames_per_hop
        hop, size = int(spec.hop), codec.quantizer.dim
        encoder = encode = None
        if spec.can_encode:
            encoder = self._net("encoder", codec.encoder_net, spec.channels, hop, spec.min_samples)
            encode = self._graph("quantizer.encode", encoder_graph(codec, self.weights))
        nets = {books: codec.decoder_for(books) for books in spec.legal_prefixes}
        if all(net is codec.decoder_net for net in nets.values()):
            decoder = self._net("decoder", codec.decoder_net, size, group, group)
        else:
            under = {str(n): self._net(f"decoder.{n}", net, size, group, group) for n, net in nets.items()}
            decoder = {"by_codebooks": under}
        return {
            "hop": hop,
            "latent": size,
            "frames_per_hop": group,
            "encoder": encoder,
            "decoder": decoder,
            "quantizer": {
                "encode": encode,
                "decode": self._graph("quantizer.decode", decoder_graph(codec, self.weights)),
            },
        }

    def _vocoder(self, vocoder: NetVocoder) -> dict[str, Any]:
        features = vocoder.spec.features
        if features is None:
            raise NotOfferedError(f"{vocoder.spec.name} reads no features, expected those of a vocoder")
        return {
            "hop": int(vocoder.spec.sample_rate / features.frame_rate),
            "latent": features.size,
            "frames_per_hop": 1,
            "encoder": None,
            "decoder": self._net("decoder", vocoder.decoder_net, features.size, 1, 1),
            "quantizer": None,
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
