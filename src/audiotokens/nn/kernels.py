"""Convolutions without gradients as matrix products over channels-last memory.

A step of a stream, or a block of a long recording, is a short piece. There the matrix products of a library
beat its convolutions: no reordering of memory before and after, and no slow case for wide kernels over few
frames. With x_t the channels of frame t, weights W_j `[C, O]` per tap, stride s and dilation d:

    convolution              y_t = b + sum_j x_{t s + j d} W_j
    transposed convolution   y_{t s + j} += x_t W_j

The weights are laid out once for each of their versions, and kept beside the module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_FEW = 8
"""Channels up to which whole windows are copied and multiplied at once."""


def applies(x: Tensor) -> bool:
    """Whether these kernels are for the tensor: on a CPU, without gradients."""
    return not torch.is_grad_enabled() and x.device.type == "cpu"


def can_convolve(conv: nn.Conv1d, x: Tensor) -> bool:
    """Whether `convolve` is for the module and its input: on a CPU, dense or depthwise, without gradients."""
    return conv.groups in (1, conv.in_channels if conv.in_channels == conv.out_channels else 1) and applies(x)


def convolve(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """`[B, C, T]` to `[B, O, n]`, without padding, as `conv` gives it, in channels-last memory."""
    kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    batch, _, samples = x.shape
    frames = (samples - (kernel - 1) * dilation - 1) // stride + 1
    taps: Tensor = _kept(conv, _taps)
    rows = x.mT.contiguous()
    if conv.groups > 1 and x.dtype == torch.float32:
        # The library's depthwise kernel for pictures reads channels-last memory as it is; float64 has none.
        weight, picture = conv.weight[:, :, None], rows.mT[:, :, None]
        strides, dilations = (1, stride), (1, dilation)
        return nn.functional.conv2d(picture, weight, conv.bias, strides, 0, dilations, conv.groups)[:, :, 0]
    if conv.groups > 1:
        y = shifted_products(rows, taps, frames, stride=stride, dilation=dilation)
        y = y if conv.bias is None else y.add_(conv.bias)
    else:
        y = rows.new_empty(batch, frames, conv.out_channels)
        bias = taps.new_zeros(1) if conv.bias is None else conv.bias
        for item, out in zip(rows, y):
            _convolve_rows(item, taps, bias, out, stride, dilation)
    return y.mT


def shifted_products(x: Tensor, taps: Tensor, frames: int, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """One kernel for each channel: `[B, T, C]` to `[B, n, C]` with n frames, taps `[k, C]` or `[k, 1, C]`."""
    reach = (frames - 1) * stride + 1
    y = x[:, :reach:stride] * taps[0]
    for tap in range(1, len(taps)):
        start = tap * dilation
        y.addcmul_(x[:, start : start + reach : stride], taps[tap])
    return y


def _convolve_rows(x: Tensor, taps: Tensor, bias: Tensor, out: Tensor, stride: int, dilation: int) -> None:
    kernel, channels, outputs = taps.shape
    frames = len(out)
    if kernel == 1 and stride == 1:
        torch.addmm(bias, x[:frames], taps[0], out=out)
    elif outputs * kernel <= channels and stride == 1:
        # Few outputs: all taps of each frame at once, and then the sum over shifted columns.
        products = torch.mm(x, taps.permute(1, 0, 2).reshape(channels, -1)).unflatten(1, (kernel, outputs))
        torch.add(products[:frames, 0], products[dilation : dilation + frames, 1], out=out)
        for tap in range(2, kernel):
            out += products[tap * dilation : tap * dilation + frames, tap]
        out += bias
    elif channels <= _FEW or (stride > 1 and (kernel % stride or dilation > 1)):
        windows = x.as_strided(
            (frames, kernel, channels), (stride * channels, dilation * channels, 1), x.storage_offset()
        )
        torch.addmm(bias, windows.reshape(frames, -1), taps.flatten(0, 1), out=out)
    elif stride > 1:
        count = kernel // stride
        groups = x[: (frames - 1 + count) * stride].view(-1, stride * channels)
        parts = taps.view(count, stride * channels, outputs)
        torch.addmm(bias, groups[:frames], parts[0], out=out)
        for part in range(1, count):
            out.addmm_(groups[part : part + frames], parts[part])
    else:
        torch.addmm(bias, x[:frames], taps[0], out=out)
        for tap in range(1, kernel):
            out.addmm_(x[tap * dilation : tap * dilation + frames], taps[tap])


def convolve_transposed(conv: nn.ConvTranspose1d, x: Tensor) -> Tensor:
    """`[B, C, n]` to `[B, O, (n - 1) stride + kernel]`, as `conv` gives it without its bias."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    batch, _, frames = x.shape
    parts: Tensor = _kept(conv, _parts)
    count = len(parts)
    rows = x.mT.contiguous()
    y = rows.new_empty(batch, frames + count - 1, parts.shape[2])
    for item, out in zip(rows, y):
        torch.mm(item, parts[0], out=out[:frames])
        out[frames:] = 0
        for part in range(1, count):
            out[part : part + frames].addmm_(item, parts[part])
    samples = y.view(batch, -1, conv.out_channels)
    return samples[:, : (frames - 1) * stride + kernel].mT


