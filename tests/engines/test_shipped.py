"""The shipped tokenizers' graphs beside torch, on real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import audiotokens
from audiotokens.audio import resample
from audiotokens.engines import has_graphs
from audiotokens.registry import shipped
from audiotokens.tokenizer import Tokenizer
from audiotokens.tokens import Tokens

pytest.importorskip("onnxruntime")

RATE = 16000
NAMES = [name for name, folder in shipped().items() if has_graphs(folder)]
each_name = pytest.mark.parametrize("name", NAMES)
_loaded: dict[tuple[str, str], Tokenizer] = {}


def engine(name: str, kind: str) -> Tokenizer:
    """Load once; torch in exact mode, ONNX Runtime in both."""
    if (name, kind) not in _loaded:
        if kind == "torch":
            pytest.importorskip("torch")
            _loaded[name, kind] = audiotokens.load(name, engine="torch")
        else:
            _loaded[name, kind] = audiotokens.load(name, engine="onnx", exact=kind == "exact")
    return _loaded[name, kind]


@pytest.fixture(scope="module")
def speech(shared: Path) -> list[np.ndarray]:
    """Three speakers, 1.5 s each, at the tokenizers' rate."""
    files = sorted((shared / "data" / "test" / "speech").rglob("*.flac"))
    found = []
    for file in files[:: len(files) // 3][:3]:
        waveform, rate = audiotokens.read_audio(file)
        found.append(resample(waveform[:1, : 3 * rate // 2], rate, RATE))
    return found


def test_the_shipped_tokenizers_carry_their_graphs() -> None:
    assert sorted(NAMES) == sorted(shipped())


@each_name
def test_codes_are_those_of_torch(name: str, speech: list[np.ndarray]) -> None:
    torch_engine = engine(name, "torch")
    for kind in ("exact", "fast"):
        flips = codes = 0
        for waveform in speech:
            expected = torch_engine.encode(waveform, RATE).codes
            found = engine(name, kind).encode(waveform, RATE).codes
            assert found.shape == expected.shape
            flips += int((found != expected).sum())
            codes += expected.size
        # A near tie that float32 decides otherwise changes the rest of its frame: 12 books of one frame.
        assert flips <= 12, f"{flips} of {codes} codes flipped"


@each_name
def test_samples_and_latents_are_those_of_torch(name: str, speech: list[np.ndarray]) -> None:
    torch_engine, onnx_engine = engine(name, "torch"), engine(name, "exact")
    tokens = torch_engine.encode(speech[0], RATE)
    assert onnx_engine.fingerprint == torch_engine.fingerprint
    for books in (1, 6, 12):
        expected = torch_engine.decode(tokens, num_codebooks=books)
        found = onnx_engine.decode(tokens, num_codebooks=books)
        assert np.abs(found - expected).max() < 1e-4
    latents = torch_engine.features(speech[0], RATE)
    assert np.abs(onnx_engine.features(speech[0], RATE) - latents).max() < 1e-5 * np.abs(latents).max()


@each_name
def test_pieces_and_neighbours_change_no_bit(name: str, speech: list[np.ndarray]) -> None:
    tokenizer, random = engine(name, "exact"), np.random.default_rng(0)
    whole = tokenizer.encode(speech[0], RATE)
    decoded = tokenizer.decode(whole)
    for size in (170, 10000):
        encoder, decoder = tokenizer.encoder(), tokenizer.decoder()
        cuts = np.cumsum(random.integers(1, size, 400))
        pieces = np.split(speech[0], cuts[cuts < speech[0].shape[1]], axis=1)
        parts = [part for piece in pieces if (part := encoder.push(piece)) is not None] + [encoder.finish()]
        assert np.array_equal(Tokens.concatenate(parts).codes, whole.codes)
        samples = np.concatenate([*(decoder.push(part) for part in parts), decoder.finish()], 1)
        assert samples.tobytes() == decoded.tobytes()
    assert tokenizer.encode_batch(speech[::-1], RATE)[-1] == whole


@each_name
def test_engines_know_each_other(name: str) -> None:
    for kind, other in (("torch", "onnx"), ("exact", "torch")):
        assert list(engine(name, kind).other_engines()) == [other]  # type: ignore[attr-defined]
