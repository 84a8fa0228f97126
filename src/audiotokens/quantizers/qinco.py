"""Residual quantization with implicit neural books (Huijben et al. 2024, QINCo, section 3).

s_0 = 0;  c_k = argmin_n ||z - s_k - f_k(e_{k,n}, s_k)||;  s_{k+1} = s_k + f_k(e_{k,c_k}, s_k);  z ~ s_K
Level k's entries are made by a network from those of a base book and the sum so far; those of the first are
the base book itself. f(e, s) = h_L with h_0 = e + A [s; e] + b and h_{i+1} = h_i + W' a(W h_i + w) + w'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.nn.exact import first_equal, nearest, nearest_float64
from audiotokens.quantizers.base import (
    Quantized,
    Quantizer,
    QuantizerConfig,
    from_rows,
    linear_rows,
    to_rows,
    valid_rows,
)
from audiotokens.quantizers.gradients import straight_through
from audiotokens.quantizers.lloyd import lloyd

# Numbers in the largest tensor of a search, whatever the number of vectors and entries.
_TILE = 1 << 21


@dataclass(frozen=True)
class QINCoConfig(QuantizerConfig):
    """Residual quantizer with implicit neural books.

    Args:
        kind: names this quantizer in a configuration.
        num_codebooks: levels K, of one book each.
        codebook_size: entries of each book.
        hidden: units inside a block of a network.
        blocks: residual blocks L of a network.
        activation: a, "relu" as in the paper, or "silu" (vector-quantize-pytorch).
        shortcut: whether h_0 has the summand e; without, vector-quantize-pytorch's networks.
        codebook_weight: weight of sum_k ||sg[z] - s_k||^2, a mean over frames and dimensions; each sum trains
            the levels before it too.
        commitment: weight of ||z - sg[s_K]||^2, a mean likewise.
    """

    kind: Literal["qinco"] = "qinco"
    num_codebooks: int = 8
    codebook_size: int = 256
    hidden: int = 256
    blocks: int = 2
    activation: Literal["relu", "silu"] = "relu"
    shortcut: bool = True
    codebook_weight: float = 1.0
    commitment: float = 0.25

    def __post_init__(self) -> None:
        for name, least in (("num_codebooks", 1), ("codebook_size", 2), ("hidden", 1), ("blocks", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}")


class ImplicitBook(nn.Module):
    """The network f of one level: entries from those of a base book and what they are added to.

    With the shortcut it begins as f(e, s) = e, so that an untrained quantizer is plain RQ.
    """

    def __init__(self, dim: int, config: QINCoConfig) -> None:
        super().__init__()
        activation = {"relu": nn.ReLU, "silu": nn.SiLU}[config.activation]
        self.shortcut = config.shortcut
        self.join = nn.Linear(2 * dim, dim)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, config.hidden), activation(), nn.Linear(config.hidden, dim))
            for _ in range(config.blocks)
        )
        if config.shortcut:
            for layer in (self.join, *(block[2] for block in self.blocks)):  # type: ignore[index]
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, entries: Tensor, sums: Tensor) -> Tensor:
        """Entries, in the floating type of the inputs.

        Args:
            entries: of the base book, `[..., D]`.
            sums: so far, of a shape that broadcasts with it.
        """
        of_sums, of_entries = self.join.weight.to(sums.dtype).chunk(2, 1)
        # A [s; e] in two products: each is computed once where all sums meet all entries.
        values = functional.linear(entries, of_entries, self.join.bias.to(sums.dtype))
        values = (values + entries if self.shortcut else values) + functional.linear(sums, of_sums)
        for block in self.blocks:
            hidden = block[1](linear_rows(block[0], values))  # type: ignore[index]
            values = values + linear_rows(block[2], hidden)  # type: ignore[index]
        return values


class QINCoQuantizer(Quantizer):
    """QINCo over latents of `dim` dimensions; any number of levels from the first on decodes.

    A search evaluates a network for each vector and entry: about N times the cost of decoding. Gradients pass
    straight through the sum; books and networks are parameters, which learn by the loss "codebook".

    Example:
        >>> quantizer = QINCoQuantizer(8, QINCoConfig(num_codebooks=3, codebook_size=16, hidden=8))
        >>> quantizer.encode(torch.zeros(1, 8, 5), num_codebooks=2).shape
        torch.Size([1, 2, 5])
    """

    config_class: ClassVar[type[QuantizerConfig]] = QINCoConfig
    label = "QINCo"

    def __init__(self, dim: int, config: QINCoConfig) -> None:
        super().__init__(dim, config)
        self.config = config
        count, size = config.num_codebooks, config.codebook_size
        self.books = nn.ParameterList(torch.randn(size, dim) * 0.5**level for level in range(count))
        self.networks = nn.ModuleList(ImplicitBook(dim, config) for _ in range(count - 1))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.config.codebook_size,) * self.config.num_codebooks

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        return tuple(range(1, self.config.num_codebooks + 1))

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        batch, _, frames = latents.shape
        if not isinstance(num_codebooks, Tensor):
            num_codebooks = torch.tensor(self.check_prefix(num_codebooks))
        used = num_codebooks.to(latents.device).expand(batch).repeat_interleave(frames)
        with torch.autocast(latents.device.type, enabled=False):
            vectors = to_rows(latents.float())
            sums, codes, errors = torch.zeros_like(vectors), [], []
            valid = valid_rows(latents, mask)
            for level in range(self.config.num_codebooks):
                codes.append(self._search(level, vectors.detach(), sums.detach()))
                active = used > level
                sums = sums + self.entries(level, codes[-1], sums) * active[:, None]
                errors.append(_mean_square(vectors.detach() - sums, active & valid))
            restored = straight_through(sums, vectors)
            losses = {
                "codebook": self.config.codebook_weight * torch.stack(errors).sum(),
                "commitment": self.config.commitment * _mean_square(vectors - sums.detach(), valid),
            }
        rows = torch.stack(codes).view(-1, batch, frames)
        return Quantized(from_rows(restored, batch), rows.transpose(0, 1), losses)

    @torch.no_grad()
    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        """Return the codes int64 `[B, K, T]`; networks and search run in float64."""
        vectors = to_rows(latents.double())
        sums, codes = torch.zeros_like(vectors), []
        for level in range(self.check_prefix(num_codebooks)):
            codes.append(self._search(level, vectors, sums))
            sums = sums + self.entries(level, codes[-1], sums)
        return torch.stack(codes).view(len(codes), len(latents), -1).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        self.check_prefix(codes.shape[1])
        rows = codes.transpose(0, 1).flatten(1)
        sums = self.books[0].new_zeros(rows.shape[1], self.dim)
        for level, index in enumerate(rows):
            sums = sums + self.entries(level, index, sums)
        return from_rows(sums, len(codes))

    def entries(self, level: int, index: Tensor, sums: Tensor) -> Tensor:
        """Entries `[M, D]` of a level's codes int64 `[M]` behind `sums` `[M, D]`, in their floating type."""
        base = functional.embedding(index, self.books[level]).to(sums.dtype)
        made: Tensor = self.networks[level - 1](base, sums) if level else base
        return made

    @torch.no_grad()
    def initialize(self, latents: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Set each base book by k-means on what the levels before leave of `latents` `[N, D]`."""
        vectors = latents.float()
        sums = torch.zeros_like(vectors)
        for level, book in enumerate(self.books):
            book.copy_(lloyd(vectors - sums, len(book), generator=generator))
            sums = sums + self.entries(level, self._search(level, vectors, sums), sums)

    @torch.no_grad()
    def _search(self, level: int, vectors: Tensor, sums: Tensor) -> Tensor:
        """Codes int64 `[M]` of a level for vectors `[M, D]` and the sums before it, in their precision."""
        base = self.books[level].to(vectors.dtype)
        if level == 0:
            index = (nearest_float64 if base.dtype == torch.float64 else nearest)(vectors, base)
            return first_equal(base)[index]
        rows = max(1, _TILE // (len(base) * max(self.dim, self.config.hidden)))
        found = [torch.zeros(0, dtype=torch.long, device=base.device)]
        for targets, before in zip((vectors - sums).split(rows), sums.split(rows)):
            made = self.networks[level - 1](base, before[:, None])
            found.append((targets[:, None] - made).square().sum(2).min(1).indices)
        # Which of several equal entries wins may depend on the batch's shape; the lowest stands for all.
        return first_equal(base)[torch.cat(found)]


def _mean_square(errors: Tensor, rows: Tensor) -> Tensor:
    """Mean square of the chosen rows of `[M, D]`; 0 where none is."""
    return errors.square().mean(1).mul(rows).sum() / rows.sum().clamp(min=1)
