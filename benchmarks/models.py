"""What the benchmarks of engines and of exact mode share: tokenizers at full size, and recordings."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

SHIPPED = ("speech-16k", "speech-16k-stream")
LYRA = "lyra-v2"
_LYRA_FILES = ("soundstream_encoder", "quantizer", "lyragan")
_START_SECONDS = 20


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where recordings and the files of Lyra V2 lie."""
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--lyra", type=Path, help="folder of the files of Lyra V2; none: without it")


def import_lyra(files: Path, folder: Path) -> Path:
    """Write the tokenizer folder of Lyra V2 from its three files."""
    from audiotokens.checkpoints import import_checkpoint

    import_checkpoint(LYRA, [files / f"{name}.tflite" for name in _LYRA_FILES], output=folder)
    return folder


def recordings(data: Path, *parts: str, seed: int = 0) -> list[Path]:
    """Sound files of parts of the data such as "test", in a random order."""
    from audiotokens.audio import AUDIO_SUFFIXES

    found = sorted(
        path for part in parts for path in (data / part).rglob("*") if path.suffix in AUDIO_SUFFIXES
    )
    return [found[index] for index in np.random.default_rng(seed).permutation(len(found))]


def waveforms(tokenizer: Any, files: list[Path]) -> Iterator[np.ndarray]:
    """Recordings float32 `[C, N]` as the tokenizer hears them, one after the other."""
    from audiotokens.audio import read_audio

    for file in files:
        yield tokenizer.prepare(*read_audio(file))[0]


def sound(tokenizer: Any, files: list[Path], seconds: float) -> np.ndarray:
    """So many seconds of recordings, one behind the other, float32 `[C, N]`."""
    parts: list[np.ndarray] = []
    length = round(seconds * tokenizer.spec.sample_rate)
    for waveform in waveforms(tokenizer, files):
        parts.append(waveform)
        if sum(part.shape[1] for part in parts) >= length:
            break
    return np.concatenate(parts, 1)[:, :length]


def random_codec(variant: str, files: list[Path]) -> Any:
    """A codec of full size whose random weights pass sound on, and whose books are started from latents.

    Args:
        variant: its name among the variants of its family.
        files: recordings whose latents the books are made from.
    """
    codec = _built(variant)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in codec.parameters():
            # What begins as a constant, such as a scale of 0.01, must not hide what it multiplies.
            if bool((parameter == parameter.flatten()[0]).all()):
                parameter += 0.2 * torch.randn_like(parameter)
        heard = sound(codec, files, _START_SECONDS)
        short = torch.from_numpy(heard[:, : 2 * codec.spec.sample_rate])[None]
        latents = _scaled(codec.encoder_net, short)
        _start(codec, torch.from_numpy(codec.features(heard, codec.spec.sample_rate)).T)
        _scaled(codec.decoder_net, latents)
    return codec


def _built(variant: str) -> Any:
    from audiotokens.registry import architectures

    torch.manual_seed(0)
    for place in architectures.values():
        module, _, attribute = place.partition(":")
        family = importlib.import_module(module)
        if variant in family.VARIANTS:
            return getattr(family, attribute)(family.VARIANTS[variant]).eval()
    raise SystemExit(f"no variant {variant!r} in any family")


def _start(codec: Any, latents: torch.Tensor) -> None:
    """Start the books from latents `[N, D]`."""
    books = getattr(codec.quantizer, "search", codec.quantizer)
    with mock.patch("audiotokens.quantizers.vector.lloyd", _drawn):
        books.initialize(latents)


def _drawn(vectors: torch.Tensor, size: int, **_: Any) -> torch.Tensor:
    """Entries near vectors drawn from `[N, D]`: k-means would leave nothing of so few to later books."""
    drawn = vectors[torch.randint(len(vectors), (size,))]
    return drawn + 0.3 * vectors.std(0) * torch.randn_like(drawn)


def _scaled(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Divide linear layers by how much what each makes of `x` varies over time; return what comes out."""
    from audiotokens.nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d
    from audiotokens.nn.layers import Linear
    from audiotokens.nn.padding import PaddedConv1d

    def divide(layer: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        deviation = output.var(2).mean().sqrt()
        for parameter in layer.parameters():
            parameter.div_(deviation)
        return output / deviation

    kinds = Conv1d, PaddedConv1d, DepthwiseConv1d, ConvTranspose1d, Linear
    hooks = [layer.register_forward_hook(divide) for layer in net.modules() if isinstance(layer, kinds)]
    y: torch.Tensor = net(x)
    for hook in hooks:
        hook.remove()
    return y
