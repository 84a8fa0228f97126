"""TFLite files as plain data: what is read of a whole one, and that a damaged one is only ever an error."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tflite_writer import CODES, GraphWriter, lyra_files, write_flatbuffer

from audiotokens.architectures.graphs import Graph, GraphTensor
from audiotokens.architectures.soundstream import VARIANTS, SoundStreamCodec, read_graphs
from audiotokens.checkpoints import import_checkpoint
from audiotokens.checkpoints.tflite import is_tflite, parse_tflite, read_tflite
from audiotokens.errors import CheckpointError


def small() -> bytes:
    """A graph with one of everything that is read."""
    graph = GraphWriter()
    graph.inputs = [graph.computed(1, 5)]
    weight = graph.constant(np.arange(6, dtype=np.int8).reshape(2, 3), np.array([0.5, 2.0]), axis=0)
    graph.constant(np.array([1.5, -2.0], np.float32))
    graph.constant(np.array([7, 8], np.int32), np.array([0.25]))
    graph.run("CONV_2D", 0, weight, -1, options={1: ("<i", 1), 2: ("<i", 16)})
    graph.run("DEPTHWISE_CONV_2D", 0, weight, options={2: ("<i", 1), 3: ("<i", 1), 6: ("<i", 9)})
    graph.run("LEAKY_RELU", 0, options={0: ("<f", 0.25)})
    return graph.file()


def test_what_a_file_holds() -> None:
    (graph,) = parse_tflite(small())
    assert (graph.name, graph.inputs, graph.outputs) == ("main", (0,), (6,))
    assert [operator.kind for operator in graph.operators] == ["CONV_2D", "DEPTHWISE_CONV_2D", "LEAKY_RELU"]
    first, second, third = graph.operators
    assert (first.inputs, first.outputs) == ((0, 1, -1), (4,))
    assert first.options == {"stride_w": 1, "stride_h": 16, "dilation_h": 1}
    assert second.options == {"stride_h": 1, "depth_multiplier": 1, "dilation_h": 9}
    assert third.options == {"alpha": 0.25}
    taken, weight, bias, integers = graph.tensors[:4]
    assert taken.shape == (1, 5) and taken.values is None
    assert weight.dtype == np.int8 and weight.axis == 0 and weight.scale.tolist() == [0.5, 2.0]
    np.testing.assert_array_equal(weight.floats(), [[0, 0.5, 1], [6, 8, 10]])
    np.testing.assert_array_equal(bias.floats(), np.float32([1.5, -2]))
    np.testing.assert_array_equal(integers.floats(), np.float32([1.75, 2]))


def test_zero_points_and_axes_count() -> None:
    values = np.arange(4, dtype=np.int8).reshape(2, 2)
    tensor = GraphTensor("t", (2, 2), values.dtype, values, np.float32([1, 10]), np.array([1, 2]), 1)
    np.testing.assert_array_equal(tensor.floats(), [[-1, -10], [1, 10]])


def test_what_is_no_constant_or_not_finite_is_refused() -> None:
    with pytest.raises(CheckpointError, match="holds no constant"):
        GraphTensor("t", (1,)).floats()
    with pytest.raises(CheckpointError, match="not finite"):
        GraphTensor("t", (1,), np.dtype("<f4"), np.float32([np.nan])).floats()


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0\0\0\0TFL2" + bytes(40), b"RIFF" + bytes(100)])
def test_another_file_is_refused(content: bytes) -> None:
    assert not is_tflite(content)
    with pytest.raises(CheckpointError, match="is not a TFLite file"):
        parse_tflite(content)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.tflite: cannot be read"):
        read_tflite(tmp_path / "none.tflite")


def attempt(content: bytes, others: tuple[Graph, ...] = ()) -> None:
    """Read a damaged file and make a codec of it and of whole graphs; what is wrong must be a house error."""
    with contextlib.suppress(CheckpointError):
        graphs = parse_tflite(content)
        for tensor in (tensor for graph in graphs for tensor in graph.tensors if tensor.values is not None):
            with contextlib.suppress(CheckpointError):
                tensor.floats()
        read_graphs([*graphs, *others])


def test_every_cut_is_an_error() -> None:
    content = small()
    for size in range(len(content)):
        # The last bytes are padding, or the name of the graph.
        if size < len(content) - 16:
            with pytest.raises(CheckpointError):
                parse_tflite(content[:size])
        attempt(content[:size])


def test_changed_bytes_never_do_worse_than_an_error() -> None:
    torch.manual_seed(0)
    files = lyra_files(SoundStreamCodec(VARIANTS["tiny-lyra"]).eval().requires_grad_(False))
    random = np.random.default_rng(0)
    start = time.process_time()
    parsed = {name: parse_tflite(content) for name, content in files.items()}
    for name, content in files.items():
        others = tuple(graph for other in files if other != name for graph in parsed[other])
        for _ in range(25):
            forged = bytearray(content)
            for place in random.integers(8, len(content), random.integers(1, 4)):
                forged[place] = random.choice([0, 1, 127, 128, 255, random.integers(256)])
            attempt(bytes(forged), others)
    assert time.process_time() - start < 60


def test_graphs_of_a_forged_size_are_refused_before_memory_is_asked_for() -> None:
    files = lyra_files(SoundStreamCodec(VARIANTS["tiny-lyra"]).eval().requires_grad_(False))
    graphs = [list(parse_tflite(content)) for content in files.values()]
    encoder = graphs[0][0]
    for operator in encoder.operators:
        if operator.kind == "CONV_2D" and operator.options["stride_h"] > 1:
            operator.options["stride_h"] = 2**28  # type: ignore[index]
            with pytest.raises(CheckpointError):
                read_graphs([graph for group in graphs for graph in group])


def test_parts_named_again_and_again_come_to_an_end() -> None:
    """Half a megabyte that means twenty million tensors."""
    codes = [{0: ("<b", code)} for code in sorted(CODES.values())]
    tensor = {0: np.zeros(10, np.int32), 3: "name"}
    graph = {0: [tensor] * 1000, 4: "main"}
    content = bytearray(write_flatbuffer({1: codes, 2: [graph] + [{}] * 20_000, 4: [{}]}))
    # All graphs are the first one.
    place = content.index((20_001).to_bytes(4, "little")) + 4
    target = place + int.from_bytes(content[place : place + 4], "little")
    for index in range(1, 20_001):
        here = place + 4 * index
        content[here : here + 4] = (target - here).to_bytes(4, "little", signed=False)
    start = time.process_time()
    with pytest.raises(CheckpointError, match="more entries than it has bytes"):
        parse_tflite(bytes(content))
    assert time.process_time() - start < 20


def test_contradictions_are_refused() -> None:
    good: dict[int, object] = {0: np.array([2], np.int32), 1: ("<b", 0), 2: ("<I", 1), 3: "t"}
    buffer = {0: np.zeros(8, np.uint8)}

    def parse(tensor: dict[int, object], operator: dict[int, object] | None = None) -> None:
        graph = {0: [tensor], 3: [operator] if operator else []}
        parse_tflite(write_flatbuffer({1: [{3: ("<i", 3)}], 2: [graph], 4: [{}, buffer]}))

    parse(good)
    parse(good | {1: ("<b", 13)})
    cases: list[tuple[dict[int, object], dict[int, object] | None, str]] = [
        ({0: np.array([-1], np.int32)}, None, r"shape \[-1\]"),
        ({0: np.array([3], np.int32)}, None, "8 bytes, expected 12"),
        ({2: ("<I", 2)}, None, "buffer 2 is named of 2"),
        ({4: {2: np.float32([1, 2, 3])}}, None, "3 scales and 3 zero points along axis 0"),
        ({4: {2: np.float32([1, 2]), 6: ("<i", 1)}}, None, "along axis 1"),
        ({4: {2: np.float32([1]), 3: np.zeros(2, np.int64)}}, None, "1 scales and 2 zero points"),
        ({}, {0: ("<I", 1)}, "operator code 1 is named of 1"),
        ({}, {0: ("<I", 0), 1: np.array([1], np.int32)}, "tensor 1 is named of 1"),
        ({}, {0: ("<I", 0), 2: np.array([-2], np.int32)}, "tensor -2 is named of 1"),
    ]
    for tensor, operator, message in cases:
        with pytest.raises(CheckpointError, match=message):
            parse(good | tensor, operator)


def test_import_tells_files_of_two_kinds_apart(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(small())
    with pytest.raises(CheckpointError, match="found 0 graphs of a Lyra decoder"):
        import_checkpoint("lyra-v2", tmp_path)
    (tmp_path / "b.tflite").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"b\.tflite: is not a TFLite file"):
        import_checkpoint("lyra-v2", [tmp_path / "a.tflite", tmp_path / "b.tflite"])


def test_the_published_files(shared: Path) -> None:
    folder = shared / "weights" / "lyra_v2"
    counts = {
        path.name: [len(graph.tensors) for graph in read_tflite(path)] for path in folder.glob("*.tflite")
    }
    assert counts == {
        "soundstream_encoder.tflite": [211, 26],
        "quantizer.tflite": [422, 704],
        "lyragan.tflite": [293, 29],
    }
    (encoder, _) = read_tflite(folder / "soundstream_encoder.tflite")
    assert encoder.tensors[encoder.inputs[0]].shape == (1, 320)
    # A filter with a scale per channel, and a depthwise one, whose channels are its last axis.
    assert (encoder.tensors[157].shape, encoder.tensors[157].scale.size) == ((256, 1, 1, 64), 256)
    assert (encoder.tensors[169].shape, encoder.tensors[169].axis) == ((1, 3, 1, 256), 3)
