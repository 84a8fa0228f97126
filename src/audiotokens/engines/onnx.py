"""`OnnxTokenizer`: an exported tokenizer folder as a `Tokenizer`, with numpy and ONNX Runtime only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from audiotokens.audio import WaveformLike
from audiotokens.engines.graphs import Graphs, Side, read_exported
from audiotokens.engines.sessions import OnnxDecoder, OnnxEncoder
from audiotokens.engines.steps import Net, Runtime
from audiotokens.errors import NotOfferedError, TokensError
from audiotokens.spec import Spec
from audiotokens.tokenizer import Streams, Tokenizer
from audiotokens.tokens import CodeStream, Conditioning, Tokens


class OnnxTokenizer(Tokenizer):
    """A tokenizer whose graphs run in ONNX Runtime, on the CPU with one thread; `load` makes it.

    About a second of a file is taken at a time. In exact mode that is tried first: where calls of more hops
    have other last bits than those of single ones, files run hop by hop, as streams do.

    Attributes:
        exact: whether codes and samples are free of the effects of pieces.
    """

    def __init__(self, folder: Path, spec: Spec, graphs: Graphs, *, exact: bool = True) -> None:
        self._folder, self._graphs, self.exact = folder, graphs, exact
        self._spec = _with_waits(spec, graphs)
        self._runtime = Runtime(folder)
        self._nets: dict[str, Net] = {}
        self._block_hops = max(round(spec.frame_rate), 1)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, exact: bool = True) -> Self:
        """Load a tokenizer folder that holds exported graphs.

        Args:
            folder: with config.json, graphs.json and what they name.
            exact: the same codes and samples however the audio is cut; False is faster for long recordings.

        Raises:
            TokenizerNotFoundError: not a tokenizer folder.
            ConfigError: config.json has an unknown, missing or ill-typed key.
            CheckpointError: graphs.json or what it names is missing, damaged, or was made for other weights.
            MissingExtraError: onnxruntime is not installed.
        """
        path = Path(folder)
        return cls(path, *read_exported(path), exact=exact)

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def fingerprint(self) -> str:
        return self._graphs.fingerprint

    @property
    def graphs(self) -> Graphs:
        """What graphs.json says."""
        return self._graphs

    def other_engines(self) -> dict[str, Tokenizer]:
        """The same tokenizer in other engines, by name: in torch, where that is installed."""
        from audiotokens.engines import other_engine

        return other_engine("torch", self.fingerprint, self._folder, exact=self.exact)

    # Tokenizer

    def encoder(self, *, num_codebooks: int | None = None) -> OnnxEncoder:
        net = self._streaming(self.encoder_net(), "encode")
        return OnnxEncoder(self, net, self.spec.check_prefix(num_codebooks))

    def decoder(self, *, num_codebooks: int | None = None) -> OnnxDecoder:
        self._streaming(self.decoder_net(self.spec.check_prefix(num_codebooks)), "decode")
        return OnnxDecoder(self, num_codebooks)

    def features(self, waveform: WaveformLike, sample_rate: int) -> np.ndarray:
        prepared, _ = self.prepare(waveform, sample_rate)
        latents: np.ndarray = self._latents(self._padded(prepared))[0]
        return latents

    def decode_features(self, features: np.ndarray) -> np.ndarray:
        """Decode latents that no quantizer has touched.

        Args:
            features: float32 `[D, T]`, as `features` gives them.

        Returns:
            float32 `[C, M]` at `spec.output_sample_rate`; `fit_length` brings M to the length rule.

        Raises:
            TokensError: another shape, or no frames.
        """
        size = self._graphs.latent
        if features.ndim != 2 or features.shape[0] != size or not features.shape[1]:
            raise TokensError(f"the latents have the shape {features.shape}, expected [{size}, T]")
        net = self.decoder_net(max(self.spec.legal_prefixes))
        hops = -(-features.shape[1] // self._graphs.frames_per_hop)
        latents = np.asarray(features, np.float32)[None]
        parts, _ = net.advance(latents, net.begin(), final=True, due=self._samples(hops))
        waveform: np.ndarray = np.concatenate(parts, 2)[0]
        return waveform

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        return self.code_streams(self.quantize(self._latents(waveform), num_codebooks)), {}

    def _decode(self, tokens: Tokens) -> np.ndarray:
        codes = {name: stream.codes for name, stream in tokens.streams.items()}
        net, hops = self.decoder_net(tokens.num_codebooks), self.hops(codes)
        parts, state = [], net.begin()
        for start in range(0, max(hops, 1), self._block_hops):
            stop = min(start + self._block_hops, hops)
            latents = self.dequantize(codes, start, stop)
            due = self.spec.output_length(tokens.num_samples)
            made, state = net.advance(latents, state, final=stop == hops, due=due)
            parts += made
        nothing = np.zeros((1, self.spec.channels, 0), np.float32)
        waveform: np.ndarray = np.concatenate([nothing, *parts], 2)[0]
        return waveform

    def _latents(self, waveform: np.ndarray) -> np.ndarray:
        net = self.encoder_net()
        due = self.frames_due(waveform.shape[1])
        parts, _ = net.advance(waveform[None], net.begin(), final=True, due=due)
        return np.concatenate(parts, 2)

    # What the sessions share

    def encoder_net(self) -> Net:
        """The encoder: samples `[1, C, T]` to latents `[1, D, T']`.

        Raises:
            NotOfferedError: the folder holds no encoder.
        """
        side = self._graphs.encoder
        if side is None or self._graphs.quantizer is None:
            raise NotOfferedError(f"{self.spec.name} cannot encode: no encoder was exported")
        return self._net(side, self.spec.channels)

    def decoder_net(self, num_codebooks: int) -> Net:
        """The decoder of latents of so many books: `[1, D, T]` to samples `[1, C, N]`.

        Raises:
            NotOfferedError: the folder holds no such decoder.
        """
        side = self._graphs.decoder
        if side is not None and side.by_codebooks is not None:
            side = side.by_codebooks.get(str(num_codebooks))
        if side is None:
            raise NotOfferedError(
                f"{self.spec.name} cannot decode {num_codebooks} books: no decoder for them was exported"
            )
        return self._net(side, self._graphs.latent)

    def quantize(self, latents: np.ndarray, num_codebooks: int) -> dict[str, np.ndarray]:
        """Codes `[K_i, T_i]` by stream of latents `[1, D, T]`, with the first `num_codebooks` books."""
        graph = self._graphs.quantizer.encode if self._graphs.quantizer else None
        if graph is None:
            raise NotOfferedError(f"{self.spec.name} has no graph that finds codes")
        names = [stream.name for stream in self.spec.streams]
        # The graph searches in float64, whose last bits decide nothing between latents in float32.
        size = self._graphs.frames_per_hop * self._block_hops
        starts = range(0, latents.shape[2], size)
        pieces = [np.ascontiguousarray(latents[:, :, start : start + size]) for start in starts]
        found = [self._runtime.run(graph, {"latents": piece}, names) for piece in pieces]
        codes, left = {}, num_codebooks
        for index, stream in enumerate(self.spec.streams):
            kept = min(left, stream.num_codebooks)
            left -= kept
            if kept:
                parts = [np.zeros((kept, 0), np.int64), *(each[index][0, :kept] for each in found)]
                codes[stream.name] = np.concatenate(parts, 1)
        return codes

    def dequantize(self, codes: Mapping[str, np.ndarray], start: int, stop: int) -> np.ndarray:
        """Latents `[1, D, T]` of the hops from `start` to `stop` of codes `[K_i, T_i]` by stream."""
        step = 1 if self.exact and not self._hops_agree else max(stop - start, 1)
        return self._dequantized(codes, start, stop, step)

    @cached_property
    def _hops_agree(self) -> bool:
        """Whether latents of several hops at once have the bits of single ones, tried on random codes."""
        random, hops = np.random.default_rng(0), self._block_hops
        codes = {}
        for stream in self.spec.streams:
            frames = hops * int(stream.frame_rate / self.spec.frame_rate)
            sizes = np.array(stream.codebook_sizes)[:, None]
            codes[stream.name] = random.integers(0, sizes, (len(sizes), frames))
        single, together = (self._dequantized(codes, 0, hops, step) for step in (1, hops))
        return np.array_equal(single, together)

    def _dequantized(self, codes: Mapping[str, np.ndarray], start: int, stop: int, step: int) -> np.ndarray:
        graphs = self._graphs
        if graphs.quantizer is None:
            raise NotOfferedError(f"{self.spec.name} has no quantizer among its graphs")
        books = np.array([sum(len(each) for each in codes.values())])
        parts = [np.zeros((1, graphs.latent, 0), np.float32)]
        for hop in range(start, stop, step):
            inputs = {"num_codebooks": books}
            for stream in self.spec.streams:
                ratio = int(stream.frame_rate / self.spec.frame_rate)
                # The graph takes all books, and leaves out those from `num_codebooks` on.
                all_books = np.zeros((1, stream.num_codebooks, ratio * min(step, stop - hop)), np.int64)
                given = codes.get(stream.name)
                if given is not None:
                    all_books[0, : len(given)] = given[:, hop * ratio : (hop + step) * ratio]
                inputs[stream.name] = all_books
            parts.append(self._runtime.run(graphs.quantizer.decode, inputs)[0])
        return np.concatenate(parts, 2)

    def hops(self, codes: Mapping[str, np.ndarray]) -> int:
        """Frames of the slowest stream that all streams `[K_i, T_i]` cover."""
        rates = {stream.name: stream.frame_rate / self.spec.frame_rate for stream in self.spec.streams}
        return min(int(each.shape[1] / rates[name]) for name, each in codes.items())

    def frames_due(self, num_samples: int) -> int:
        """Latent frames that so many samples become."""
        return -(-num_samples // self._graphs.hop) * self._graphs.frames_per_hop

    def code_streams(self, codes: Mapping[str, np.ndarray]) -> Streams:
        """Wrap codes `[K_i, T_i]` by stream."""
        return {
            stream.name: CodeStream(
                codes[stream.name], stream.codebook_sizes[: len(codes[stream.name])], stream.frame_rate
            )
            for stream in self.spec.streams
            if stream.name in codes
        }

    def _samples(self, hops: int) -> int:
        return self.spec.output_length(hops * self._graphs.hop)

    def _net(self, side: Side, channels: int) -> Net:
        name = side.offline.file if side.offline else ""
        if name not in self._nets:
            steps = self._block_hops
            self._nets[name] = Net(self._runtime, side, channels, most_steps=steps, exact=self.exact)
        return self._nets[name]

    def _streaming(self, net: Net, instead: str) -> Net:
        if not net.streams:
            raise NotOfferedError(
                f"{self.spec.name} was exported without graphs for streams, as what reads whole recordings "
                f"is: use {instead}"
            )
        return net


def _with_waits(spec: Spec, graphs: Graphs) -> Spec:
    """Facts with look-aheads as long as whole steps make them."""
    frames, samples = graphs.frames_per_hop, spec.output_length(graphs.hop)
    encoder = _longest_wait(graphs.encoder, graphs.hop, frames)
    decoder = _longest_wait(graphs.decoder, frames, samples) * graphs.hop // frames
    return replace(
        spec,
        lookahead=max(spec.lookahead, encoder),
        decoder_lookahead=max(spec.decoder_lookahead, decoder),
    )


def _longest_wait(side: Side | None, hop: int, made: int) -> int:
    """What has to come in, beyond the end of a hop, before it comes out as `made` frames or samples."""
    if side is not None and side.by_codebooks:
        side = next(iter(side.by_codebooks.values()))
    if side is None or side.first is None or side.middle is None:
        return 0
    out = side.first.gives // made
    return max(side.first.size - hop, side.first.size + side.middle.size - (out + 1) * hop)
