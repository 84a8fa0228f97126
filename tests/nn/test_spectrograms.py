"""Spectrograms in pieces, in batches and against torch's own transforms."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.nn.block import Block
from audiotokens.nn.spectrograms import (
    Clip,
    CosineMagnitude,
    LogMel,
    PolarSpectrum,
    SymmetricExponential,
    mel_filters,
)
from audiotokens.nn.transforms import IMDCT, ISTFT, MDCT, mdct_basis

SIZES = [(24, 8), (16, 8), (20, 6), (14, 9), (22, 7)]
MELS: dict[str, LogMel] = {
    f"{padding} {n_fft}/{hop}": LogMel(16000, n_fft, hop, 5, padding=padding)
    for padding in ("center", "same")
    for n_fft, hop in [*SIZES, (8, 8)]
}
SYNTHESES: dict[str, Block] = {
    **{f"istft same {n_fft}/{hop}": ISTFT(n_fft, hop) for n_fft, hop in SIZES},
    **{
        f"istft center {n_fft}/{hop}": ISTFT(n_fft, hop, padding="center")
        for n_fft, hop in SIZES
        if n_fft >= 2 * hop
    },
    **{f"imdct {p} {hop}": IMDCT(hop, padding=p) for p in ("center", "same") for hop in (6, 7)},
}


def in_pieces(block: Block, x: Tensor, cuts: list[int]) -> Tensor:
    state = block.initial_state(len(x), like=x)
    edges = [0, *sorted(cuts), x.shape[2]]
    parts = []
    for index, (start, end) in enumerate(zip(edges, edges[1:])):
        y, state = block.step(x[..., start:end], state, final=index == len(edges) - 2)
        parts.append(y)
    return torch.cat(parts, 2)


def channels(block: Block) -> int:
    if isinstance(block, IMDCT):
        return block.hop
    return block.n_fft + 2 if isinstance(block, ISTFT) else 1


@pytest.mark.parametrize("name", [*MELS, *SYNTHESES])
@torch.no_grad()
def test_any_chunking_gives_one_pass(name: str) -> None:
    block, draw = {**MELS, **SYNTHESES}[name].double(), random.Random(name)
    for _ in range(25):
        length = draw.randint(1, 70)
        x = torch.randn(draw.randint(1, 2), channels(block), length, dtype=torch.float64)
        whole = block(x)
        assert whole.shape[2] == int(block.output_lengths(torch.tensor(length)))
        for cuts in ([draw.randint(0, length) for _ in range(draw.randint(0, 8))], list(range(length))):
            torch.testing.assert_close(in_pieces(block, x, cuts), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [*MELS, *SYNTHESES])
@torch.no_grad()
def test_padding_does_not_leak(name: str) -> None:
    block = {**MELS, **SYNTHESES}[name].double()
    lengths = torch.tensor([17, 40, 1, 33])
    x = torch.randn(4, channels(block), 40, dtype=torch.float64)
    batch = block(x, lengths)
    for item, (length, valid) in enumerate(zip(lengths.tolist(), block.output_lengths(lengths).tolist())):
        alone = block(x[item : item + 1, :, :length])
        assert alone.shape[2] == valid
        torch.testing.assert_close(batch[item : item + 1, :, :valid], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [*MELS, *SYNTHESES])
def test_output_waits_for_what_is_told_and_reach_bounds_what_it_reads(name: str) -> None:
    block = {**MELS, **SYNTHESES}[name].double()
    x = torch.randn(1, channels(block), 60, dtype=torch.float64, requires_grad=True)
    out = 0
    state = block.initial_state(1, like=x)
    for end in range(1, 40):
        y, state = block.step(x[..., end - 1 : end].detach(), state)
        out += y.shape[2]
        assert not out or block.samples_needed(out) <= end < block.samples_needed(out + 1)
    whole, reach = block(x), block.reach
    for frame in range(whole.shape[2]):
        (gradient,) = torch.autograd.grad(whole[0, :, frame].square().sum(), x, retain_graph=True)
        touched = torch.nonzero(gradient[0].abs().sum(0) > 0)[:, 0]
        if len(touched):
            assert touched[0] >= frame * reach.stride // 1 - reach.past
            assert touched[-1] <= -(-(frame + 1) * reach.stride // 1) - 1 + reach.future


@pytest.mark.parametrize(("n_fft", "hop"), SIZES)
@torch.no_grad()
def test_log_mel_is_torchs_stft(n_fft: int, hop: int) -> None:
    x = torch.randn(1, 1, 67, dtype=torch.float64)
    window = torch.hann_window(n_fft)
    for padding, margin in (("center", n_fft // 2), ("same", (n_fft - hop) // 2)):
        padded = functional.pad(x, (margin, margin), mode="reflect")[0]
        spectrum = torch.stft(padded, n_fft, hop, window=window.double(), center=False, return_complex=True)
        filters = mel_filters(16000, n_fft, 5).double()
        expected = (filters @ spectrum.abs()).clamp(min=1e-7).log()
        block = LogMel(16000, n_fft, hop, 5, padding=padding)  # type: ignore[arg-type]
        torch.testing.assert_close(block.double()(x), expected)


@torch.no_grad()
def test_centered_istft_is_torchs() -> None:
    for n_fft, hop, frames in ((24, 8, 9), (16, 8, 2), (20, 6, 12)):
        spectrum = torch.randn(2, n_fft // 2 + 1, frames, dtype=torch.complex128)
        expected = torch.istft(spectrum, n_fft, hop, window=torch.hann_window(n_fft).double())
        found = ISTFT(n_fft, hop, padding="center").double()(torch.cat([spectrum.real, spectrum.imag], 1))
        torch.testing.assert_close(found[:, 0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("hop", [6, 7])
@torch.no_grad()
def test_mdct_and_back_keeps_all_but_the_ends(hop: int) -> None:
    x = torch.randn(1, 1, 10 * hop, dtype=torch.float64)
    coefficients = MDCT(hop).double()(x)
    for padding in ("center", "same"):
        y = IMDCT(hop, padding=padding).double()(coefficients)
        shift = hop if padding == "center" else hop // 2
        torch.testing.assert_close(
            y[..., hop - shift : 8 * hop], x[..., hop : 8 * hop + shift], rtol=0, atol=1e-6
        )


def test_the_mdct_basis_is_orthonormal_over_neighbours() -> None:
    basis = mdct_basis(8)
    torch.testing.assert_close(basis.T @ basis, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-12)


def test_what_the_last_layers_say() -> None:
    x = torch.tensor([[[0.5], [9.0], [0.3], [-2.0]]])
    magnitude = torch.tensor([0.5, 9.0]).exp().clamp(max=100)
    phase = torch.tensor([0.3, -2.0])
    torch.testing.assert_close(
        PolarSpectrum()(x)[0, :, 0], torch.cat([magnitude * phase.cos(), magnitude * phase.sin()])
    )
    torch.testing.assert_close(CosineMagnitude()(x)[0, :, 0], magnitude * phase.cos())
    expected = torch.tensor([0.5, 100, 0.3, -2.0]).sign() * torch.tensor(
        [0.6487213, 100, 0.3498588, 6.389056]
    )
    torch.testing.assert_close(SymmetricExponential()(x)[0, :, 0], expected)
    assert Clip()(x)[0, :, 0].tolist() == pytest.approx([0.5, 1, 0.3, -1])


@pytest.mark.parametrize(
    ("n_fft", "hop", "padding", "message"),
    [
        (10, 9, "same", "n_fft is 10, expected an even number of at least hop . 2 = 11"),
        (25, 5, "same", "n_fft is 25, expected an even number"),
        (16, 10, "center", "n_fft is 16, expected at least 2 hops of 10"),
    ],
)
def test_what_cannot_be_is_refused(n_fft: int, hop: int, padding: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ISTFT(n_fft, hop, padding=padding)  # type: ignore[arg-type]
    if "odd" not in message:
        with pytest.raises(ValueError, match="n_fft is 4, expected at least the hop, 5"):
            LogMel(16000, 4, 5, 3, padding="same")
