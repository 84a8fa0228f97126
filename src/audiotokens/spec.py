"""Frozen facts about a tokenizer: rates, books, latency, licence, origin."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

from audiotokens.errors import TokensError


@dataclass(frozen=True)
class StreamSpec:
    """One named sequence of codes that a tokenizer makes.

    Args:
        name: key in `Tokens.streams`.
        codebook_sizes: number of entries of each of the K books.
        frame_rate: frames per second; 0 where the codes stand for the whole recording.
    """

    name: str
    codebook_sizes: tuple[int, ...]
    frame_rate: Fraction

    @property
    def num_codebooks(self) -> int:
        """Number of books K."""
        return len(self.codebook_sizes)

    @property
    def bitrate(self) -> float:
        """Nominal bits per second with all books (0 for global codes)."""
        return float(self.frame_rate) * sum(math.log2(size) for size in self.codebook_sizes)


@dataclass(frozen=True)
class FeatureSpec:
    """The continuous features that a vocoder makes speech of.

    Args:
        name: what they are, such as "log-mel".
        size: numbers D per frame.
        frame_rate: frames per second.
    """

    name: str
    size: int
    frame_rate: Fraction


@dataclass(frozen=True)
class Taxonomy:
    """Place of a tokenizer in the two surveys (Guo et al. 2025; Mousavi et al. 2025), in their terms."""

    tokens: str = "acoustic"
    encoder: str = ""
    quantizer: str = ""
    training: str = ""
    objective: str = ""
    domain: str = "speech"


@dataclass(frozen=True)
class Spec:
    """What a tokenizer is, takes and gives. All latencies are in samples at the input rate.

    Args:
        name: short name, such as "speech-16k".
        sample_rate: rate of the waveforms that `encode` works on, in Hz.
        output_sample_rate: rate of the waveforms that `decode` gives, in Hz.
        channels: channels of input and output.
        streams: the streams of codes in their order.
        legal_prefixes: numbers of time-varying books (counted over the streams in order) that can be decoded.
        architecture: family name.
        can_encode: False for vocoders.
        can_decode: False for encode-only tokenizers.
        streamable: whether `encoder()` and `decoder()` are offered.
        causal: whether neither side looks ahead beyond one frame.
        lookahead: frame t of the codes is final once (t + 1) hop + lookahead samples are in.
        decoder_lookahead: samples after the end of a frame's own hop that decoding it waits for.
        receptive_field: samples that one frame's codes depend on; None: no bound.
        nested: whether encoding with fewer books gives the first books of encoding with more.
        min_samples: shorter input is padded with zeros to this length before encoding.
        quirks: known deviations, each one sentence.
        code_license: SPDX identifier.
        weights_license: SPDX identifier.
        training_data: one sentence.
        source: paper or page.
        taxonomy: place in the surveys.
        parameters: trainable numbers, weight norm folded; 0: not counted.
        encoder_macs: multiply-adds for encoding a second of audio with all books, the search among them, as
            `codec.complexity` counts them; 0: not counted.
        decoder_macs: those for decoding it.
        features: what a vocoder takes instead of codes; None: it is none.
    """

    name: str
    sample_rate: int
    output_sample_rate: int
    streams: tuple[StreamSpec, ...]
    legal_prefixes: tuple[int, ...]
    channels: int = 1
    architecture: str = ""
    can_encode: bool = True
    can_decode: bool = True
    streamable: bool = False
    causal: bool = False
    lookahead: int = 0
    decoder_lookahead: int = 0
    receptive_field: int | None = 0
    nested: bool = True
    min_samples: int = 1
    quirks: tuple[str, ...] = ()
    code_license: str = "Apache-2.0"
    weights_license: str = ""
    training_data: str = ""
    source: str = ""
    taxonomy: Taxonomy = field(default_factory=Taxonomy)
    parameters: int = 0
    encoder_macs: int = 0
    decoder_macs: int = 0
    features: FeatureSpec | None = None

    @property
    def num_codebooks(self) -> int:
        """Number of time-varying books over all streams."""
        return sum(stream.num_codebooks for stream in self.streams if stream.frame_rate > 0)

    @property
    def frame_rate(self) -> Fraction:
        """The slowest frame rate of the time-varying streams, or that of the features (0: there are none)."""
        other = self.features.frame_rate if self.features else Fraction(0)
        return min((s.frame_rate for s in self.streams if s.frame_rate > 0), default=other)

    @property
    def macs(self) -> int:
        """Multiply-adds per second of audio, encoding and decoding together; 0: not counted."""
        return self.encoder_macs + self.decoder_macs

    @property
    def hop(self) -> Fraction:
        """Input samples per frame of the slowest time-varying stream."""
        if not self.frame_rate:
            raise TokensError(f"{self.name} has no time-varying stream, so it has no hop")
        return self.sample_rate / self.frame_rate

    def bitrate(self, num_codebooks: int | None = None) -> float:
        """Nominal bits per second of the first `num_codebooks` time-varying books (default: all)."""
        left = self.check_prefix(num_codebooks)
        total = 0.0
        for stream in self.streams:
            if stream.frame_rate > 0:
                sizes = stream.codebook_sizes[:left]
                total += float(stream.frame_rate) * sum(math.log2(size) for size in sizes)
                left -= len(sizes)
        return total

    def check_prefix(self, num_codebooks: int | None) -> int:
        """Return `num_codebooks` (default: the largest legal one).

        Raises:
            TokensError: it is not a legal prefix.
        """
        if num_codebooks is None:
            return max(self.legal_prefixes)
        if num_codebooks not in self.legal_prefixes:
            legal = ", ".join(map(str, self.legal_prefixes))
            raise TokensError(f"{self.name}: num_codebooks is {num_codebooks}, legal values are {legal}")
        return num_codebooks

    def output_length(self, num_samples: int) -> int:
        """Samples that decoding N encoded ones gives: ceil(N * output rate / input rate)."""
        return -(-num_samples * self.output_sample_rate // self.sample_rate)
