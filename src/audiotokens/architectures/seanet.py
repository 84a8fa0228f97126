"""SEANet: the convolutional encoder and decoder of EnCodec, SpeechTokenizer, WavTokenizer and Mimi.

(Tagliasacchi et al. 2020, SEANet; Zeghidour et al. 2021, SoundStream; Defossez et al. 2022, High Fidelity
Neural Audio Compression.) With F filters and ratios r_1 .. r_n in the order of the decoder, the encoder is

    conv(channels, F)
    for r from r_n to r_1, w = F, 2 F, ..: residual blocks, activation, conv(w, 2 w, kernel 2 r, stride r)
    LSTM, activation, conv(2^n F, D)

and the decoder is its mirror with transposed convolutions. A residual block is x + f(x) or W x + f(x) with
f = activation, conv(w, w / compress, dilation b^j), activation, conv(w / compress, w, kernel 1). Blocks stand
at the indices that they have in the reference's `nn.Sequential`, so that keys map by number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from audiotokens.architectures.reference import Tensors
from audiotokens.errors import NotOfferedError
from audiotokens.nn.block import Block, Parallel, Sequential, State, mask_time
from audiotokens.nn.conv import ConvTranspose1d
from audiotokens.nn.layers import ELU
from audiotokens.nn.norm import GroupNorm
from audiotokens.nn.padding import PaddedConv1d, PadMode
from audiotokens.nn.recurrent import LSTM, BiLSTM
from audiotokens.nn.snake import Snake


@dataclass(frozen=True)
class SEANetConfig:
    """Configuration of a SEANet encoder and decoder.

    Args:
        channels: of the waveform.
        dimension: of the latents D.
        filters: width of the first stage F; it doubles with each stage.
        ratios: strides in the order of the decoder, the largest first as a rule.
        residual_layers: residual blocks per stage.
        kernel: of the first convolution.
        last_kernel: of the last convolution.
        residual_kernel: of the dilated convolution of a residual block.
        dilation_base: b of the dilations b^j of the blocks of a stage.
        compress: by what a residual block narrows its inner width.
        causal: whether all padding is on the left.
        pad_mode: what stands beyond the ends of a recording.
        true_skip: whether the shortcut of a residual block is the identity, not a convolution with kernel 1.
        norm: "time_group_norm" normalizes over time behind every convolution; weight norm is folded into the
            weights and so is "none".
        lstm_layers: layers of LSTM at the frame rate; 0: none.
        bidirectional: whether the encoder's LSTM runs in both directions, which doubles its output's width.
        activation: "elu" or "snake".
        trim_right_ratio: share of a transposed convolution's surplus that a causal decoder cuts on the right.
    """

    channels: int = 1
    dimension: int = 128
    filters: int = 32
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    residual_layers: int = 1
    kernel: int = 7
    last_kernel: int = 7
    residual_kernel: int = 3
    dilation_base: int = 2
    compress: int = 2
    causal: bool = True
    pad_mode: PadMode = "reflect"
    true_skip: bool = False
    norm: Literal["none", "time_group_norm"] = "none"
    lstm_layers: int = 2
    bidirectional: bool = False
    activation: Literal["elu", "snake"] = "elu"
    trim_right_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not self.ratios or min(self.ratios) < 1:
            raise ValueError(f"ratios are {self.ratios}, expected numbers of at least 1")
        if self.causal and self.norm == "time_group_norm":
            raise ValueError("norm is time_group_norm, which reads all of a recording; expected causal false")
        if not 0 <= self.trim_right_ratio <= 1:
            raise ValueError(f"trim_right_ratio is {self.trim_right_ratio}, expected 0 to 1")

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.ratios)


def seanet_encoder(config: SEANetConfig) -> Sequential:
    """Waveform `[B, channels, T]` to latents `[B, D, ceil(T / hop)]`."""
    width = config.filters
    blocks: list[Block] = [_conv(config, config.channels, width, config.kernel)]
    for ratio in reversed(config.ratios):
        blocks += [residual_block(config, width, index) for index in range(config.residual_layers)]
        blocks += [_activation(config, width), _conv(config, width, 2 * width, 2 * ratio, stride=ratio)]
        width *= 2
    if config.lstm_layers and config.bidirectional:
        blocks.append(BiLSTM(width, config.lstm_layers))
        width *= 2
    elif config.lstm_layers:
        blocks.append(LSTM(width, config.lstm_layers))
    blocks += [_activation(config, width), _conv(config, width, config.dimension, config.last_kernel)]
    return Sequential(*blocks)


def seanet_decoder(config: SEANetConfig) -> Sequential:
    """Latents `[B, D, T]` to waveform `[B, channels, T hop]`."""
    width = config.filters * 2 ** len(config.ratios)
    blocks: list[Block] = [_conv(config, config.dimension, width, config.kernel)]
    if config.lstm_layers:
        blocks.append(LSTM(width, config.lstm_layers))
    for ratio in config.ratios:
        blocks += [_activation(config, width), _conv_transpose(config, width, width // 2, ratio)]
        width //= 2
        blocks += [residual_block(config, width, index) for index in range(config.residual_layers)]
    blocks += [_activation(config, width), _conv(config, width, config.channels, config.last_kernel)]
    return Sequential(*blocks)


def residual_block(config: SEANetConfig, width: int, index: int) -> Parallel:
    """The shortcut and f of the block of a stage; see the module's text."""
    hidden = width // config.compress
    dilation = config.dilation_base**index
    return Parallel(
        Sequential() if config.true_skip else _conv(config, width, width, 1),
        Sequential(
            _activation(config, width),
            _conv(config, width, hidden, config.residual_kernel, dilation=dilation),
            _activation(config, hidden),
            _conv(config, hidden, width, 1),
        ),
    )