def _taps(conv: nn.Conv1d) -> Tensor:
    """Weights `[O, C, k]` as `[k, C, O]`."""
    return conv.weight.detach().permute(2, 1, 0).contiguous()


def _parts(conv: nn.ConvTranspose1d) -> Tensor:
    """Weights `[C, O, k]` as `[ceil(k / s), C, s O]`: what a frame adds to its hop and each following one."""
    channels, outputs, kernel = conv.weight.shape
    stride = conv.stride[0]
    count = -(-kernel // stride)
    whole = nn.functional.pad(conv.weight.detach(), (0, count * stride - kernel))
    return whole.view(channels, outputs, count, stride).permute(2, 0, 3, 1).reshape(count, channels, -1)


def run_lstm(lstm: nn.LSTM, x: Tensor, hidden: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Layers of an LSTM over `[B, T, C]` from left to right, as `lstm` gives them.

    One product for the inputs of all frames, then one per frame with weights that need no packing, which a
    short piece would spend its time on.

    Args:
        lstm: in one direction, batch first.
        x: inputs.
        hidden: outputs h of the last frame of each layer, `[layers, B, C]`.
        cells: c alike.

    Returns:
        Outputs `[B, T, C]`, and both states after the last frame.
    """
    width = lstm.hidden_size
    frames = x.transpose(0, 1)
    last_h, last_c = [], []
    for layer, (w_input, w_hidden, bias) in enumerate(_kept(lstm, _lstm_weights)):
        gates = torch.addmm(bias, frames.reshape(-1, frames.shape[2]), w_input)
        h, c = hidden[layer], cells[layer].clone()
        outputs = frames.new_empty(*frames.shape[:2], width)
        for out, row in zip(outputs, gates.view(*frames.shape[:2], -1)):
            row.addmm_(h, w_hidden)
            opened = row[:, : 3 * width].sigmoid_()
            c.mul_(opened[:, width : 2 * width])
            c.addcmul_(opened[:, :width], row[:, 3 * width :].tanh_())
            h = torch.mul(opened[:, 2 * width :], c.tanh(), out=out)
        frames = outputs
        last_h.append(h)
        last_c.append(c)
    return frames.transpose(0, 1), torch.stack(last_h), torch.stack(last_c)


def _lstm_weights(lstm: nn.LSTM) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Weights of the inputs and of the outputs `[C, 4 H]` and biases of each layer, gates i f o g."""
    width = lstm.hidden_size
    order = [*range(2 * width), *range(3 * width, 4 * width), *range(2 * width, 3 * width)]
    layers = []
    for layer in range(lstm.num_layers):
        w_input, w_hidden, b_input, b_hidden = (
            getattr(lstm, f"{name}_l{layer}").detach()[order]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        layers.append((w_input.T.contiguous(), w_hidden.T.contiguous(), b_input + b_hidden))
    return layers


def _kept(module: nn.Module, lay_out: Callable[[Any], Any]) -> Any:
    """Weights of a module in another layout, made anew when they have changed."""
    weight = next(module.parameters())
    version = weight.data_ptr(), 0 if weight.is_inference() else weight._version, weight.dtype
    kept: tuple[Any, Any] | None = module.__dict__.get("_laid_out")
    if kept is None or kept[0] != version:
        kept = version, lay_out(module)
        module.__dict__["_laid_out"] = kept
    return kept[1]
