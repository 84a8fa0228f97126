"""What is compared: tokenizers at numbers of books or without their quantizer, and anchors."""

from __future__ import annotations

import hashlib
import io
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from audiotokens.errors import NotOfferedError
from audiotokens.evaluation.anchors.base import Anchor
from audiotokens.evaluation.machine import package_version
from audiotokens.evaluation.points import SystemKind
from audiotokens.tokenfile import read_tokens, write_tokens
from audiotokens.tokenizer import Tokenizer
from audiotokens.tokens import Tokens
from audiotokens.tokformat.bitpack import bit_width

UNQUANTIZED = 0
"""The number of books that stands for a tokenizer without its quantizer."""
_SHORTER = 0.1


@dataclass(frozen=True)
class Named:
    """A tokenizer by name, which every process can load for itself; the fields are those of `load`."""

    name: str | Path
    exact: bool = True
    device: str = "cpu"
    search_width: int = 1

    def load(self) -> Tokenizer:
        """Return the tokenizer."""
        from audiotokens.registry import load

        return load(self.name, exact=self.exact, device=self.device, search_width=self.search_width)


@dataclass(frozen=True)
class NamedAnchor:
    """An anchor by name, which every process can make for itself.

    Args:
        name: as `get_anchors` knows it.
        lyra: folder with the files of Lyra, for its anchors.
        files: all recordings of the comparison, for the anchor that takes another one of them.
    """

    name: str
    lyra: str | Path | None = None
    files: tuple[str | Path, ...] = ()

    def load(self) -> Anchor:
        """Return the anchor."""
        from audiotokens.evaluation.anchors import get_anchors

        return get_anchors((self.name,), lyra=self.lyra, files=self.files).anchors[0]


@runtime_checkable
class DecodesFeatures(Protocol):
    """A tokenizer whose latents can go straight into its decoder."""

    def decode_features(self, features: np.ndarray) -> np.ndarray:
        """Decode latents `[D, T]` to float32 `[C, M]` at the output rate."""


@dataclass(frozen=True)
class Made:
    """What a system made of one recording at one setting.

    Args:
        waveform: float32 `[C, N]`.
        sample_rate: of `waveform`, in Hz.
        expected: samples that it should have.
        tolerance: samples that it may be longer or shorter.
        file_bytes: as in `FileRecord`.
        payload_bits: as in `FileRecord`.
        tokens: as they were read back; None for systems without tokens.
        encode_seconds: wall time; None where it means nothing.
        decode_seconds: likewise.
    """

    waveform: np.ndarray
    sample_rate: int
    expected: int
    tolerance: float
    file_bytes: int = 0
    payload_bits: float = 0.0
    tokens: Tokens | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None


Make = Callable[[int], Made]
"""Takes one recording through a system at a number of books."""


