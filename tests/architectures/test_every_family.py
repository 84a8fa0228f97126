"""What every family promises, tried on its smallest variants, and what each does not offer."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_codecs import TINY, family, tiny, variants

import audiotokens
from audiotokens.architectures.dac import factorized_rvq
from audiotokens.architectures.encodec import residual_books
from audiotokens.architectures.mimi import split_rvq
from audiotokens.architectures.snac import factorized_levels
from audiotokens.cli import main
from audiotokens.cli.text import number
from audiotokens.codec import Codec
from audiotokens.nn.block import Sequential
from audiotokens.tokens import Tokens
from audiotokens.verify import Budget, Verification, format_verification, make_waveforms, verify
from audiotokens.vocoder import Vocoder

PROMISES = ("I1", "I2", "I3", "I4", "I5", "I7", "I8", "I10")
"""I6 needs a second engine; I9 is about files, and is tried where files are."""

_WHOLE = "it states no look-ahead: its codes may depend on the whole recording"

EXCEPTIONS: dict[str, dict[str, str]] = {
    "encodec tiny-stereo": {
        "I3": "encodec reads whole recordings, because of its overlapping windows",
        "I4": "encodec reads whole recordings, because of its overlapping windows",
        "I7": _WHOLE,
    },
    "speechtokenizer tiny": {
        "I3": "speechtokenizer reads whole recordings, because of a bidirectional LSTM",
        "I7": _WHOLE,
    },
    "wavtokenizer tiny": {
        "I4": "wavtokenizer reads whole recordings, because of group normalization over time",
        "I10": "1 is its only legal number of codebooks",
    },
    "vocos tiny": dict.fromkeys(PROMISES, "it is a vocoder and has no codes"),
    "vocos tiny-decoder": dict.fromkeys(PROMISES, "it only decodes"),
}
"""What a variant does not offer, and why; everything else is kept. `docs/families.md` shows the same."""

CODECS = [name for name in TINY if isinstance(tiny(name), Codec) and tiny(name).spec.can_encode]
VOCODERS = [name for name in TINY if isinstance(tiny(name), Vocoder)]


def offers(name: str, promise: str) -> bool:
    return promise not in EXCEPTIONS.get(name, {})


def sounds(model: Any) -> dict[str, np.ndarray]:
    """Short recordings, none of which ends with a whole frame."""
    spec = model.spec
    made = make_waveforms(spec.sample_rate, spec.channels)
    hop, start = int(spec.hop), spec.sample_rate // 3
    return {
        "chords": made["chords"][:, start : start + 8 * hop + spec.lookahead + 17],
        "half silence": made["half silence"][:, -3 * hop - 1 :],
        "7 samples": made["7 samples"],
    }


def refused(found: Verification) -> dict[str, str]:
    """What was not offered, and why."""
    start = "not offered, because "
    missing = {v.promise: v.detail for v in found.verdicts if v.status == "not offered"}
    assert all(detail.startswith(start) for detail in missing.values())
    return {promise: detail.removeprefix(start) for promise, detail in missing.items()}


def test_exceptions_are_of_variants_that_there_are() -> None:
    assert set(EXCEPTIONS) <= set(TINY)
    assert {"gain-shape tiny", "soundstream tiny-lyra", "encodec tiny-stereo", "vocos tiny-codec"} <= set(
        TINY
    )


@pytest.mark.parametrize("name", TINY)
def test_promises(name: str) -> None:
    found = verify(tiny(name), promises=PROMISES, waveforms=sounds(tiny(name)))
    assert found.ok, format_verification(found)
    assert refused(found) == EXCEPTIONS.get(name, {})
    kept = [verdict for verdict in found.verdicts if verdict.status == "kept"]
    assert all(verdict.checked for verdict in kept), format_verification(found)


def promises_table() -> str:
    """The table of docs/families.md."""
    lines = ["| variant | kept | not offered, because |", "|---|---|---|"]
    for name in TINY:
        missing = EXCEPTIONS.get(name, {})
        reasons: dict[str, list[str]] = {}
        for promise, reason in missing.items():
            reasons.setdefault(reason, []).append(promise)
        why = "; ".join(f"{', '.join(promises)}: {reason}" for reason, promises in reasons.items())
        kept = " ".join(promise for promise in PROMISES if promise not in missing)
        lines.append(f"| `{name}` | {kept or '-'} | {why or '-'} |")
    return "\n".join(lines)


def test_the_page_shows_the_promises(root: Path) -> None:
    page = (root / "docs" / "families.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- promises: [^>]* -->\n(.*?)\n?<!-- end -->", page, re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == promises_table(), f"docs/families.md should show\n\n{promises_table()}\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", CODECS)
def test_promises_thoroughly(name: str) -> None:
    """200 random chunkings each way, all lengths from 1 sample to 3 hops + 7, all legal prefixes."""
    found = verify(tiny(name), promises=PROMISES, waveforms=sounds(tiny(name)), thorough=True)
    assert found.ok, format_verification(found)
    assert refused(found) == EXCEPTIONS.get(name, {})


@pytest.mark.slow
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", CODECS)
def test_batches_of_real_utterances(name: str, exact: bool, shared: Path) -> None:
    """16 utterances of different lengths, alone, by `encode_batch` and in one padded call."""
    files = sorted((shared / "data" / "test" / "speech").rglob("*.*"))
    model = copy.deepcopy(tiny(name)).make_exact(exact)
    found = verify(model, promises=["I1"], audio=files[:: len(files) // 16][:16], budget=Budget(minutes=1))
    (verdict,) = found.verdicts
    # In the fast mode flips are counted, as long as rounding explains them.
    assert verdict.status == "kept" if exact else verdict.status in ("kept", "counted"), verdict.detail
    assert verdict.flips == 0 or not exact
    assert verdict.checked > 16 * 50


@pytest.mark.parametrize("name", CODECS)
def test_codes_vary(name: str) -> None:
    """What is compared elsewhere would be worth little if all codes were one."""
    codec = tiny(name)
    tokens = codec.encode(sounds(codec)["chords"], codec.spec.sample_rate)
    for stream in tokens.streams.values():
        assert all(len(set(book)) >= 4 for book in stream.codes.tolist())


# Folders and sessions


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a variant by its name."""
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        path = root / name.replace(" ", "-")
        return path if path.exists() else tiny(name).save(path)

    return folder


