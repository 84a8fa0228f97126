"""The smallest variants of every family, with random weights: small enough to be tried in every way."""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiotokens.architectures.fourier import ConvNeXtBackbone, ISTFTHead
from audiotokens.architectures.seanet import SEANetConfig
from audiotokens.architectures.vocos import EncodecFeatures, VocosConfig
from audiotokens.codec import Codec
from audiotokens.nn.block import Sequential
from audiotokens.nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d
from audiotokens.nn.layers import Linear
from audiotokens.nn.padding import PaddedConv1d
from audiotokens.registry import architectures
from audiotokens.verify import make_waveforms

_ON_CODES = VocosConfig(
    EncodecFeatures(
        sample_rate=16000,
        hop=20,
        size=8,
        codebook_size=16,
        bandwidths=(3.2, 6.4, 12.8),
        encoder=SEANetConfig(dimension=8, filters=2, ratios=(5, 2, 2), lstm_layers=1),
    ),
    ConvNeXtBackbone(width=16, hidden=24, layers=2, conditions=3),
    ISTFTHead(n_fft=80, hop=20, padding="same"),
)


def family(architecture: str) -> Any:
    """The class that `load` takes for an architecture."""
    module, _, attribute = architectures[architecture].partition(":")
    return getattr(importlib.import_module(module), attribute)


def variants(architecture: str) -> dict[str, Any]:
    """Configurations of a family by their names."""
    found: dict[str, Any] = importlib.import_module(architectures[architecture].partition(":")[0]).VARIANTS
    return found


def _tiny() -> dict[str, tuple[str, Any]]:
    found = {
        f"{architecture} {name}": (architecture, config)
        for architecture in architectures
        for name, config in variants(architecture).items()
        if name.startswith("tiny")
    }
    # Vocos on EnCodec's codes, with an EnCodec and without.
    found["vocos tiny-codec"] = "vocos", _ON_CODES
    found["vocos tiny-decoder"] = (
        "vocos",
        replace(_ON_CODES, features=replace(_ON_CODES.features, encoder=None)),
    )
    return found


TINY: dict[str, tuple[str, Any]] = _tiny()
"""Name such as "encodec tiny-stereo" -> architecture and configuration."""


@functools.cache
def tiny(name: str) -> Any:
    """One of `TINY` in exact mode, with weights and books under which everything matters.

    Weights as they are drawn first would pass on so little that most samples are those of the biases.
    """
    architecture, config = TINY[name]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = family(architecture)(config).eval()
        for parameter in model.parameters():
            # What begins as a constant, such as a scale of 0.01, must not hide what it multiplies.
            if bool((parameter == parameter.flatten()[0]).all()):
                parameter += 0.2 * torch.randn_like(parameter)
        _start(model)
    model.weight_bits = 32
    return model.make_exact()


def _start(model: Any) -> None:
    """Scale the layers by what they make of sound, and start the books from latents."""
    spec = model.spec
    made = make_waveforms(spec.sample_rate, spec.channels)
    sound = torch.from_numpy(np.concatenate([made["chords"], made["speech"]], 1))[None]
    if not isinstance(model, Codec):
        _scaled(model.decoder_net, _scaled(model.encoder_net, sound))
        return
    codes = torch.randint(min(model.quantizer.codebook_sizes), (1, max(spec.legal_prefixes), 500))
    if spec.can_encode:
        latents = _scaled(model.encoder_net, sound)
        books = getattr(model.quantizer, "search", model.quantizer)
        books.initialize(latents[0].T, generator=torch.Generator().manual_seed(0))
        codes = model.quantizer.encode(latents)
    _scaled(model.decoder_net, model.quantizer.decode(codes))


def _scaled(net: Sequential, x: Tensor) -> Tensor:
    """Divide linear layers by how much what each makes of `x` varies over time; return what comes out."""

    def divide(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        deviation = output.var(2).mean().sqrt()
        for parameter in layer.parameters():
            parameter /= deviation
        return output / deviation

    kinds = Conv1d, PaddedConv1d, DepthwiseConv1d, ConvTranspose1d, Linear
    linear = [layer for layer in net.modules() if isinstance(layer, kinds)]
    hooks = [layer.register_forward_hook(divide) for layer in linear]
    y: Tensor = net(x)
    for hook in hooks:
        hook.remove()
    return y
