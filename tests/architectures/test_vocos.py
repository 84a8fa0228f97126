"""Vocos: golden vectors of the original, all keys of the published files, streams, lengths, folders."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_goldens import Case, assert_close, cases, copies, full_keys
from torch import Tensor

from audiotokens import load
from audiotokens.architectures.fourier import ConvNeXtBackbone, IMDCTHead, ISTFTHead
from audiotokens.architectures.seanet import SEANetConfig
from audiotokens.architectures.vocos import (
    VARIANTS,
    EncodecFeatures,
    EncodecVocos,
    MelFeatures,
    MelVocos,
    Vocos,
    VocosConfig,
)
from audiotokens.checkpoints.conversion import convert, match
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError, NotOfferedError, TokensError
from audiotokens.vocoder import Vocoder

CASES = [
    *cases("vocos"),
    *(case for case in copies("vocos") if case.folder not in {c.folder for c in cases("vocos")}),
]
FULL = full_keys("vocos")
MEL = [case for case in CASES if case.arguments["feature_extractor"]["class"] == "mel"]
CODES = [case for case in CASES if case not in MEL]
TINY_CODEC = VocosConfig(
    EncodecFeatures(
        sample_rate=16000,
        hop=20,
        size=8,
        codebook_size=16,
        bandwidths=(3.2, 6.4, 12.8),
        encoder=SEANetConfig(dimension=8, filters=2, ratios=(5, 2, 2), lstm_layers=1),
    ),
    ConvNeXtBackbone(width=16, hidden=24, layers=2, conditions=3),
    ISTFTHead(n_fft=80, hop=20, padding="same"),
)
SAME = VocosConfig(
    MelFeatures(sample_rate=16000, n_fft=150, hop=45, bands=12, padding="same"),
    ConvNeXtBackbone(width=16, hidden=24, layers=2),
    ISTFTHead(n_fft=150, hop=45, padding="same"),
)
VOCODERS = {
    "center": VARIANTS["tiny"],
    "same": SAME,
    "imdct": replace(SAME, head=IMDCTHead("imdct-cos", hop=45, padding="center", clip=True)),
    "upsampling": replace(SAME, head=ISTFTHead(n_fft=300, hop=90, padding="same")),
}


def converted(case: Case) -> Any:
    return convert(Vocos, case.tensors, Vocos.reference.read_config(case.arguments)).make_exact()  # type: ignore[attr-defined]


def vocoder(config: VocosConfig) -> MelVocos:
    torch.manual_seed(0)
    model = MelVocos(config).eval()
    model.weight_bits = 32
    return model.make_exact()


def codec() -> EncodecVocos:
    torch.manual_seed(0)
    model = EncodecVocos(TINY_CODEC).eval()
    with torch.no_grad():
        for name, parameter in model.decoder_net.named_parameters():
            if name.endswith((".scale", ".shift")):
                parameter += 0.3 * torch.randn_like(parameter)
        latents = model.encoder_net(0.1 * torch.randn(1, 1, 8000))
        assert model.quantizer.search is not None  # type: ignore[union-attr]
        model.quantizer.search.initialize(latents[0].T)  # type: ignore[union-attr, operator]
    model.weight_bits = 32
    return model.make_exact()


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.5, 0.5, (1, samples)).astype(np.float32)


@pytest.mark.parametrize("case", MEL, ids=str)
@torch.no_grad()
def test_goldens_of_mel_vocoders(case: Case) -> None:
    model = converted(case)
    backbone, _ = model.decoder_net
    for run in case.lengths:
        stored = case.array(f"{run}.features")
        found = torch.from_numpy(model.features(case.waveform(run)[0], model.spec.sample_rate))[None]
        # The quietest bands of one case are the rounding noise of its float32 transform: the float64 values
        # differ from it by 1.05e-4 of the peak, and torch's own float32 ones by 1.38e-4 with other kernels.
        assert_close(found, stored, tolerance=2e-4 if case.folder.name == "mel_center" else 1e-4)
        assert_close(backbone(stored).mT, case.array(f"{run}.hidden"))
        audio = case.array(f"{run}.audio")
        assert_close(torch.from_numpy(model.synthesize(stored[0].numpy())), audio)
        assert_close(torch.from_numpy(model.synthesize(found[0].numpy())), audio)


@pytest.mark.parametrize("case", CODES, ids=str)
@torch.no_grad()
def test_goldens_of_the_decoder_of_codes(case: Case) -> None:
    model = converted(case)
    books = model.config.features.books
    assert model.spec.can_encode == any(".encoder." in key for key in case.tensors)
    for run in case.lengths:
        for condition, count in enumerate(books):
            own = f"{run}.bw{condition}"
            if not case.has(f"{own}_codes"):
                continue
            codes = case.array(f"{own}_codes").reshape(1, count, -1)
            features = model.dequantize({"codes": codes})
            assert_close(features, case.array(f"{own}_features"))
            backbone, _ = model.decoder_for(count)
            assert_close(backbone(features).mT, case.array(f"{own}_hidden"))
            frames = {"codes": torch.tensor([codes.shape[2]])}
            waveforms, _ = model.decode_codes({"codes": codes}, frames)
            assert_close(waveforms[0], case.array(f"{own}_audio").reshape(1, -1))


@pytest.mark.parametrize(
    "case", [case for case in CODES if any(".encoder." in k for k in case.tensors)], ids=str
)
@pytest.mark.parametrize("exact", [False, True])
@torch.no_grad()
def test_goldens_from_waveform_to_waveform(case: Case, exact: bool) -> None:
    model = converted(case).make_exact(exact)
    for run in case.lengths:
        waveform = case.waveform(run)[0]
        for condition, count in enumerate(model.config.features.books):
            own = f"{run}.bw{condition}"
            tokens = model.encode(waveform, 24000, num_codebooks=count)
            audio = torch.from_numpy(model.decode(tokens))
            if case.has(f"{own}_codes"):
                assert np.array_equal(tokens.codes, case.array(f"{own}_codes").reshape(count, -1))
                assert_close(audio, case.array(f"{own}_audio").reshape(1, -1)[:, : audio.shape[1]])
            else:
                assert_close(audio[:, :1000], case.array(f"{own}_audio_first1000").reshape(1, -1))


@pytest.mark.parametrize("name", FULL)
def test_every_key_of_a_published_file_is_read(name: str) -> None:
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in FULL[name]["keys"].items()}
        config = Vocos.reference.read_config(FULL[name]["config"])
        file_keys = {"whole": tensors}
        if name == "vocos-encodec-24khz":
            file_keys["published"] = {k: t for k, t in tensors.items() if ".encodec." not in k}
            # EnCodec's own file beside it, with all of its 32 books and its own names.
            own = {k.removeprefix("feature_extractor.encodec."): t for k, t in tensors.items()}
            book = "quantizer.vq.layers.{}._codebook.embed"
            file_keys["two files"] = own | {book.format(k): own[book.format(0)] for k in range(32)}
        for label, keys in file_keys.items():
            model = convert(Vocos, keys, config)
            assert not match(model.state_dict(), keys, Vocos.reference, model.config).problems
            variant = {"whole": "-codec" if "encodec" in name else "", "two files": "-codec"}.get(label, "")
            assert model.config == VARIANTS[name + variant]
            assert parameters_of(model) == FULL[name]["parameters_without_encodec"]


def parameters_of(model: Any) -> int:
    """Parameters without EnCodec's own."""
    return model.spec.parameters - sum(p.numel() for p in model.encoder_net.parameters())  # type: ignore[no-any-return]


