"""The house codec: MDCT coefficients as gains and shapes, a trunk at the token rate, RVQ or FSQ.

Made for fast learning and fast CPUs. Each frame of N samples is one frame of MDCT coefficients c. Their
band levels

    e_b = 1/2 ln(sum_k c_k^2 w_kb + 1e-8)

(bands equally wide on z(f) = 6 asinh(f / 600 Hz), the Bark scale of Wang et al. 1992) are taken out as
gains, and the network sees the shapes c_k exp(-sum_b e_b v_kb) and the gains, numbers near 1 while the
signal spans 60 dB; its output is put together in the same way (gain-shape coding, Gray 1984; Valin et al.
2010). What no code tells, such as the fine structure of fricatives, can be filled with noise of a level that
the decoder gives for each band, as in perceptual noise substitution (Herre and Schulz 1998). The trunk is
ConvNeXt blocks (Liu et al. 2022) with depthwise convolutions over time. No layer runs
faster than the token rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from audiotokens.codec import Codec, Parts
from audiotokens.nn.block import Block, Pointwise, Reach, Residual, Sequential, State, concat_time
from audiotokens.nn.conv import DepthwiseConv1d
from audiotokens.nn.layers import ChannelScale, LayerNorm, Linear, SiLU
from audiotokens.nn.noise import NOISE_FRAMES, noise_table
from audiotokens.nn.products import frames_product
from audiotokens.nn.transforms import IMDCT, MDCT
from audiotokens.quantizers import Quantizer, QuantizerConfig, RVQConfig, VectorConfig, build_quantizer
from audiotokens.spec import Spec, StreamSpec, Taxonomy


@dataclass(frozen=True)
class GainShapeConfig:
    """Configuration of the house codec.

    Args:
        sample_rate: in Hz.
        hop: samples per frame N; the MDCT window is 2 N.
        bands: gains per frame.
        width: channels of the trunk.
        kernel: taps of the depthwise convolutions, in frames.
        encoder_blocks: number of blocks before the quantizer.
        encoder_hidden: inner width of those blocks.
        encoder_lookahead: future taps of each of those convolutions; 0 is causal.
        decoder_blocks: number of blocks after the quantizer.
        decoder_hidden: inner width of those blocks.
        decoder_lookahead: future taps of each of those convolutions; 0 is causal.
        latent: dimensions of the quantized latents.
        noise: whether the decoder adds noise to the shapes.
        quantizer: configuration of any quantizer.
    """

    sample_rate: int = 16000
    hop: int = 320
    bands: int = 32
    width: int = 256
    kernel: int = 7
    encoder_blocks: int = 3
    encoder_hidden: int = 384
    encoder_lookahead: int = 3
    decoder_blocks: int = 5
    decoder_hidden: int = 768
    decoder_lookahead: int = 3
    latent: int = 48
    noise: bool = False
    quantizer: QuantizerConfig = field(default_factory=RVQConfig)

    def __post_init__(self) -> None:
        for name in ("encoder_lookahead", "decoder_lookahead"):
            if not 0 <= getattr(self, name) < self.kernel:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected 0 to kernel - 1 = {self.kernel - 1}"
                )


VARIANTS: dict[str, GainShapeConfig] = {
    "speech-16k": GainShapeConfig(
        encoder_hidden=768, noise=True, quantizer=RVQConfig(prefix_offsets=True)
    ),
    "speech-16k-stream": GainShapeConfig(
        encoder_hidden=768, encoder_lookahead=0, decoder_lookahead=0, noise=True,
        quantizer=RVQConfig(prefix_offsets=True),
    ),
    "tiny": GainShapeConfig(
        hop=80, bands=8, width=16, kernel=3, encoder_blocks=1, encoder_hidden=24, encoder_lookahead=1,
        decoder_blocks=2, decoder_hidden=24, decoder_lookahead=1, latent=6,
        quantizer=RVQConfig(num_codebooks=4, inner=VectorConfig(codebook_size=16)),
    ),
}  # fmt: skip


class GainShapeCodec(Codec):
    """The house codec; see the module's text."""

    architecture = "gain-shape"
    block_seconds = 4
    config_class = GainShapeConfig
    config: GainShapeConfig

    @classmethod
    def build(cls, config: GainShapeConfig) -> Parts:
        weights = band_weights(config.hop, config.bands, config.sample_rate)
        encoder = Sequential(
            MDCT(config.hop),
            GainShapeFeatures(weights),
            Linear(config.hop + config.bands, config.width),
            LayerNorm(config.width),
            *(
                convnext_block(config.width, config.encoder_hidden, config.kernel, config.encoder_lookahead)
                for _ in range(config.encoder_blocks)
            ),
            LayerNorm(config.width),
            Linear(config.width, config.latent),
        )
        output = Linear(config.width, config.hop + config.bands * (2 if config.noise else 1))
        with torch.no_grad():
            output.linear.weight *= 0.5
        decoder = Sequential(
            Linear(config.latent, config.width),
            LeadingFrame(),
            *(
                convnext_block(config.width, config.decoder_hidden, config.kernel, config.decoder_lookahead)
                for _ in range(config.decoder_blocks)
            ),
            LayerNorm(config.width),
            output,
            *([NoisyShapes(weights)] if config.noise else []),
            GainShapeCoefficients(weights),
            IMDCT(config.hop),
        )
        return Parts(encoder, build_quantizer(config.quantizer, config.latent), decoder)

    @classmethod
    def default_spec(cls, config: GainShapeConfig, quantizer: Quantizer, name: str) -> Spec:
        rate = Fraction(config.sample_rate, config.hop)
        causal = config.encoder_lookahead == config.decoder_lookahead == 0
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=config.sample_rate,
            output_sample_rate=config.sample_rate,
            streams=(StreamSpec("codes", quantizer.codebook_sizes, rate),),
            legal_prefixes=quantizer.legal_prefixes,
            streamable=True,
            causal=causal,
            taxonomy=Taxonomy(
                encoder="ConvNeXt on MDCT gain-shape frames",
                quantizer=quantizer.label,
                training="joint",
                objective="reconstruction",
            ),
        )