def halves(tokens: Tokens) -> tuple[Tokens, Tokens]:
    middle = tokens.duration / 2
    cut = tokens.clip_bounds(0, middle)[1] / tokens.sample_rate
    return tokens.clip(0, cut), tokens.clip(cut, tokens.duration)


@pytest.mark.parametrize("name", CODECS)
def test_a_folder_holds_all_of_a_codec(name: str, saved: Callable[[str], Path]) -> None:
    codec, again = tiny(name), audiotokens.load(saved(name))
    assert again.fingerprint == codec.fingerprint
    rate = codec.spec.sample_rate
    for waveform in sounds(codec).values():
        tokens = codec.encode(waveform, rate)
        assert again.encode(waveform, rate) == tokens
        decoded = codec.decode(tokens)
        assert np.array_equal(codec.decode(tokens), decoded)
        assert np.array_equal(again.decode(tokens), decoded)


@pytest.mark.parametrize("name", CODECS)
def test_sessions_go_on_in_what_was_loaded(name: str, saved: Callable[[str], Path]) -> None:
    codec, again = tiny(name), audiotokens.load(saved(name))
    waveform = sounds(codec)["chords"]
    tokens = codec.encode(waveform, codec.spec.sample_rate)
    if offers(name, "I3"):
        first, second = np.split(waveform, [waveform.shape[1] // 2], axis=1)
        session, heir = codec.encoder(), again.encoder()
        parts = [session.push(first)]
        heir.restore(session.save())
        parts += [heir.push(second), heir.finish()]
        joined = Tokens.concatenate([part for part in parts if part is not None])
        assert joined.streams == tokens.streams and joined.num_samples == tokens.num_samples
    if offers(name, "I4"):
        former, latter = halves(tokens)
        player, other = codec.decoder(), again.decoder()
        pieces = [player.push(former)]
        other.restore(player.save())
        pieces += [other.push(latter), other.finish()]
        assert np.array_equal(np.concatenate(pieces, 1), codec.decode(tokens))


@pytest.mark.parametrize("name", VOCODERS)
def test_a_folder_holds_all_of_a_vocoder(name: str, saved: Callable[[str], Path]) -> None:
    model, again = tiny(name), audiotokens.load(saved(name))
    assert isinstance(again, Vocoder)
    assert again.fingerprint == model.fingerprint
    waveform = sounds(model)["chords"]
    features = model.features(waveform, model.spec.sample_rate)
    assert np.array_equal(again.features(waveform, model.spec.sample_rate), features)
    made = model.synthesize(features)
    assert np.array_equal(model.synthesize(features), made)
    assert np.array_equal(again.synthesize(features), made)
    session, heir = model.synthesizer(), again.synthesizer()
    parts = [session.push(features[:, :3])]
    heir.restore(session.save())
    parts += [heir.push(features[:, 3:]), heir.finish()]
    assert np.array_equal(np.concatenate(parts, 1), made)


@pytest.mark.parametrize("name", [*CODECS, *VOCODERS])
def test_recordings_of_a_few_samples(name: str) -> None:
    """The length rule in one pass and in sessions, where there is less than a frame or a little more."""
    model = tiny(name)
    spec = model.spec
    hop = int(spec.hop)
    for num_samples in (1, 2, hop - 1, hop, hop + 1):
        waveform = make_waveforms(spec.sample_rate, spec.channels)["noise"][:, :num_samples]
        expected = (spec.channels, spec.output_length(num_samples))
        if isinstance(model, Vocoder):
            made = model.reconstruct(waveform, spec.sample_rate)
            assert made.shape == expected and np.isfinite(made).all()
            continue
        tokens = model.encode(waveform, spec.sample_rate)
        for stream in tokens.streams.values():
            if stream.segments is None:
                frames = math.ceil(num_samples / hop) * stream.frame_rate / spec.frame_rate
                assert stream.num_frames == frames
        decoded = model.decode(tokens)
        assert decoded.shape == expected and np.isfinite(decoded).all()
        if offers(name, "I3"):
            session = model.encoder()
            parts = [session.push(waveform[:, :1])]
            if num_samples > 1:
                parts.append(session.push(waveform[:, 1:]))
            parts.append(session.finish())
            joined = Tokens.concatenate([part for part in parts if part is not None])
            assert joined.streams == tokens.streams and joined.num_samples == num_samples
        if offers(name, "I4"):
            player = model.decoder()
            played = np.concatenate([player.push(tokens), player.finish()], 1)
            assert played.shape == expected
            assert np.array_equal(played, decoded)


# What is told


@pytest.mark.parametrize("name", TINY)
def test_info_tells_the_facts(name: str, saved: Callable[[str], Path]) -> None:
    spec = tiny(name).spec
    shown = CliRunner().invoke(main, ["info", str(saved(name))])
    assert shown.exit_code == 0, shown.output
    told = dict(re.split(r"  +", line, maxsplit=1) for line in shown.output.splitlines() if "  " in line)
    size = sum(parameter.numel() for parameter in tiny(name).parameters())
    assert told["parameters"].startswith(f"{number(size)} trainable")
    assert (told["encoder macs"] == "-") == (isinstance(tiny(name), Codec) and not spec.can_encode)
    assert told["decoder macs"].endswith(" per second of audio")
    assert told["taxonomy"].endswith(spec.taxonomy.domain)
    unbounded = "no bound" if spec.receptive_field is None else f"{spec.receptive_field} samples"
    assert told["receptive field"].startswith(unbounded)
    if offers(name, "I3") or isinstance(tiny(name), Vocoder) or not spec.can_encode:
        assert told["lookahead"].startswith(f"{spec.lookahead} samples")
    else:
        assert told["lookahead"] == "the whole recording"
    if offers(name, "I4") or isinstance(tiny(name), Vocoder) or not spec.can_encode:
        assert told["decoder lookahead"].startswith(f"{spec.decoder_lookahead} samples")
    else:
        assert told["decoder lookahead"] == "-"
    for stream in spec.streams:
        assert f"frame_rate {stream.frame_rate}" in told[f'stream "{stream.name}"']
    assert bool(spec.legal_prefixes) == ("bitrates" in told)


# Look-ahead


def narrow(variant: str) -> Codec:
    """A published variant with its strides, kernels and dilations, but few channels."""
    architecture = variant.partition("-")[0]
    config = variants(architecture)[variant]
    if architecture == "encodec":
        seanet = replace(config.seanet, filters=2, dimension=4)
        config = replace(config, seanet=seanet, quantizer=residual_books(1, 4))
    elif architecture == "dac":
        books = factorized_rvq(4, 1, size=4, dims=(2,))
        config = replace(config, encoder_width=2, decoder_width=16, latent=4, quantizer=books)
    elif architecture == "snac":
        books = factorized_levels(64, config.quantizer.strides, size=4, dim=2)
        config = replace(config, encoder_width=4, decoder_width=64, quantizer=books)
    else:
        transformer = replace(config.transformer, width=8, heads=2, hidden=8, layers=2)
        seanet = replace(config.seanet, filters=2, dimension=8)
        config = replace(config, seanet=seanet, transformer=transformer, quantizer=split_rvq(8, 2, 4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec: Codec = family(architecture)(config).eval()
    return codec


@torch.no_grad()
def assert_tight(net: Sequential, channels: int, hop: int) -> int:
    """Samples after the end of a hop that its frames wait for; no fewer would do.

    The first `n` hops of output do not change when other samples follow those that `samples_needed` says,
    and do when the last of these is another one.

    Args:
        net: encoder, or decoder with frames for samples.
        channels: of its input.
        hop: frames that a hop of input becomes.
    """
    net = net.double()
    counts = (1, 2, 3, 4, 5, 6, 9)
    needed = {n: int(net.samples_needed(n * hop)) for n in counts}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels, max(needed.values()) + 50, dtype=torch.float64, generator=generator)
    whole = net(x)
    for n, size in needed.items():
        later = x.clone()
        later[..., size:] += 1
        assert torch.equal(net(later)[..., : n * hop], whole[..., : n * hop])
        # The outermost weights are products of many small ones.
        last = x.clone()
        last[..., size - 1] += 1e4
        assert not torch.equal(net(last)[..., : n * hop], whole[..., : n * hop])
    stride = round(hop * net.reach.stride)
    return max(0, *(size - n * stride for n, size in needed.items()))


def fresh(name: str) -> Any:
    """Another copy of a tiny variant, whose nets a test may change."""
    architecture, config = TINY[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return family(architecture)(config).eval()


@pytest.mark.parametrize("name", [name for name in CODECS if offers(name, "I3")])
def test_the_stated_lookahead_of_encoders_is_tight(name: str) -> None:
    codec = fresh(name)
    spec = codec.spec
    found = assert_tight(codec.encoder_net, spec.channels, codec.frames_per_hop)
    assert found == spec.lookahead


@pytest.mark.parametrize("name", [name for name in CODECS if offers(name, "I4")])
def test_the_stated_lookahead_of_decoders_is_tight(name: str) -> None:
    codec = fresh(name)
    spec, frames = codec.spec, codec.frames_per_hop
    samples = round(spec.hop * spec.output_sample_rate / spec.sample_rate / frames)
    assert spec.hop == samples * frames
    found = assert_tight(codec.decoder_net, codec.quantizer.dim, samples)
    assert abs(found * samples - spec.decoder_lookahead) < spec.hop or found == 0


PUBLISHED = {
    "encodec-24khz": 1920,
    "encodec-32khz": 2386,
    "encodec-16khz": 1195,
    "dac-16khz": 2493,
    "dac-24khz": 2493,
    "dac-44khz": 3733,
    "snac-24khz": 4757,
    "mimi": 0,
}
"""Samples that the encoders of published variants wait for after the end of a frame."""


@pytest.mark.parametrize("variant", PUBLISHED)
def test_the_lookahead_of_published_encoders_is_tight(variant: str) -> None:
    codec = narrow(variant)
    found = assert_tight(codec.encoder_net, codec.spec.channels, codec.frames_per_hop)
    assert found == codec.spec.lookahead == PUBLISHED[variant]
    with torch.device("meta"):
        full = family(codec.architecture)(variants(codec.architecture)[variant])
    assert full.spec.lookahead == PUBLISHED[variant]