def test_parameter_counts() -> None:
    with torch.device("meta"):
        assert Vocos(VARIANTS["vocos-mel-24khz"]).spec.parameters == 13_531_650  # type: ignore[attr-defined]
        assert Vocos(VARIANTS["vocos-encodec-24khz"]).spec.parameters == 10_081_410  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", VOCODERS)
def test_any_pieces_give_one_pass(name: str) -> None:
    model, draw = vocoder(VOCODERS[name]), random.Random(name)
    features = model.features(noise(5000), 16000)
    whole = model.synthesize(features)
    for _ in range(6):
        cuts = sorted(draw.randint(0, features.shape[1]) for _ in range(draw.randint(0, 9)))
        session = model.synthesizer()
        parts = []
        for start, end in zip([0, *cuts], [*cuts, features.shape[1]]):
            if end > start:
                parts.append(session.push(features[:, start:end]))
            if draw.random() < 0.3:
                saved, session = session.save(), model.synthesizer()
                session.restore(saved)
        twin = session.fork()
        np.testing.assert_allclose(np.concatenate([*parts, session.finish()], 1), whole, atol=1e-5)
        np.testing.assert_allclose(np.concatenate([*parts, twin.finish()], 1), whole, atol=1e-5)
    with pytest.raises(TokensError, match="finished"):
        session.push(features)


