"""Random-projection quantization (Chiu et al. 2022, BEST-RQ): targets for learning, nothing is learned.

c_k = argmin_n ||unit(C_kn) - unit(A_k^T norm(z))||  (eq. 1), with norm the layer norm without weights, fixed
projections A_k (Xavier uniform) and fixed books C_k (normal).

What the codes tell of z is the directions of K projections of norm(z). `decode` gives the vector of least
length and mean zero whose projections are nearest to these entries (least squares), scaled to variance 1 as
norm(z) is: an estimate of norm(z), not of z. Where K d < D it has exactly these projections, and encoding it
gives the same codes again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.nn import exact
from audiotokens.quantizers.base import Quantized, Quantizer, QuantizerConfig, to_rows


@dataclass(frozen=True)
class RandomProjectionConfig(QuantizerConfig):
    """Fixed random projections and books.

    Args:
        kind: names this quantizer in a configuration.
        num_codebooks: books K, each behind its own projection.
        codebook_size: entries of each book.
        codebook_dim: dimensions d of the projections and the books.
        offsets: whether a fixed vector is added to each projection, which the paper does not.
    """

    kind: Literal["random-projection"] = "random-projection"
    num_codebooks: int = 1
    codebook_size: int = 8192
    codebook_dim: int = 16
    offsets: bool = False

    def __post_init__(self) -> None:
        if min(self.num_codebooks, self.codebook_dim) < 1 or self.codebook_size < 2:
            raise ValueError(
                f"found num_codebooks {self.num_codebooks}, codebook_dim {self.codebook_dim}, codebook_size "
                f"{self.codebook_size}; expected at least 1, 1 and 2"
            )


class RandomProjectionQuantizer(Quantizer):
    """BEST-RQ; `forward` gives no gradient to the latents. Any prefix of the books encodes and decodes.

    State: `projections` `[K, D, d]`, `books` `[K, N, d]` of unit rows, `offsets` `[K, d]` or none.
    """

    config_class: ClassVar[type[QuantizerConfig]] = RandomProjectionConfig
    label = "BEST-RQ"
    projections: Tensor
    books: Tensor
    offsets: Tensor | None

    def __init__(self, dim: int, config: RandomProjectionConfig) -> None:
        super().__init__(dim, config)
        self.config = config
        number, size, inner = config.num_codebooks, config.codebook_size, config.codebook_dim
        projections = torch.empty(number, dim, inner)
        for projection in projections:
            nn.init.xavier_uniform_(projection)
        self.register_buffer("projections", projections)
        self.register_buffer("books", functional.normalize(torch.randn(number, size, inner), dim=2))
        self.register_buffer("offsets", torch.zeros(number, inner) if config.offsets else None)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.config.codebook_size,) * self.config.num_codebooks

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        return tuple(range(1, self.config.num_codebooks + 1))

    @torch.no_grad()
    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        """Return all codes and what they decode to; `num_codebooks` and `mask` change nothing."""
        with torch.autocast(latents.device.type, enabled=False):
            codes = self._search(latents.float(), exact.nearest, len(self.books))
            return Quantized(latents=self.decode(codes), codes=codes)

    @torch.no_grad()
    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        """Return the codes int64 `[B, K, T]`; norm, projections and search run in float64.

        Raises:
            ValueError: there are not so many books.
        """
        return self._search(latents.double(), exact.nearest_float64, self.check_prefix(num_codebooks))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the estimate of the normalized latents `[B, D, T]` from the first books' codes `[B, K, T]`.

        Raises:
            ValueError: more books than there are.
        """
        number = self.check_prefix(codes.shape[1])
        entries = torch.stack([book[codes[:, k]] for k, book in enumerate(self.books[:number])], 2)
        if self.offsets is not None:
            entries = entries - self.offsets[:number]
        maps = self.projections[:number].double()
        # Vectors of mean zero are projected alike by maps less their means, and least squares finds such.
        maps = (maps - maps.mean(1, keepdim=True)).transpose(1, 2).flatten(0, 1)
        estimate = entries.flatten(2).double() @ torch.linalg.pinv(maps).T
        scaled: Tensor = functional.normalize(estimate, dim=2) * self.dim**0.5
        return scaled.to(self.books.dtype).mT

    def _search(self, latents: Tensor, nearest: Callable[[Tensor, Tensor], Tensor], number: int) -> Tensor:
        rows = functional.layer_norm(to_rows(latents), (self.dim,))
        codes = []
        for level in range(number):
            vectors = rows @ self.projections[level].to(rows.dtype)
            if self.offsets is not None:
                vectors = vectors + self.offsets[level].to(rows.dtype)
            book = functional.normalize(self.books[level].to(rows.dtype), dim=1)
            index = nearest(functional.normalize(vectors, dim=1), book)
            codes.append(exact.first_equal(book)[index])
        return torch.stack(codes).view(number, len(latents), -1).transpose(0, 1)
