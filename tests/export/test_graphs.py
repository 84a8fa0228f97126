"""Graphs against the tokenizers that they are of: any length, any steps, all books; what is in the files."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from tiny_codecs import TINY, tiny

import audiotokens
from audiotokens.architectures import gain_shape
from audiotokens.cli import main
from audiotokens.engines.graphs import Graphs, Side, read_graphs
from audiotokens.errors import AudioTokensError, MissingExtraError, NotOfferedError
from audiotokens.export import export_onnx
from audiotokens.export.traced import EMITTERS
from audiotokens.quantizers import LFQConfig
from audiotokens.verify import format_verification, verify

QUICK = ["gain-shape tiny", "encodec tiny", "mimi tiny"]
# EnCodec's windows are not offered.
NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in TINY
    if name != "encodec tiny-stereo"
]


@functools.cache
def exported(name: str) -> tuple[Path, Graphs, Any]:
    """Folder, description, and the tokenizer in float32."""
    folder = Path(tempfile.mkdtemp(prefix="audiotokens-export-"))
    export_onnx(tiny(name), folder)
    codec = tiny(name)
    return folder, read_graphs(folder), type(codec).read(folder).eval()


@functools.cache
def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path: Path, **values: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = session(path).run(None, values)
    return found


def sides(graphs: Graphs, codec: Any) -> list[tuple[Side, Any]]:
    """Graphs and net of the encoder, and of the decoder for each number of books that it depends on."""
    found: list[tuple[Side, Any]] = [] if graphs.encoder is None else [(graphs.encoder, codec.encoder_net)]
    if graphs.decoder is not None and graphs.decoder.by_codebooks:
        found += [(side, codec.decoder_for(int(n))) for n, side in graphs.decoder.by_codebooks.items()]
    elif graphs.decoder is not None:
        found.append((graphs.decoder, codec.decoder_net))
    return found


def channels(codec: Any, side: Side, graphs: Graphs) -> int:
    return int(codec.spec.channels) if side is graphs.encoder else graphs.latent


def hop(side: Side, graphs: Graphs) -> int:
    """Frames of the net's input in a hop."""
    return graphs.hop if side is graphs.encoder else graphs.frames_per_hop


def stepped(folder: Path, side: Side, x: np.ndarray, counts: list[int]) -> np.ndarray:
    """What first, middle and last make of `[1, C, T]`; `counts` are the steps that middle takes at once."""
    assert side.first is not None and side.middle is not None and side.last is not None
    at, size = side.first.size, side.middle.size
    y, *states = run(folder / side.first.file, x=x[..., :at])
    assert y.shape[2] == side.first.gives
    parts, names = [y], [state.name for state in side.states]
    for count in counts:
        assert [list(s.shape) for s in states] == [list(s.shape) for s in side.states]
        assert [str(s.dtype) for s in states] == [s.type for s in side.states]
        piece = x[..., at : at + count * size]
        y, *states = run(folder / side.middle.file, x=piece, **dict(zip(names, states)))
        assert y.shape[2] == count * side.middle.gives
        parts.append(y)
        at += count * size
    parts += run(folder / side.last.file, x=x[..., at:], **dict(zip(names, states)))
    return np.concatenate(parts, 2)


each = pytest.mark.parametrize("name", NAMES)


