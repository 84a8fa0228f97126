"""Lanes give what single sessions give, whenever they begin, end, are reset or forked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tiny_codecs import TINY, tiny

import audiotokens
from audiotokens.errors import AudioError, NotOfferedError, TokensError
from audiotokens.lanes import DecoderLanes, EncoderLanes
from audiotokens.sessions import CodecDecoder, CodecEncoder
from audiotokens.tokens import Tokens
from audiotokens.verify import make_waveforms

WHOLE = {"encodec tiny-stereo", "vocos tiny", "vocos tiny-decoder"}
ENCODERS = sorted(TINY.keys() - WHOLE - {"speechtokenizer tiny"})
DECODERS = sorted(TINY.keys() - WHOLE - {"wavtokenizer tiny"})
LANES = 5


def codec_named(name: str) -> Any:
    return audiotokens.load(name) if name == "speech-16k-stream" else tiny(name)


def sounds(codec: Any, count: int) -> list[np.ndarray]:
    """Sounds of different lengths."""
    made = [*make_waveforms(codec.spec.sample_rate, codec.spec.channels).values()]
    size = int(codec.spec.hop)
    return [np.roll(made[i % len(made)], 97 * i, 1)[:, : size * (10 + i) + 3 * i] for i in range(count)]


def feed(lanes: Any, items: list[list[Any]], random: np.random.Generator) -> list[list[Any]]:
    """Push the pieces of items through free lanes, which are joined at different times; what each gave."""
    given: list[list[Any]] = [[] for _ in items]
    waiting, at = list(range(len(items))), dict[int, int]()
    places = dict[int, int]()
    while waiting or at:
        for lane in range(LANES):
            if lane not in at and waiting and random.random() < 0.6:
                at[lane], places[lane] = waiting.pop(0), 0
        part = {}
        for lane, item in [*at.items()]:
            if places[lane] == len(items[item]):
                given[item].append(lanes.finish(lane))
                del at[lane]
            elif random.random() < 0.9:
                part[lane] = items[item][places[lane]]
                places[lane] += 1
        for lane, made in lanes.push(part).items():
            given[at[lane]].append(made)
    return given


def in_chunks(sound: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return [part for part in np.split(sound, np.cumsum(sizes), 1) if part.shape[1]]


@pytest.mark.parametrize("regular", [True, False], ids=["regular", "random"])
@pytest.mark.parametrize("name", [*ENCODERS, "speech-16k-stream"])
def test_lanes_encode_as_sessions_do(name: str, regular: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = codec_named(name)
    random = np.random.default_rng(1)
    hop = int(codec.spec.hop)
    waveforms = sounds(codec, 7)
    sizes = [[2 * hop] * 20 if regular else random.integers(1, 4 * hop, 40).tolist() for _ in waveforms]
    batches = count_batches(CodecEncoder, monkeypatch)
    pieces = [in_chunks(sound, size) for sound, size in zip(waveforms, sizes)]
    given = feed(EncoderLanes(codec, LANES), pieces, random)
    assert max(batches) >= (3 if regular else 1)
    for waveform, parts in zip(waveforms, given):
        assert Tokens.concatenate(parts) == codec.encode(waveform, codec.spec.sample_rate)


@pytest.mark.parametrize("name", [*DECODERS, "speech-16k-stream"])
def test_lanes_decode_as_sessions_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = codec_named(name)
    random = np.random.default_rng(2)
    tokens = [codec.encode(sound, codec.spec.sample_rate) for sound in sounds(codec, 7)]
    batches = count_batches(CodecDecoder, monkeypatch)
    given = feed(DecoderLanes(codec, LANES), [frame_by_frame(each) for each in tokens], random)
    assert max(batches) >= 3
    for each, parts in zip(tokens, given):
        session = codec.decoder()
        alone = [*(session.push(part) for part in frame_by_frame(each)), session.finish()]
        found, expected = np.concatenate(parts, 1), np.concatenate(alone, 1)
        assert found.shape == expected.shape
        assert np.array_equal(found, expected)


def frame_by_frame(tokens: Tokens) -> list[Tokens]:
    rate = min(stream.frame_rate for stream in tokens.streams.values())
    last = -int(-tokens.num_samples * rate // tokens.sample_rate) - 1
    ends = [(frame + 1) / rate if frame < last else None for frame in range(last + 1)]
    return [tokens.clip(frame / rate, end) for frame, end in enumerate(ends)]


def count_batches(kind: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of all steps of a kind of session from now on."""
    found, step = [], kind.step

    def counted(session: Any, x: Any, state: Any, *, final: bool) -> Any:
        found.append(len(x))
        return step(session, x, state, final=final)

    monkeypatch.setattr(kind, "step", counted)
    return found


