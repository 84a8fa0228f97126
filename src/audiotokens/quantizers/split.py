"""Split quantization (Défossez et al. 2024, Mimi): a semantic quantizer beside an acoustic one.

q = Q_semantic(z) + Q_acoustic(z): both see the same latents, so that the acoustic codes need not say what a
coarse semantic code leaves over, and the semantic one, distilled from a speech model, need not serve the
waveform.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig, add_losses
from audiotokens.quantizers.registry import build_quantizer
from audiotokens.quantizers.statistics import nest


@dataclass(frozen=True)
class SplitConfig(QuantizerConfig):
    """Two quantizers side by side; Mimi has a `projected` one around `vector` and one around `rvq`.

    Args:
        kind: names this quantizer in a configuration.
        semantic: the quantizer of the first codes.
        acoustic: the quantizer of the others.
    """

    kind: Literal["split"] = "split"
    semantic: QuantizerConfig = field(kw_only=True)
    acoustic: QuantizerConfig = field(kw_only=True)


class SplitQuantizer(Quantizer):
    """Split RVQ: the codes are the S semantic ones, then the acoustic ones, and what they stand for is added.

    The legal prefixes are S and S more than those of the acoustic quantizer: 1 to 1 + N for one semantic
    book beside an RVQ of N. Losses of the same name are added.

    Example:
        >>> from audiotokens.quantizers import FSQConfig, RVQConfig
        >>> config = SplitConfig(semantic=FSQConfig(), acoustic=RVQConfig(num_codebooks=3))
        >>> SplitQuantizer(16, config).legal_prefixes
        (1, 2, 3, 4)
    """

    config_class: ClassVar[type[QuantizerConfig]] = SplitConfig
    label = "split RVQ"

    def __init__(self, dim: int, config: SplitConfig) -> None:
        super().__init__(dim, config)
        self.config = config
        self.semantic = build_quantizer(config.semantic, dim)
        self.acoustic = build_quantizer(config.acoustic, dim)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.semantic.codebook_sizes + self.acoustic.codebook_sizes

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        first = len(self.semantic.codebook_sizes)
        return (first, *(first + books for books in self.acoustic.legal_prefixes))

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        """Quantize for training; see `Quantizer.forward`.

        For the acoustic quantizer the frames of an item with semantic codes only count as padded.
        """
        semantic: Quantized = self.semantic(latents, mask=mask)
        books, acoustic_mask = num_codebooks, mask
        active = torch.ones(len(latents), dtype=torch.bool, device=latents.device)
        if books is not None:
            if isinstance(books, int):
                books = torch.full((len(latents),), self.check_prefix(books), device=latents.device)
            books = books - len(self.semantic.codebook_sizes)
            active = books > 0
            valid = torch.ones_like(latents[:, 0], dtype=torch.bool) if mask is None else mask
            acoustic_mask = valid & active[:, None]
            books = books.clamp(min=min(self.acoustic.legal_prefixes))
        acoustic: Quantized = self.acoustic(latents, num_codebooks=books, mask=acoustic_mask)
        losses: dict[str, Tensor] = {}
        add_losses(losses, semantic.losses, mask=mask)
        add_losses(losses, acoustic.losses, mask=acoustic_mask)
        return Quantized(
            latents=semantic.latents + acoustic.latents * active[:, None, None],
            codes=torch.cat([semantic.codes, acoustic.codes], 1),
            losses=losses,
            statistics=nest(semantic.statistics, "semantic") | nest(acoustic.statistics, "acoustic"),
        )

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        more = self.check_prefix(num_codebooks) - len(self.semantic.codebook_sizes)
        semantic = self.semantic.encode(latents)
        if not more:
            return semantic
        return torch.cat([semantic, self.acoustic.encode(latents, num_codebooks=more)], 1)

    def margins(self, latents: Tensor, codes: Tensor) -> Tensor:
        first = len(self.semantic.codebook_sizes)
        found = [self.semantic.margins(latents, codes[:, :first])]
        if codes.shape[1] > first:
            found.append(self.acoustic.margins(latents, codes[:, first:]))
        return torch.cat(found, 1)

    def decode(self, codes: Tensor) -> Tensor:
        first = len(self.semantic.codebook_sizes)
        more = self.check_prefix(codes.shape[1]) - first
        semantic = self.semantic.decode(codes[:, :first])
        return semantic + self.acoustic.decode(codes[:, first:]) if more else semantic

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Initialize both quantizers from sample latents `[N, D]`."""
        self.semantic.initialize(latents, generator=generator)
        self.acoustic.initialize(latents, generator=generator)
