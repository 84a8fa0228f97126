"""Residual quantization: each level quantizes what the levels before it leave.

r_0 = z;  q_k = Q_k(r_k);  r_{k+1} = r_k - q_k;  z ~ sum_k q_k
(Zeghidour et al. 2021, SoundStream, algorithm 1). Any number of levels from the first on decodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from audiotokens.nn.constants import integers
from audiotokens.nn.search import Searcher
from audiotokens.quantizers.base import (
    Quantized,
    Quantizer,
    QuantizerConfig,
    to_rows,
    valid_rows,
)
from audiotokens.quantizers.beam import Criterion, beam_search
from audiotokens.quantizers.book import BookQuantizer
from audiotokens.quantizers.gradients import straight_through
from audiotokens.quantizers.registry import build_quantizer
from audiotokens.quantizers.statistics import Statistics, merge_statistics, nest, select
from audiotokens.quantizers.vector import VectorConfig, VectorQuantizer

ResidualGradient: TypeAlias = Literal["sum", "levels", "chain"]
"""How gradients pass.

"sum": straight through once, the identity. "levels": each level as it does alone, and they add up, as what
they subtract is a constant to the next ones; K times the identity with straight-through levels
(vector-quantize-pytorch). "chain": as "levels", but the next ones see how a level's output depends on its
input; the identity with straight-through levels, and layers inside the levels learn (DAC).
"""

_SEARCH_FRAMES = 4096
_FEW_FRAMES = 4
# Random books of the levels shrink by this factor, as residuals do.
_SHRINKING = 0.5


@dataclass(frozen=True)
class RVQConfig(QuantizerConfig):
    """Residual quantizer.

    Args:
        kind: names this quantizer in a configuration.
        num_codebooks: levels, of one book each where the inner quantizer has one.
        inner: quantizer of every level, or a list with one for each.
        shared: whether all levels use one quantizer, the first of the state dict.
        shared_update: how a shared one learns: "merged": at once from all levels; "in-turn": by one update
            per level, whose decay applies each time (vector-quantize-pytorch).
        gradient: how gradients pass.
        commitment: weight of the commitment loss of the whole, mean ||z - sum_k q_k||^2 over the mean
            variance of a dimension of z; the losses "commitment" of the levels are left out beside it.
            0: those of the levels, added.
        prefix_offsets: whether a learned vector per number of levels is added to what they sum up to, so that
            the decoder knows how coarse its input is; that of all levels is zero.
        scales: a number per level, which quantizes its residual divided by it; None: 1.
    """

    kind: Literal["rvq"] = "rvq"
    num_codebooks: int = 12
    inner: QuantizerConfig | tuple[QuantizerConfig, ...] = field(default_factory=VectorConfig)
    shared: bool = False
    shared_update: Literal["merged", "in-turn"] = "merged"
    gradient: ResidualGradient = "sum"
    commitment: float = 0.25
    prefix_offsets: bool = False
    scales: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        levels = self.num_codebooks
        if levels < 1:
            raise ValueError(f"num_codebooks is {levels}, expected at least 1")
        for name in ("inner", "scales"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(values) != levels:
                raise ValueError(f"{name} has {len(values)} entries, expected num_codebooks, {levels}")
        if self.scales and min(self.scales) <= 0:
            raise ValueError(f"scales are {self.scales}, expected numbers greater than 0")
        if self.shared and isinstance(self.inner, tuple):
            raise ValueError("inner is a list, which shared levels cannot have; give one quantizer")


class ResidualQuantizer(Quantizer):
    """Levels of any quantizers over latents of `dim` dimensions.

    The number of books may differ by item in training: losses and statistics of a level come only from the
    items that use it. Codes of levels that an item does not use are those of its last residual.

    Example:
        >>> config = RVQConfig(num_codebooks=3, inner=VectorConfig(codebook_size=16))
        >>> quantizer = ResidualQuantizer(64, config)
        >>> quantizer.encode(torch.zeros(1, 64, 5), num_codebooks=2).shape
        torch.Size([1, 2, 5])
    """

    config_class: ClassVar[type[QuantizerConfig]] = RVQConfig
    label = "RVQ"
    offsets: nn.Parameter | None

    def __init__(self, dim: int, config: RVQConfig) -> None:
        super().__init__(dim, config)
        self.config = config
        count = config.num_codebooks
        inner = config.inner if isinstance(config.inner, tuple) else (config.inner,) * count
        inner = inner[:1] if config.shared else inner
        self.levels = nn.ModuleList(build_quantizer(item, dim) for item in inner)
        self._scales = config.scales or (1.0,) * count
        # The level of index k has the books from _ends[k - 1] to _ends[k].
        sizes = [len(self.level(index).codebook_sizes) for index in range(count)]
        self._ends = tuple(itertools.accumulate(sizes))
        for index, level in enumerate(self.levels):
            if isinstance(level, VectorQuantizer) and level.metric != "sphere":
                level.set_book(level.book * _SHRINKING**index)
        self._books: tuple[object, list[tuple[Searcher, np.ndarray]]] | None = None
        self._check_layers()
        offsets = nn.Parameter(torch.zeros(count - 1, dim)) if config.prefix_offsets else None
        self.register_parameter("offsets", offsets)

    def level(self, index: int) -> Quantizer:
        """The quantizer of a level."""
        found: Quantizer = self.levels[0 if self.config.shared else index]  # type: ignore[assignment]
        return found

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        levels = map(self.level, range(self.config.num_codebooks))
        return tuple(size for level in levels for size in level.codebook_sizes)

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        return self._ends

    @property
    def can_search_wide(self) -> bool:
        return all(
            isinstance(level, BookQuantizer)
            and level.codebook_dim == self.dim
            and level.metric == "euclidean"
            for level in self.levels
        )

    def decoding_parameters(self) -> list[nn.Parameter]:
        return [] if self.offsets is None else [self.offsets]

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        used = self._used_levels(num_codebooks, latents)
        with torch.autocast(latents.device.type, enabled=False):
            latents = _frames_first(latents.float())
            total, parts = self._pass_levels(latents, used, mask)
            restored = straight_through(total, latents) if self.config.gradient == "sum" else total
            losses = self._level_losses(parts, used, mask)
            if self.config.commitment:
                losses["commitment"] = self._commitment(latents, total.detach(), mask)
        return Quantized(
            latents=self._add_offset(restored, len(parts) if used is None else used),
            codes=torch.cat([part.codes for part in parts], 1),
            losses=losses,
            statistics=self._join_statistics([part.statistics for part in parts]) if self.training else {},
        )

    def encode(
        self,
        latents: Tensor,
        *,
        num_codebooks: int | None = None,
        search_width: int = 1,
        criterion: Criterion = "error",
    ) -> Tensor:
        """Return the codes int64 `[B, K, T]`, the same ones in any batch.

        Args:
            latents: `[B, D, T]`.
            num_codebooks: books to use; default: all.
            search_width: candidates kept through the levels (beam search); 1 is greedy, and only greedy
                codes have shorter encodes as their prefixes.
            criterion: which candidates are kept, see `beam.Criterion`.

        Raises:
            ValueError: no such prefix, or the levels cannot be searched widely (see `can_search_wide`).
        """
        count = self._ends.index(self.check_prefix(num_codebooks)) + 1
        if search_width == 1:
            frames = max(1, _SEARCH_FRAMES // max(1, len(latents)))
            pieces = torch.split(_frames_first(latents.double()), frames, 2)
            return torch.cat([self._encode_greedily(piece, count) for piece in pieces], 2)
        if not self.can_search_wide:
            raise ValueError(
                f"search_width is {search_width}, expected 1: a wide search needs levels that "
                "are books in the space of the latents"
            )
        levels = [level for level in map(self.level, range(count)) if isinstance(level, BookQuantizer)]
        books = [level.entries(torch.float64) for level in levels]
        scaled = [book * scale for book, scale in zip(books, self._scales)]
        codes = beam_search(to_rows(latents.double()), scaled, search_width, criterion)
        rows = [level.lowest(index, book) for level, index, book in zip(levels, codes, books)]
        return torch.stack(rows).view(count, len(latents), -1).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        count = self._ends.index(self.check_prefix(codes.shape[1])) + 1
        total = self._decode_level(0, codes)
        for index in range(1, count):
            total = total + self._decode_level(index, codes)
        return self._add_offset(total, count)

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Initialize each level in turn from what the levels before leave of `latents` `[N, D]`.

        A shared level begins from the latents, and is then set once more from all that it will see.
        """
        rest, seen = latents.float(), []
        for index, scale in enumerate(self._scales):
            level, rows = self.level(index), rest / scale
            if index == 0 or not self.config.shared:
                level.initialize(rows, generator=generator)
            seen.append(rows)
            codes = level.encode(rows.mT[None])
            rest = rest - to_rows(level.decode(codes)) * scale
        if self.config.shared:
            self.level(0).initialize(torch.cat(seen), generator=generator)

    @torch.no_grad()
    def update(self, statistics: Statistics) -> None:
        if not (self.config.shared and self.config.shared_update == "in-turn"):
            return super().update(statistics)
        for index in range(self.config.num_codebooks):
            self.level(0).update(select(statistics, f"levels.{index}"))

    def _used_levels(self, num_codebooks: Tensor | int | None, latents: Tensor) -> Tensor | None:
        """Levels that each item uses `[B]`; None: all."""
        if isinstance(num_codebooks, Tensor):
            ends = integers(self._ends, latents.device)
            return torch.searchsorted(ends, num_codebooks.to(latents.device)) + 1
        count = self._ends.index(self.check_prefix(num_codebooks)) + 1
        return None if count == len(self._ends) else torch.full((len(latents),), count, device=latents.device)

    def _pass_levels(
        self, latents: Tensor, used: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, list[Quantized]]:
        """Sum of the levels' outputs `[B, D, T]`, and what each level gave."""
        gradient = self.config.gradient
        rest, total = latents, torch.zeros_like(latents)
        parts = []
        for index, scale in enumerate(self._scales):
            frames = mask
            if used is not None:
                active = (used > index)[:, None]
                frames = active.expand(-1, latents.shape[2]) if mask is None else active & mask
            part: Quantized = self.level(index)(rest if scale == 1 else rest / scale, mask=frames)
            output = part.latents if scale == 1 else part.latents * scale
            if used is not None:
                output = output * active[..., None]
            total = total + (output.detach() if gradient == "sum" else output)
            rest = rest - (output if gradient == "chain" else output.detach())
            parts.append(part)
        return total, parts

    def _level_losses(
        self, parts: Sequence[Quantized], used: Tensor | None, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses of the levels that any frame uses, added by name."""
        left_out = {"commitment"} if self.config.commitment else set()
        names = {name for part in parts for name in part.losses} - left_out
        deepest = len(parts)
        if names and used is not None:
            # A mean over no frames is no number.
            deepest = int((used if mask is None else used * mask.any(1)).max())
        losses: dict[str, Tensor] = {}
        for part in parts[:deepest]:
            for name, value in part.losses.items():
                if name in names:
                    losses[name] = losses[name] + value if name in losses else value
        return losses

    def _commitment(self, latents: Tensor, total: Tensor, mask: Tensor | None) -> Tensor:
        vectors, error = to_rows(latents), to_rows(latents - total)
        if mask is not None:
            valid = valid_rows(latents, mask)
            vectors, error = vectors[valid], error[valid]
        # About the mean, and a constant for the gradient, so that neither an offset of the latents nor their
        # growth can lower it.
        variance = vectors.detach().var(0, unbiased=False).mean().clamp(min=1e-8)
        return self.config.commitment * error.square().mean() / variance

    def _join_statistics(self, parts: Sequence[Statistics]) -> Statistics:
        if self.config.shared and self.config.shared_update == "merged":
            parts = [merge_statistics(parts)]
        return {
            key: value for i, part in enumerate(parts) for key, value in nest(part, f"levels.{i}").items()
        }

    def _encode_greedily(self, rest: Tensor, count: int) -> Tensor:
        """Codes of float64 latents with the first `count` levels."""
        if len(rest) * rest.shape[2] <= _FEW_FRAMES and rest.device.type == "cpu" and self._plain:
            return self._encode_frames(rest, count)
        codes = []
        # Vectors lie side by side from here on, as the levels search and return them.
        rest = rest.mT.contiguous().mT
        for index, scale in enumerate(self._scales[:count]):
            level = self.level(index)
            codes.append(level.encode(rest if scale == 1 else rest / scale))
            decoded = level.decode(codes[-1]).double()
            rest = rest - (decoded if scale == 1 else decoded * scale)
        return torch.cat(codes, 1)

    @torch.no_grad()
    def margins(self, latents: Tensor, codes: Tensor) -> Tensor:
        rest, found = latents.double(), []
        for index, scale in enumerate(self._scales[: self._ends.index(codes.shape[1]) + 1]):
            part = codes[:, self._ends[index - 1] if index else 0 : self._ends[index]]
            found.append(self.level(index).margins(rest / scale, part) * scale)
            rest = rest - self._decode_level(index, codes).double()
        return torch.cat(found, 1)

    def _encode_frames(self, rest: Tensor, count: int) -> Tensor:
        """`_encode_greedily` for the few frames of a step, in which calls of the library take most time."""
        version = tuple((level.book.data_ptr(), level.book._version) for level in self._vector_levels)
        if self._books is None or self._books[0] != version:
            books = [(level.searcher(), level.book.detach().numpy()) for level in self._vector_levels]
            self._books = version, books * (self.config.num_codebooks // len(books))
        codes = np.empty((len(rest), count, rest.shape[2]), np.int64)
        for item, found in zip(rest.detach().numpy(), codes):
            for frame, vector in enumerate(np.ascontiguousarray(item.T)):
                for level, ((searcher, book), scale) in enumerate(zip(self._books[1][:count], self._scales)):
                    index = searcher.nearest_one(vector if scale == 1 else vector / scale)
                    found[level, frame] = index
                    vector -= book[index] if scale == 1 else book[index].astype(np.float64) * scale
        return torch.from_numpy(codes)

    @cached_property
    def _plain(self) -> bool:
        """Whether all levels are books in the space of the latents, searched by distance."""
        return self.can_search_wide and len(self._vector_levels) == len(self.levels)

    @property
    def _vector_levels(self) -> list[VectorQuantizer]:
        return [level for level in self.levels if isinstance(level, VectorQuantizer)]

    def _decode_level(self, index: int, codes: Tensor) -> Tensor:
        start, scale = self._ends[index - 1] if index else 0, self._scales[index]
        decoded = self.level(index).decode(codes[:, start : self._ends[index]])
        return decoded if scale == 1 else decoded * scale

    def _add_offset(self, latents: Tensor, levels: Tensor | int) -> Tensor:
        """Add to `[B, D, T]` what tells the number of levels, one or one per item `[B]`; zero for all."""
        if self.offsets is None:
            return latents
        return latents + torch.cat([self.offsets, self.offsets.new_zeros(1, self.dim)])[levels - 1][..., None]

    def _check_layers(self) -> None:
        untrained = [name for name, _ in self.levels.named_parameters() if "project_" in name]
        if untrained and self.config.gradient == "sum":
            raise ValueError(
                f'gradient is "sum", which gives levels.{untrained[0]} no gradient; choose "chain", or put '
                'one projection around all levels (kind "projected")'
            )


def _frames_first(latents: Tensor) -> Tensor:
    """Latents `[B, D, T]` that lie in memory as `[B, T, D]`, so that levels take vectors without copies."""
    return latents.mT.contiguous().mT