class System(ABC):
    """One tokenizer or anchor under comparison.

    Attributes:
        name: unique in the results.
        books: its settings: numbers of books, rising; 0 stands for an anchor, or for a tokenizer without its
            quantizer.
        align: whether its delay is to be removed.
        title: for readers; empty: the name says it.
        definition: as in `OperatingPoint`.
    """

    name: str
    books: tuple[int, ...]
    align: bool = True
    title: str = ""
    definition: str = ""

    @property
    def most(self) -> int:
        """The setting by which delay is learned: the largest number of books."""
        return max(self.books)

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 that tells the system from all others."""

    @property
    @abstractmethod
    def processor(self) -> str:
        """Device that it runs on; empty: the processor of the machine."""

    @abstractmethod
    def identity(self) -> str:
        """Return everything that fixes what comes out, as text."""

    @abstractmethod
    def kind(self, books: int) -> SystemKind:
        """Return what the system is at a setting."""

    @abstractmethod
    def nominal_bitrate(self, books: int) -> float | None:
        """Return bits per second at a setting; None where nothing is coded."""

    def codes_per_second(self, books: int) -> float:
        """Return frames per second times books, summed over the streams; 0 without codes."""
        return 0.0

    @abstractmethod
    def sent(self) -> System | None:
        """Return an equal system that can be sent to another process; None: there is none."""

    @abstractmethod
    def start(self, waveform: np.ndarray, sample_rate: int, *, nested: bool) -> Make:
        """Return the function that takes float32 `[C, T]` through the system.

        Args:
            waveform: the recording.
            sample_rate: in Hz.
            nested: encode once, and take the codes of fewer books from those.
        """


class TokenizerSystem(System):
    """A tokenizer at several numbers of books.

    Args:
        name: unique in the results.
        tokenizer: itself; None: `source` loads it when it is needed.
        books: rising, behind `UNQUANTIZED` for the tokenizer without quantizer.
        source: how another process gets it; None: it cannot.
    """

    def __init__(
        self, name: str, tokenizer: Tokenizer | None, books: tuple[int, ...], source: Named | None = None
    ) -> None:
        self.name, self.books, self.source = name, books, source
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself."""
        if self._tokenizer is None:
            if self.source is None:
                raise NotOfferedError(f"{self.name} cannot be loaded by name")
            self._tokenizer = self.source.load()
        return self._tokenizer

    @property
    def fingerprint(self) -> str:
        return self.tokenizer.fingerprint

    @property
    def processor(self) -> str:
        device = str(getattr(self.tokenizer, "device", "cpu"))
        if not device.startswith("cuda"):
            return ""
        import torch

        return str(torch.cuda.get_device_name(device))

    def identity(self) -> str:
        kind = type(self.tokenizer)
        facts = {
            "tokenizer": self.fingerprint,
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "version": package_version(kind.__module__.partition(".")[0]),
            "exact": getattr(self.tokenizer, "exact", None),
            "search width": getattr(self.tokenizer, "search_width", None),
            "processor": self.processor,
        }
        return json.dumps(facts, sort_keys=True)

    def kind(self, books: int) -> SystemKind:
        return "unquantized" if books == UNQUANTIZED else "tokenizer"

    def nominal_bitrate(self, books: int) -> float | None:
        return None if books == UNQUANTIZED else self.tokenizer.spec.bitrate(books)

    def codes_per_second(self, books: int) -> float:
        left, total = books, 0.0
        for stream in self.tokenizer.spec.streams:
            if stream.frame_rate > 0:
                used = min(left, stream.num_codebooks)
                total += float(stream.frame_rate) * used
                left -= used
        return total

    def sent(self) -> TokenizerSystem | None:
        return TokenizerSystem(self.name, None, self.books, self.source) if self.source else None

    def start(self, waveform: np.ndarray, sample_rate: int, *, nested: bool) -> Make:
        return _Recording(self.tokenizer, waveform, sample_rate, nested)


