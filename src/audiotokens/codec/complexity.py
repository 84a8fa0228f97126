"""How large a codec is, and how many multiply-adds a second of audio takes: counted, not estimated.

One second of audio (rounded up to whole frames, and the count scaled back) passes the encoder and the decoder
as a whole on torch's "meta" device, where tensors have shapes but no values, so that a count is quick and
touches no weight. Counted is one for each product that is added up in a convolution (transposed ones too), a
linear map, a recurrent net, an attention, or a transform that is done as a matrix product. The search of a
book of N entries with D dimensions counts as N D for each code, the exhaustive search, however it is done.
Not counted: activations, norms, products element by element, fast Fourier transforms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from audiotokens.nn.conv import DepthwiseConv1d
from audiotokens.quantizers import Quantizer
from audiotokens.quantizers.book import BookQuantizer
from audiotokens.quantizers.multiscale import MultiscaleQuantizer
from audiotokens.quantizers.residual import ResidualQuantizer
from audiotokens.spec import Spec

if TYPE_CHECKING:
    from audiotokens.codec.base import Codec


@dataclass(frozen=True)
class Complexity:
    """Size and work of a codec.

    Args:
        parameters: trainable numbers, weight norm folded.
        encoder_macs: multiply-adds per second of audio for encoding with all books, the search among them.
        decoder_macs: those for decoding.
    """

    parameters: int
    encoder_macs: int
    decoder_macs: int


def complexity(codec: Codec) -> Complexity:
    """Count the parameters of a codec, and its multiply-adds per second of audio."""
    spec = codec.spec
    hops = math.ceil(spec.frame_rate)
    samples = int(hops * spec.hop)
    frames = hops * codec.frames_per_hop
    per_second = Fraction(spec.sample_rate, samples)
    search, decode = quantizer_macs(codec.quantizer, Fraction(frames))
    encode = Fraction(0)
    if spec.can_encode:  # A decoder of another codec's codes has no encoder.
        encode = search + multiply_adds(codec.encoder_net, (1, spec.channels, samples))
    decode += multiply_adds(codec.decoder_net, (1, codec.quantizer.dim, frames))
    return Complexity(parameters(codec), round(encode * per_second), round(decode * per_second))


def with_complexity(codec: Codec) -> Spec:
    """Facts of a codec with its counts; as they were where a block reads values, which shapes do not have."""
    try:
        counted = complexity(codec)
    except RuntimeError:
        return codec.spec
    return replace(codec.spec, **asdict(counted))


def parameters(module: nn.Module) -> int:
    """Trainable numbers of a module, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-adds of one call with a tensor of this shape; the module is left as it is."""
    named = [*module.named_parameters(), *module.named_buffers()]
    shapes = {name: tensor.detach().to("meta") for name, tensor in named}
    like = next((tensor for tensor in shapes.values() if tensor.is_floating_point()), torch.zeros(0))
    x = torch.zeros(shape, dtype=like.dtype, device="meta")
    training = module.training
    module.eval()
    try:
        counter, recurrent = FlopCounterMode(display=False), _Recurrent()
        with torch.no_grad(), _shifted_products(module) as shifted, recurrent, counter:
            functional_call(module, shapes, (x,))
    finally:
        module.train(training)
    # The counter takes a product and a sum as two operations.
    return int(counter.get_total_flops()) // 2 + sum(shifted) + recurrent.macs


class _Recurrent(TorchFunctionMode):
    """Counts LSTMs from the shapes of their weights: running them step by step would take seconds."""

    macs = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") != "lstm" or not isinstance(args[1], tuple | list):
            return func(*args, **(kwargs or {}))
        x, (hidden, cell), weights = args[:3]
        both_ways = args[7]
        self.macs += x.shape[:2].numel() * sum(weight.numel() for weight in weights if weight.ndim == 2)
        return x.new_empty(*x.shape[:2], hidden.shape[2] * (1 + both_ways)), hidden, cell


@contextmanager
def _shifted_products(module: nn.Module) -> Iterator[list[int]]:
    """Collect the multiply-adds of the house's depthwise convolutions, which are no matrix products."""
    found: list[int] = []

    def count(block: DepthwiseConv1d, inputs: Any, output: Tensor) -> None:
        found.append(len(block.taps) * output.numel())

    hooks = [
        part.register_forward_hook(count) for part in module.modules() if isinstance(part, DepthwiseConv1d)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def quantizer_macs(quantizer: Quantizer, frames: Fraction) -> tuple[Fraction, Fraction]:
    """Multiply-adds of quantizing a number of latents, and of reading them from their codes.

    Exhaustive searches and the linear maps around them; what QINCo and random projections do beside is left
    out.
    """
    encode, decode = frames * _maps(quantizer, "project_in"), frames * _maps(quantizer, "project_out")
    head = _maps(quantizer, "head")
    if head:
        encode += frames * head
    elif isinstance(quantizer, BookQuantizer):
        encode += frames * quantizer.codebook_size * quantizer.codebook_dim
    inner = [part for _, part in quantizer.inner_quantizers()]
    strides = quantizer.strides if isinstance(quantizer, MultiscaleQuantizer) else (1,) * len(inner)
    shared = isinstance(quantizer, ResidualQuantizer) and quantizer.config.shared
    times = len(quantizer.codebook_sizes) // len(inner[0].codebook_sizes) if shared else 1
    # A residual is what the codes so far leave over, so each level is decoded while encoding.
    residual = isinstance(quantizer, MultiscaleQuantizer | ResidualQuantizer)
    for part, stride in zip(inner, strides):
        search, restore = quantizer_macs(part, frames / stride)
        encode += times * (search + restore if residual else search)
        decode += times * restore
    return encode, decode


def _maps(quantizer: Quantizer, name: str) -> int:
    """Weights of a linear map, 0 where there is none."""
    part = getattr(quantizer, name, None)
    return part.weight.numel() if isinstance(part, nn.Linear) else 0