def convnext_block(width: int, hidden: int, kernel: int, lookahead: int) -> Residual:
    """x + s * W2 silu(W1 norm(depthwise(x)))."""
    return Residual(
        Sequential(
            DepthwiseConv1d(width, kernel, lookahead=lookahead),
            LayerNorm(width),
            Linear(width, hidden),
            SiLU(),
            Linear(hidden, width),
            ChannelScale(width, start=0.3),
        )
    )


def band_weights(hop: int, bands: int, sample_rate: int) -> Tensor:
    """Triangular weights `[hop, bands]` in float64; rows (coefficients) sum to 1.

    The knots are equally spaced on z(f) = 6 asinh(f / 600) from 0 Hz to half the sample rate.
    """
    frequency = (torch.arange(hop, dtype=torch.float64) + 0.5) * sample_rate / (2 * hop)
    top = 6 * torch.asinh(torch.tensor(sample_rate / 2 / 600, dtype=torch.float64))
    position = 6 * torch.asinh(frequency / 600) / top * (bands - 1)
    knots = torch.arange(bands, dtype=torch.float64)
    return (1 - (position[:, None] - knots).abs()).clamp(min=0)


class GainShapeFeatures(Pointwise):
    """MDCT coefficients `[B, N, T]` to shapes and scaled band levels `[B, N + bands, T]`."""

    analysis: Tensor
    spread: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("analysis", (weights / weights.sum(0)).float(), persistent=False)
        self.register_buffer("spread", weights.T.contiguous().float(), persistent=False)

    def map(self, x: Tensor) -> Tensor:
        coefficients = x.mT
        levels = 0.5 * torch.log(frames_product(coefficients.square(), self.analysis.to(x.dtype)) + 1e-8)
        shapes = coefficients * torch.exp(-frames_product(levels, self.spread.to(x.dtype)))
        return torch.cat([shapes, (levels + 4) / 2], 2).mT


class GainShapeCoefficients(Pointwise):
    """Shapes s, gains g `[B, N + bands, T]` to coefficients s exp(sum_b min(g_b - 3, 6) v_b) `[B, N, T]`."""

    spread: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("spread", weights.T.contiguous().float(), persistent=False)

    def map(self, x: Tensor) -> Tensor:
        spread = self.spread.to(x.dtype)
        hop = spread.shape[1]
        shapes, gains = x.mT[..., :hop], x.mT[..., hop:]
        return (shapes * torch.exp(frames_product((gains - 3).clamp(max=6), spread))).mT


class NoisyShapes(Block):
    """Shapes s, gains g, noise levels r `[B, N + 2 bands, T]` to s + e exp(sum_b min(r_b - 2, 3) v_b), and g.

    The noise e is fresh in training; else it depends on the number of the frame alone.
    """

    spread: Tensor
    table: Tensor
    draws = True

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("spread", weights.T.contiguous().float(), persistent=False)
        self.register_buffer("table", noise_table(len(weights)), persistent=False)

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return (torch.zeros(batch, dtype=torch.long, device=like.device),)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        (count,) = state
        bands, hop = self.spread.shape
        frames = x.mT
        loudness = (frames[..., hop + bands :] - 2).clamp(max=3)
        levels = torch.exp(frames_product(loudness, self.spread.to(x.dtype)))
        if self.training:
            noise = torch.randn_like(levels)
        else:
            number = count[:, None] + torch.arange(x.shape[2], device=x.device)
            noise = self.table[number % NOISE_FRAMES].to(x.dtype)
        shapes = frames[..., :hop] + levels * noise
        return torch.cat([shapes, frames[..., hop : hop + bands]], 2).mT, (count + x.shape[2],)


class LeadingFrame(Pointwise):
    """Put one zero frame before the first: the MDCT needs one frame more than there are hops of signal."""

    def initial_state(self, batch: int, *, like: Tensor) -> State:
        return (like.new_zeros(batch, 1),)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        (pending,) = state
        if pending.shape[1] and x.shape[2]:
            zero = torch.zeros_like(x[..., :1])
            return concat_time(zero, x), (pending[:, :0],)
        return x, state

    @property
    def reach(self) -> Reach:
        return Reach(past=1, future=-1)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return lengths + (lengths > 0).to(lengths.dtype)
