"""The network of Vocos and of WavTokenizer's decoder: a backbone at the frame rate, and a Fourier head.

(Siuzdak 2023, Vocos: Closing the gap between time-domain and Fourier-based neural vocoders.) The head says
magnitudes and phases of an STFT, or coefficients of an MDCT, and a fixed transform makes samples of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from audiotokens.architectures.reference import Shapes, Tensors
from audiotokens.architectures.seanet import SEANetConfig
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError
from audiotokens.nn.block import Block, Residual, Sequential
from audiotokens.nn.conv import Conv1d, centered
from audiotokens.nn.convnext import convnext_block, norm
from audiotokens.nn.layers import ChannelScale, LayerNorm, LeakyReLU, Linear
from audiotokens.nn.spectrograms import Clip, CosineMagnitude, PolarSpectrum, SymmetricExponential
from audiotokens.nn.transforms import IMDCT, ISTFT, Padding


@dataclass(frozen=True)
class ConvNeXtBackbone:
    """ConvNeXt blocks between a convolution and a norm.

    Args:
        kind: names this backbone in a configuration.
        width: channels.
        hidden: inner width of the blocks.
        layers: number of blocks.
        conditions: of the norms, which then are adaptive; 0: they are plain.
        layer_scale: start of the scales; None: 1 / layers.
    """

    kind: Literal["convnext"] = "convnext"
    width: int = 512
    hidden: int = 1536
    layers: int = 8
    conditions: int = 0
    layer_scale: float | None = None


@dataclass(frozen=True)
class ResNetBackbone:
    """Dilated residual blocks behind a convolution.

    Args:
        kind: names this backbone in a configuration.
        width: channels.
        layers: number of blocks.
        layer_scale: start of the scales; None: 1 / (3 layers).
    """

    kind: Literal["resnet"] = "resnet"
    width: int = 512
    layers: int = 8
    layer_scale: float | None = None


@dataclass(frozen=True)
class ISTFTHead:
    """Magnitudes and phases of an STFT.

    Args:
        kind: names this head in a configuration.
        n_fft: length of window and transform.
        hop: samples per frame.
        padding: how frames lie on the samples; see `ISTFT`.
    """

    kind: Literal["istft"] = "istft"
    n_fft: int = 1024
    hop: int = 256
    padding: Padding = "center"


@dataclass(frozen=True)
class IMDCTHead:
    """Coefficients of an MDCT.

    Args:
        kind: names this head in a configuration; "imdct-symexp": sign(x) (e^|x| - 1) of one number each;
            "imdct-cos": e^m cos p of two.
        hop: samples per frame, half the window.
        padding: how frames lie on the samples; see `IMDCT`.
        clip: whether samples are held between -1 and 1. (The original would return the spectrum instead.)
    """

    kind: Literal["imdct-symexp", "imdct-cos"] = "imdct-symexp"
    hop: int = 256
    padding: Padding = "same"
    clip: bool = False


def convnext_backbone(
    inputs: int, config: ConvNeXtBackbone, condition: int = 0, *, front: tuple[Block, ...] = ()
) -> Sequential:
    """The backbone of Vocos, `[B, inputs, T]` to `[B, width, T]`.

    Args:
        inputs: numbers per frame.
        config: its configuration.
        condition: that the norms are under.
        front: blocks between the first convolution and the first norm.
    """
    scale = config.layer_scale or 1 / config.layers
    blocks = (
        convnext_block(
            config.width, config.hidden, scale=scale, conditions=config.conditions, condition=condition
        )
        for _ in range(config.layers)
    )
    return Sequential(
        Conv1d(inputs, config.width, 7, lookahead=centered(7)),
        Sequential(*front),
        norm(config.width, config.conditions, condition),
        Sequential(*blocks),
        LayerNorm(config.width, eps=1e-6),
    )


def resnet_backbone(inputs: int, config: ResNetBackbone) -> Sequential:
    """A backbone of dilated residual blocks, `[B, inputs, T]` to `[B, width, T]`."""
    scale, width = config.layer_scale or 1 / (3 * config.layers), config.width

    def branch(dilation: int) -> Residual:
        return Residual(
            Sequential(
                LeakyReLU(0.1),
                Conv1d(width, width, 3, dilation=dilation, lookahead=dilation),
                LeakyReLU(0.1),
                Conv1d(width, width, 3, lookahead=1),
                ChannelScale(width, start=scale),
            )
        )

    blocks = (Sequential(*map(branch, (1, 3, 5))) for _ in range(config.layers))
    return Sequential(Conv1d(inputs, width, 3, lookahead=1), Sequential(*blocks))


def fourier_head(width: int, head: ISTFTHead | IMDCTHead) -> Sequential:
    """Frames `[B, width, T]` to a waveform `[B, 1, N]`."""
    if isinstance(head, ISTFTHead):
        transform = ISTFT(head.n_fft, head.hop, padding=head.padding)
        return Sequential(Linear(width, head.n_fft + 2), PolarSpectrum(), transform)
    symmetric = head.kind == "imdct-symexp"
    return Sequential(
        Linear(width, head.hop if symmetric else 2 * head.hop),
        SymmetricExponential() if symmetric else CosineMagnitude(),
        IMDCT(head.hop, padding=head.padding),
        *([Clip()] if head.clip else []),
    )


# Checkpoints


@dataclass(frozen=True)
class ConvNeXtArguments:
    """Arguments of the original's `VocosBackbone`, which WavTokenizer shares."""

    input_channels: int
    dim: int
    intermediate_dim: int
    num_layers: int
    layer_scale_init_value: float | None = None
    adanorm_num_embeddings: int | None = None

    def backbone(self) -> ConvNeXtBackbone:
        """The configuration here."""
        return ConvNeXtBackbone(
            width=self.dim,
            hidden=self.intermediate_dim,
            layers=self.num_layers,
            conditions=self.adanorm_num_embeddings or 0,
            layer_scale=self.layer_scale_init_value,
        )


