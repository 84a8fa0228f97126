"""Lyra V2: read from its graphs, equal to a float rebuild, at least as good as LiteRT on real speech."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codec_goldens import PARITY
from safetensors.numpy import load_file
from tflite_writer import GraphWriter, lyra_files
from torch import nn

import audiotokens
from audiotokens.architectures.graphs import Graph
from audiotokens.architectures.soundstream import VARIANTS, SoundStreamCodec, SoundStreamConfig, read_graphs
from audiotokens.checkpoints import import_checkpoint
from audiotokens.checkpoints.tflite import parse_tflite
from audiotokens.errors import CheckpointError
from audiotokens.nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d
from audiotokens.quantizers import RVQConfig, VectorConfig
from audiotokens.verify import format_verification, verify

GOLDEN = PARITY / "lyra_v2"
WEIGHTS = PARITY.parent / "weights" / "lyra_v2"
PROMISES = ["I1", "I2", "I3", "I4", "I5", "I7", "I8", "I10"]
BUDGETS = (64, 120, 184)

TINY = VARIANTS["tiny-lyra"]
OTHERS = {
    "tiny": TINY,
    "other": replace(
        TINY, width=6, strides=(3, 2, 4), outer_kernel=9, outer_stride=5, latent=12, encoder_latent_kernel=5,
        latent_groups=3, unit_kernel=5, dilations=(1, 2), group_width=12, slope=0.125,
        quantizer=RVQConfig(num_codebooks=2, inner=VectorConfig(codebook_size=8)),
    ),
    "one block": replace(TINY, strides=(2,), dilations=(4,), group_width=2, latent_groups=1),
}  # fmt: skip


def random_codec(config: SoundStreamConfig) -> SoundStreamCodec:
    torch.manual_seed(0)
    codec = SoundStreamCodec(config).eval()
    codec.weight_bits = 32
    for parameter in codec.parameters():
        parameter.requires_grad_(False)
        parameter.copy_(0.3 * torch.randn_like(parameter))
    return codec


@pytest.mark.parametrize("name", OTHERS)
def test_written_graphs_give_the_codec_again(name: str, tmp_path: Path) -> None:
    config = OTHERS[name]
    codec = random_codec(config)
    assert config.slope is not None
    paths = []
    for number, content in enumerate(lyra_files(codec, slope=config.slope).values()):
        paths.append(tmp_path / f"{9 - number}.tflite")
        paths[-1].write_bytes(content)
    found = import_checkpoint("soundstream", sorted(paths), output=tmp_path / "codec", exact=False)
    assert found.config == config
    expected = codec.state_dict()
    for key, tensor in found.state_dict().items():
        np.testing.assert_array_max_ulp(tensor.numpy(), expected[key].numpy(), maxulp=1)
    assert audiotokens.load(tmp_path / "codec").fingerprint == found.fingerprint
    assert found.spec.weights_license == ""


def graphs_of(files: Iterable[bytes]) -> list[Graph]:
    return [graph for content in files for graph in parse_tflite(content)]


def test_parts_that_are_missing_or_there_twice_are_refused() -> None:
    files = lyra_files(random_codec(TINY))
    for left_out in files:
        kept = [content for name, content in files.items() if name != left_out]
        with pytest.raises(CheckpointError, match=f"found 0 graphs of a Lyra {left_out}, expected 1"):
            read_graphs(graphs_of(kept))
    with pytest.raises(CheckpointError, match="found 2 graphs of a Lyra encoder"):
        read_graphs(graphs_of([*files.values(), files["encoder"]]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"strides": (5, 3)}, "of stride 3 and dilation 1, expected a transposed convolution of stride 2"),
        ({"dilations": (1, 3)}, "layers, expected"),
        ({"dilations": (1, 3, 5)}, "dilation 5, expected a depthwise convolution of stride 1 and dilation 9"),
        ({"width": 16}, "shape"),
        ({"unit_kernel": 5}, "shape"),
    ],
)
def test_a_decoder_of_another_codec_is_refused(changed: dict[str, object], message: str) -> None:
    files = lyra_files(random_codec(TINY))
    other = lyra_files(random_codec(replace(TINY, **changed)))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=message):
        read_graphs(graphs_of([files["encoder"], files["quantizer"], other["decoder"]]))


def test_graphs_without_the_layers_of_lyra_are_refused() -> None:
    files = lyra_files(random_codec(TINY))
    graph = GraphWriter()
    graph.inputs = [graph.computed(1, 40)]
    weight = graph.constant(np.zeros((8, 16, 1, 1), np.float32))
    graph.run("CONV_2D", 0, weight, graph.constant(np.zeros(8, np.float32)), options={2: ("<i", 4)})
    with pytest.raises(CheckpointError, match="not those of a Lyra encoder"):
        read_graphs(graphs_of([graph.file(), files["quantizer"], files["decoder"]]))


@pytest.fixture(scope="module")
def lyra(tmp_path_factory: pytest.TempPathFactory) -> SoundStreamCodec:
    """The real one, imported and loaded again, in exact mode."""
    if not WEIGHTS.is_dir() or not GOLDEN.is_dir():
        pytest.skip("the shared data are not here: set AUDIOTOKENS_SHARED")
    folder = tmp_path_factory.mktemp("lyra") / "lyra"
    import_checkpoint("lyra-v2", WEIGHTS, output=folder)
    codec = audiotokens.load(folder)
    assert isinstance(codec, SoundStreamCodec)
    return codec


def array(name: str) -> torch.Tensor:
    """A golden array `[T, ...]`, codes as int64."""
    values = np.load(GOLDEN / f"{name}.npy")
    return torch.from_numpy(values.astype(np.int64) if values.dtype.kind == "i" else values)


def waveform() -> np.ndarray:
    samples, _ = soundfile.read(GOLDEN / "input.wav", dtype="int16")
    return np.asarray(samples[None], np.float32) / 32768


def test_all_numbers_are_those_of_the_graphs(lyra: SoundStreamCodec) -> None:
    expected = load_file(GOLDEN / "weights_float.safetensors")
    names = json.loads((GOLDEN / "tensor_map.json").read_text())["tensor_source"]
    count = 0
    for net, module in (("encoder", lyra.encoder_net), ("decoder", lyra.decoder_net)):
        found, wanted = list(in_order(module)), [name for name in names if name.startswith(net)]
        assert len(found) == len(wanted)
        for tensor, name in zip(found, wanted):
            numbers = expected[name][:, 0].T if ".dw." in name else expected[name]
            np.testing.assert_array_max_ulp(tensor.float().numpy(), numbers, maxulp=1)
            count += numbers.size
    books = torch.stack([lyra.state_dict()[f"quantizer.levels.{level}.book"] for level in range(46)])
    np.testing.assert_array_equal(books.numpy(), expected["quantizer.codebooks"])
    assert count + books.numel() == sum(t.numel() for t in lyra.state_dict().values()) == 1_365_057


def in_order(net: nn.Module) -> Iterator[torch.Tensor]:
    """Weight, then bias, layer by layer."""
    for module in net.modules():
        if isinstance(module, DepthwiseConv1d):
            yield module.taps.detach()
        elif isinstance(module, Conv1d | ConvTranspose1d):
            bias = module.conv.bias if isinstance(module, Conv1d) else module.bias
            assert bias is not None
            yield from (module.conv.weight.detach(), bias.detach())


def test_the_variant_is_what_the_graphs_tell(lyra: SoundStreamCodec) -> None:
    assert lyra.config == VARIANTS["lyra-v2"]
    assert lyra.spec.weights_license == "Apache-2.0"
    assert lyra.spec.frame_rate == 50
    assert (lyra.spec.lookahead, lyra.spec.decoder_lookahead) == (0, 0)
    assert lyra.spec.receptive_field == 8224
    assert [lyra.spec.bitrate(books) for books in (16, 30, 46)] == [3200, 6000, 9200]


def test_features_are_those_of_the_float_rebuild(lyra: SoundStreamCodec) -> None:
    expected = array("features_float").T.numpy()
    np.testing.assert_allclose(lyra.features(waveform(), 16000), expected, rtol=0, atol=1e-3)
    for exact in (False, True):
        lyra.make_exact(exact)
        whole = lyra.encode(waveform(), 16000)
        np.testing.assert_allclose(lyra.features(waveform(), 16000), expected, rtol=0, atol=1e-3)
        differing = (whole.codes != array("codes_184_float").T.numpy()).sum()
        assert differing <= 5, "of 7912 codes, a handful of ties"


@pytest.mark.parametrize("budget", BUDGETS)
def test_codes_of_stored_features_are_exact(lyra: SoundStreamCodec, budget: int) -> None:
    for kind in ("tflite_xnnpack", "tflite_ref", "float"):
        features = array(f"features_{kind}").T[None]
        codes = lyra.quantize(features, budget // 4)
        assert torch.equal(codes[0], array(f"codes_{budget}_{kind}").T), kind


@pytest.mark.parametrize("budget", BUDGETS)
def test_decoded_audio_is_that_of_the_float_rebuild(lyra: SoundStreamCodec, budget: int) -> None:
    codes = array(f"codes_{budget}_tflite_xnnpack").T[None]
    decoded, lengths = lyra.decode_codes({"codes": codes}, {"codes": torch.tensor([codes.shape[2]])})
    expected = array(f"decoded_{budget}_float_from_tflite_codes")
    assert lengths.tolist() == [len(expected)]
    torch.testing.assert_close(decoded[0, 0], expected, rtol=0, atol=1e-5)
    graphs = array(f"decoded_{budget}_tflite_xnnpack")
    noise = (decoded[0, 0] - graphs).square().sum()
    assert 10 * torch.log10(graphs.square().sum() / noise) > 24


def test_codes_agree_with_the_graphs_as_far_as_their_kernels_agree(lyra: SoundStreamCodec) -> None:
    found = lyra.encode(waveform(), 16000, num_codebooks=16).codes
    for kind in ("tflite_xnnpack", "tflite_ref"):
        equal = found == array(f"codes_64_{kind}").T.numpy()
        assert equal[:4].mean() > 0.88
        assert equal.mean() > 0.70


def test_streams_frame_by_frame(lyra: SoundStreamCodec) -> None:
    samples = waveform()[:, : 40 * 320]
    whole = lyra.encode(samples, 16000)
    encoder, decoder = lyra.encoder(), lyra.decoder()
    parts, decoded = [], []
    for start in range(0, samples.shape[1], 320):
        tokens = encoder.push(samples[:, start : start + 320])
        assert tokens is not None and tokens.codes.shape == (46, 1), "no frame waits for the next one"
        parts.append(tokens.codes)
        decoded.append(decoder.push(tokens))
    encoder.finish()
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole.codes)
    np.testing.assert_allclose(np.concatenate(decoded, 1), lyra.decode(whole), rtol=0, atol=1e-5)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Steps of one frame are too small for several threads, which then wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_keeps_its_promises(lyra: SoundStreamCodec, one_thread: None) -> None:
    samples = waveform()
    speech = {
        "speech": samples[:, 8000:24000],
        "short": samples[:, :5001],
        "shorter": samples[:, 20000:23000],
    }
    found = verify(lyra, promises=PROMISES, waveforms=speech)
    assert all(verdict.status == "kept" for verdict in found.verdicts), format_verification(found)


@pytest.mark.slow
def test_scores_on_real_speech_are_those_of_a_codec_at_least_as_good_as_litert(
    lyra: SoundStreamCodec, shared: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("pesq")
    from audiotokens.evaluation.compare import compare

    with (shared / "data" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["corpus"] == "LibriSpeech test-clean"]
    files = [shared / "data" / row["path"] for row in rows]
    assert len(files) == 52
    anchors = ["lyra-3.2k", "lyra-6k", "lyra-9.2k"]
    found = compare(
        lyra, files, num_codebooks=[16, 30, 46], metrics=["pesq-wb"], anchors=anchors, lyra=WEIGHTS
    )
    scores = {(s.tokenizer, s.num_codebooks): s for s in found.summaries}
    for books, anchor, least in zip((16, 30, 46), anchors, (2.36, 2.96, 3.21)):
        ours, graphs = scores["lyra-v2", books].mean, scores[anchor, 0].mean
        assert scores["lyra-v2", books].count == 52
        assert ours is not None and graphs is not None
        assert ours >= max(least, graphs)