def test_lanes_are_reset_forked_saved_and_restored() -> None:
    codec = tiny("soundstream tiny-lyra")
    rate, hop = codec.spec.sample_rate, int(codec.spec.hop)
    one, two = (sound[:, : 12 * hop] for sound in sounds(codec, 2))
    lanes = EncoderLanes(codec, 3)
    lanes.push({0: two, 1: two})
    lanes.reset(0)
    assert lanes.running == (1,)
    first = lanes.push({0: one[:, : 5 * hop]})[0]
    lanes.fork(0, 1)
    lanes.restore(2, lanes.save(0))
    rest = lanes.push(dict.fromkeys(range(3), one[:, 5 * hop :]))
    for lane in range(3):
        parts = [first, rest[lane], lanes.finish(lane)]
        assert Tokens.concatenate(parts) == codec.encode(one, rate)
    assert lanes.running == ()


def test_sessions_and_lanes_exchange_states() -> None:
    codec = tiny("soundstream tiny-lyra")
    (sound,) = sounds(codec, 1)
    session = codec.encoder()
    first = session.push(sound[:, :100])
    lanes = EncoderLanes(codec, 1)
    lanes.restore(0, session.save())
    second = lanes.push({0: sound[:, 100:]})[0]
    expected = codec.encode(sound, codec.spec.sample_rate)
    assert Tokens.concatenate([first, second, lanes.finish(0)]) == expected


def test_misuse_is_said_and_changes_nothing() -> None:
    codec = tiny("soundstream tiny-lyra")
    sound = sounds(codec, 1)[0]
    lanes = EncoderLanes(codec, 2)
    with pytest.raises(TokensError, match=r"the lane is 2; expected 0 to 1"):
        lanes.push({2: sound})
    with pytest.raises(TokensError, match="lane 1 has no stream; push to it first"):
        lanes.finish(1)
    with pytest.raises(AudioError, match="the chunk has 2 channels, expected 1"):
        lanes.push({0: sound, 1: np.zeros((2, 80), np.float32)})
    assert Tokens.concatenate([lanes.push({0: sound})[0], lanes.finish(0)]) == codec.encode(
        sound, codec.spec.sample_rate
    )
    decoding = DecoderLanes(codec, 1)
    with pytest.raises(TokensError, match="decode them with the tokenizer that made them"):
        decoding.push({0: tiny("soundstream tiny").encode(sound, 16000)})
    with pytest.raises(TokensError, match="the number of lanes is 0; expected at least 1"):
        EncoderLanes(codec, 0)
    with pytest.raises(NotOfferedError, match="overlapping windows"):
        EncoderLanes(tiny("encodec tiny-stereo"), 2)


@pytest.mark.parametrize("name", sorted({*ENCODERS} & {*DECODERS}))
def test_both_directions_run_at_once_in_threads(name: str) -> None:
    codec = tiny(name)
    sound = np.concatenate(sounds(codec, 3), 1)
    tokens = codec.encode(sound, codec.spec.sample_rate)
    size = int(codec.spec.hop)

    def encode() -> Tokens:
        session = codec.encoder()
        parts = [session.push(sound[:, at : at + size]) for at in range(0, sound.shape[1], size)]
        return Tokens.concatenate([*(part for part in parts if part is not None), session.finish()])

    def decode() -> np.ndarray:
        session = codec.decoder()
        return np.concatenate([*(session.push(part) for part in frame_by_frame(tokens)), session.finish()], 1)

    expected = decode()
    with ThreadPoolExecutor(4) as pool:
        encoded = [pool.submit(encode) for _ in range(2)]
        decoded = [pool.submit(decode) for _ in range(2)]
        assert all(job.result() == tokens for job in encoded)
        assert all(np.array_equal(job.result(), expected) for job in decoded)
