"""Codecs of other packages behind our interface, used as their users use them, for `conformance.py`.

Batches are padded with zeros, with the mask that a package takes; sessions are the package's own streaming.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiotokens.adapters.transformers_models import TransformersTokenizer
from audiotokens.errors import NotOfferedError
from audiotokens.spec import Spec, StreamSpec
from audiotokens.tokenizer import Decoder, Encoder, Tokenizer
from audiotokens.tokens import CodeStream


@dataclass(frozen=True)
class Book:
    """A book of a package, and the call in which it is searched.

    Args:
        owner: module with the method.
        method: searches the book; takes vectors `[N, D]`, or `[B, D, T]` where directions are compared.
        entries: returns the entries `[size, D]`.
        store: sets them.
        directions: whether only the directions of vectors count.
    """

    owner: Any
    method: str
    entries: Callable[[], Tensor]
    store: Callable[[Tensor], None]
    directions: bool = False

    @contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """Collect the vectors `[N, D]` that are searched."""
        seen: list[Tensor] = []
        search = getattr(self.owner, self.method)

        def watch(vectors: Tensor) -> Any:
            seen.append(vectors.transpose(1, 2).flatten(0, 1) if self.directions else vectors)
            return search(vectors)

        setattr(self.owner, self.method, watch)
        try:
            yield seen
        finally:
            delattr(self.owner, self.method)


class Tried:
    """Batches and margins of a codec of another package."""

    exact = False
    pad_to: int = 1
    books: list[list[Book]]

    def encode_padded(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """Return the codes `[B, K, T]` of each stream of a batch `[B, C, N]`; mask `[B, N]`."""
        raise NotImplementedError

    def encode_batch(
        self: Any, waveforms: Sequence[Any], sample_rate: int, *, num_codebooks: int | None = None
    ) -> list[Any]:
        """Encode as one padded batch."""
        left = self.spec.check_prefix(num_codebooks)
        prepared = [self.prepare(waveform, sample_rate) for waveform in waveforms]
        lengths = [waveform.shape[1] for waveform, _ in prepared]
        total = -(-max(lengths) // self.pad_to) * self.pad_to
        x, mask = torch.zeros(len(lengths), self.spec.channels, total), torch.zeros(len(lengths), total)
        for row, kept, (waveform, _) in zip(x, mask, prepared, strict=True):
            row[:, : waveform.shape[1]] = torch.from_numpy(waveform)
            kept[: waveform.shape[1]] = 1
        with torch.inference_mode():
            codes = self.encode_padded(x, mask.bool())
        found = []
        for index, (length, (_, source)) in enumerate(zip(lengths, prepared, strict=True)):
            streams = self.to_streams([each[index] for each in codes], length, left)
            found.append(self.make_tokens(streams, {}, length, source))
        return found

    def to_streams(
        self: Any, codes: Sequence[Tensor], length: int, num_codebooks: int
    ) -> dict[str, CodeStream]:
        """Cut the codes `[K, T]` of each stream to the frames of `length` samples, and to so many books."""
        blocks = -(-length // max(self.pad_to, int(self.spec.hop)))
        streams = {}
        for stream, each in zip(self.spec.streams, codes, strict=True):
            frames = int(blocks * stream.frame_rate / self.spec.frame_rate)
            each = each[:num_codebooks, :frames]
            num_codebooks -= len(each)
            if len(each):
                sizes = stream.codebook_sizes[: len(each)]
                streams[stream.name] = CodeStream(each.numpy(), sizes, stream.frame_rate)
        return streams

    @torch.inference_mode()
    def margins(self: Any, waveform: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Distance of each searched vector to the nearest border, relative to the latent of its frame."""
        flat = [book for stream in self.books for book in stream]
        watches = [book.watched() for book in flat]
        seen = [watch.__enter__() for watch in watches]
        try:
            self.encode(waveform, sample_rate)
        finally:
            for watch in watches:
                watch.__exit__(None, None, None)
        vectors = iter(seen)
        found = {}
        for stream, books in zip(self.spec.streams, self.books, strict=True):
            rows = [(book, torch.cat(next(vectors)).double()) for book in books]
            size = 1.0 if books[0].directions else rows[0][1].norm(dim=1).clamp(min=1e-30)
            found[stream.name] = torch.stack([_borders(book, each) / size for book, each in rows]).numpy()
        return found


