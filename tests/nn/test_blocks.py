"""One conformance test for every block: any chunking gives what one pass gives, and padding leaks nowhere."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from audiotokens.architectures.gain_shape import (
    GainShapeCoefficients,
    GainShapeFeatures,
    LeadingFrame,
    band_weights,
    convnext_block,
)
from audiotokens.nn.block import Block, Parallel, Residual, Sequential
from audiotokens.nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d, centered
from audiotokens.nn.layers import ChannelScale, LayerNorm, Linear, SiLU
from audiotokens.nn.transforms import IMDCT, ISTFT, MDCT

Case = tuple[Callable[[], Block], int]

CASES: dict[str, Case] = {
    "causal conv": (lambda: Conv1d(3, 4, 5), 3),
    "causal dilated conv": (lambda: Conv1d(3, 4, 3, dilation=4), 3),
    "centered conv": (lambda: Conv1d(3, 4, 7, lookahead=centered(7)), 3),
    "grouped conv": (lambda: Conv1d(4, 4, 3, groups=2, lookahead=1), 4),
    "causal strided conv": (lambda: Conv1d(3, 4, 8, stride=4), 3),
    "centered strided conv": (lambda: Conv1d(3, 4, 10, stride=5, lookahead=centered(10, stride=5)), 3),
    "odd strided conv": (lambda: Conv1d(3, 4, 7, stride=3, lookahead=2), 3),
    "kernel equals stride": (lambda: Conv1d(3, 4, 4, stride=4), 3),
    "depthwise": (lambda: DepthwiseConv1d(5, 7, lookahead=3), 5),
    "causal depthwise": (lambda: DepthwiseConv1d(5, 7), 5),
    "dilated depthwise": (lambda: DepthwiseConv1d(5, 3, dilation=4, lookahead=4), 5),
    "causal transposed": (lambda: ConvTranspose1d(3, 2, 8, stride=4), 3),
    "centered transposed": (lambda: ConvTranspose1d(3, 2, 8, stride=4, lookahead=2), 3),
    "odd transposed": (lambda: ConvTranspose1d(3, 2, 9, stride=3, lookahead=3), 3),
    "short transposed": (lambda: ConvTranspose1d(3, 2, 4, stride=4), 3),
    "linear": (lambda: Linear(3, 5), 3),
    "norm": (lambda: LayerNorm(6), 6),
    "silu": (SiLU, 3),
    "scale": (lambda: ChannelScale(3, start=0.3), 3),
    "mdct": (lambda: MDCT(8), 1),
    "imdct": (lambda: IMDCT(8), 8),
    "istft": (lambda: ISTFT(20, 8), 22),
    "istft half overlap": (lambda: ISTFT(16, 8), 18),
    "istft quarter overlap": (lambda: ISTFT(32, 8), 34),
    "leading frame": (LeadingFrame, 3),
    "features": (lambda: GainShapeFeatures(band_weights(40, 8, 16000)), 40),
    "coefficients": (lambda: GainShapeCoefficients(band_weights(40, 8, 16000)), 48),
    "convnext": (lambda: convnext_block(6, 8, 5, 2), 6),
    "causal convnext": (lambda: convnext_block(6, 8, 5, 0), 6),
    "residual of late": (
        lambda: Residual(Sequential(Conv1d(3, 3, 7, lookahead=3), Conv1d(3, 3, 5, lookahead=4))),
        3,
    ),
    "sum": (lambda: Parallel(Conv1d(3, 4, 7, lookahead=3), Conv1d(3, 4, 3)), 3),
    "concat": (
        lambda: Parallel(Conv1d(3, 4, 4, stride=2), Conv1d(3, 2, 6, stride=2, lookahead=4), join="concat"),
        3,
    ),
    "difference": (lambda: Parallel(Conv1d(3, 4, 5, lookahead=4), Linear(3, 4), join="difference"), 3),
    "nested": (
        lambda: Sequential(
            Conv1d(2, 4, 6, stride=3, lookahead=1),
            Residual(Sequential(Conv1d(4, 4, 3, lookahead=1), Residual(Conv1d(4, 4, 5, lookahead=2)))),
            ConvTranspose1d(4, 1, 6, stride=3, lookahead=1),
        ),
        2,
    ),
    "mdct and back": (lambda: Sequential(MDCT(8), LeadingFrame(), IMDCT(8)), 1),
}


def make(name: str) -> tuple[Block, int]:
    torch.manual_seed(0)
    build, channels = CASES[name]
    return build().double().eval(), channels


def in_chunks(block: Block, x: torch.Tensor, cuts: list[int]) -> torch.Tensor:
    state = block.initial_state(x.shape[0], like=x)
    edges = [0, *sorted(cuts), x.shape[2]]
    parts = []
    for index, (start, end) in enumerate(zip(edges, edges[1:])):
        y, state = block.step(x[..., start:end], state, final=index == len(edges) - 2)
        parts.append(y)
        assert len(state) == block.state_size
    return torch.cat(parts, 2)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_any_chunking_gives_one_pass(name: str) -> None:
    block, channels = make(name)
    draw = random.Random(name)
    for _ in range(25):
        length = draw.randint(1, 60)
        x = torch.randn(draw.randint(1, 3), channels, length, dtype=torch.float64)
        whole = block(x)
        cuts = [draw.randint(0, length) for _ in range(draw.randint(0, 8))]
        pieces = in_chunks(block, x, cuts)
        assert pieces.shape == whole.shape, (length, cuts)
        torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_padding_and_neighbours_do_not_leak(name: str) -> None:
    block, channels = make(name)
    lengths = torch.tensor([17, 40, 1, 33])
    x = torch.randn(4, channels, 40, dtype=torch.float64)
    batch = block(x, lengths)
    frames = block.output_lengths(lengths)
    for item, (length, valid) in enumerate(zip(lengths.tolist(), frames.tolist())):
        alone = block(x[item : item + 1, :, :length])
        assert alone.shape[2] == valid
        torch.testing.assert_close(batch[item : item + 1, :, :valid], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_reach_bounds_what_a_frame_reads(name: str) -> None:
    block, channels = make(name)
    x = torch.randn(1, channels, 60, dtype=torch.float64, requires_grad=True)
    y = block(x)
    reach = block.reach
    for frame in range(y.shape[2]):
        (gradient,) = torch.autograd.grad(y[0, :, frame].square().sum(), x, retain_graph=True)
        touched = torch.nonzero(gradient[0].abs().sum(0) > 0)[:, 0]
        if len(touched):
            first = int(frame * reach.stride // 1)
            last = int(-(-(frame + 1) * reach.stride // 1)) - 1
            assert touched[0] >= first - reach.past
            assert touched[-1] <= last + reach.future


@torch.no_grad()
def test_mdct_and_back_is_the_identity() -> None:
    block, _ = make("mdct and back")
    x = torch.randn(1, 1, 64, dtype=torch.float64)
    # The first hop has no frame before it: its time aliasing stays.
    torch.testing.assert_close(block(x)[..., 8:], x[..., 8:], rtol=0, atol=1e-6)


@torch.no_grad()
def test_istft_inverts_a_stft() -> None:
    n_fft, hop, frames = 24, 8, 12
    window = torch.hann_window(n_fft, dtype=torch.float64)
    signal = torch.randn(frames * hop, dtype=torch.float64)
    padded = torch.nn.functional.pad(signal, ((n_fft - hop) // 2,) * 2)
    spectrum = torch.fft.rfft(padded.unfold(0, n_fft, hop) * window)
    x = torch.cat([spectrum.real, spectrum.imag], 1).T[None]
    restored = ISTFT(n_fft, hop).double()(x)
    torch.testing.assert_close(restored[0, 0], signal, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dilation", [1, 3])
def test_depthwise_gradients_match_autograd(dilation: int) -> None:
    block = DepthwiseConv1d(3, 5, dilation=dilation, lookahead=2 * dilation).double()
    x = torch.randn(2, 3, 9, dtype=torch.float64, requires_grad=True)
    taps = block.taps.T[:, None]
    reference = torch.nn.functional.conv1d(x, taps, padding=2 * dilation, dilation=dilation, groups=3)
    torch.testing.assert_close(block(x), reference)
    weight = torch.randn_like(reference)
    expected = torch.autograd.grad((reference * weight).sum(), (x, block.taps))
    found = torch.autograd.grad((block(x) * weight).sum(), (x, block.taps))
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)


def test_illegal_lookahead_is_refused() -> None:
    with pytest.raises(ValueError, match="lookahead is 5, expected 0 to"):
        Conv1d(1, 1, 5, lookahead=5)


def test_branches_of_different_stride_are_refused() -> None:
    with pytest.raises(ValueError, match="strides"):
        _ = Parallel(Conv1d(1, 1, 4, stride=2), Conv1d(1, 1, 4)).reach
