"""The SEANet convolution against its definition, in chunks, and in padded batches."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from audiotokens.nn.padding import PaddedConv1d, PadMode

SHAPES = [
    # kernel, stride, dilation
    (7, 1, 1),
    (3, 1, 4),
    (4, 2, 1),
    (10, 5, 1),
    (6, 3, 1),
    (5, 5, 1),
    (1, 1, 1),
    (2, 1, 3),
    (8, 1, 1),
]
MODES: list[PadMode] = ["reflect", "replicate", "constant"]


def make(shape: tuple[int, int, int], *, causal: bool, mode: PadMode) -> PaddedConv1d:
    torch.manual_seed(0)
    kernel, stride, dilation = shape
    conv = PaddedConv1d(2, 3, kernel, stride=stride, dilation=dilation, causal=causal, mode=mode)
    return conv.double().eval()


def by_definition(conv: PaddedConv1d, x: Tensor) -> Tensor:
    """Sample by sample: the left half of the padding rounded up, whole windows, reflection of short input."""
    length = x.shape[2]
    filling = -length % conv.stride
    right = conv.right + filling
    mirrored = length if length > max(conv.left, right) else max(conv.left, right) + 1
    padded = []
    for place in range(-conv.left, length + right):
        source = place
        if conv.mode == "reflect":
            source = -place if place < 0 else 2 * (mirrored - 1) - place if place >= mirrored else place
        elif conv.mode == "replicate":
            source = min(max(place, 0), length - 1)
        inside = 0 <= source < length
        padded.append(x[..., source] if inside else torch.zeros_like(x[..., 0]))
    result: Tensor = conv.conv(torch.stack(padded, 2))
    return result


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_definition_from_one_sample_up(shape: tuple[int, int, int], causal: bool, mode: PadMode) -> None:
    conv = make(shape, causal=causal, mode=mode)
    for length in range(1, 32):
        x = torch.randn(2, 2, length, dtype=torch.float64)
        y = conv(x)
        assert y.shape[2] == -(-length // conv.stride)
        assert int(conv.output_lengths(torch.tensor(length))) == y.shape[2]
        torch.testing.assert_close(y, by_definition(conv, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_chunks_give_the_whole_as_soon_as_it_is_final(
    shape: tuple[int, int, int], causal: bool, mode: PadMode
) -> None:
    conv = make(shape, causal=causal, mode=mode)
    random = torch.Generator().manual_seed(1)
    for length in (*range(1, 20), 57):
        x = torch.randn(1, 2, length, dtype=torch.float64)
        state, parts, given = conv.initial_state(1, like=x), [], 0
        while given < length:
            size = int(torch.randint(0, 9, (), generator=random))
            part, state = conv.step(x[..., given : given + size], state)
            given = min(given + size, length)
            parts.append(part)
            frames = sum(part.shape[2] for part in parts)
            assert conv.samples_needed(frames) <= given < conv.samples_needed(frames + 1)
        part, state = conv.step(x[..., :0], state, final=True)
        torch.testing.assert_close(torch.cat([*parts, part], 2), conv(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_items_of_a_padded_batch_are_as_alone(
    shape: tuple[int, int, int], causal: bool, mode: PadMode
) -> None:
    conv = make(shape, causal=causal, mode=mode)
    lengths = torch.tensor([*range(1, 22), 40])
    x = torch.randn(len(lengths), 2, 43, dtype=torch.float64)
    batch = conv(x, lengths)
    for item, length, found in zip(x, lengths.tolist(), batch):
        alone = conv(item[None, :, :length])[0]
        torch.testing.assert_close(found[:, : alone.shape[1]], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_frames_read_no_more_than_their_reach(causal: bool) -> None:
    for shape, mode in itertools.product(SHAPES, MODES):
        conv = make(shape, causal=causal, mode=mode)
        x = torch.randn(1, 2, 61, dtype=torch.float64, requires_grad=True)
        y = conv(x)
        for frame in range(y.shape[2]):
            (gradient,) = torch.autograd.grad(y[0, :, frame].sum(), x, retain_graph=True)
            read = gradient.abs().sum((0, 1)).nonzero().flatten()
            assert int(read.min()) >= frame * conv.stride - conv.reach.past
            assert int(read.max()) < max(conv.samples_needed(frame + 1), 1)


def test_no_samples_give_no_frames() -> None:
    conv = make((7, 1, 1), causal=True, mode="reflect")
    assert conv(torch.zeros(1, 2, 0, dtype=torch.float64)).shape == (1, 3, 0)


def test_kernel_shorter_than_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="the kernel spans 2 samples, expected at least the stride, 3"):
        PaddedConv1d(1, 1, 2, stride=3, causal=True, mode="reflect")
