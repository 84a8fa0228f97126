"""Counted multiply-adds against closed forms, and what a saved tokenizer says of itself."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from audiotokens import registry
from audiotokens.architectures import dac
from audiotokens.architectures.dac import DACCodec
from audiotokens.architectures.gain_shape import VARIANTS, GainShapeCodec
from audiotokens.codec.complexity import complexity, multiply_adds, quantizer_macs
from audiotokens.nn.block import Block, Pointwise, Residual, Sequential
from audiotokens.nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d
from audiotokens.nn.layers import ELU, Linear
from audiotokens.nn.transforms import MDCT
from audiotokens.quantizers import RVQConfig, VectorConfig, build_quantizer
from audiotokens.quantizers.fsq import FSQConfig
from audiotokens.quantizers.multiscale import MultiscaleConfig
from audiotokens.quantizers.projected import ProjectedConfig
from audiotokens.quantizers.split import SplitConfig


class Recurrent(Block):
    """An LSTM over the channels."""

    def __init__(self, inputs: int, hidden: int, *, both_ways: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, num_layers=2, bidirectional=both_ways, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        output: Tensor = self.lstm(x.mT)[0]
        return output.mT


class Attention(Pointwise):
    """Attention of all frames to all frames, in heads of a width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(torch.ones(1))

    def map(self, x: Tensor) -> Tensor:
        heads = (x * self.scale).unflatten(1, (-1, self.width)).mT
        return nn.functional.scaled_dot_product_attention(heads, heads, heads).mT.flatten(1, 2)


