"""Convolutions as matrix products give what torch's own give."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from audiotokens.nn.kernels import convolve, convolve_transposed, run_lstm

SHAPES = [
    # inputs, outputs, kernel, stride, dilation
    (1, 32, 7, 1, 1),
    (32, 1, 7, 1, 1),
    (3, 2, 1, 1, 1),
    (64, 64, 7, 1, 9),
    (300, 20, 3, 1, 2),
    (64, 2, 5, 1, 3),
    (64, 128, 10, 5, 1),
    (64, 33, 9, 3, 1),
    (64, 33, 7, 3, 1),
    (64, 8, 3, 2, 2),
    (8, 8, 2, 2, 1),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("inputs", "outputs", "kernel", "stride", "dilation"), SHAPES)
def test_convolution(
    inputs: int, outputs: int, kernel: int, stride: int, dilation: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(inputs, outputs, kernel, stride, dilation=dilation, bias=inputs != 3).to(dtype)
    span = (kernel - 1) * dilation + 1
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    with torch.inference_mode():
        for samples in (span, span + 1, span + 5 * stride + 1, 200):
            x = torch.randn(2, inputs, samples, dtype=dtype)
            for given in (x, x.mT.contiguous().mT, torch.cat([x, x], 2)[..., :samples]):
                torch.testing.assert_close(convolve(conv, given), conv(x), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(7, 1, 1), (3, 1, 9), (4, 2, 1), (3, 2, 3)])
def test_depthwise_convolution(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(12, 12, kernel, stride, dilation=dilation, groups=12)
    with torch.inference_mode():
        x = torch.randn(2, 12, 50)
        torch.testing.assert_close(convolve(conv, x), conv(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(convolve(conv.double(), x.double()), conv(x.double()))


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups"), [(12, 12, 3), (60, 30, 3), (4, 8, 4), (32, 2, 2), (6, 6, 6)]
)
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (4, 2), (3, 2), (5, 1)])
def test_groups_of_channels(inputs: int, outputs: int, groups: int, kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(inputs, outputs, kernel, stride, groups=groups, bias=kernel > 1)
    transposed = nn.ConvTranspose1d(inputs, outputs, kernel + stride, stride, groups=groups, bias=False)
    with torch.inference_mode():
        x = torch.randn(2, inputs, 50)
        torch.testing.assert_close(convolve(conv, x), conv(x), atol=1e-5, rtol=1e-5)
        tail = torch.randn(2, outputs, kernel)
        expected = transposed(x)
        expected[..., :kernel] += tail
        found = convolve_transposed(transposed, x, tail)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride"), [(32, 16, 10, 5), (4, 1, 16, 8), (5, 3, 7, 3), (3, 3, 4, 4)]
)
def test_transposed_convolution(
    inputs: int, outputs: int, kernel: int, stride: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    conv = nn.ConvTranspose1d(inputs, outputs, kernel, stride, bias=False).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    with torch.inference_mode():
        for frames in (1, 2, 17):
            x = torch.randn(2, inputs, frames, dtype=dtype)
            tail = torch.randn(2, outputs, kernel - stride, dtype=dtype)
            expected = conv(x)
            expected[..., : kernel - stride] += tail
            found = convolve_transposed(conv, x, tail)
            torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("width", "layers", "frames"), [(16, 1, 1), (24, 2, 30), (5, 3, 7)])
def test_lstm(width: int, layers: int, frames: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(width, width, layers, batch_first=True).to(dtype)
    x, h, c = torch.randn(2, frames, width), torch.randn(layers, 2, width), torch.randn(layers, 2, width)
    x, h, c = (tensor.to(dtype) for tensor in (x, h, c))
    with torch.inference_mode():
        y, (last_h, last_c) = lstm(x, (h, c))
        for found, expected in zip(run_lstm(lstm, x, h.clone(), c.clone()), (y, last_h, last_c)):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_weights_that_change_are_laid_out_anew() -> None:
    conv, x = nn.Conv1d(40, 40, 9), torch.randn(1, 40, 30)
    with torch.inference_mode():
        convolve(conv, x)
    with torch.no_grad():
        conv.weight *= 2
        torch.testing.assert_close(convolve(conv, x), conv(x), atol=1e-4, rtol=1e-4)
        conv.load_state_dict({"weight": torch.randn(40, 40, 9), "bias": torch.zeros(40)})
        torch.testing.assert_close(convolve(conv, x), conv(x), atol=1e-4, rtol=1e-4)
        conv.double()
        torch.testing.assert_close(convolve(conv, x.double()), conv(x.double()))


def test_a_copy_has_weights_of_its_own() -> None:
    conv, x = nn.Conv1d(40, 40, 9), torch.randn(1, 40, 30)
    with torch.no_grad():
        convolve(conv, x)
        twin = copy.deepcopy(conv)
        twin.weight *= 3
        torch.testing.assert_close(convolve(twin, x), twin(x), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(convolve(conv, x), conv(x), atol=1e-4, rtol=1e-4)
    assert pickle.loads(pickle.dumps(conv)).weight.shape == conv.weight.shape
