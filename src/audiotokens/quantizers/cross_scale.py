"""Cross-scale residual quantization (CSRVQ; Gu and Diao 2024, ESC): a decoder's errors, quantized at depths.

d_0 = 0;  f_i = d_i + Q_i(e_i - d_i);  d_{i+1} = U_i(f_i), with the features e_i of the encoder at depth i,
the deepest first, and the blocks U_i of the decoder, the last of which gives the output. With n quantizers
f_i = d_i from i = n on, so any number of them from the first on decodes.

What is quantized depends on the decoder, so this is no `Quantizer`, which is a function of latents alone; it
has one at each depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig, add_losses
from audiotokens.quantizers.registry import build_quantizer
from audiotokens.quantizers.statistics import Statistics, nest, select

DecoderBlock: TypeAlias = Callable[[Tensor], Tensor]
"""Refined features `[B, D_i, T_i]` of one depth to the features `[B, D_{i+1}, T_{i+1}]` of the next."""


@dataclass(frozen=True)
class CrossScaleConfig:
    """A quantizer per depth.

    Args:
        inner: quantizers, the deepest first.
        gradient: how gradients pass the residual. "sum": what the decoder gave is a constant in e_i - d_i, so
            that with straight-through quantizers both e_i and d_i get the gradient of f_i. "chain": it is
            not, and with straight-through quantizers all of it goes to e_i and none to d_i (ESC, where linear
            maps inside the quantizers let some through).
    """

    inner: tuple[QuantizerConfig, ...]
    gradient: Literal["sum", "chain"] = "sum"

    def __post_init__(self) -> None:
        if not self.inner:
            raise ValueError("inner is empty, expected a quantizer per depth")


@dataclass(frozen=True)
class CrossScaled:
    """What decoding with quantized residuals gives.

    Args:
        output: what the last block of the decoder gives.
        codes: int64 `[B, K_i, T_i]` per depth.
        losses: scalar terms to add to the training loss, weights included; those of one name are added.
        statistics: what `CrossScaleQuantizer.update` learns from; empty outside training.
    """

    output: Tensor
    codes: tuple[Tensor, ...]
    losses: dict[str, Tensor] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)


class CrossScaleQuantizer(nn.Module):
    """CSRVQ over features of several depths.

    Args:
        dims: dimensions D_i of the features of each depth, the deepest first.
        config: with as many quantizers.

    Raises:
        ValueError: their numbers differ.

    Example:
        >>> from audiotokens.quantizers import FSQConfig
        >>> quantizer = CrossScaleQuantizer([8, 4], CrossScaleConfig(inner=(FSQConfig(), FSQConfig())))
        >>> blocks = [lambda x: x[:, :4].repeat_interleave(2, 2), lambda x: x.mean(1)]
        >>> codes = quantizer.encode([torch.zeros(1, 8, 5), torch.zeros(1, 4, 10)], blocks)
        >>> quantizer.decode(codes[:1], blocks).shape
        torch.Size([1, 10])
    """

    label = "CSRVQ"

    def __init__(self, dims: Sequence[int], config: CrossScaleConfig) -> None:
        super().__init__()
        if len(dims) != len(config.inner):
            raise ValueError(
                f"dims are of {len(dims)} depths, expected {len(config.inner)}, one per quantizer"
            )
        self.config = config
        self.inner = nn.ModuleList(build_quantizer(item, dim) for item, dim in zip(config.inner, dims))

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """The quantizer of each depth, the deepest first."""
        return tuple(quantizer for quantizer in self.inner if isinstance(quantizer, Quantizer))

    @property
    def codebook_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of entries of the books of each depth."""
        return tuple(quantizer.codebook_sizes for quantizer in self.quantizers)

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        """Numbers of depths that can be decoded: any."""
        return tuple(range(1, len(self.inner) + 1))

    def forward(
        self,
        features: Sequence[Tensor],
        blocks: Sequence[DecoderBlock],
        *,
        num_depths: Tensor | int | None = None,
        masks: Sequence[Tensor] | None = None,
    ) -> CrossScaled:
        """Decode with quantized residuals, for training.

        Args:
            features: `[B, D_i, T_i]` of the encoder at each depth, the deepest first.
            blocks: of the decoder, one per depth.
            num_depths: how many depths are quantized, one number or one per item `[B]`; default: all.
            masks: bool `[B, T_i]` per depth, False for padded frames, which losses and statistics ignore.

        Raises:
            ValueError: numbers of features, blocks or masks that differ from that of the quantizers, features
                and what the decoder gives that differ in shape, or no such number of depths.
        """
        self._check_counts(features=features, blocks=blocks, **({} if masks is None else {"masks": masks}))
        used = num_depths if isinstance(num_depths, Tensor) else self._check_depths(num_depths)
        decoded, codes = torch.zeros_like(features[0]), []
        losses: dict[str, Tensor] = {}
        statistics: Statistics = {}
        for i, (quantizer, feature, block) in enumerate(zip(self.quantizers, features, blocks)):
            _check_shape(i, feature, decoded)
            mask, active = None if masks is None else masks[i], None
            if isinstance(used, Tensor) or used <= i:
                active = torch.as_tensor(used > i, device=feature.device).expand(len(feature))[:, None]
                mask = active.expand(-1, feature.shape[2]) if mask is None else active & mask
            part: Quantized = quantizer(
                feature - (decoded.detach() if self.config.gradient == "sum" else decoded), mask=mask
            )
            refinement = part.latents if active is None else part.latents * active[..., None]
            decoded = block(decoded + refinement)
            codes.append(part.codes)
            add_losses(losses, part.losses, mask=mask)
            statistics |= nest(part.statistics, f"inner.{i}")
        return CrossScaled(decoded, tuple(codes), losses, statistics)

    @torch.no_grad()
    def encode(
        self, features: Sequence[Tensor], blocks: Sequence[DecoderBlock], *, num_depths: int | None = None
    ) -> tuple[Tensor, ...]:
        """Return the codes int64 `[B, K_i, T_i]` of each depth.

        The decoder runs in the precision of the features; the codes are the same ones in any batch if its
        blocks and the features are float64.

        Args:
            features: `[B, D_i, T_i]`, at least of the depths used.
            blocks: of the decoder; as many as features, less the last.
            num_depths: how many depths are quantized; default: all.

        Raises:
            ValueError: as for `forward`.
        """
        count = self._check_depths(num_depths)
        if len(features) < count or len(blocks) < count - 1:
            raise ValueError(
                f"found {len(features)} features and {len(blocks)} blocks, expected {count} and {count - 1} "
                f"for num_depths {count}"
            )
        decoded, codes = torch.zeros_like(features[0]), []
        for i, (quantizer, feature) in enumerate(zip(self.quantizers[:count], features)):
            _check_shape(i, feature, decoded)
            codes.append(quantizer.encode(feature - decoded))
            if i + 1 < count:
                decoded = blocks[i](decoded + quantizer.decode(codes[-1]).to(feature.dtype))
        return tuple(codes)

    def decode(
        self, codes: Sequence[Tensor], blocks: Sequence[DecoderBlock], *, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return what the decoder gives for the codes of the first depths, or all of them.

        Args:
            codes: int64 `[B, K_i, T_i]` of each depth used.
            blocks: of the decoder, one per depth.
            dtype: of the features that the blocks get; default: that of the books.

        Raises:
            ValueError: as for `forward`.
        """
        count = self._check_depths(len(codes))
        self._check_counts(blocks=blocks)
        decoded: Tensor | None = None
        for i, block in enumerate(blocks):
            if i < count:
                refinement = self.quantizers[i].decode(codes[i])
                refinement = refinement if dtype is None else refinement.to(dtype)
                decoded = refinement if decoded is None else decoded + refinement
            decoded = block(decoded)  # type: ignore[arg-type]
        return decoded  # type: ignore[return-value]

    @torch.no_grad()
    def initialize(
        self,
        features: Sequence[Tensor],
        blocks: Sequence[DecoderBlock],
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Initialize each quantizer in turn from what the ones before and the decoder leave of `features`."""
        self._check_counts(features=features, blocks=blocks)
        decoded = torch.zeros_like(features[0])
        for quantizer, feature, block in zip(self.quantizers, features, blocks):
            rest = feature - decoded
            quantizer.initialize(rest.mT.flatten(0, 1), generator=generator)
            decoded = block(decoded + quantizer.decode(quantizer.encode(rest)).to(feature.dtype))

    @torch.no_grad()
    def update(self, statistics: Statistics) -> None:
        """Learn from the statistics of one step, merged over processes."""
        for i, quantizer in enumerate(self.quantizers):
            quantizer.update(select(statistics, f"inner.{i}"))

    def _check_depths(self, num_depths: int | None) -> int:
        depths = len(self.inner) if num_depths is None else num_depths
        if depths not in self.legal_prefixes:
            raise ValueError(f"the number of depths is {depths}, expected 1 to {len(self.inner)}")
        return depths

    def _check_counts(self, **sequences: Sequence[object]) -> None:
        for name, items in sequences.items():
            if len(items) != len(self.inner):
                raise ValueError(f"found {len(items)} {name}, expected {len(self.inner)}, one per depth")


def _check_shape(depth: int, feature: Tensor, decoded: Tensor) -> None:
    if feature.shape != decoded.shape:
        raise ValueError(
            f"features of depth {depth} have the shape {tuple(feature.shape)}, and the decoder gives "
            f"{tuple(decoded.shape)} there; expected the same one"
        )
