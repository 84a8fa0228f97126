"""A toy tokenizer as exported graphs, built by hand, and the same tokenizer in numpy.

The encoder makes a latent frame of a hop of samples and the next one (zeros after the end), two books of two
streams quantize it one after the other, and the decoder makes a hop of a latent frame and the one before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save

from audiotokens.config import to_dict
from audiotokens.engines.graphs import stored_fingerprint
from audiotokens.spec import Spec, StreamSpec

RATE, HOP, LATENT, SIZES = 8000, 16, 4, (32, 8)
WEIGHTS_FILE = "model.safetensors"


def make_weights(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"here": (HOP, LATENT), "next": (HOP, LATENT), "out": (LATENT, HOP), "before": (LATENT, HOP)}
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for index, size in enumerate(SIZES):
        scale = 4.0 / (index + 1)
        weights[f"book.{index}"] = (scale * random.standard_normal((size, LATENT))).astype(np.float32)
    return weights


def spec(name: str = "toy") -> Spec:
    rate = Fraction(RATE, HOP)
    streams = [StreamSpec(each, (size,), rate) for each, size in zip(("coarse", "fine"), SIZES)]
    return Spec(
        name, RATE, RATE, tuple(streams), (1, 2), streamable=True, lookahead=HOP, receptive_field=2 * HOP
    )


class Builder:
    """Collects nodes; every method returns the name of a tensor."""

    def __init__(self, offsets: dict[str, tuple[int, np.ndarray]]) -> None:
        self.offsets = offsets
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def __call__(self, kind: str, *inputs: str, to: str = "", **attributes: object) -> str:
        name = to or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, *values: int) -> str:
        name = "c" + "_".join(map(str, values))
        self.initializers[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def weight(self, name: str) -> str:
        """A tensor that lies in the file of the weights."""
        start, array = self.offsets[name]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS_FILE), ("offset", start), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers[name] = tensor
        return name

    def save(self, path: Path, inputs: dict[str, tuple], outputs: dict[str, tuple]) -> None:
        values = [
            [helper.make_tensor_value_info(name, *kind) for name, kind in each.items()]
            for each in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, path.stem, *values, list(self.initializers.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(model.SerializeToString())


def write_toy(folder: Path, *, seed: int = 0) -> Path:
    """Write the tokenizer folder: config.json, weights, graphs.json and graphs."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = make_weights(seed)
    content = save(weights)
    (folder / WEIGHTS_FILE).write_bytes(content)
    size = int.from_bytes(content[:8], "little")
    places = json.loads(content[8 : 8 + size])
    offsets = {name: (8 + size + places[name]["data_offsets"][0], weights[name]) for name in weights}
    config = {"format": "audiotokens", "version": 1, "architecture": "gain-shape", "config": {}}
    (folder / "config.json").write_text(json.dumps(config | {"spec": to_dict(spec())}))
    for name in ("offline", "first", "middle", "last"):
        _write_encoder(Builder(offsets), folder / _file("encoder", name), name)
        _write_decoder(Builder(offsets), folder / _file("decoder", name), name)
    _write_quantizer(offsets, folder)
    graphs = {
        "format": "audiotokens-graphs",
        "version": 1,
        "opset": 20,
        "fingerprint": stored_fingerprint(folder, "gain-shape", {}),
        "hop": HOP,
        "latent": LATENT,
        "frames_per_hop": 1,
        "external": [WEIGHTS_FILE],
        "encoder": _side("encoder", (2 * HOP, 1), (HOP, 1), [1, 1, HOP]),
        "decoder": _side("decoder", (1, HOP), (1, HOP), [1, LATENT, 1]),
        "quantizer": {"encode": {"file": "q.encode.onnx"}, "decode": {"file": "q.decode.onnx"}},
    }
    (folder / "graphs.json").write_text(json.dumps(graphs))
    return folder


def edit_graphs(folder: Path, change: Callable[[dict], object]) -> None:
    """Change graphs.json of a folder."""
    path = folder / "graphs.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def _file(side: str, name: str) -> str:
    return f"{side}.onnx" if name == "offline" else f"{side}.{name}.onnx"


def _side(side: str, first: Sequence[int], middle: Sequence[int], state: list[int]) -> dict:
    sizes = {"first": first, "middle": middle}
    graphs: dict = {name: {"file": _file(side, name)} for name in ("offline", "first", "middle", "last")}
    for name, (size, gives) in sizes.items():
        graphs[name] |= {"size": size, "gives": gives}
    return graphs | {"states": [{"name": "state.0", "shape": state, "type": "float32"}]}


def _write_encoder(b: Builder, path: Path, name: str) -> None:
    signal = b("Concat", "state.0", "x", axis=2) if name in ("middle", "last") else "x"
    if name in ("offline", "last"):  # Zeros up to a whole hop, and one more.
        length = b("Slice", b("Shape", signal), b.constant(2), b.constant(3))
        missing = b("Mod", b("Neg", length), b.constant(HOP))
        after = b("Add", missing, b.constant(HOP))
        signal = b("Pad", signal, b("Concat", b.constant(0, 0, 0, 0, 0), after, axis=0))
    hops = b("Reshape", signal, b.constant(-1, HOP))
    here = b("MatMul", b("Slice", hops, b.constant(0), b.constant(-1), b.constant(0)), b.weight("here"))
    after = b("MatMul", b("Slice", hops, b.constant(1), b.constant(1 << 40), b.constant(0)), b.weight("next"))
    frames = b("Transpose", b("Add", here, after), perm=[1, 0])
    b("Unsqueeze", frames, b.constant(0), to="y")
    _finish(b, path, name, {"x": 1}, LATENT, (1, 1, HOP), lambda: _tail(b, signal, HOP))


