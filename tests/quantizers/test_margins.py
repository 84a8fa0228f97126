"""Margins: a smaller change of the latents flips no code, a larger one in the worst direction does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiotokens.errors import NotOfferedError
from audiotokens.quantizers import (
    FSQConfig,
    MultiscaleConfig,
    ProjectedConfig,
    Quantizer,
    RVQConfig,
    SplitConfig,
    VectorConfig,
    build_quantizer,
)

_BOOK = VectorConfig(codebook_size=9)
EXACT = {
    "vector": _BOOK,
    "residual": RVQConfig(num_codebooks=3, inner=_BOOK),
    "residual with scales": RVQConfig(num_codebooks=2, inner=_BOOK, scales=(1.0, 0.5)),
    "split": SplitConfig(semantic=_BOOK, acoustic=RVQConfig(num_codebooks=2, inner=_BOOK)),
}
BOUNDS = {
    "cosine": VectorConfig(codebook_size=12, metric="cosine"),
    "sphere": VectorConfig(codebook_size=12, metric="sphere"),
    "large": VectorConfig(codebook_size=200),
    "factorized": RVQConfig(
        num_codebooks=2,
        gradient="chain",
        inner=VectorConfig(codebook_size=12, codebook_dim=3, metric="cosine"),
    ),
    "projected": ProjectedConfig(inner=RVQConfig(num_codebooks=2, inner=_BOOK), inner_dim=5),
    "multiscale": MultiscaleConfig(strides=(2, 1), inner=_BOOK),
}


def made(config: object) -> tuple[Quantizer, Tensor]:
    torch.manual_seed(0)
    quantizer = build_quantizer(config, 6).eval()  # type: ignore[arg-type]
    return quantizer, torch.randn(2, 6, 40)


def parts(codes: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return codes if isinstance(codes, tuple) else (codes,)


@pytest.mark.parametrize("config", [*EXACT.values(), *BOUNDS.values()], ids=[*EXACT, *BOUNDS])
def test_a_smaller_change_flips_nothing(config: object) -> None:
    quantizer, latents = made(config)
    codes = quantizer.encode(latents)
    margins = quantizer.margins(latents, codes)
    shortest = torch.stack([m.amin(1).repeat_interleave(40 // m.shape[2], 1) for m in parts(margins)]).amin(
        (0, 2)
    )
    for _ in range(60):
        change = torch.nn.functional.normalize(torch.randn(2, 6, 40, dtype=torch.float64), dim=1)
        found = quantizer.encode(latents + 0.999 * shortest[:, None, None] * change)
        for part, expected in zip(parts(found), parts(codes)):
            assert torch.equal(part, expected)
    for part, expected in zip(parts(margins), parts(codes)):
        assert part.shape == expected.shape and part.dtype == torch.float64 and bool((part > 0).all())


@pytest.mark.parametrize("config", EXACT.values(), ids=EXACT)
def test_a_larger_change_towards_the_border_flips(config: object) -> None:
    quantizer, latents = made(config)
    codes = quantizer.encode(latents)
    first = quantizer.margins(latents, codes)[:, 0]
    book = next(module for module in quantizer.modules() if hasattr(module, "entries"))
    entries = book.entries(torch.float64)
    z = latents.double().mT
    chosen = entries[codes[:, 0]]
    # Towards each other entry in turn: one of them is where the border is nearest.
    towards = torch.nn.functional.normalize(entries[None, None] - chosen[:, :, None], dim=3)
    flipped = torch.zeros_like(codes[:, 0], dtype=torch.bool)
    for other in range(9):
        moved = z + 1.001 * first[..., None] * towards[:, :, other]
        flipped |= quantizer.encode(moved.mT)[:, 0] != codes[:, 0]
    assert bool(flipped.all())


def test_who_has_none_says_so() -> None:
    quantizer, latents = made(FSQConfig(levels=(5, 5, 5, 5, 5, 5)))
    with pytest.raises(NotOfferedError, match="FSQ has no margins"):
        quantizer.margins(latents, quantizer.encode(latents))
