"""The engine of exported graphs, on a toy tokenizer whose answers are known."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import audiotokens
from audiotokens.engines.onnx import OnnxTokenizer
from audiotokens.errors import (
    AudioError,
    CheckpointError,
    MissingExtraError,
    NotOfferedError,
    TokensError,
)
from audiotokens.tokens import Tokens
from audiotokens.verify import PROMISES, verify

RATE, HOP = 8000, 16
Waveform = np.ndarray


@pytest.fixture(scope="module")
def tokenizer(toy_original: Path) -> OnnxTokenizer:
    return OnnxTokenizer.load(toy_original)


def noise(num_samples: int, seed: int = 0) -> Waveform:
    return np.random.default_rng(seed).uniform(-1, 1, (1, num_samples)).astype(np.float32)


def chunks(waveform: Waveform, seed: int) -> list[Waveform]:
    random = np.random.default_rng(seed)
    cuts = np.sort(random.integers(0, waveform.shape[1], random.integers(1, 30)))
    return [chunk for chunk in np.split(waveform, cuts, axis=1) if chunk.size]


@pytest.mark.parametrize("num_samples", [1, 15, 16, 17, 31, 32, 33, 48, 49, 1000])
def test_codes_and_samples_are_what_the_arithmetic_says(
    tokenizer: OnnxTokenizer, toy: ModuleType, num_samples: int
) -> None:
    waveform, weights = noise(num_samples), toy.make_weights()
    latents = toy.latents_of(waveform, weights)
    tokens = tokenizer.encode(waveform, RATE)
    assert tokenizer.features(waveform, RATE) == pytest.approx(latents, abs=1e-5)
    assert np.array_equal(tokens.codes, toy.codes_of(latents, weights))
    assert list(tokens.streams) == ["coarse", "fine"]
    for books in (1, 2):
        expected = toy.samples_of(tokens.codes[:books], weights)[:, :num_samples]
        assert tokenizer.decode(tokens, num_codebooks=books) == pytest.approx(expected, abs=1e-5)
    few = tokenizer.encode(waveform, RATE, num_codebooks=1)
    assert np.array_equal(few.codes, tokens.codes[:1])


def test_latents_are_decoded(tokenizer: OnnxTokenizer, toy: ModuleType) -> None:
    waveform, weights = noise(100), toy.make_weights()
    frames = tokenizer.features(waveform, RATE)
    before = np.pad(frames, ((0, 0), (1, 0)))[:, :-1]
    expected = (frames.T @ weights["out"] + before.T @ weights["before"]).reshape(1, -1)
    assert tokenizer.decode_features(frames) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(TokensError, match="expected .4, T."):
        tokenizer.decode_features(frames[:2])


@pytest.mark.parametrize("exact", [True, False])
def test_promises_are_kept(toy_original: Path, exact: bool) -> None:
    waveforms = {"noise": noise(900), "short": noise(45), "silence": np.zeros((1, 300), np.float32)}
    promises = [promise for promise in PROMISES if promise != "I6"]  # There is no toy in torch.
    found = verify(OnnxTokenizer.load(toy_original, exact=exact), waveforms=waveforms, promises=promises)
    assert {verdict.promise: verdict.status for verdict in found.verdicts} == dict.fromkeys(promises, "kept")


@pytest.mark.parametrize("seed", range(8))
def test_chunks_give_the_bits_of_one_pass(tokenizer: OnnxTokenizer, seed: int) -> None:
    waveform = noise(700 + seed, seed)
    whole = tokenizer.encode(waveform, RATE)
    encoder, decoder = tokenizer.encoder(), tokenizer.decoder()
    parts = [part for chunk in chunks(waveform, seed) if (part := encoder.push(chunk)) is not None]
    parts.append(encoder.finish())
    assert np.array_equal(Tokens.concatenate(parts).codes, whole.codes)
    samples = np.concatenate([*(decoder.push(part) for part in parts), decoder.finish()], 1)
    assert samples.tobytes() == tokenizer.decode(whole).tobytes()


def test_a_batch_gives_what_each_gives_alone(tokenizer: OnnxTokenizer) -> None:
    waveforms = [noise(size, size) for size in (1, 40, 333, 800)]
    batch = tokenizer.encode_batch(waveforms, RATE)
    assert batch == [tokenizer.encode(waveform, RATE) for waveform in waveforms]
    decoded = tokenizer.decode_batch(batch)
    assert all(np.array_equal(a, tokenizer.decode(b)) for a, b in zip(decoded, batch))


def test_streams_are_saved_restored_and_forked(tokenizer: OnnxTokenizer) -> None:
    waveform = noise(500)
    whole = tokenizer.encode(waveform, RATE)
    for cut in (0, 10, 32, 201):
        session, heir = tokenizer.encoder(), tokenizer.encoder()
        before = [session.push(waveform[:, :cut])] if cut else []
        heir.restore(session.save())
        for each in (session.fork(), heir, session):
            parts = [part for part in [*before, each.push(waveform[:, cut:])] if part is not None]
            assert np.array_equal(Tokens.concatenate([*parts, each.finish()]).codes, whole.codes)
    decoder, heir_decoder = tokenizer.decoder(), tokenizer.decoder()
    first = decoder.push(whole.clip(0, 0.03))
    heir_decoder.restore(decoder.save())
    rest = whole.clip(0.03, whole.duration)
    for each_decoder in (decoder.fork(), heir_decoder, decoder):
        samples = np.concatenate([first, each_decoder.push(rest), each_decoder.finish()], 1)
        assert np.array_equal(samples, tokenizer.decode(whole))


def test_a_session_keeps_its_own_copy_of_what_waits(tokenizer: OnnxTokenizer) -> None:
    waveform, session = noise(40), tokenizer.encoder()
    buffer = waveform[:, :20].copy()
    session.push(buffer)
    buffer[:] = 0
    parts = [session.push(waveform[:, 20:]), session.finish()]
    found = Tokens.concatenate([part for part in parts if part is not None])
    assert np.array_equal(found.codes, tokenizer.encode(waveform, RATE).codes)


def test_foreign_states_are_refused(tokenizer: OnnxTokenizer, tmp_path: Path, toy: ModuleType) -> None:
    other = OnnxTokenizer.load(toy.write_toy(tmp_path / "other", seed=1))
    state = other.encoder().save()
    with pytest.raises(TokensError, match="the saved state is of OnnxEncoder"):
        tokenizer.encoder().restore(state)
    with pytest.raises(TokensError, match="this is OnnxDecoder"):
        tokenizer.decoder().restore(tokenizer.encoder().save())
    with pytest.raises(TokensError, match="cannot be read"):
        tokenizer.encoder().restore(state[:50])
    session = tokenizer.encoder()
    session.push(noise(100))
    changed = session.save().replace(b'"started":"1"', b'"started":"0"')
    with pytest.raises(TokensError, match="other shapes"):
        tokenizer.encoder().restore(changed)


def test_wrong_use_is_told(tokenizer: OnnxTokenizer) -> None:
    session = tokenizer.encoder()
    with pytest.raises(AudioError, match="before any sample"):
        session.finish()
    with pytest.raises(AudioError, match="2 channels, expected 1"):
        session.push(np.zeros((2, 10), np.float32))
    session.push(noise(10))
    session.finish()
    with pytest.raises(TokensError, match="finished"):
        session.push(noise(10))
    with pytest.raises(TokensError, match="legal values are 1, 2"):
        tokenizer.encode(noise(10), RATE, num_codebooks=3)


def without_streams(values: dict) -> None:
    for side in ("encoder", "decoder"):
        for name in ("first", "middle", "last", "states"):
            del values[side][name]


def test_graphs_without_streams_take_whole_recordings(
    toy_folder: Path, toy: ModuleType, tokenizer: OnnxTokenizer
) -> None:
    toy.edit_graphs(toy_folder, without_streams)
    whole = OnnxTokenizer.load(toy_folder)
    tokens = whole.encode(noise(500), RATE)
    assert np.array_equal(tokens.codes, tokenizer.encode(noise(500), RATE).codes)
    assert whole.decode(tokens) == pytest.approx(tokenizer.decode(tokens), abs=1e-5)
    for start in (whole.encoder, whole.decoder):
        with pytest.raises(NotOfferedError, match="without graphs for streams"):
            start()


def test_a_missing_side_is_not_offered(toy_folder: Path, toy: ModuleType, tokenizer: OnnxTokenizer) -> None:
    toy.edit_graphs(toy_folder, lambda values: values.update(encoder=None))
    deaf = OnnxTokenizer.load(toy_folder)
    assert deaf.decode(tokenizer.encode(noise(50), RATE)).shape == (1, 50)
    with pytest.raises(NotOfferedError, match="no encoder was exported"):
        deaf.encode(noise(50), RATE)


def test_decoders_by_number_of_books(toy_folder: Path, toy: ModuleType, tokenizer: OnnxTokenizer) -> None:
    toy.edit_graphs(toy_folder, lambda v: v.update(decoder={"by_codebooks": {"2": v["decoder"]}}))
    choosy = OnnxTokenizer.load(toy_folder)
    tokens = choosy.encode(noise(50), RATE)
    assert np.array_equal(choosy.decode(tokens), tokenizer.decode(tokens))
    with pytest.raises(NotOfferedError, match="cannot decode 1 books"):
        choosy.decode(tokens, num_codebooks=1)


def outside(folder: Path) -> None:
    import onnx

    shutil.copy(folder / "model.safetensors", folder.parent / "secret")
    model = onnx.load(folder / "encoder.first.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret"
    (folder / "encoder.first.onnx").write_bytes(model.SerializeToString())


def swapped(folder: Path) -> None:
    shutil.copy(folder / "decoder.first.onnx", folder / "encoder.first.onnx")


def cut(folder: Path) -> None:
    path = folder / "encoder.first.onnx"
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("damage", "message"),
    [(outside, "cannot be loaded"), (cut, "cannot be loaded"), (swapped, "cannot be run")],
)
def test_damaged_graphs(toy_folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(toy_folder)
    with pytest.raises(CheckpointError, match=f"encoder.first.onnx {message}") as caught:
        OnnxTokenizer.load(toy_folder).encode(noise(100), RATE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format="other"), 'not of the format "audiotokens-graphs"'),
        (lambda v: v.update(version=2), "version is 2, this release reads 1"),
        (lambda v: v.update(hops=2), 'unknown key "hops"'),
        (lambda v: v["encoder"]["offline"].update(file="../x.onnx"), "expected the name of a file"),
        (lambda v: v["encoder"]["offline"].update(file="x.onnx"), '"x.onnx" is missing'),
        (lambda v: v["encoder"].pop("last"), "found 2 graphs for streams"),
        (lambda v: v["encoder"].pop("offline"), '"offline" is missing'),
        (lambda v: v["encoder"]["middle"].update(size=17), "takes 17 and gives 1, expected multiples of 16"),
        (lambda v: v.update(hop=0), "must be at least 1"),
        (lambda v: v.update(fingerprint="0" * 64), "made for other weights"),
    ],
)
def test_damaged_lists_of_graphs(
    toy_folder: Path, toy: ModuleType, change: Callable[[dict], None], message: str
) -> None:
    toy.edit_graphs(toy_folder, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        OnnxTokenizer.load(toy_folder)
    assert "\n" not in str(caught.value)


def test_other_damage(toy_folder: Path) -> None:
    (toy_folder / "graphs.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        OnnxTokenizer.load(toy_folder)
    (toy_folder / "graphs.json").unlink()
    with pytest.raises(NotOfferedError, match="holds no exported graphs"):
        audiotokens.load(toy_folder, engine="onnx")


def test_load_chooses_the_engine(toy_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(audiotokens.load(toy_original, engine="onnx"), OnnxTokenizer)
    for settings in ({"device": "cuda"}, {"search_width": 4}, {"exact": "float64"}):
        with pytest.raises(NotOfferedError, match='is for the engine "torch"'):
            audiotokens.load(toy_original, engine="onnx", **settings)  # type: ignore[arg-type]
    with pytest.raises(NotOfferedError, match='no engine "tensorrt": expected one of auto, torch, onnx'):
        audiotokens.load(toy_original, engine="tensorrt")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("audiotokens.architectures")]:
        monkeypatch.delitem(sys.modules, name)
    assert isinstance(audiotokens.load(toy_original), OnnxTokenizer)
    for settings in ({"engine": "torch"}, {"device": "cuda"}):
        with pytest.raises(MissingExtraError, match='needs the extra "torch": pip install'):
            audiotokens.load(toy_original, **settings)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match='needs the extra "onnx": pip install'):
        audiotokens.load(toy_original, engine="onnx")
    with pytest.raises(MissingExtraError, match='needs the extra "onnx" or "torch": pip install'):
        audiotokens.load(toy_original)


def test_nothing_else_is_imported(toy_original: Path) -> None:
    code = """
import json, sys
import numpy, audiotokens
tokenizer = audiotokens.load(sys.argv[1], engine="onnx")
tokens = tokenizer.encode(numpy.ones((1, 100), numpy.float32), 8000)
tokenizer.decode(tokens)
print(json.dumps(sorted({"torch", "onnx", "scipy", "rich"} & sys.modules.keys())))
"""
    finished = subprocess.run([sys.executable, "-c", code, str(toy_original)], capture_output=True, text=True)
    assert json.loads(finished.stdout) == [], finished.stderr
