"""Near ties decided in float64: the codes of a float64 encoder, whatever rounding does to the float32 one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_codecs import TINY, tiny
from torch import Tensor

from audiotokens.codec.arbitration import Arbitrated
from audiotokens.errors import NotOfferedError
from audiotokens.nn.block import Block, Sequential, State
from audiotokens.tokens import Tokens
from audiotokens.verify import make_waveforms

OFFERED = ["gain-shape tiny", "soundstream tiny", "soundstream tiny-lyra", "dac tiny", "mimi tiny"]
ROUGHNESS = 5e-3


class Rough(Block):
    """A net whose rounding errors are those of a far worse arithmetic."""

    def __init__(self, net: Sequential) -> None:
        super().__init__()
        self.net = net
        self.random = torch.Generator().manual_seed(0)

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return self.net.initial_state(batch, like=like)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        y, state = self.net.step(x, state, final=final)
        error = torch.randn(y.shape, generator=self.random)
        return y + ROUGHNESS * y.norm(dim=1, keepdim=True) * error / error.norm(dim=1, keepdim=True), state

    @property
    def reach(self) -> Any:
        return self.net.reach

    def samples_needed(self, frames: int) -> float:
        return self.net.samples_needed(frames)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return self.net.output_lengths(lengths)


def streamed(codec: Any, waveform: np.ndarray) -> Tokens:
    session, random = codec.encoder(), np.random.default_rng(0)
    cuts = np.cumsum(random.integers(1, 900, 1000))
    chunks = np.split(waveform, cuts[cuts < waveform.shape[1]], axis=1)
    parts = [session.push(chunk) for chunk in chunks]
    return Tokens.concatenate([part for part in (*parts, session.finish()) if part is not None])


def padded(codec: Any, waveforms: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    lengths = torch.tensor([waveform.shape[1] for waveform in waveforms])
    batch = torch.zeros(len(waveforms), codec.spec.channels, int(lengths.max()))
    for row, waveform in zip(batch, waveforms):
        row[:, : waveform.shape[1]] = torch.from_numpy(waveform)
    codes, frames = codec.encode_codes(batch, lengths)
    return [
        {name: part[i, :, : int(frames[name][i])].numpy() for name, part in codes.items()}
        for i in range(len(waveforms))
    ]


@pytest.mark.parametrize("name", OFFERED)
def test_codes_are_those_of_float64(name: str) -> None:
    codec = tiny(name)
    rate = codec.spec.sample_rate
    made = make_waveforms(rate, codec.spec.channels)
    waveforms = [made["speech"], made["chords"][:, :5000], made["speech"][:, :777]]
    try:
        codec.make_exact("float64")
        expected = [codec.encode(waveform, rate) for waveform in waveforms]
        codec.make_exact("arbitrated")
        (arbitrated,) = codec._arbitrated
        assert 1e-8 < arbitrated.bound < 1e-3
        assert [codec.encode(waveform, rate) for waveform in waveforms] == expected
        # With errors that flip codes everywhere, the same, as long as the bound knows of them.
        arbitrated.net, arbitrated.bound = Rough(codec.encoder_net), 0.0
        rough = [codec.encode(waveform, rate) for waveform in waveforms]
        assert rough != expected
        arbitrated.bound = 1.01 * ROUGHNESS
        assert [codec.encode(waveform, rate) for waveform in waveforms] == expected
        assert [streamed(codec, waveform).streams for waveform in waveforms] == [
            each.streams for each in expected
        ]
        for found, tokens in zip(padded(codec, waveforms[:3]), expected):
            assert all(np.array_equal(found[n], stream.codes) for n, stream in tokens.streams.items())
    finally:
        codec.make_exact()


@pytest.mark.parametrize("name", ["encodec tiny", "speechtokenizer tiny", "snac tiny"])
def test_networks_that_remember_everything_are_refused(name: str) -> None:
    assert name in TINY
    try:
        with pytest.raises(NotOfferedError, match='decided apart, because of .*: give exact="float64"'):
            tiny(name).make_exact("arbitrated")
    finally:
        tiny(name).make_exact()


def test_most_frames_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = tiny("gain-shape tiny")
    wide: list[int] = []
    original = Arbitrated._wide

    def counted(self: Arbitrated, x: Tensor, *, final: bool) -> Tensor:
        wide.append(x.shape[2])
        return original(self, x, final=final)

    try:
        codec.make_exact("arbitrated")
        monkeypatch.setattr(Arbitrated, "_wide", counted)
        waveform = make_waveforms(16000, 1)["speech"]
        codec.encode(waveform, 16000)
        assert sum(wide) < 0.5 * waveform.shape[1]
    finally:
        codec.make_exact()