class NormedConv1d(PaddedConv1d):
    """A convolution, and group normalization over the time of its output."""

    unbounded = GroupNorm.unbounded

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        causal: bool,
        mode: PadMode,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, dilation=dilation, causal=causal, mode=mode)
        self.norm = GroupNorm(outputs)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        y, state = super().step(x, state, final=final)
        return self.norm.step(y, (), final=final)[0], state

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return super().forward(x)
        y = self._convolve(self._padded_items(x, lengths))
        result: Tensor = self.norm(y, self.output_lengths(lengths))
        return result


class NormedConvTranspose1d(ConvTranspose1d):
    """A transposed convolution, and group normalization over all it gives, before its ends are cut."""

    unbounded = GroupNorm.unbounded

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, lookahead: int) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, lookahead=lookahead)
        self.norm = GroupNorm(outputs)

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        if not final:
            raise NotOfferedError(f"{self.unbounded} reads whole recordings: give them in one piece")
        return self.forward(x), state

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if not x.shape[2]:
            return x.new_zeros(x.shape[0], self.outputs, 0)
        if lengths is not None:
            x = mask_time(x, lengths)
        y = self.synthesize(x, x.new_zeros(x.shape[0], self.outputs, self.span - self.hop))
        y = y if self.bias is None else y + self.bias[:, None]
        y = self.norm(y, None if lengths is None else (lengths - 1) * self.hop + self.span)
        result: Tensor = y[..., self.lookahead : self.lookahead + x.shape[2] * self.hop]
        return result


def _conv(
    config: SEANetConfig, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1
) -> PaddedConv1d:
    kind = PaddedConv1d if config.norm == "none" else NormedConv1d
    return kind(
        inputs,
        outputs,
        kernel,
        stride=stride,
        dilation=dilation,
        causal=config.causal,
        mode=config.pad_mode,
    )


def _conv_transpose(config: SEANetConfig, inputs: int, outputs: int, stride: int) -> ConvTranspose1d:
    # The kernel is 2 strides, so one stride is cut.
    right = math.ceil(stride * config.trim_right_ratio) if config.causal else stride // 2
    kind = ConvTranspose1d if config.norm == "none" else NormedConvTranspose1d
    return kind(inputs, outputs, 2 * stride, stride=stride, lookahead=stride - right)


def _activation(config: SEANetConfig, width: int) -> Block:
    return ELU() if config.activation == "elu" else Snake(width)


