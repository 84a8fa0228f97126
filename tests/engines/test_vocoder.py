"""Exported vocoders: the toy's decoder, given features instead of codes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import audiotokens
from audiotokens.engines.vocoder import OnnxVocoder
from audiotokens.errors import NotOfferedError, TokensError


@pytest.fixture
def vocoder(toy_folder: Path, toy: ModuleType) -> OnnxVocoder:
    path = toy_folder / "config.json"
    config = json.loads(path.read_text())
    features = {"name": "toy", "size": toy.LATENT, "frame_rate": str(toy.RATE // toy.HOP)}
    config["spec"] |= {"streams": [], "legal_prefixes": [], "features": features, "can_encode": False}
    path.write_text(json.dumps(config))
    toy.edit_graphs(toy_folder, lambda values: values.update(encoder=None, quantizer=None))
    loaded = audiotokens.load(toy_folder, engine="onnx")
    assert isinstance(loaded, OnnxVocoder)
    return loaded


def test_features_become_samples_in_any_pieces(vocoder: OnnxVocoder, toy: ModuleType) -> None:
    features = np.random.default_rng(0).standard_normal((toy.LATENT, 30)).astype(np.float32)
    before = np.pad(features, ((0, 0), (1, 0)))[:, :-1]
    weights = toy.make_weights()
    expected = (features.T @ weights["out"] + before.T @ weights["before"]).reshape(1, -1)
    whole = vocoder.synthesize(features)
    assert whole == pytest.approx(expected, abs=1e-5)
    session = vocoder.synthesizer()
    parts = [session.push(features[:, :1]), session.push(features[:, 1:12])]
    heir, twin = vocoder.synthesizer(), session.fork()
    heir.restore(session.save())
    for each in (session, heir, twin):
        rest = [each.push(features[:, 12:]), each.finish()]
        assert np.concatenate([*parts, *rest], 1).tobytes() == whole.tobytes()
    with pytest.raises(TokensError, match="finished"):
        session.push(features)


def test_what_a_vocoder_does_not_offer(vocoder: OnnxVocoder, toy_folder: Path, toy: ModuleType) -> None:
    with pytest.raises(NotOfferedError, match="no analysis of audio"):
        vocoder.features(np.zeros(100, np.float32), toy.RATE)
    with pytest.raises(NotOfferedError, match="is a vocoder"):
        vocoder.encode(np.zeros(100, np.float32), toy.RATE)
    with pytest.raises(TokensError, match="expected .4, T."):
        vocoder.synthesize(np.zeros((3, 5), np.float32))

    def without_streams(values: dict) -> None:
        for name in ("first", "middle", "last", "states"):
            del values["decoder"][name]

    toy.edit_graphs(toy_folder, without_streams)
    whole = OnnxVocoder.load(toy_folder)
    assert whole.synthesize(np.ones((toy.LATENT, 5), np.float32)).shape == (1, 5 * toy.HOP)
    with pytest.raises(NotOfferedError, match="use synthesize"):
        whole.synthesizer()