@pytest.mark.parametrize("name", VOCODERS)
def test_a_stream_waits_as_long_as_the_spec_says(name: str) -> None:
    model = vocoder(VOCODERS[name])
    hop, rate = int(model.spec.hop), model.spec.output_sample_rate / model.spec.sample_rate
    session = model.synthesizer()
    features = model.features(noise(4000), 16000)
    out, waits = 0, []
    for frame in range(features.shape[1]):
        out += session.push(features[:, frame : frame + 1]).shape[1]
        # Whole hops that are in and not out.
        waits.append((frame + 1 - int(out / rate) // hop) * hop)
    assert max(waits) == model.spec.decoder_lookahead


@pytest.mark.parametrize("name", VOCODERS)
def test_a_padded_batch_is_as_one_by_one(name: str) -> None:
    model = vocoder(VOCODERS[name])
    items = [model.features(noise(length), 16000) for length in (700, 2000, 301)]
    lengths = torch.tensor([item.shape[1] for item in items])
    batch = torch.zeros(3, model.spec.features.size, int(lengths.max()))  # type: ignore[union-attr]
    for row, item in zip(batch, items):
        row[:, : item.shape[1]] = torch.from_numpy(item)
    waveforms, samples = model.synthesize_batch(batch, lengths)
    for waveform, size, item in zip(waveforms, samples.tolist(), items):
        np.testing.assert_allclose(waveform[:, :size].numpy(), model.synthesize(item), atol=1e-5)


@pytest.mark.parametrize("name", VOCODERS)
@pytest.mark.parametrize("keep_tail", [False, True])
def test_lengths_and_the_tail(name: str, keep_tail: bool) -> None:
    model = vocoder(replace(VOCODERS[name], keep_tail=keep_tail))
    hop = int(model.spec.hop)
    for samples in (1, 2, hop - 1, hop, hop + 1, 4 * hop, 5 * hop - 1, 11 * hop + 7):
        made = model.reconstruct(noise(samples), 16000)
        assert made.shape == (1, model.spec.output_length(samples))
        if samples > 4 * hop:
            lost = int(np.argmax(made[0, ::-1] != 0)) * model.spec.sample_rate / model.spec.output_sample_rate
            bound = [
                int(word) for word in "".join(model.spec.quirks).replace(",", "").split() if word.isdigit()
            ]
            assert lost <= (bound[0] if bound else 0)
            whole = samples % hop == 0 or keep_tail
            # What the original leaves out at the end: whatever is behind the last whole hop.
            assert whole or lost > 0


def test_features_are_the_same_in_any_pieces_of_a_long_recording() -> None:
    model = vocoder(VARIANTS["tiny"])
    long = noise(16000 * 9 + 13)
    features = model.features(long, 16000)
    with torch.inference_mode():
        whole = model.encoder_net(torch.from_numpy(long)[None])[0].numpy()
    assert np.array_equal(features, whole)
    assert features.dtype == np.float32
    fast = vocoder(VARIANTS["tiny"]).make_exact(False).features(long, 16000)
    np.testing.assert_allclose(fast, features, atol=1e-3)


def test_a_vocoder_is_kept_in_a_folder(tmp_path: Path) -> None:
    model = vocoder(VARIANTS["tiny"])
    folder = model.save(tmp_path / "vocoder")
    again = load(folder)
    assert isinstance(again, MelVocos) and isinstance(again, Vocoder)
    assert again.fingerprint == model.fingerprint and again.spec == model.spec
    assert model.spec.decoder_macs > 0 and model.spec.parameters == 6146
    features = model.features(noise(2000), 16000)
    assert np.array_equal(again.synthesize(features), model.synthesize(features))
    with pytest.raises(NotOfferedError, match="has no books, so search_width must be 1"):
        load(folder, search_width=4)


def test_a_codec_is_kept_in_a_folder(tmp_path: Path) -> None:
    model = codec()
    again = load(model.save(tmp_path / "codec"))
    assert isinstance(again, EncodecVocos)
    tokens = model.encode(noise(2000), 16000)
    assert again.encode(noise(2000), 16000) == tokens
    assert np.array_equal(again.decode(tokens), model.decode(tokens))


def test_a_vocoder_has_no_codes() -> None:
    model = vocoder(VARIANTS["tiny"])
    assert not model.spec.can_encode and not model.spec.can_decode and not model.spec.streams
    with pytest.raises(NotOfferedError, match="is a vocoder and has no codes: use features and synthesize"):
        model.encode(noise(100), 16000)
    with pytest.raises(NotOfferedError, match="is a vocoder and has no codes: use synthesize"):
        model.decode(codec().encode(noise(100), 16000))
    for features, message in (
        (np.zeros((11, 4)), r"the features have the shape \[11, 4\], expected \[12, T\]"),
        (np.zeros((12, 0)), r"the features have the shape \[12, 0\], expected \[12, T\]"),
        (np.full((12, 3), np.nan), "values that are not finite"),
    ):
        with pytest.raises(TokensError, match=message):
            model.synthesize(features)


def test_many_books_choose_the_condition() -> None:
    model = codec()
    tokens = model.encode(noise(1000), 16000)
    assert model.spec.legal_prefixes == (1, 2, 4)
    latents = model.dequantize(model.code_tensors(tokens.take(2)))
    nets = [model.decoder_under(condition) for condition in range(3)]
    found = [net(latents)[0, :, :1000].detach().numpy() for net in nets]
    assert np.allclose(model.decode(tokens, num_codebooks=2), found[1], atol=1e-5)
    assert not np.allclose(found[0], found[1], atol=1e-3)
    session = model.decoder(num_codebooks=2)
    parts = [session.push(tokens.clip(0, 0.025).take(2)), session.push(tokens.clip(0.025, 0.0625).take(2))]
    streamed = np.concatenate([*parts, session.finish()], 1)
    assert np.allclose(streamed, found[1], atol=1e-5)
    with pytest.raises(TokensError, match="num_codebooks is 3, legal values are 1, 2, 4"):
        model.decode(tokens, num_codebooks=3)


def test_without_encodec_it_decodes_codes_of_others() -> None:
    whole = codec()
    features = replace(whole.config.features, encoder=None)
    decoder = EncodecVocos(replace(whole.config, features=features)).eval()  # type: ignore[arg-type]
    tensors = {name: t for name, t in whole.state_dict().items() if name in decoder.state_dict()}
    decoder.load_state_dict(tensors)
    tokens = whole.encode(noise(1234), 16000)
    assert np.array_equal(decoder.decode(tokens), whole.decode(tokens))
    assert np.array_equal(decoder.decode(tokens, num_codebooks=2), whole.decode(tokens, num_codebooks=2))
    assert decoder.adopt(tokens).fingerprint == decoder.fingerprint
    with pytest.raises(NotOfferedError, match="hold no EnCodec: import them together with EnCodec's"):
        decoder.encode(noise(100), 16000)
    assert not decoder.spec.can_encode and "EnCodec" in decoder.spec.quirks[0]
    other = vocoder(VARIANTS["tiny"])
    with pytest.raises(ConfigError, match='the features are of the kind "mel", expected "encodec"'):
        EncodecVocos(other.config)
    with pytest.raises(ConfigError, match='the features are of the kind "encodec", expected "mel"'):
        MelVocos(whole.config)


def test_gradients_reach_every_parameter() -> None:
    made = MelVocos(VARIANTS["tiny"])(torch.randn(2, 1, 800))
    assert made.shape == (2, 1, 800)
    model = EncodecVocos(TINY_CODEC)
    model(0.1 * torch.randn(1, 1, 800)).waveform.square().mean().backward()
    decoder = dict(model.decoder_net.named_parameters())
    assert all(parameter.grad is not None for parameter in decoder.values())


def test_configurations_survive_json() -> None:
    for config in (*VARIANTS.values(), TINY_CODEC, *VOCODERS.values()):
        assert from_dict(VocosConfig, to_dict(config)) == config


def arguments(**changes: Any) -> dict[str, Any]:
    """As in `config.yaml` of the original, with other arguments of some parts."""
    parts: dict[str, dict[str, Any]] = {
        "feature_extractor": {
            "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
            "init_args": {},
        },
        "backbone": {
            "class_path": "vocos.models.VocosBackbone",
            "init_args": {"input_channels": 100, "dim": 512, "intermediate_dim": 1536, "num_layers": 8},
        },
        "head": {
            "class_path": "vocos.heads.ISTFTHead",
            "init_args": {"dim": 512, "n_fft": 1024, "hop_length": 256, "padding": "center"},
        },
    }
    for part, changed in changes.items():
        parts[part] = {"class_path": parts[part]["class_path"], **changed} if part in parts else changed
    return parts


def test_the_published_configuration_is_read() -> None:
    assert Vocos.reference.read_config(arguments()) == VARIANTS["vocos-mel-24khz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {}}, 'unknown key "model"; valid keys: feature_extractor, backbone, head, sample_rate'),
        ({"head": {"class_path": "x.Head"}}, 'head: the class is "Head", expected one of istft, ISTFTHead'),
        ({"feature_extractor": {"init_args": {"n_mel": 3}}}, 'unknown key "n_mel"; did you mean "n_mels"?'),
        ({"feature_extractor": {"init_args": {"n_mels": 80}}}, "input_channels is 100, expected 80"),
        ({"sample_rate": 16000}, "sample_rate is 16000, expected 24000"),
        (
            {"feature_extractor": {"class": "encodec", "args": {"encodec_model": "encodec_48khz"}}},
            "found 'encodec_48khz', expected one of 'encodec_24khz'",
        ),
    ],
)
def test_what_is_not_known_is_refused(changes: dict[str, Any], message: str) -> None:
    given = arguments(**changes)
    if given["feature_extractor"].get("class"):
        del given["feature_extractor"]["class_path"]
    with pytest.raises(ConfigError) as refused:
        Vocos.reference.read_config(given)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": ISTFTHead(hop=250)}, "a hop of 256 becomes 250 samples, expected a whole sample rate"),
        ({"condition": 1}, "condition is 1, expected 0 to 0"),
        (
            {"features": EncodecFeatures(hop=256), "backbone": ConvNeXtBackbone(conditions=3)},
            "there are 3 conditions for 4 bandwidths",
        ),
    ],
)
def test_configurations_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VocosConfig(**changes)
    with pytest.raises(
        ValueError, match="the encoder has a hop of 320 and 128 dimensions, expected 300 and 128"
    ):
        EncodecFeatures(hop=300, encoder=SEANetConfig())


def test_codes_of_another_rate_are_not_adopted() -> None:
    model = codec()
    tokens = model.encode(noise(400), 16000)
    stream = replace(tokens.streams["codes"], frame_rate=tokens.streams["codes"].frame_rate / 2)
    with pytest.raises(TokensError, match='found codes at 400 Hz, expected "codes" at 800 Hz'):
        model.adopt(replace(tokens, streams={"codes": stream}, num_samples=200))


@torch.no_grad()
def test_a_mel_vocoder_under_a_condition() -> None:
    backbone = ConvNeXtBackbone(width=16, hidden=24, layers=1, conditions=2)
    config = replace(VARIANTS["tiny"], backbone=backbone, condition=1)
    model = vocoder(config)
    features = model.features(noise(800), 16000)
    before: Tensor = torch.from_numpy(model.synthesize(features))
    for name, parameter in model.named_parameters():
        if name.endswith(".shift"):
            parameter[0] += 1
    assert torch.equal(torch.from_numpy(model.synthesize(features)), before)