def _borders(book: Book, vectors: Tensor) -> Tensor:
    entries = book.entries().double()
    if book.directions:
        entries, vectors = nn.functional.normalize(entries), nn.functional.normalize(vectors)
    squares = torch.cdist(vectors, entries).square()
    nearest = squares.argmin(1)
    apart = torch.cdist(entries, entries)[nearest]
    distances = (squares - squares.gather(1, nearest[:, None])) / (2 * apart)
    return distances.scatter(1, nearest[:, None], torch.inf).nan_to_num(0.0).min(1).values


def digest(model: nn.Module) -> str:
    """SHA-256 over the weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


class TransformersPeer(Tried, TransformersTokenizer):
    """A model of transformers: batches with its padding mask, and the streaming encoder of Mimi."""

    def __init__(self, model: nn.Module, *, name: str) -> None:
        super().__init__(model, name=name, fingerprint=digest(model))
        kind = self._config.model_type
        self.pad_to = int(self.spec.hop) if self._family.whole_hops else 1
        self.books = {"encodec": self._encodec, "dac": self._dac, "mimi": self._mimi}[kind]()
        if kind != "dac":
            self._spec = replace(self._spec, causal=True, streamable=kind == "mimi")

    def encode_padded(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        kind = self._config.model_type
        if kind == "encodec":
            bandwidth = max(self._config.target_bandwidths)
            codes = self.model.encode(x, mask[:, None], bandwidth=bandwidth).audio_codes[0]
        elif kind == "dac":
            codes = self.model.encode(x).audio_codes
        else:
            codes = self.model.encode(x, mask).audio_codes
        return list(codes.split([stream.num_codebooks for stream in self.spec.streams], 1))

    def encoder(self, *, num_codebooks: int | None = None) -> Encoder:
        if self._config.model_type != "mimi":
            raise NotOfferedError("the package has no streaming of it")
        return HubSession(self, self.spec.check_prefix(num_codebooks))

    def decoder(self, *, num_codebooks: int | None = None) -> Decoder:
        raise NotOfferedError("the package has no streaming decoder of it")

    def _encodec(self) -> list[list[Book]]:
        return [[_euclidean(layer.codebook, "embed") for layer in self.model.quantizer.layers]]

    def _dac(self) -> list[list[Book]]:
        return [[_directions(layer) for layer in self.model.quantizer.quantizers]]

    def _mimi(self) -> list[list[Book]]:
        quantizer = self.model.quantizer
        parts = (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer)
        return [[_euclidean(layer.codebook, "embed_sum") for layer in part.layers] for part in parts]


def _euclidean(codebook: Any, name: str, method: str = "quantize") -> Book:
    def store(entries: Tensor) -> None:
        getattr(codebook, name).data.copy_(entries)
        for usage in ("cluster_usage", "_initialized"):
            if hasattr(codebook, usage):
                getattr(codebook, usage).data.fill_(1)
        for cache in ("_embed", "_embedding"):
            if hasattr(codebook, cache):
                setattr(codebook, cache, None)

    return Book(codebook, method, lambda: getattr(codebook, name), store)


def _directions(layer: Any) -> Book:
    weight = layer.codebook.weight
    return Book(layer, "decode_latents", lambda: weight.data, weight.data.copy_, directions=True)


class _Buffered(Encoder):
    """Collects whole frames; a subclass encodes them."""

    def __init__(self, tokenizer: Any, num_codebooks: int) -> None:
        self.tokenizer, self.num_codebooks = tokenizer, num_codebooks
        self.frame = int(tokenizer.spec.hop)
        self.pending = np.zeros((1, 0), np.float32)

    def frames(self, x: Tensor) -> list[Tensor]:
        """Encode whole frames `[1, 1, N]` to codes `[K, T]` of each stream."""
        raise NotImplementedError

    def push(self, chunk: Any) -> Any:
        self.pending = np.concatenate([self.pending, np.atleast_2d(np.asarray(chunk))], axis=1)
        whole = self.pending.shape[1] // self.frame * self.frame
        if not whole:
            return None
        now, self.pending = self.pending[:, :whole], self.pending[:, whole:]
        return self._tokens(now, whole)

    def finish(self) -> Any:
        length = self.pending.shape[1]
        if length:
            return self._tokens(np.pad(self.pending, ((0, 0), (0, self.frame - length))), length)
        streams = {
            stream.name: CodeStream(
                np.zeros((len(stream.codebook_sizes), 0), np.int64), stream.codebook_sizes, stream.frame_rate
            )
            for stream in self.tokenizer.spec.streams
        }
        empty = self.tokenizer.make_tokens(streams, {}, 0, None)
        return empty.take(self.num_codebooks)

    @torch.inference_mode()
    def _tokens(self, samples: np.ndarray, length: int) -> Any:
        codes = self.frames(torch.from_numpy(samples)[None])
        streams = self.tokenizer.to_streams(codes, samples.shape[1], self.num_codebooks)
        return self.tokenizer.make_tokens(streams, {}, length, None)

    def save(self) -> bytes:
        raise NotOfferedError("the package does not save the state of a stream")

    def restore(self, state: bytes) -> None:
        raise NotOfferedError("the package does not save the state of a stream")

    def fork(self) -> Any:
        raise NotOfferedError("the package does not copy the state of a stream")


class HubSession(_Buffered):
    """Mimi of transformers with its caches."""

    caches: tuple[Any, Any] = (None, None)

    def frames(self, x: Tensor) -> list[Tensor]:
        found = self.tokenizer.model.encode(
            x, encoder_cache=self.caches[0], padding_cache=self.caches[1], use_streaming=True
        )
        self.caches = found.encoder_cache, found.padding_cache
        return list(found.audio_codes[0].split([s.num_codebooks for s in self.tokenizer.spec.streams]))


class Original(Tried, Tokenizer):
    """A model of its authors' package."""

    def __init__(self, model: Any, spec: Spec, books: list[list[Book]], *, pad_to: int) -> None:
        self.model, self._spec, self.books, self.pad_to = model, spec, books, pad_to
        self._fingerprint = digest(model)

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> Any:
        x = nn.functional.pad(torch.from_numpy(waveform), (0, -waveform.shape[1] % self.pad_to))[None]
        with torch.inference_mode():
            codes = self.encode_padded(x, torch.ones(1, x.shape[2], dtype=torch.bool))
        return self.to_streams([each[0] for each in codes], waveform.shape[1], num_codebooks), {}