def _write_decoder(b: Builder, path: Path, name: str) -> None:
    if name in ("middle", "last"):
        signal = b("Concat", "state.0", "x", axis=2)
    else:
        signal = b("Pad", "x", b.constant(0, 0, 1, 0, 0, 0))
    frames = b("Transpose", b("Squeeze", signal, b.constant(0)), perm=[1, 0])
    now = b("MatMul", b("Slice", frames, b.constant(1), b.constant(1 << 40), b.constant(0)), b.weight("out"))
    before = b("MatMul", b("Slice", frames, b.constant(0), b.constant(-1), b.constant(0)), b.weight("before"))
    b("Reshape", b("Add", now, before), b.constant(1, 1, -1), to="y")
    _finish(b, path, name, {"x": LATENT}, 1, (1, LATENT, 1), lambda: _tail(b, signal, 1))


def _tail(b: Builder, signal: str, size: int) -> None:
    b("Slice", signal, b.constant(-size), b.constant(1 << 40), b.constant(2), to="next.0")


def _finish(
    b: Builder,
    path: Path,
    name: str,
    given: dict[str, int],
    rows: int,
    state: tuple[int, ...],
    tail: Callable[[], None],
) -> None:
    inputs: dict[str, tuple] = {each: (TensorProto.FLOAT, (1, size, "T")) for each, size in given.items()}
    outputs: dict[str, tuple] = {"y": (TensorProto.FLOAT, (1, rows, "U"))}
    if name in ("middle", "last"):
        inputs["state.0"] = (TensorProto.FLOAT, state)
    if name in ("first", "middle"):
        tail()
        outputs["next.0"] = (TensorProto.FLOAT, state)
    b.save(path, inputs, outputs)


def _write_quantizer(offsets: dict, folder: Path) -> None:
    streams: dict[str, tuple] = dict.fromkeys(("coarse", "fine"), (TensorProto.INT64, (1, 1, "T")))
    b = Builder(offsets)
    frames = b("Transpose", b("Squeeze", "latents", b.constant(0)), perm=[1, 0])
    left = b("CastLike", frames, _double(b))
    for index, name in enumerate(streams):
        book = b("CastLike", b.weight(f"book.{index}"), _double(b))
        difference = b("Sub", b("Unsqueeze", left, b.constant(1)), book)
        distance = b("ReduceSum", b("Mul", difference, difference), b.constant(2), keepdims=0)
        codes = b("ArgMin", distance, axis=1, keepdims=0)
        b("Unsqueeze", codes, b.constant(0, 1), to=name)
        left = b("Sub", left, b("Gather", book, codes))
    b.save(folder / "q.encode.onnx", {"latents": (TensorProto.FLOAT, (1, LATENT, "T"))}, streams)
    b = Builder(offsets)
    parts = []
    for index, name in enumerate(streams):
        used = b("CastLike", b("Greater", "num_codebooks", b.constant(index)), b.weight(f"book.{index}"))
        chosen = b("Gather", f"book.{index}", b("Squeeze", name, b.constant(0, 1)))
        parts.append(b("Mul", chosen, used))
    total = b("Transpose", b("Add", *parts), perm=[1, 0])
    b("Unsqueeze", total, b.constant(0), to="latents")
    inputs = streams | {"num_codebooks": (TensorProto.INT64, (1,))}
    b.save(folder / "q.decode.onnx", inputs, {"latents": (TensorProto.FLOAT, (1, LATENT, "T"))})


def _double(b: Builder) -> str:
    b.initializers["double"] = helper.make_tensor("double", TensorProto.DOUBLE, [1], [0.0])
    return "double"


def latents_of(waveform: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """What the encoder should give for `[1, N]`: `[D, T]` in float64."""
    count = -(-waveform.shape[1] // HOP)
    hops = np.zeros((count + 1, HOP))
    hops.reshape(-1)[: waveform.shape[1]] = waveform[0]
    return (hops[:-1] @ weights["here"] + hops[1:] @ weights["next"]).T


def codes_of(latents: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """What the quantizer should give for `[D, T]`: `[2, T]`."""
    left, codes = latents.T.astype(np.float64), []
    for index in range(len(SIZES)):
        book = weights[f"book.{index}"].astype(np.float64)
        codes.append(((left[:, None] - book) ** 2).sum(2).argmin(1))
        left = left - book[codes[-1]]
    return np.stack(codes)


def samples_of(codes: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """What the decoder should give for `[K, T]`: `[1, T hop]` in float64."""
    frames = sum(weights[f"book.{index}"][row] for index, row in enumerate(codes)).astype(np.float64)
    before = np.vstack([np.zeros((1, LATENT)), frames[:-1]])
    return (frames @ weights["out"] + before @ weights["before"]).reshape(1, -1)