class _Recording:
    """One recording on its way through a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, waveform: np.ndarray, sample_rate: int, nested: bool) -> None:
        self.tokenizer, self.waveform, self.sample_rate = tokenizer, waveform, sample_rate
        self.nested = nested
        self.encoded: Tokens | None = None

    def __call__(self, books: int) -> Made:
        if books == UNQUANTIZED:
            return self._unquantized()
        start = time.perf_counter()
        tokens = self._tokens(books)
        encode_seconds = time.perf_counter() - start
        read, size = through_file(tokens)
        start = time.perf_counter()
        output = self.tokenizer.decode(read)
        decode_seconds = time.perf_counter() - start
        return self._made(
            output, read.num_samples, size, payload_bits(read), read, encode_seconds, decode_seconds
        )

    def _tokens(self, books: int) -> Tokens:
        if self.encoded is None or not self.nested or books > self.encoded.num_codebooks:
            self.encoded = self.tokenizer.encode(self.waveform, self.sample_rate, num_codebooks=books)
        return self.encoded.take(books) if books < self.encoded.num_codebooks else self.encoded

    def _unquantized(self) -> Made:
        if not isinstance(self.tokenizer, DecodesFeatures):
            raise NotOfferedError(f"{self.tokenizer.spec.name} cannot decode latents")
        num_samples = self.tokenizer.prepare(self.waveform, self.sample_rate)[0].shape[1]
        latents = self.tokenizer.features(self.waveform, self.sample_rate)
        output = self.tokenizer.fit_length(self.tokenizer.decode_features(latents), num_samples)
        return self._made(output, num_samples, 0, 0.0, None, None, None)

    def _made(
        self,
        output: np.ndarray,
        num_samples: int,
        file_bytes: int,
        bits: float,
        tokens: Tokens | None,
        encode_seconds: float | None,
        decode_seconds: float | None,
    ) -> Made:
        spec = self.tokenizer.spec
        hop = spec.hop * spec.output_sample_rate / spec.sample_rate if spec.frame_rate else 0
        return Made(
            waveform=output,
            sample_rate=spec.output_sample_rate,
            expected=spec.output_length(num_samples),
            tolerance=float(hop),
            file_bytes=file_bytes,
            payload_bits=bits,
            tokens=tokens,
            encode_seconds=encode_seconds,
            decode_seconds=decode_seconds,
        )


class AnchorSystem(System):
    """An anchor or a calibration, which has one setting.

    Args:
        anchor: itself.
        source: how another process gets it; None: it cannot.
    """

    books = (0,)

    def __init__(self, anchor: Anchor | None, source: NamedAnchor | None = None) -> None:
        self._anchor, self.source = anchor, source
        if anchor is not None:
            self.name, self.title, self.definition = anchor.name, anchor.title, anchor.definition
            self.align = anchor.align
        elif source is not None:
            self.name = source.name

    @property
    def anchor(self) -> Anchor:
        """The anchor itself."""
        if self._anchor is None:
            if self.source is None:
                raise NotOfferedError(f"{self.name} cannot be made by name")
            self._anchor = self.source.load()
        return self._anchor

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.identity().encode()).hexdigest()

    @property
    def processor(self) -> str:
        return ""

    def identity(self) -> str:
        return json.dumps({"anchor": self.anchor.name, "definition": self.anchor.definition}, sort_keys=True)

    def kind(self, books: int) -> SystemKind:
        return self.anchor.kind

    def nominal_bitrate(self, books: int) -> float | None:
        return self.anchor.nominal_bitrate

    def sent(self) -> AnchorSystem | None:
        return AnchorSystem(None, self.source) if self.source else None

    def start(self, waveform: np.ndarray, sample_rate: int, *, nested: bool) -> Make:
        def make(books: int) -> Made:
            coded = self.anchor.code(waveform, sample_rate)
            return Made(
                waveform=coded.waveform,
                sample_rate=coded.sample_rate,
                expected=-(-waveform.shape[1] * coded.sample_rate // sample_rate),
                tolerance=_SHORTER * coded.sample_rate,
                file_bytes=coded.num_bytes,
                payload_bits=8.0 * coded.num_bytes,
                encode_seconds=coded.encode_seconds,
                decode_seconds=coded.decode_seconds,
            )

        return make


def through_file(tokens: Tokens) -> tuple[Tokens, int]:
    """Write tokens as `.tok`, read them back, and return what was read with the size in bytes."""
    buffer = io.BytesIO()
    write_tokens(buffer, tokens)
    size = buffer.tell()
    buffer.seek(0)
    return read_tokens(buffer), size


def payload_bits(tokens: Tokens) -> float:
    """Return the bits of the codes as a `.tok` packs them, and of durations, scales and conditioning.

    A code of a book of V entries has ceil(log2 V) bits. Header, framing and checksums are not counted.
    """
    codes = sum(
        stream.num_frames * sum(bit_width(size - 1) for size in stream.codebook_sizes)
        for stream in tokens.streams.values()
    )
    return codes + tokens.bits - tokens.code_bits


def unique_name(name: str, fingerprint: str, before: Sequence[System]) -> str:
    """Return `name`, with the beginning of the fingerprint where another system has that name."""
    return f"{name} ({fingerprint[:8]})" if any(system.name == name for system in before) else name
