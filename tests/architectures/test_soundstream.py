"""SoundStream: the paper's form layer by layer, sizes, lengths, promises, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.architectures.soundstream import VARIANTS, SoundStreamCodec, SoundStreamConfig
from audiotokens.checkpoints import convert
from audiotokens.config import from_dict, to_dict
from audiotokens.errors import ConfigError
from audiotokens.quantizers import RVQConfig, VectorConfig
from audiotokens.verify import format_verification, verify

PROMISES = ["I1", "I2", "I3", "I4", "I5", "I7", "I8", "I10"]
CONFIGS = {
    "tiny": VARIANTS["tiny"],
    "tiny-lyra": VARIANTS["tiny-lyra"],
    "odd": SoundStreamConfig(
        width=6, strides=(3, 1, 2), outer_kernel=5, latent=7, encoder_latent_kernel=4,
        decoder_latent_kernel=5, unit_kernel=2, dilations=(2, 5), slope=0.1,
        quantizer=RVQConfig(num_codebooks=3, inner=VectorConfig(codebook_size=8)),
    ),
    "strided": SoundStreamConfig(
        width=4, strides=(2,), outer_kernel=7, outer_stride=3, latent=6, latent_groups=2, unit="depthwise",
        unit_kernel=4, group_width=2,
        quantizer=RVQConfig(num_codebooks=2, inner=VectorConfig(codebook_size=8)),
    ),
}  # fmt: skip


def build(name: str) -> SoundStreamCodec:
    torch.manual_seed(1)
    return SoundStreamCodec(CONFIGS[name]).eval()


class Written:
    """The paper's equations in plain functions of torch, with the weights of a codec in their order."""

    def __init__(self, codec: SoundStreamCodec) -> None:
        self.config = codec.config
        self.encoder = [t for n, t in codec.encoder_net.state_dict().items()]
        self.decoder = [t for n, t in codec.decoder_net.state_dict().items()]

    def conv(self, x: Tensor, w: Tensor, b: Tensor | None, *, stride: int = 1, dilation: int = 1) -> Tensor:
        past = (w.shape[2] - 1) * dilation + 1 - stride
        x = functional.pad(x, (past, 0))
        return functional.conv1d(x, w, b, stride, dilation=dilation, groups=x.shape[1] // w.shape[1])

    def up(self, x: Tensor, w: Tensor, b: Tensor, *, stride: int) -> Tensor:
        groups = b.shape[0] // w.shape[1]
        return functional.conv_transpose1d(x, w, b, stride, groups=groups)[..., : x.shape[2] * stride]

    def act(self, x: Tensor) -> Tensor:
        slope = self.config.slope
        return functional.elu(x) if slope is None else functional.leaky_relu(x, slope)

    def unit(self, x: Tensor, weights: list[Tensor], dilation: int) -> Tensor:
        if self.config.unit == "dense":
            w, b = weights.pop(0), weights.pop(0)
            y = self.conv(self.act(x), w, b, dilation=dilation)
        else:
            taps = weights.pop(0)
            y = self.conv(self.act(x), taps.T[:, None], None, dilation=dilation)
            y = self.conv(y, weights.pop(0), weights.pop(0))
        return x + self.conv(self.act(y), weights.pop(0), weights.pop(0))

    def encode(self, x: Tensor) -> Tensor:
        weights, config = list(self.encoder), self.config
        x = functional.pad(x, (0, -x.shape[2] % config.hop))
        x = self.conv(x, weights.pop(0), weights.pop(0), stride=config.outer_stride)
        for stride in config.strides:
            for dilation in config.dilations:
                x = self.unit(x, weights, dilation)
            x = self.conv(self.act(x), weights.pop(0), weights.pop(0), stride=stride)
        return self.conv(self.act(x), *weights)

    def decode(self, x: Tensor) -> Tensor:
        weights, config = list(self.decoder), self.config
        x = self.conv(x, weights.pop(0), weights.pop(0))
        for stride in reversed(config.strides):
            bias, weight = weights.pop(0), weights.pop(0)
            x = self.up(self.act(x), weight, bias, stride=stride)
            for dilation in config.dilations:
                x = self.unit(x, weights, dilation)
        x = self.act(x)
        if config.outer_stride == 1:
            return self.conv(x, *weights)
        bias, weight = weights
        return self.up(x, weight, bias, stride=config.outer_stride)


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_is_what_the_equations_say(name: str) -> None:
    codec = build(name).double()
    written = Written(codec)
    for samples in (1, codec.config.hop, 7 * codec.config.hop + 3):
        x = torch.randn(2, 1, samples, dtype=torch.float64)
        latents = written.encode(x)
        assert latents.shape[2] == -(-samples // codec.config.hop)
        torch.testing.assert_close(codec.encoder_net(x), latents)
        torch.testing.assert_close(codec.decoder_net(latents), written.decode(latents))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in VARIANTS])