def expected(net: Any, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = net(torch.from_numpy(x)).numpy()
    return found


def noise(*shape: int) -> np.ndarray:
    return 0.3 * np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def assert_near(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max(initial=1e-3))


@each
def test_any_length_is_what_one_pass_gives(name: str) -> None:
    folder, graphs, codec = exported(name)
    for side, net in sides(graphs, codec):
        unit = hop(side, graphs)
        encodes = side is graphs.encoder
        least = codec.spec.min_samples if encodes else unit
        short = [least, least + 1, least + 2, 2 * least + 5] if encodes else [unit, 2 * unit]
        for length in (*short, 3 * unit, 11 * unit + (unit // 2 if encodes else 0)):
            x = noise(1, channels(codec, side, graphs), length)
            assert side.offline is not None
            assert_near(run(folder / side.offline.file, x=x)[0], expected(net, x))


@each
def test_any_steps_are_what_one_pass_gives(name: str) -> None:
    folder, graphs, codec = exported(name)
    random = np.random.default_rng(7)
    for side, net in sides(graphs, codec):
        assert (side.first is None) == bool(net.unbounded)
        if side.first is None or side.middle is None:
            continue
        for case in range(6):
            counts = [int(n) for n in random.integers(1, 4, case)]
            left = 0 if case == 2 else int(random.integers(1, 2 * side.middle.size + 1))
            length = side.first.size + sum(counts) * side.middle.size + left
            x = noise(1, channels(codec, side, graphs), length)
            assert_near(stepped(folder, side, x, counts), expected(net, x))


@each
def test_codes_and_latents_of_all_prefixes(name: str) -> None:
    folder, graphs, codec = exported(name)
    if graphs.quantizer is None:
        return
    latents = {}
    generator = torch.Generator().manual_seed(1)
    codes = {
        stream.name: torch.stack(
            [
                torch.randint(
                    size, (1, 6 * int(stream.frame_rate / codec.spec.frame_rate)), generator=generator
                )
                for size in stream.codebook_sizes
            ],
            1,
        )
        for stream in codec.spec.streams
    }
    for books in codec.spec.legal_prefixes:
        taken, left = {}, books
        for stream in codec.spec.streams:
            if left > 0:
                taken[stream.name] = codes[stream.name][:, :left]
            left -= stream.num_codebooks
        # What lies behind the prefix is ignored.
        given = {
            n: np.zeros_like(c.numpy()) if n not in taken else c.numpy().copy() for n, c in codes.items()
        }
        with torch.no_grad():
            latents[books] = codec.dequantize(taken).numpy()
        found = run(folder / graphs.quantizer.decode.file, num_codebooks=np.array([books]), **given)[0]
        assert_near(found, latents[books])
    if codec.spec.can_encode:
        mixed = latents[books] + 0.1 * noise(*latents[books].shape)
        with torch.no_grad():
            wanted = codec.to_streams(codec.quantize(torch.from_numpy(mixed), books))
        for own, part in zip(wanted.values(), run(folder / graphs.quantizer.encode.file, latents=mixed)):
            np.testing.assert_array_equal(part, own.numpy())


@each
def test_sound_becomes_the_same_codes(name: str) -> None:
    folder, graphs, codec = exported(name)
    if graphs.encoder is None or graphs.quantizer is None or graphs.encoder.offline is None:
        return
    hops = 40
    x = noise(1, codec.spec.channels, hops * graphs.hop)
    latents = run(folder / graphs.encoder.offline.file, x=x)[0]
    latents = latents[..., : latents.shape[2] // graphs.frames_per_hop * graphs.frames_per_hop]
    found = run(folder / graphs.quantizer.encode.file, latents=latents)
    with torch.no_grad():
        wanted = codec.to_streams(
            codec.quantize(codec.encoder_net(torch.from_numpy(x)), max(codec.spec.legal_prefixes))
        )
    for own, part in zip(wanted.values(), found):
        other = own[..., : part.shape[2]].numpy() != part
        assert other.any(1).mean() <= 0.02


@each
def test_files_are_sound_and_hold_no_weights(name: str) -> None:
    folder, graphs, _ = exported(name)
    for file in graphs.files() - set(graphs.external):
        onnx.checker.check_model(str(folder / file), full_check=True)
        model = onnx.load(str(folder / file), load_external_data=False)
        for tensor in model.graph.initializer:
            outside = tensor.data_location == onnx.TensorProto.EXTERNAL
            assert outside or len(tensor.raw_data) < 1024, (file, tensor.dims)
            if outside:
                assert {entry.key: entry.value for entry in tensor.external_data}[
                    "location"
                ] == "model.safetensors"


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_weights_as_they_are_stored(bits: Any, tmp_path: Path) -> None:
    config = replace(gain_shape.VARIANTS["tiny"], width=64, decoder_hidden=64, encoder_hidden=64)
    torch.manual_seed(0)
    codec = gain_shape.GainShapeCodec(config).eval()
    codec.weight_bits = bits
    folder = export_onnx(codec, tmp_path / "codec", streaming=False)
    stored = gain_shape.GainShapeCodec.read(folder).eval()
    x = noise(1, 1, 1000)
    assert_near(run(folder / "encoder.onnx", x=x)[0], expected(stored.encoder_net, x))
    model = onnx.load(str(folder / "encoder.onnx"), load_external_data=False)
    kinds = {tensor.data_type for tensor in model.graph.initializer if tensor.data_location}
    assert (onnx.TensorProto.INT8 in kinds) == (bits == 8)
    assert (onnx.TensorProto.FLOAT16 in kinds) == (bits < 32)
    assert read_graphs(folder).encoder.first is None  # type: ignore[union-attr]


def test_graphs_stand_beside_what_is_there(tmp_path: Path) -> None:
    codec = tiny("soundstream tiny-lyra")
    codec.save(tmp_path, card="# A card\n")
    weights = (tmp_path / "model.safetensors").read_bytes()
    assert export_onnx(codec, tmp_path) == tmp_path
    assert "encoder.first.onnx" in read_graphs(tmp_path).files()
    export_onnx(codec, tmp_path, streaming=False)
    assert not (tmp_path / "encoder.first.onnx").exists()
    assert (tmp_path / "README.md").read_text() == "# A card\n"
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert codec.exact
    with pytest.raises(AudioTokensError, match="holds another tokenizer than soundstream"):
        export_onnx(tiny("soundstream tiny"), tmp_path)


def test_what_no_graph_can_say_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotOfferedError, match="overlapping windows"):
        export_onnx(tiny("encodec tiny-stereo"), tmp_path / "windows")
    config = replace(gain_shape.VARIANTS["tiny"], quantizer=LFQConfig())
    with pytest.raises(NotOfferedError, match="no rule for a LookupFreeQuantizer, only for"):
        export_onnx(gain_shape.GainShapeCodec(config), tmp_path / "binary", streaming=False)
    monkeypatch.delitem(EMITTERS, "silu")
    with pytest.raises(NotOfferedError, match="no rule for torch's silu"):
        export_onnx(tiny("gain-shape tiny"), tmp_path / "silu", streaming=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"audiotokens\[export\]"):
        export_onnx(tiny("gain-shape tiny"), tmp_path / "extra")


def test_a_wrong_graph_is_not_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMITTERS, "silu", lambda x, inplace: EMITTERS["sigmoid"](x))
    with pytest.raises(NotOfferedError, match="encoder is wrong by"):
        export_onnx(tiny("gain-shape tiny"), tmp_path, streaming=False)
    assert not (tmp_path / "graphs.json").exists()


@pytest.mark.parametrize("name", ["speech-16k", "speech-16k-stream"])
def test_shipped_graphs_are_those_of_the_tokenizer(name: str) -> None:
    own = Path(audiotokens.__file__).parent / "weights" / name
    codec = gain_shape.GainShapeCodec.read(own).eval()
    graphs = read_graphs(own)
    assert graphs.fingerprint == codec.fingerprint
    assert graphs.external == ("model.safetensors",)
    assert sum((own / file).stat().st_size for file in graphs.files() - {*graphs.external}) < 200_000
    for side, net in sides(graphs, codec):
        assert side.first is not None and side.middle is not None
        length = side.first.size + 5 * side.middle.size + side.middle.size // 2
        x = noise(1, channels(codec, side, graphs), length)
        assert_near(stepped(own, side, x, [1, 3, 1]), expected(net, x))


def test_the_command_writes_a_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "codec"
    export_onnx(tiny("soundstream tiny-lyra"), folder, streaming=False)
    (folder / "README.md").write_text("# A card\n")
    for file in ("graphs.json", "decoder.onnx"):
        (folder / file).unlink()
    done = CliRunner().invoke(main, ["export", str(folder), "--onnx", str(tmp_path / "copy"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == {"onnx": str(tmp_path / "copy")}
    assert "decoder.last.onnx" in read_graphs(tmp_path / "copy").files()
    for file in ("README.md", "model.safetensors", "config.json"):
        assert (tmp_path / "copy" / file).read_bytes() == (folder / file).read_bytes()
    assert CliRunner().invoke(main, ["export", str(folder)]).exit_code == 2


@pytest.mark.parametrize("name", ["dac tiny", "snac tiny", "mimi tiny"])
def test_look_aheads_are_as_long_as_whole_steps(name: str) -> None:
    tokenizer = audiotokens.load(exported(name)[0], engine="onnx")
    spec, own = tokenizer.spec, tiny(name).spec
    assert spec.lookahead > own.lookahead and spec.decoder_lookahead >= own.decoder_lookahead
    waveform = {"noise": noise(1, 6000)[0]}
    found = verify(tokenizer, promises=["I3", "I7"], waveforms=waveform)
    assert found.ok, format_verification(found)
