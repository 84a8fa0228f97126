"""Multi-scale residual quantization (MSRVQ; Siuzdak 2024, SNAC): coarse levels have codes at lower rates.

r_0 = z;  q_i = U_i Q_i(P_i r_i);  r_{i+1} = r_i - q_i;  z ~ sum_i q_i, where P_i averages each window of W_i
frames and U_i repeats each vector W_i times.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig, add_losses
from audiotokens.quantizers.gradients import straight_through
from audiotokens.quantizers.registry import build_quantizer
from audiotokens.quantizers.statistics import Statistics, nest
from audiotokens.quantizers.vector import VectorConfig


@dataclass(frozen=True)
class MultiscaleConfig(QuantizerConfig):
    """One level per stride.

    Args:
        kind: names this quantizer in a configuration.
        strides: frames W_i per code of each level; each divides the largest.
        inner: quantizer of every level, or a list with one for each.
        gradient: how gradients pass. "sum": straight through once, the identity. "chain": through each
            level as it does alone, where the next ones see how its output depends on its input; layers
            inside the levels learn (SNAC).
    """

    kind: Literal["multiscale"] = "multiscale"
    strides: tuple[int, ...] = (4, 2, 1)
    inner: QuantizerConfig | tuple[QuantizerConfig, ...] = field(default_factory=VectorConfig)
    gradient: Literal["sum", "chain"] = "sum"

    def __post_init__(self) -> None:
        if not self.strides or min(self.strides) < 1:
            raise ValueError(f"strides are {self.strides}, expected at least one number, each 1 or more")
        odd = [stride for stride in self.strides if max(self.strides) % stride]
        if odd:
            raise ValueError(f"the stride {odd[0]} does not divide the largest one, {max(self.strides)}")
        if isinstance(self.inner, tuple) and len(self.inner) != len(self.strides):
            raise ValueError(
                f"inner has {len(self.inner)} entries, expected one per stride, {len(self.strides)}"
            )


class MultiscaleQuantizer(Quantizer):
    """MSRVQ over latents of `dim` dimensions.

    Codes are a tuple of one int64 `[B, K_i, ceil(T / W_i)]` per level. The codes of a block of max(W) frames
    depend on this block only. Where a window reaches past the end or over padded frames, the average is that
    of its valid frames, so that an item has the same codes alone and padded in a batch; a window without a
    valid frame counts as padded.

    The number of books, `num_codebooks`, counts those of all levels: levels are decoded whole.

    Example:
        >>> quantizer = MultiscaleQuantizer(64, MultiscaleConfig(inner=VectorConfig(codebook_size=16)))
        >>> [codes.shape[2] for codes in quantizer.encode(torch.zeros(1, 64, 12))]
        [3, 6, 12]
    """

    config_class: ClassVar[type[QuantizerConfig]] = MultiscaleConfig
    label = "MSRVQ"
    several_rates = True

    def __init__(self, dim: int, config: MultiscaleConfig) -> None:
        super().__init__(dim, config)
        self.config = config
        count = len(config.strides)
        inner = config.inner if isinstance(config.inner, tuple) else (config.inner,) * count
        self.levels = nn.ModuleList(build_quantizer(item, dim) for item in inner)
        # The level of index i has the books from _ends[i - 1] to _ends[i].
        self._ends = tuple(itertools.accumulate(len(level.codebook_sizes) for level in self._quantizers))
        untrained = [name for name, _ in self.levels.named_parameters() if "project_" in name]
        if untrained and config.gradient == "sum":
            raise ValueError(
                f'gradient is "sum", which gives levels.{untrained[0]} no gradient; choose "chain", or put '
                'one projection around all levels (kind "projected")'
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Frames per code of each level, in the order of the tuple of codes."""
        return self.config.strides

    @property
    def book_strides(self) -> tuple[int, ...]:
        """Frames per code of each book."""
        levels = zip(self._quantizers, self.strides)
        return tuple(stride for level, stride in levels for _ in level.codebook_sizes)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return tuple(size for level in self._quantizers for size in level.codebook_sizes)

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        return self._ends

    def code_lengths(self, frames: int) -> tuple[int, ...]:
        """How many codes each level has for a number of frames."""
        return tuple(-(-frames // stride) for stride in self.strides)

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        """Quantize for training; see `Quantizer.forward`.

        `codes` of the result are a tuple of tensors, as those of `encode`.
        """
        used = self._used_levels(num_codebooks, latents)
        losses: dict[str, Tensor] = {}
        statistics: Statistics = {}
        codes = []
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            rest, total = latents, torch.zeros_like(latents)
            for i, (level, stride) in enumerate(zip(self._quantizers, self.strides)):
                pooled, valid = _average(rest, stride, mask)
                if used is not None:
                    active = (used > i)[:, None]
                    valid = active.expand(-1, pooled.shape[2]) if valid is None else active & valid
                part: Quantized = level(pooled, mask=valid)
                output = _repeat(part.latents, stride, latents.shape[2])
                if used is not None:
                    output = output * active[..., None]
                rest = rest - (output.detach() if self.config.gradient == "sum" else output)
                total = total + output
                codes.append(part.codes)
                add_losses(losses, part.losses, mask=valid)
                statistics |= nest(part.statistics, f"levels.{i}")
            if self.config.gradient == "sum":
                total = straight_through(total, latents)
        return Quantized(total, tuple(codes), losses, statistics)  # type: ignore[arg-type]

    @torch.no_grad()
    def encode(  # type: ignore[override]
        self, latents: Tensor, *, num_codebooks: int | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the codes of each level, int64 `[B, K_i, ceil(T / W_i)]`.

        Args:
            latents: `[B, D, T]`; residuals are averaged in float64 and rounded to float32.
            num_codebooks: a legal prefix; default: all books.
            mask: bool `[B, T]`, False for padded frames behind the end of an item.
        """
        count = self._ends.index(self.check_prefix(num_codebooks)) + 1
        rest, codes = latents.double(), []
        for level, stride in zip(self._quantizers[:count], self.strides):
            codes.append(level.encode(_average(rest, stride, mask)[0].float()))
            rest = rest - _repeat(level.decode(codes[-1]).double(), stride, rest.shape[2])
        return tuple(codes)

    def decode(self, codes: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """Return the latents `[B, D, T]` of the codes of the first levels, or all of them.

        T is the number of frames that was encoded if a level among them has stride 1, else this number
        rounded up to a multiple of a stride.

        Raises:
            ValueError: no such number of levels, or lengths that no number of frames gives.
        """
        self.check_prefix(sum(part.shape[1] for part in codes))
        lengths = tuple(part.shape[2] for part in codes)
        frames = min(length * stride for length, stride in zip(lengths, self.strides))
        expected = self.code_lengths(frames)[: len(codes)]
        if lengths != expected:
            raise ValueError(f"the levels have {lengths} codes, expected {expected} for {frames} frames")
        total = torch.zeros((), device=codes[0].device)
        for level, part, stride in zip(self._quantizers, codes, self.strides):
            total = total + _repeat(level.decode(part), stride, frames)
        return total

    @torch.no_grad()
    def margins(self, latents: Tensor, codes: Sequence[Tensor]) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Margins of each level; those of a window are of changes of all its frames alike, at least."""
        rest, found = latents.double(), []
        for level, stride, part in zip(self._quantizers, self.strides, codes):
            found.append(level.margins(_average(rest, stride, None)[0].float(), part))
            rest = rest - _repeat(level.decode(part).double(), stride, rest.shape[2])
        return tuple(found)

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Initialize each level in turn from what the levels before leave of `latents` `[N, D]`.

        Neighbours should be consecutive frames, as windows of them are averaged.
        """
        rest = latents.float().mT[None]
        for level, stride in zip(self._quantizers, self.strides):
            pooled, _ = _average(rest, stride, None)
            level.initialize(pooled[0].mT, generator=generator)
            rest = rest - _repeat(level.decode(level.encode(pooled)), stride, rest.shape[2])

    @property
    def _quantizers(self) -> list[Quantizer]:
        return [quantizer for _, quantizer in self.inner_quantizers()]

    def _used_levels(self, num_codebooks: Tensor | int | None, latents: Tensor) -> Tensor | None:
        """Levels that each item uses, `[B]`; None: all."""
        if isinstance(num_codebooks, Tensor):
            ends = torch.tensor(self._ends, device=latents.device)
            return torch.searchsorted(ends, num_codebooks.to(latents.device)) + 1
        count = self._ends.index(self.check_prefix(num_codebooks)) + 1
        return None if count == len(self._ends) else torch.full((len(latents),), count, device=latents.device)


def _average(latents: Tensor, stride: int, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Means `[B, D, ceil(T / stride)]` over the valid frames of each window, and which windows have any."""
    missing = -latents.shape[2] % stride
    valid = torch.ones_like(latents[:, 0], dtype=torch.bool) if mask is None else mask
    valid = nn.functional.pad(valid, (0, missing)).unflatten(1, (-1, stride))
    windows = nn.functional.pad(latents, (0, missing)).unflatten(2, (-1, stride))
    total = torch.where(valid[:, None], windows, 0.0).sum(3)
    return total / valid.sum(2).clamp(min=1)[:, None], None if mask is None else valid.any(2)


def _repeat(latents: Tensor, stride: int, frames: int) -> Tensor:
    """Each vector `stride` times, cut to `frames`."""
    return latents.repeat_interleave(stride, 2)[..., :frames]
