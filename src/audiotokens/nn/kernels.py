"""Convolutions without gradients as matrix products over channels-last memory.

A step of a stream, or a block of a long recording, is a short piece. There the matrix products of a library
beat its convolutions: no reordering of memory before and after, and no slow case for wide kernels over few
frames. With x_t the channels of frame t, weights W_j `[C, O]` per tap, stride s and dilation d:

    convolution              y_t = b + sum_j x_{t s + j d} W_j
    transposed convolution   y_{t s + j} += x_t W_j

The weights are laid out once for each of their versions, and kept beside the module.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from audiotokens.nn.activations import sigmoid_
from audiotokens.nn.products import add_product, applies, frames_product, product

_FEW = 8
"""Channels up to which whole windows are copied and multiplied at once."""


def convolve(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """`[B, C, T]` to `[B, O, n]`, without padding, as `conv` gives it, in channels-last memory."""
    kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    batch, _, samples = x.shape
    frames = (samples - (kernel - 1) * dilation - 1) // stride + 1
    taps: Tensor = _kept(conv, _taps)
    rows = x.mT.contiguous()
    depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels
    if depthwise and x.dtype == torch.float32:
        # The library's depthwise kernel for pictures reads channels-last memory as it is; float64 has none.
        weight, picture = conv.weight[:, :, None], rows.mT[:, :, None]
        strides, dilations = (1, stride), (1, dilation)
        return nn.functional.conv2d(picture, weight, conv.bias, strides, 0, dilations, conv.groups)[:, :, 0]
    if depthwise:
        y = shifted_products(rows, taps[:, :, 0, 0].T, frames, stride=stride, dilation=dilation)
        y = y if conv.bias is None else y.add_(conv.bias)
        return y.mT
    y = rows.new_empty(batch, frames, conv.out_channels)
    for item, out in zip(rows, y):
        biases = [None] * conv.groups if conv.bias is None else conv.bias.chunk(conv.groups)
        for part in zip(item.chunk(conv.groups, 1), taps, biases, out.chunk(conv.groups, 1)):
            _convolve_rows(*part, stride, dilation)
    return y.mT


def shifted_products(x: Tensor, taps: Tensor, frames: int, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """One kernel for each channel: `[B, T, C]` to `[B, n, C]` with n frames, taps `[k, C]` or `[k, 1, C]`."""
    reach = (frames - 1) * stride + 1
    y = x[:, :reach:stride] * taps[0]
    for tap in range(1, len(taps)):
        start = tap * dilation
        y.addcmul_(x[:, start : start + reach : stride], taps[tap])
    return y


def _convolve_rows(
    x: Tensor, taps: Tensor, bias: Tensor | None, out: Tensor, stride: int, dilation: int
) -> None:
    """One group of channels: `[T, C]` with taps `[k, C, O]` to `out` `[n, O]`."""
    kernel, channels, outputs = taps.shape
    apart = x.stride(0) != channels
    frames = len(out)
    if kernel == 1 and stride == 1:
        product(x[:frames], taps[0], bias, out=out)
    elif outputs * kernel <= channels and stride == 1:
        # Few outputs: all taps of each frame at once, and then the sum over shifted columns.
        products = product(x, taps.permute(1, 0, 2).reshape(channels, -1)).unflatten(1, (kernel, outputs))
        torch.add(products[:frames, 0], products[dilation : dilation + frames, 1], out=out)
        for tap in range(2, kernel):
            out += products[tap * dilation : tap * dilation + frames, tap]
        if bias is not None:
            out += bias
    elif channels <= _FEW or (stride > 1 and (kernel % stride or dilation > 1 or apart)):
        step = x.stride(0)
        windows = x.as_strided((frames, kernel, channels), (stride * step, dilation * step, 1))
        product(windows.reshape(frames, -1), taps.flatten(0, 1), bias, out=out)
    elif stride > 1:
        count = kernel // stride
        groups = x[: (frames - 1 + count) * stride].view(-1, stride * channels)
        parts = taps.view(count, stride * channels, outputs)
        product(groups[:frames], parts[0], bias, out=out)
        for part in range(1, count):
            add_product(out, groups[part : part + frames], parts[part])
    else:
        product(x[:frames], taps[0], bias, out=out)
        for tap in range(1, kernel):
            add_product(out, x[tap * dilation : tap * dilation + frames], taps[tap])


def convolve_transposed(conv: nn.ConvTranspose1d, x: Tensor, tail: Tensor) -> Tensor:
    """`[B, C, n]` to `[B, O, (n - 1) stride + kernel]`, as `conv` gives it without its bias, plus a tail.

    Args:
        conv: the module; its kernel is at least as long as its stride.
        x: frames.
        tail: what the first samples begin with, `[B, O, kernel - stride]`.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    batch, _, frames = x.shape
    if 1 < conv.groups == conv.in_channels == conv.out_channels:
        return _spread(x, _kept(conv, _parts)[:, :, 0].permute(1, 2, 0), tail)
    groups: Tensor = _kept(conv, _parts)
    count, outputs = groups.shape[1], conv.out_channels // conv.groups
    rows = x.mT.contiguous()
    y = rows.new_empty(conv.groups, batch, frames + count - 1, stride * outputs)
    samples = y.view(conv.groups, batch, -1, outputs)
    samples[:, :, kernel - stride : (count - 1) * stride] = 0
    samples[:, :, : kernel - stride] = tail.unflatten(1, (conv.groups, outputs)).permute(1, 0, 3, 2)
    for parts, channels, summed in zip(groups, rows.chunk(conv.groups, 2), y):
        for item, out in zip(channels, summed):
            # From the oldest frame of each hop on.
            product(item, parts[-1], out=out[count - 1 :])
            for part in reversed(range(count - 1)):
                add_product(out[part : part + frames], item, parts[part])
    samples = samples[:, :, : (frames - 1) * stride + kernel]
    return samples[0].mT if conv.groups == 1 else torch.cat(list(samples), 2).mT