@dataclass(frozen=True)
class ISTFTArguments:
    """Arguments of the original's `ISTFTHead`, which WavTokenizer shares."""

    dim: int
    n_fft: int
    hop_length: int
    padding: Padding = "same"

    def head(self) -> ISTFTHead:
        """The configuration here."""
        return ISTFTHead(n_fft=self.n_fft, hop=self.hop_length, padding=self.padding)


_BLOCK = r"decoder_net.blocks.0.blocks.3.blocks.\1.block.blocks."
_BRANCH = r"decoder_net.blocks.0.blocks.1.blocks.\1.blocks.\2.block.blocks."


def read_part(part: str, arguments: Mapping[str, Any], kinds: Mapping[str, type]) -> tuple[Any, str]:
    """Read the arguments of a part of the reference's model.

    Args:
        part: key in `arguments`: "feature_extractor", "backbone" or "head". Its value names a class
            ("class_path" and "init_args", or "class" and "args"), or is the arguments alone.
        arguments: of the whole model.
        kinds: dataclass of the arguments of each class, by the last part of its name; if the arguments come
            alone, the first one counts.

    Returns:
        The arguments, and the name of the class.

    Raises:
        ConfigError: the part is missing, its class is unknown, or so is an argument.
    """
    given = arguments.get(part)
    if not isinstance(given, Mapping):
        raise ConfigError(f'the key "{part}" is missing, or no mapping')
    if "class_path" not in given and "class" not in given:
        return from_dict(next(iter(kinds.values())), given, where=part), next(iter(kinds))
    name = str(given.get("class_path", given.get("class"))).rpartition(".")[2]
    if name not in kinds:
        raise ConfigError(f'{part}: the class is "{name}", expected one of {", ".join(kinds)}')
    return from_dict(kinds[name], given.get("init_args", given.get("args", {})), where=part), name


