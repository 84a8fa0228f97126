"""What every kind of quantizer promises, on a small one of each, with inner quantizers and projections."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiotokens.quantizers import (
    AgglomerativeConfig,
    BSQConfig,
    FSQConfig,
    GradientLearning,
    GroupedConfig,
    GumbelConfig,
    KMeansConfig,
    LatentConfig,
    LFQConfig,
    ProjectedConfig,
    QINCoConfig,
    Quantizer,
    QuantizerConfig,
    RandomProjectionConfig,
    ResidualFSQConfig,
    ResidualLFQConfig,
    RVQConfig,
    ScalarConfig,
    SimVQConfig,
    SplitConfig,
    VectorConfig,
    build_quantizer,
)
from audiotokens.quantizers.registry import quantizers

DIM = 96
SMALL = VectorConfig(codebook_size=64)
FACTORIZED = VectorConfig(codebook_size=64, codebook_dim=8, metric="cosine", learning=GradientLearning())
CONFIGS: dict[str, QuantizerConfig] = {
    "agglomerative": AgglomerativeConfig(codebook_size=32, num_centroids=64),
    "bsq": BSQConfig(bits=8),
    "fsq": FSQConfig(levels=(8, 5, 5, 5)),
    "grouped": GroupedConfig(groups=3, inner=FACTORIZED),
    "gumbel": GumbelConfig(codebook_size=64),
    "k-means": KMeansConfig(codebook_size=64),
    "latent": LatentConfig(levels=(8, 5, 5)),
    "lfq": LFQConfig(bits=8),
    "projected": ProjectedConfig(inner=RVQConfig(num_codebooks=3, inner=SMALL), inner_dim=24),
    "qinco": QINCoConfig(num_codebooks=3, codebook_size=32),
    "random-projection": RandomProjectionConfig(num_codebooks=2, codebook_size=64),
    "residual-fsq": ResidualFSQConfig(num_codebooks=3, levels=(8, 5, 5)),
    "residual-lfq": ResidualLFQConfig(num_codebooks=3, inner=LFQConfig(bits=6)),
    "rvq": RVQConfig(num_codebooks=4, inner=FACTORIZED, gradient="chain"),
    "scalar": ScalarConfig(),
    "sim-vq": SimVQConfig(codebook_size=64),
    "split": SplitConfig(semantic=SMALL, acoustic=RVQConfig(num_codebooks=3, inner=SMALL)),
    "vector": FACTORIZED,
}
each_kind = pytest.mark.parametrize("kind", sorted(CONFIGS))


def made(kind: str) -> tuple[Quantizer, Tensor]:
    """A quantizer in evaluation mode, and latents `[5, D, 37]`."""
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(5, DIM, 37, generator=generator)
    torch.manual_seed(4)
    return build_quantizer(CONFIGS[kind], DIM).eval(), latents


def test_no_kind_is_forgotten() -> None:
    # Multiscale quantizers give codes of several rates: tests/quantizers/test_multiscale.py.
    assert set(CONFIGS) == set(quantizers) - {"multiscale"}


@each_kind
def test_codes_and_latents_do_not_depend_on_the_batch(kind: str) -> None:
    quantizer, latents = made(kind)
    with torch.no_grad():
        codes = quantizer.encode(latents)
        decoded = quantizer.decode(codes)
        for item, one, sound in zip(latents, codes, decoded):
            assert torch.equal(quantizer.encode(item[None]), one[None])
            assert torch.equal(quantizer.decode(one[None]), sound[None])
        part = slice(3, 20)
        assert torch.equal(quantizer.encode(latents[..., part]), codes[..., part])
        assert torch.equal(quantizer.decode(codes[..., part]), decoded[..., part])


@each_kind
def test_codes_are_those_of_books(kind: str) -> None:
    quantizer, latents = made(kind)
    codes = quantizer.encode(latents)
    assert codes.dtype == torch.int64
    assert codes.shape == (5, len(quantizer.codebook_sizes), 37)
    for book, size in zip(codes.transpose(0, 1), quantizer.codebook_sizes):
        assert int(book.min()) >= 0 and int(book.max()) < size
    assert quantizer.legal_prefixes[-1] == len(quantizer.codebook_sizes)


@each_kind
def test_every_legal_prefix_decodes_and_no_other_encodes(kind: str) -> None:
    quantizer, latents = made(kind)
    for books in range(1, len(quantizer.codebook_sizes) + 2):
        if books in quantizer.legal_prefixes:
            codes = quantizer.encode(latents, num_codebooks=books)
            assert codes.shape[1] == books
            assert quantizer.decode(codes).shape == latents.shape
        else:
            with pytest.raises(ValueError, match=f"num_codebooks is {books}, expected "):
                quantizer.encode(latents, num_codebooks=books)


@each_kind
def test_forward_agrees_with_encode_and_decode(kind: str) -> None:
    quantizer, latents = made(kind)
    with torch.no_grad():
        found = quantizer(latents)
        agreeing = (found.codes == quantizer.encode(latents)).float().mean()
        assert agreeing > 0.99
        torch.testing.assert_close(found.latents, quantizer.decode(found.codes), rtol=1e-4, atol=1e-4)
        assert not found.statistics


@each_kind
def test_autocast_changes_no_code(kind: str) -> None:
    quantizer, latents = made(kind)
    with torch.no_grad():
        expected = quantizer(latents)
        with torch.autocast("cpu", torch.bfloat16):
            found = quantizer(latents)
            assert torch.equal(quantizer.encode(latents), quantizer.encode(latents))
    assert torch.equal(found.codes, expected.codes)
    assert found.latents.dtype == torch.float32


@each_kind
def test_padding_changes_neither_losses_nor_statistics(kind: str) -> None:
    quantizer, latents = made(kind)
    if kind == "gumbel":
        pytest.skip("its noise depends on the shape of the batch; see test_gumbel.py")
    quantizer.train()
    padded = torch.cat([latents, 100 * torch.ones(5, DIM, 6)], 2)
    mask = torch.ones(5, 43, dtype=torch.bool)
    mask[:, 37:] = False
    expected, found = quantizer(latents), quantizer(padded, mask=mask)
    assert found.losses.keys() == expected.losses.keys()
    assert found.statistics.keys() == expected.statistics.keys()
    for name, value in expected.losses.items():
        torch.testing.assert_close(found.losses[name], value, rtol=1e-4, atol=1e-6)
    for name, tensor in expected.statistics.items():
        torch.testing.assert_close(found.statistics[name], tensor, rtol=1e-4, atol=1e-4)


@each_kind
def test_forward_changes_no_state(kind: str) -> None:
    quantizer, latents = made(kind)
    quantizer.train()
    before = {
        name: tensor.clone() for name, tensor in [*quantizer.named_buffers(), *quantizer.named_parameters()]
    }
    found = quantizer(latents.requires_grad_())
    total = found.latents.square().sum() + sum(found.losses.values())
    if total.requires_grad:
        total.backward()
    for name, tensor in [*quantizer.named_buffers(), *quantizer.named_parameters()]:
        assert torch.equal(tensor, before[name]), name


@each_kind
def test_a_state_dict_brings_back_the_codes(kind: str) -> None:
    quantizer, latents = made(kind)
    torch.manual_seed(5)
    other = build_quantizer(CONFIGS[kind], DIM).eval()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.encode(latents), quantizer.encode(latents))
    assert all(
        torch.equal(a, b) for a, b in zip(other.state_dict().values(), quantizer.state_dict().values())
    )