def seanet_rules(ours: str, theirs: str) -> tuple[tuple[str, str], ...]:
    r"""Rules that rename the keys of a SEANet encoder or decoder, in all styles; see `Reference.rules`.

    Both styles name transposed convolutions: what `transformers` calls `conv` is sorted out by
    `place_biases`.

    Args:
        ours: prefix in the codec's state dict, such as "encoder_net".
        theirs: regular expression of the prefix in the checkpoint, such as "encoder", without groups.
    """
    at = rf"{theirs}\.(?:model|layers)\.(\d+)\."
    inner = at + r"block\.(\d+)\."
    short = at + r"shortcut\."
    conv, norm = r"conv\.(?:conv\.)?(weight|bias)", r"(?:conv\.|convtr\.)?norm\.(weight|bias)"
    here = rf"{ours}.blocks.\1."
    within, beside = here + r"blocks.1.blocks.\2.", here + "blocks.0."
    return (
        (at + conv, here + r"conv.\2"),
        (at + r"convtr\.(?:convtr\.)?weight", here + "conv.weight"),
        (at + r"convtr\.(?:convtr\.)?bias", here + "bias"),
        (at + norm, here + r"norm.\2"),
        (at + r"lstm\.(\w+)", here + r"lstm.\2"),
        (at + "alpha", here + "alpha"),
        (inner + conv, within + r"conv.\3"),
        (inner + norm, within + r"norm.\3"),
        (inner + "alpha", within + "alpha"),
        (short + conv, beside + r"conv.\2"),
        (short + norm, beside + r"norm.\2"),
    )


def place_biases(tensors: Tensors, ours: str, config: SEANetConfig) -> dict[str, Tensor]:
    """Move the biases of a decoder's transposed convolutions to where they stand in this package.

    Keys of `transformers` do not tell which convolutions are transposed; after `seanet_rules` their biases
    are at "conv.bias". Keys of the original are left alone.
    """
    stage = 2 + config.residual_layers
    first = 3 if config.lstm_layers else 2
    moved = {
        f"{ours}.blocks.{first + stage * index}.conv.bias": f"{ours}.blocks.{first + stage * index}.bias"
        for index in range(len(config.ratios))
    }
    return {moved.get(name, name): tensor for name, tensor in tensors.items()}


@dataclass(frozen=True)
class SEANetDecoderArguments:
    """Arguments that only the reference's `SEANetDecoder` has; see `SEANetConfig`."""

    trim_right_ratio: float = 1.0
    final_activation: None = None
    final_activation_params: None = None


@dataclass(frozen=True)
class SEANetArguments:
    """Arguments of the reference's `SEANetEncoder` and `SEANetDecoder`, with its defaults."""

    channels: int = 1
    dimension: int = 128
    n_filters: int = 32
    n_residual_layers: int = 1
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    activation: Literal["ELU"] = "ELU"
    activation_params: dict[str, float] = field(default_factory=lambda: {"alpha": 1.0})
    norm: Literal["none", "weight_norm", "time_group_norm"] = "weight_norm"
    norm_params: dict[str, float] = field(default_factory=dict)
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    causal: bool = False
    pad_mode: PadMode = "reflect"
    true_skip: bool = False
    compress: int = 2
    lstm: int = 2

    def __post_init__(self) -> None:
        if self.activation_params not in ({}, {"alpha": 1.0}):
            raise ValueError(f'activation_params are {self.activation_params}, expected {{"alpha": 1.0}}')
        if self.norm_params:
            raise ValueError(f"norm_params are {self.norm_params}, expected none")

    def config(self, decoder: SEANetDecoderArguments) -> SEANetConfig:
        """The configuration that these arguments describe."""
        return SEANetConfig(
            channels=self.channels,
            dimension=self.dimension,
            filters=self.n_filters,
            ratios=self.ratios,
            residual_layers=self.n_residual_layers,
            kernel=self.kernel_size,
            last_kernel=self.last_kernel_size,
            residual_kernel=self.residual_kernel_size,
            dilation_base=self.dilation_base,
            compress=self.compress,
            causal=self.causal,
            pad_mode=self.pad_mode,
            true_skip=self.true_skip,
            norm="time_group_norm" if self.norm == "time_group_norm" else "none",
            lstm_layers=self.lstm,
            trim_right_ratio=decoder.trim_right_ratio,
        )


def seanet_of_transformers(given: Any) -> SEANetConfig:
    """SEANet from the names that EnCodec and Mimi share in transformers; without an LSTM."""
    return SEANetConfig(
        channels=given.audio_channels,
        dimension=given.hidden_size,
        filters=given.num_filters,
        ratios=given.upsampling_ratios,
        residual_layers=given.num_residual_layers,
        kernel=given.kernel_size,
        last_kernel=given.last_kernel_size,
        residual_kernel=given.residual_kernel_size,
        dilation_base=given.dilation_growth_rate,
        compress=given.compress,
        causal=given.use_causal_conv,
        pad_mode=given.pad_mode,
        true_skip=not given.use_conv_shortcut,
        lstm_layers=0,
        trim_right_ratio=given.trim_right_ratio,
    )