FOURIER_RULES: tuple[tuple[str, str], ...] = (
    (r"backbone\.embed\.(weight|bias)", r"decoder_net.blocks.0.blocks.0.conv.\1"),
    (r"backbone\.norm\.(weight|bias)", r"decoder_net.blocks.0.blocks.2.\1"),
    (r"backbone\.norm\.(scale|shift)\.weight", r"decoder_net.blocks.0.blocks.2.\1"),
    (r"backbone\.convnext\.(\d+)\.dwconv\.weight", _BLOCK + "0.taps"),
    (r"backbone\.convnext\.(\d+)\.dwconv\.bias", _BLOCK + "0.bias"),
    (r"backbone\.convnext\.(\d+)\.norm\.(weight|bias)", _BLOCK + r"1.\2"),
    (r"backbone\.convnext\.(\d+)\.norm\.(scale|shift)\.weight", _BLOCK + r"1.\2"),
    (r"backbone\.convnext\.(\d+)\.pwconv1\.(weight|bias)", _BLOCK + r"2.linear.\2"),
    (r"backbone\.convnext\.(\d+)\.pwconv2\.(weight|bias)", _BLOCK + r"4.linear.\2"),
    (r"backbone\.convnext\.(\d+)\.gamma", _BLOCK + "5.scale"),
    (r"backbone\.final_layer_norm\.(weight|bias)", r"decoder_net.blocks.0.blocks.4.\1"),
    (r"backbone\.resnet\.(\d+)\.convs1\.(\d+)\.(weight|bias)", _BRANCH + r"1.conv.\3"),
    (r"backbone\.resnet\.(\d+)\.convs2\.(\d+)\.(weight|bias)", _BRANCH + r"3.conv.\3"),
    (r"backbone\.resnet\.(\d+)\.gamma\.(\d+)", _BRANCH + "4.scale"),
    (r"head\.out\.(weight|bias)", r"decoder_net.blocks.1.blocks.0.linear.\1"),
)
"""Rules for backbone and head, which are the two blocks of `decoder_net`; see `Reference.rules`."""

FOURIER_IGNORED = (
    r"head\.(?:istft|imdct)\.(?:window|pre_twiddle|post_twiddle)",
    r"(?:multiperioddisc|multiresddisc|dac|dacdiscriminator|disc_loss|gen_loss|feat_matching_loss|melspec_loss)\..*",
)
"""Fixed tables of the transforms, which are computed here, and what training alone needs."""


def fourier_tensors(tensors: Tensors) -> dict[str, Tensor]:
    """Bring depthwise kernels `[C, 1, k]` and scales `[C, 1]` to the shapes that they have here."""
    return {
        name: tensor[:, 0].T
        if name.endswith(".taps")
        else tensor.flatten()
        if name.endswith(".scale") and tensor.shape[1:] == (1,)
        else tensor
        for name, tensor in tensors.items()
    }


def seanet_of(shapes: Shapes, prefix: str, config: SEANetConfig) -> SEANetConfig | None:
    """Read the sizes of a SEANet encoder off the shapes of its tensors.

    Args:
        shapes: by key, weight norm folded.
        prefix: of the keys, such as "encoder.model".
        config: what shapes do not tell.

    Returns:
        None where no such encoder is among the tensors.
    """
    own = re.compile(rf"{re.escape(prefix)}\.(\d+)\.conv\.conv\.weight")
    found = sorted((int(match[1]), shape) for name, shape in shapes.items() if (match := own.fullmatch(name)))
    if len(found) < 3:
        return None
    (_, first), *strided, (_, last) = found
    inner = shapes.get(f"{prefix}.1.block.1.conv.conv.weight")
    layers = [
        name for name in shapes if re.fullmatch(rf"{re.escape(prefix)}\.\d+\.lstm\.weight_ih_l\d+", name)
    ]
    return replace(
        config,
        filters=first[0],
        channels=first[1],
        kernel=first[2],
        ratios=tuple(shape[2] // 2 for _, shape in reversed(strided)),
        residual_layers=strided[0][0] - 2,
        compress=first[0] // inner[0] if inner else config.compress,
        residual_kernel=inner[2] if inner else config.residual_kernel,
        true_skip=not any(name.startswith(prefix) and ".shortcut." in name for name in shapes),
        lstm_layers=len(layers),
        dimension=last[0],
        last_kernel=last[2],
    )