NETS = {
    "strided": (Conv1d(3, 8, 6, stride=2), 3, 3 * 8 * 6 * 20),
    "groups and dilation": (Conv1d(4, 8, 3, groups=2, dilation=2), 4, 4 // 2 * 8 * 3 * 40),
    "upsampling": (ConvTranspose1d(8, 4, 4, stride=2), 8, 8 * 4 * 4 * 40),
    "depthwise": (Residual(Sequential(DepthwiseConv1d(5, 7))), 5, 5 * 7 * 40),
    "linear": (Sequential(Linear(6, 9), ELU(), Linear(9, 2)), 6, (6 * 9 + 9 * 2) * 40),
    "LSTM": (Recurrent(6, 8), 6, 40 * 4 * 8 * ((6 + 8) + (8 + 8))),
    "BiLSTM": (Recurrent(6, 8, both_ways=True), 6, 2 * 40 * 4 * 8 * ((6 + 8) + (16 + 8))),
    "attention": (Attention(4), 8, 2 * 40 * 40 * 8),
    "MDCT": (MDCT(10), 1, 4 * 20 * 10),
}


@pytest.mark.parametrize("name", NETS)
def test_nets_have_their_closed_forms(name: str) -> None:
    net, channels, expected = NETS[name]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert multiply_adds(net, (1, channels, 40)) == expected
    assert net.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert multiply_adds(net.double(), (1, channels, 40)) == expected


BOOK = VectorConfig(codebook_size=64)
PROJECTED = ProjectedConfig(inner=BOOK, inner_dim=4)
QUANTIZERS = {
    "book": (BOOK, 64 * 16, 0),
    "factorized": (VectorConfig(codebook_size=64, codebook_dim=4), 16 * 4 + 64 * 4, 4 * 16),
    "rvq": (RVQConfig(num_codebooks=3, inner=BOOK), 3 * 64 * 16, 0),
    "shared": (RVQConfig(num_codebooks=3, inner=BOOK, shared=True), 3 * 64 * 16, 0),
    "rvq of factorized": (
        RVQConfig(num_codebooks=3, inner=PROJECTED, gradient="chain", commitment=0.0),
        3 * (16 * 4 * 2 + 64 * 4),
        3 * 64,
    ),
    "split": (
        SplitConfig(semantic=PROJECTED, acoustic=RVQConfig(num_codebooks=2, inner=BOOK)),
        16 * 4 + 64 * 4 + 2 * 64 * 16,
        4 * 16,
    ),
    "multiscale": (MultiscaleConfig(inner=BOOK, strides=(4, 2, 1)), 64 * 16 * Fraction(7, 4), 0),
    "fsq": (ProjectedConfig(inner=FSQConfig(levels=(3, 3)), inner_dim=2), 16 * 2, 2 * 16),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_search_counts_as_an_exhaustive_one(name: str) -> None:
    config, encode, decode = QUANTIZERS[name]
    assert quantizer_macs(build_quantizer(config, 16), Fraction(50)) == (50 * encode, 50 * decode)


def test_a_codec_is_counted_per_second_and_says_so_when_it_is_saved(tmp_path: Path) -> None:
    config = replace(VARIANTS["tiny"], hop=100)
    codec = GainShapeCodec(config)
    fingerprint = codec.fingerprint
    assert codec.spec.parameters == sum(p.numel() for p in codec.parameters())
    assert codec.spec.macs == 0
    count = complexity(codec)
    rate, width, hidden, latent, hop, bands = 160, 16, 24, 6, 100, 8
    blocks = width * 3 + 2 * width * hidden
    encoder = 2 * hop * hop + 2 * hop * bands + (hop + bands) * width + blocks + width * latent
    assert count.encoder_macs == rate * (encoder + 4 * 16 * latent)
    # The decoder makes one frame more than there are codes.
    decoder = rate * latent * width
    decoder += (rate + 1) * (2 * blocks + width * (hop + bands) + hop * bands + 2 * hop * hop)
    assert count.decoder_macs == decoder
    codec.save(tmp_path)
    loaded = GainShapeCodec.load(tmp_path)
    assert codec.spec == loaded.spec == registry.read_folder_config(tmp_path).spec
    assert loaded.spec.macs == count.encoder_macs + count.decoder_macs
    assert loaded.fingerprint == fingerprint


def test_a_net_that_reads_values_is_saved_uncounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def peek(self: ELU, x: Tensor) -> Tensor:
        return x * float(x.amax())

    codec = GainShapeCodec(VARIANTS["tiny"])
    monkeypatch.setattr("audiotokens.nn.layers.SiLU.map", peek)
    codec.save(tmp_path)
    assert codec.spec.macs == 0
    assert codec.spec.parameters > 0


PUBLISHED = {"dac-16khz": (55.6e9, 40.1e9), "dac-24khz": (83.4e9, 60.2e9), "dac-44khz": (147.0e9, 99.9e9)}
"""Of one second of audio, from Mousavi et al. 2025, Table 2; and what is counted here."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_counts_take_transposed_convolutions_at_the_rate_of_their_output(name: str) -> None:
    published, counted = PUBLISHED[name]
    with torch.device("meta"):
        codec = DACCodec(dac.VARIANTS[name])
    surplus = []

    def count(conv: nn.ConvTranspose1d, inputs: tuple[Tensor], output: Tensor) -> None:
        surplus.append((conv.stride[0] - 1) * inputs[0].shape[2] * conv.weight.numel())

    for part in codec.modules():
        if isinstance(part, nn.ConvTranspose1d):
            part.register_forward_hook(count)
    found = complexity(codec)
    total = found.encoder_macs + found.decoder_macs
    assert total == pytest.approx(counted, rel=0.002)
    assert total + sum(surplus) == pytest.approx(published, rel=0.01)


def test_shipped_tokenizers_tell_their_true_counts() -> None:
    for name in registry.shipped():
        spec = registry.read_folder_config(registry.shipped()[name]).spec
        count = complexity(registry.load(name))  # type: ignore[arg-type]
        assert (spec.parameters, spec.encoder_macs, spec.decoder_macs) == (
            count.parameters,
            count.encoder_macs,
            count.decoder_macs,
        )