class MoshiPeer(Original):
    """Mimi of moshi, which streams.

    Args:
        model: what `moshi.models.loaders.get_mimi` gives.
        one_by_one: sessions hand it one frame a call, as its examples do; else all that there are.
    """

    def __init__(self, model: Any, *, one_by_one: bool = True) -> None:
        self.one_by_one = one_by_one
        rate = Fraction(model.frame_rate)
        size, count = model.cardinality, model.num_codebooks
        streams = (StreamSpec("semantic", (size,), rate), StreamSpec("acoustic", (size,) * (count - 1), rate))
        spec = Spec(
            "moshi Mimi",
            model.sample_rate,
            model.sample_rate,
            streams,
            legal_prefixes=tuple(range(1, count + 1)),
            streamable=True,
            causal=True,
        )
        parts = (model.quantizer.rvq_first, model.quantizer.rvq_rest)
        books = [
            [_euclidean(layer._codebook, "embedding_sum", "_quantize") for layer in part.vq.layers]
            for part in parts
        ]
        super().__init__(model, spec, books, pad_to=model.frame_size)

    def encode_padded(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        return list(self.model.encode(x).split([stream.num_codebooks for stream in self.spec.streams], 1))

    @torch.inference_mode()
    def _decode(self, tokens: Any) -> np.ndarray:
        waveform: np.ndarray = self.model.decode(torch.from_numpy(np.array(tokens.codes))[None])[0].numpy()
        return waveform

    def encoder(self, *, num_codebooks: int | None = None) -> Encoder:
        return MoshiSession(self, self.spec.check_prefix(num_codebooks))

    def decoder(self, *, num_codebooks: int | None = None) -> Decoder:
        return MoshiDecoding(self)


def _streaming(model: Any) -> Any:
    # The state is in the model: a copy of it is a stream of its own.
    copied = copy.deepcopy(model)
    copied.streaming_forever(1)
    return copied


class MoshiSession(_Buffered):
    """Mimi of moshi in its streaming context."""

    def __init__(self, tokenizer: MoshiPeer, num_codebooks: int) -> None:
        super().__init__(tokenizer, num_codebooks)
        self.model = _streaming(tokenizer.model)

    def frames(self, x: Tensor) -> list[Tensor]:
        parts = x.split(self.frame if self.tokenizer.one_by_one else x.shape[2], 2)
        codes = torch.cat([self.model.encode(part) for part in parts], 2)[0]
        return list(codes.split([stream.num_codebooks for stream in self.tokenizer.spec.streams]))


class MoshiDecoding(Decoder):
    """The decoder of moshi's Mimi in its streaming context."""

    save, restore, fork = _Buffered.save, _Buffered.restore, _Buffered.fork  # type: ignore[assignment]

    def __init__(self, tokenizer: MoshiPeer) -> None:
        self.model, self.spec = _streaming(tokenizer.model), tokenizer.spec
        self.one_by_one = tokenizer.one_by_one
        self.received = self.returned = 0

    @torch.inference_mode()
    def push(self, tokens: Any) -> np.ndarray:
        self.received += tokens.num_samples
        if not tokens.codes.shape[1]:
            return np.zeros((1, 0), np.float32)
        codes = torch.from_numpy(np.array(tokens.codes))[None]
        parts = codes.split(1 if self.one_by_one else codes.shape[2], 2)
        samples = torch.cat([self.model.decode(part) for part in parts], 2)[0].numpy()
        samples = samples[:, : self.spec.output_length(self.received) - self.returned]
        self.returned += samples.shape[1]
        return np.ascontiguousarray(samples)

    def finish(self) -> np.ndarray:
        return np.zeros((1, 0), np.float32)


class SnacPeer(Original):
    """SNAC of snac. All its levels decode together; its noise in the decoder is left as it is."""

    def __init__(self, model: Any) -> None:
        fastest = Fraction(model.sampling_rate, int(model.hop_length))
        streams = tuple(
            StreamSpec(f"level{index}", (model.codebook_size,), fastest / stride)
            for index, stride in enumerate(model.vq_strides)
        )
        spec = Spec(
            "snac SNAC", model.sampling_rate, model.sampling_rate, streams, legal_prefixes=(len(streams),)
        )
        books = [[_directions(layer)] for layer in model.quantizer.quantizers]
        super().__init__(model, spec, books, pad_to=int(model.hop_length) * model.vq_strides[0])

    def encode_padded(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        return [codes[:, None] for codes in self.model.encode(x)]

    @torch.inference_mode()
    def _decode(self, tokens: Any) -> np.ndarray:
        codes = [torch.from_numpy(np.array(stream.codes)) for stream in tokens.streams.values()]
        waveform: np.ndarray = self.model.decode(codes)[0].numpy()
        return waveform
