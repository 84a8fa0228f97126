"""Whether graphs do what the codec does: run on noise, where onnxruntime is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiotokens.codec import Codec
from audiotokens.codec.vocoder import NetVocoder
from audiotokens.errors import NotOfferedError, one_line
from audiotokens.nn.block import Sequential

_TOLERANCE = 1e-4
_SECONDS = 0.5


def check_graphs(codec: Codec | NetVocoder, folder: Path, description: dict[str, Any]) -> None:
    """Compare every graph of a folder with the codec, in float32.

    Args:
        codec: not in exact mode, on the processor.
        folder: with the graphs.
        description: what `graphs.json` is going to say.

    Raises:
        NotOfferedError: a graph gives something else.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return
    generator = torch.Generator().manual_seed(0)
    hop = description["hop"]
    hops = max(8, round(_SECONDS * codec.spec.sample_rate / hop))
    if description["encoder"] is not None:
        sound = 0.1 * torch.randn(1, codec.spec.channels, hops * hop - hop // 3, generator=generator)
        _check_net("encoder", codec.encoder_net, sound, folder, description["encoder"])
    if isinstance(codec, Codec):
        latents = _check_quantizer(codec, hops, folder, description["quantizer"], generator)
    else:
        latents = torch.randn(1, description["latent"], hops, generator=generator)
    decoder = description["decoder"]
    if "by_codebooks" not in decoder:
        _check_net("decoder", codec.decoder_net, latents, folder, decoder)
        return
    for books, graphs in decoder["by_codebooks"].items():
        net = codec.decoder_for(int(books)) if isinstance(codec, Codec) else codec.decoder_net
        _check_net(f"decoder at {books} books", net, latents, folder, graphs)


def _run(folder: Path, file: str, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    path = str(folder / file)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found: list[np.ndarray] = session.run(None, values)
    except Exception as error:
        # Its errors have no base of their own.
        raise NotOfferedError(f"{file} does not run in ONNX Runtime: {one_line(error)}") from None
    return found


@torch.no_grad()
def _check_net(name: str, net: Sequential, x: Tensor, folder: Path, graphs: dict[str, Any]) -> None:
    expected = net(x).numpy()
    given = x.numpy()
    _compare(name, _run(folder, graphs["offline"]["file"], {"x": given})[0], expected)
    if "first" not in graphs:
        return
    first, middle = graphs["first"], graphs["middle"]
    at, size = first["size"], middle["size"]
    if given.shape[2] < at + 3 * size:
        given = np.tile(given, (1, 1, -(-(at + 4 * size) // given.shape[2])))[
            ..., : at + 3 * size + size // 2
        ]
        expected = net(torch.from_numpy(given)).numpy()
    names = [state["name"] for state in graphs["states"]]
    y, *states = _run(folder, first["file"], {"x": given[..., :at]})
    parts = [y]
    for count in (1, 2):
        piece = given[..., at : at + count * size]
        y, *states = _run(folder, middle["file"], {"x": piece, **dict(zip(names, states))})
        parts.append(y)
        at += count * size
    y, *_ = _run(folder, graphs["last"]["file"], {"x": given[..., at:], **dict(zip(names, states))})
    _compare(f"{name}, in steps", np.concatenate([*parts, y], 2), expected)


@torch.no_grad()
def _check_quantizer(
    codec: Codec, hops: int, folder: Path, graphs: dict[str, Any], generator: torch.Generator
) -> Tensor:
    """Compare codes of latents that are some codes', and their latents, which are returned."""
    streams = {
        stream.name: torch.stack(
            [
                torch.randint(
                    size, (1, hops * int(stream.frame_rate / codec.spec.frame_rate)), generator=generator
                )
                for size in stream.codebook_sizes
            ],
            1,
        )
        for stream in codec.spec.streams
    }
    codes = {name: values.numpy() for name, values in streams.items()}
    latents = codec.dequantize(streams)
    for books in codec.spec.legal_prefixes:
        decoded = _run(folder, graphs["decode"]["file"], {**codes, "num_codebooks": np.array([books])})[0]
        _compare(
            f"quantizer.decode.onnx at {books} books",
            decoded,
            codec.dequantize(_taken(streams, books)).numpy(),
        )
    if graphs["encode"] is not None:
        expected = codec.to_streams(codec.quantize(latents, max(codec.spec.legal_prefixes)))
        found = _run(folder, graphs["encode"]["file"], {"latents": latents.numpy()})
        for name, own in zip(expected, found, strict=True):
            if not np.array_equal(own, expected[name].numpy()):
                raise NotOfferedError(
                    f"quantizer.encode.onnx gives other codes than the tokenizer for {name}"
                )
    return latents


def _taken(streams: dict[str, Tensor], books: int) -> dict[str, Tensor]:
    taken = {}
    for name, codes in streams.items():
        if books > 0:
            taken[name] = codes[:, :books]
        books -= codes.shape[1]
    return taken


def _compare(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    if found.shape != expected.shape:
        raise NotOfferedError(f"{name} gives the shape {found.shape}, expected {expected.shape}")
    error = float(np.abs(found - expected).max(initial=0))
    largest = float(np.abs(expected).max(initial=0))
    if not error <= _TOLERANCE * max(largest, 1e-6):
        raise NotOfferedError(f"{name} is wrong by {error:.2g} of {largest:.2g}, expected equal values")