def _spread(x: Tensor, parts: Tensor, tail: Tensor) -> Tensor:
    """A transposed convolution with one kernel for each channel, as parts `[ceil(k / s), s, C]`."""
    count, stride, channels = parts.shape
    batch, _, frames = x.shape
    rows = x.mT.contiguous()[:, :, None]
    y = rows.new_zeros(batch, frames + count - 1, stride, channels)
    samples = y.view(batch, -1, channels)
    samples[:, : tail.shape[2]] = tail.mT
    for part in reversed(range(count)):
        y[:, part : part + frames].addcmul_(rows, parts[part])
    return samples[:, : (frames - 1) * stride + tail.shape[2] + stride].mT


def apply_linear(linear: nn.Linear, x: Tensor) -> Tensor:
    """`linear` of frames `[..., C]`."""
    if applies(x):
        weight: Tensor = _kept(linear, _transposed)
        return frames_product(x, weight, linear.bias)
    result: Tensor = linear(x)
    return result


def run_lstm(lstm: nn.LSTM, x: Tensor, hidden: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Layers of an LSTM over `[B, T, C]` from left to right, as `lstm` gives them.

    Args:
        lstm: in one direction, batch first.
        x: inputs.
        hidden: outputs h of the last frame of each layer, `[layers, B, C]`.
        cells: c alike.

    Returns:
        Outputs `[B, T, C]`, and both states after the last frame.
    """
    frames = x.transpose(0, 1)
    states = []
    for weights, h, c in zip(_kept(lstm, _lstm_weights), hidden, cells):
        frames, *state = _run_layer(frames, weights, h, c)
        states.append(state)
    last_h, last_c = zip(*states)
    return frames.transpose(0, 1), torch.stack(last_h), torch.stack(last_c)


def run_both_ways(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Layers of an LSTM in both directions over `[B, T, C]`, as `lstm` gives them, `[B, T, 2 C]`."""
    frames = x.transpose(0, 1)
    zeros = x.new_zeros(len(x), lstm.hidden_size)
    weights = _kept(lstm, _lstm_weights)
    for forward, backward in zip(weights[::2], weights[1::2]):
        later = _run_layer(frames.flip(0), backward, zeros, zeros)[0].flip(0)
        frames = torch.cat([_run_layer(frames, forward, zeros, zeros)[0], later], 2)
    return frames.transpose(0, 1)


def _run_layer(
    frames: Tensor, weights: tuple[Tensor, Tensor, Tensor], h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Frames `[T, B, C]` of one layer, and its states `[B, H]`.

    One product for the inputs of all frames, then one per frame with weights that need no packing, which a
    short piece would spend its time on.
    """
    w_input, w_hidden, bias = weights
    count, batch, _ = frames.shape
    width = w_hidden.shape[0]
    # Products with one row go through other kernels than those with more.
    rows = max(batch, 2)
    gates = product(frames.reshape(-1, frames.shape[2]), w_input, bias).view(count, batch, -1)
    gates, h = gates.expand(-1, rows, -1).contiguous(), h.expand(rows, -1)
    c = c.expand(rows, -1).clone()
    outputs = frames.new_empty(count, rows, width)
    for out, row in zip(outputs, gates):
        add_product(row, h, w_hidden)
        opened = sigmoid_(row[:, : 3 * width])
        c.mul_(opened[:, width : 2 * width])
        c.addcmul_(opened[:, :width], row[:, 3 * width :].tanh_())
        h = torch.mul(opened[:, 2 * width :], c.tanh(), out=out)
    return outputs[:, :batch], h[:batch], c[:batch]


def _lstm_weights(lstm: nn.LSTM) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Weights of the inputs and of the outputs `[C, 4 H]` and biases, gates i f o g.

    Of each layer, or of both directions of each layer, one after the other.
    """
    width = lstm.hidden_size
    order = [*range(2 * width), *range(3 * width, 4 * width), *range(2 * width, 3 * width)]
    ends = ("", "_reverse") if lstm.bidirectional else ("",)
    found = []
    for layer, end in itertools.product(range(lstm.num_layers), ends):
        w_input, w_hidden, b_input, b_hidden = (
            getattr(lstm, f"{name}_l{layer}{end}").detach()[order]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        found.append((w_input.T.contiguous(), w_hidden.T.contiguous(), b_input + b_hidden))
    return found


def _transposed(linear: nn.Linear) -> Tensor:
    return linear.weight.detach().T.contiguous()


def _taps(conv: nn.Conv1d) -> Tensor:
    """Weights `[O, C / G, k]` as `[G, k, C / G, O / G]`."""
    groups: Tensor = conv.weight.detach().unflatten(0, (conv.groups, -1))
    return groups.permute(0, 3, 2, 1).contiguous()


def _parts(conv: nn.ConvTranspose1d) -> Tensor:
    """Weights `[C, O / G, k]` as `[G, ceil(k / s), C / G, s O / G]`: what a frame adds hop by hop."""
    channels, outputs, kernel = conv.weight.shape
    stride, size = conv.stride[0], channels // conv.groups
    count = -(-kernel // stride)
    whole = nn.functional.pad(conv.weight.detach(), (0, count * stride - kernel))
    parts = whole.view(conv.groups, size, outputs, count, stride).permute(0, 3, 1, 4, 2)
    return parts.reshape(conv.groups, count, size, -1)


def _kept(module: nn.Module, lay_out: Callable[[Any], Any]) -> Any:
    """Weights of a module in another layout, made anew when they have changed."""
    weight = next(module.parameters())
    version = weight.data_ptr(), 0 if weight.is_inference() else weight._version, weight.dtype
    kept: tuple[Any, Any] | None = module.__dict__.get("_laid_out")
    if kept is None or kept[0] != version:
        kept = version, lay_out(module)
        module.__dict__["_laid_out"] = kept
    return kept[1]