def test_keeps_its_promises(name: str) -> None:
    codec = build(name).make_exact()
    random = np.random.default_rng(0)
    waveforms = {
        f"{samples} samples": 0.2 * random.standard_normal(samples, np.float32) for samples in (2500, 77)
    }
    found = verify(codec, promises=PROMISES, waveforms=waveforms)
    assert all(verdict.status == "kept" for verdict in found.verdicts), format_verification(found)


def parameters(config: SoundStreamConfig) -> int:
    with torch.device("meta"):
        codec = SoundStreamCodec(config)
    return sum(p.numel() for net in (codec.encoder_net, codec.decoder_net) for p in net.parameters())


def test_the_papers_form() -> None:
    with torch.device("meta"):
        codec = SoundStreamCodec(VARIANTS["soundstream-24khz"])
    spec = codec.spec
    assert (spec.sample_rate, spec.hop, spec.frame_rate) == (24000, 320, 75)
    assert (spec.lookahead, spec.decoder_lookahead, spec.causal, spec.streamable) == (0, 0, True, True)
    # Algorithm 1 and section V: 8 books of 1024 are 6 kbit/s, 24 are 18.
    assert [spec.bitrate(books) for books in (4, 8, 24)] == [3000, 6000, 18000]


def test_size_of_the_papers_form() -> None:
    """The units are counted as figure 3 draws them, at full width.

    The paper's table gives 8.4 M for C = 32 and 2.4 M for C = 16. Both follow from latents of 256 dimensions
    and units of half the weights (3460 C^2 instead of 4480 C^2 a side); nothing else differs.
    """
    config = VARIANTS["soundstream-24khz"]
    assert parameters(config) == 10_494_209
    half = [parameters(replace(config, width=width)) - 2 * 1020 * width**2 for width in (32, 16)]
    assert [round(count / 1e6, 1) for count in half] == [8.4, 2.4]


def test_size_of_lyra() -> None:
    assert parameters(VARIANTS["lyra-v2"]) == 659_008 + 658_945


@pytest.mark.parametrize("name", CONFIGS)
def test_own_checkpoints_import(name: str) -> None:
    codec = build(name)
    config = SoundStreamCodec.reference.read_config(to_dict(codec.config))
    again = convert(SoundStreamCodec, codec.state_dict(), config)
    codec.weight_bits = 32
    assert again.fingerprint == codec.fingerprint


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("width", 0, "width is 0, expected at least 1"),
        ("strides", [], "strides are"),
        ("dilations", [1, 0], "dilations are"),
        ("outer_stride", 9, "outer_kernel is 7, expected at least outer_stride = 9"),
        ("group_width", 5, "group_width is 5, expected a multiple or divisor of 32"),
        ("latent_groups", 3, "latent_groups is 3, which does not divide latent 256"),
        ("unit", "sparse", "unit"),
        ("chanels", 3, "unknown key"),
    ],
)
def test_wrong_configurations_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(SoundStreamConfig, to_dict(VARIANTS["soundstream-24khz"]) | {key: value})


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_learns(name: str) -> None:
    codec = build(name).train()
    out = codec(torch.randn(2, 1, 12 * codec.config.hop))
    assert out.quantized is not None
    loss = out.waveform.square().mean() + sum(out.quantized.losses.values())
    loss.backward()
    lacking = [n for n, p in codec.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not lacking
