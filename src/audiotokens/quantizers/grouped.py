"""Grouped quantization (GVQ), which is product quantization (Jégou et al. 2011): channels in groups.

z = (z_1, ..., z_G);  q = (Q_1(z_1), ..., Q_G(z_G)).  With residual quantizers inside it is GRVQ (Yang et al.
2023, HiFi-Codec). Nested dropout (Rippel et al. 2014) trains with only the first n groups, the others zero,
for an n drawn per item: it gives the groups, equal otherwise, an order of importance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig, add_losses
from audiotokens.quantizers.registry import build_quantizer
from audiotokens.quantizers.statistics import Statistics, nest


@dataclass(frozen=True)
class GroupedConfig(QuantizerConfig):
    """One quantizer per group of channels.

    Args:
        kind: names this quantizer in a configuration.
        groups: number of groups G. Each has floor(D / G) channels, the last one the rest too.
        inner: quantizer of each group.
        shared: whether one quantizer, with one set of books, serves all groups.
        nested_dropout: whether the first groups alone can be decoded. To train them, give `forward` a
            `num_codebooks` per item.
    """

    kind: Literal["grouped"] = "grouped"
    groups: int = 2
    inner: QuantizerConfig = field(kw_only=True)
    shared: bool = False
    nested_dropout: bool = False

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"groups is {self.groups}, expected at least 1")


class GroupedQuantizer(Quantizer):
    """GVQ: channels in groups, each with its own quantizer of K books, or all with one.

    The G K codes of a frame are ordered by book, then group (book k of group g is code k G + g), so that
    prefixes of the inner quantizers are prefixes here, G times as long. With nested dropout they are ordered
    by group, then book (g K + k), and the prefixes are the first groups, whole; missing groups are zero.

    Losses are means over the groups, weighted by their channels, so that a mean squared error is that of
    the whole vector.

    Example:
        >>> from audiotokens.quantizers import FSQConfig
        >>> config = GroupedConfig(groups=4, inner=FSQConfig(levels=(8, 8)))
        >>> GroupedQuantizer(64, config).codebook_sizes
        (64, 64, 64, 64)
    """

    config_class: ClassVar[type[QuantizerConfig]] = GroupedConfig
    label = "GVQ"

    def __init__(self, dim: int, config: GroupedConfig) -> None:
        super().__init__(dim, config)
        self.config = config
        groups = config.groups
        if dim < groups or (config.shared and dim % groups):
            expected = f"a multiple of groups = {groups}" if config.shared else f"at least groups = {groups}"
            raise ValueError(f"dim is {dim}, expected {expected}")
        self.sizes = (dim // groups,) * (groups - 1) + (dim - dim // groups * (groups - 1),)
        built = self.sizes[:1] if config.shared else self.sizes
        self.inner = nn.ModuleList(build_quantizer(config.inner, size) for size in built)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        inner, groups = self._first.codebook_sizes, self.config.groups
        if self.config.nested_dropout:
            return inner * groups
        return tuple(size for size in inner for _ in range(groups))

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        groups = self.config.groups
        if self.config.nested_dropout:
            return tuple(len(self._first.codebook_sizes) * used for used in range(1, groups + 1))
        return tuple(books * groups for books in self._first.legal_prefixes)

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        """Quantize for training; see `Quantizer.forward`.

        Where an item uses fewer groups (nested dropout), the frames of the other ones count as padded.
        """
        active = self._active_groups(num_codebooks, latents)
        books = self._inner_books(num_codebooks)
        masks = self._inner_masks(active, mask, latents)
        outputs: list[Quantized] = []
        losses: dict[str, Tensor] = {}
        statistics: Statistics = {}
        for i, part in enumerate(self._split(latents)):
            output: Quantized = self.inner[i](part, num_codebooks=books[i], mask=masks[i])
            share = 1.0 if self.config.shared else self.sizes[i] / self.dim
            add_losses(losses, output.losses, mask=masks[i], share=share)
            statistics |= nest(output.statistics, f"inner.{i}")
            outputs.append(output)
        parts = [output.latents for output in outputs]
        if active is not None:
            parts = [part * used[:, None, None] for part, used in zip(parts, self._per_inner(active))]
        return Quantized(
            latents=self._merge(parts),
            codes=self._order(self._per_group([output.codes for output in outputs])),
            losses=losses,
            statistics=statistics,
        )

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        used, books = self._prefix(num_codebooks)
        parts = self._split(latents[:, : sum(self.sizes[:used])], used)
        codes = [inner.encode(part, num_codebooks=books) for inner, part in zip(self._inner, parts)]
        return self._order(self._per_group(codes, used))

    def decode(self, codes: Tensor) -> Tensor:
        used, books = self._prefix(codes.shape[1])
        if self.config.nested_dropout:
            grouped = codes.unflatten(1, (used, books))
        else:
            grouped = codes.unflatten(1, (books, used)).transpose(1, 2)
        parts = [inner.decode(part) for inner, part in zip(self._inner, self._per_inner(grouped))]
        merged = self._merge(parts, used)
        return nn.functional.pad(merged, (0, 0, 0, self.dim - merged.shape[1]))

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Initialize each inner quantizer from its channels of sample latents `[N, D]`."""
        for inner, part in zip(self._inner, self._split(latents[..., None])):
            inner.initialize(part[..., 0], generator=generator)

    @property
    def _inner(self) -> list[Quantizer]:
        return [quantizer for _, quantizer in self.inner_quantizers()]

    @property
    def _first(self) -> Quantizer:
        return self._inner[0]

    def _prefix(self, num_codebooks: int | None) -> tuple[int, int]:
        """Groups, and books of each group, that a number of codes means."""
        total = self.check_prefix(num_codebooks)
        if self.config.nested_dropout:
            books = len(self._first.codebook_sizes)
            return total // books, books
        return self.config.groups, total // self.config.groups

    def _active_groups(self, num_codebooks: Tensor | int | None, latents: Tensor) -> Tensor | None:
        """Which groups each item uses, bool `[B, G]`; None: all of them."""
        if num_codebooks is None or not self.config.nested_dropout:
            return None
        if isinstance(num_codebooks, int):
            self.check_prefix(num_codebooks)
            num_codebooks = torch.full((len(latents),), num_codebooks, device=latents.device)
        used = num_codebooks // len(self._first.codebook_sizes)
        return torch.arange(self.config.groups, device=latents.device) < used[:, None]

    def _inner_books(self, num_codebooks: Tensor | int | None) -> Sequence[Tensor | int | None]:
        """How many books each inner quantizer uses."""
        groups = self.config.groups
        if num_codebooks is None or self.config.nested_dropout:
            return [None] * groups
        if isinstance(num_codebooks, int):
            return [self.check_prefix(num_codebooks) // groups] * groups
        return self._per_inner((num_codebooks // groups)[:, None].expand(-1, groups))

    def _inner_masks(
        self, active: Tensor | None, mask: Tensor | None, latents: Tensor
    ) -> Sequence[Tensor | None]:
        """The mask of each inner quantizer."""
        groups = self.config.groups
        if active is None and mask is None:
            return [None] * groups
        valid = torch.ones_like(latents[:, 0], dtype=torch.bool) if mask is None else mask
        valid = valid[:, None].expand(-1, groups, -1)
        return self._per_inner(valid if active is None else valid & active[..., None])

    def _split(self, latents: Tensor, groups: int | None = None) -> list[Tensor]:
        """Latents `[B, D, T]` as each inner quantizer gets them; a shared one gets `[B G, D / G, T]`."""
        groups = groups or self.config.groups
        if self.config.shared:
            return [latents.unflatten(1, (groups, -1)).flatten(0, 1)]
        return list(latents.split(self.sizes[:groups], 1))

    def _merge(self, parts: list[Tensor], groups: int | None = None) -> Tensor:
        """What `_split` reverses."""
        return self._per_group(parts, groups).flatten(1, 2) if self.config.shared else torch.cat(parts, 1)

    def _per_inner(self, grouped: Tensor) -> list[Tensor]:
        """A tensor `[B, G, ...]` as each inner quantizer gets it; a shared one gets `[B G, ...]`."""
        return [grouped.flatten(0, 1)] if self.config.shared else list(grouped.unbind(1))

    def _per_group(self, parts: list[Tensor], groups: int | None = None) -> Tensor:
        """What `_per_inner` reverses."""
        if self.config.shared:
            grouped: Tensor = parts[0].unflatten(0, (-1, groups or self.config.groups))
            return grouped
        return torch.stack(parts, 1)

    def _order(self, codes: Tensor) -> Tensor:
        """Codes `[B, G, K, T]` of the groups in the order of this quantizer, `[B, G K, T]`."""
        return codes.flatten(1, 2) if self.config.nested_dropout else codes.transpose(1, 2).flatten(1, 2)
