"""EnCodec (Défossez et al. 2022, High Fidelity Neural Audio Compression, arXiv:2210.13438).

A SEANet encoder and decoder with an LSTM at the frame rate on both sides, and residual vector quantization.
Four sizes are published: 24 kHz, mono and causal; 48 kHz, stereo, which works in windows; 32 kHz, of MusicGen
(Copet et al. 2023); 16 kHz, of AudioGen (Kreuk et al. 2022).

A windowed model takes a recording x in windows of L samples that begin every S = floor((1 - overlap) L)
samples, as long as there are samples. Where it normalizes, each window is encoded as

    x / g,  g = sqrt(mean_t m_t^2) + 1e-8,  m the mean of the channels,

and the gain g is kept with its codes. Decoded windows y_i, each times its gain, are joined as
sum_i w y_i / sum_i w with the weights w_j = 1/2 - |(j + 1) / (N + 1) - 1/2| of the first window's N samples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiotokens.architectures.reference import TRANSFORMERS_BOOKKEEPING, Reference, Shapes, Tensors
from audiotokens.architectures.seanet import (
    SEANetArguments,
    SEANetConfig,
    SEANetDecoderArguments,
    place_biases,
    seanet_decoder,
    seanet_encoder,
    seanet_of_transformers,
    seanet_rules,
)
from audiotokens.audio import WaveformLike
from audiotokens.codec import Codec, CodecOutput, Parts
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError, NotOfferedError, TokensError
from audiotokens.nn.block import mask_time
from audiotokens.nn.padding import PadMode
from audiotokens.quantizers import Quantizer, QuantizerConfig, RVQConfig, VectorConfig, build_quantizer
from audiotokens.quantizers.vector import EMALearning
from audiotokens.sessions import CodecDecoder, CodecEncoder
from audiotokens.spec import Spec, StreamSpec, Taxonomy
from audiotokens.tokenizer import Streams
from audiotokens.tokens import CodeStream, Conditioning, Segment, Tokens

_SILENCE = 1e-8
# Windows that run together where one recording is encoded or decoded; of a padded batch, all do.
_TOGETHER = 4


def residual_books(count: int, size: int) -> RVQConfig:
    """Books as EnCodec learns them: by moving averages with decay 0.99.

    Dead entries restart with their averages, which the original means to do (it resets the entry only, and
    the averages undo that in the same step), and the gradient passes once, straight through the sum.
    """
    learning = EMALearning(decay=0.99, smoothing=1e-5)
    return RVQConfig(num_codebooks=count, inner=VectorConfig(codebook_size=size, learning=learning))


@dataclass(frozen=True)
class EncodecConfig:
    """Configuration of an EnCodec.

    Args:
        sample_rate: in Hz.
        seanet: of encoder and decoder; `seanet.channels` are those of the waveform.
        quantizer: configuration of any quantizer.
        bandwidths: offered bitrates in kbit/s; see `EncodecCodec.books_for`.
        normalize: whether each window is divided by its loudness before encoding.
        segment: length of a window in seconds; None: the whole recording.
        overlap: share of a window that the next one covers too.
    """

    sample_rate: int = 24000
    seanet: SEANetConfig = field(default_factory=SEANetConfig)
    quantizer: QuantizerConfig = field(default_factory=lambda: residual_books(32, 1024))
    bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0, 24.0)
    normalize: bool = False
    segment: float | None = None
    overlap: float = 0.01

    def __post_init__(self) -> None:
        if self.segment is not None and self.segment * self.sample_rate < 1:
            raise ValueError(f"segment is {self.segment} s, expected at least one sample")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap}, expected 0 to less than 1")

    @property
    def windowed(self) -> bool:
        """Whether codes come in windows."""
        return self.normalize or self.segment is not None

    def windows(self, num_samples: int) -> list[tuple[int, int]]:
        """First sample and number of samples of each window of a recording."""
        if self.segment is None:
            return [(0, num_samples)]
        length = int(self.segment * self.sample_rate)
        stride = max(1, int((1 - self.overlap) * length))
        return [(start, min(length, num_samples - start)) for start in range(0, num_samples, stride)]


_LARGE = SEANetConfig(filters=64, ratios=(8, 5, 4, 4), causal=False, true_skip=True)
_STEREO = SEANetConfig(channels=2, causal=False, norm="time_group_norm")
_TINY = SEANetConfig(dimension=8, filters=4, ratios=(5, 4, 2), lstm_layers=1)

VARIANTS: dict[str, EncodecConfig] = {
    "encodec-24khz": EncodecConfig(),
    "encodec-48khz": EncodecConfig(
        sample_rate=48000, seanet=_STEREO, quantizer=residual_books(16, 1024),
        bandwidths=(3.0, 6.0, 12.0, 24.0), normalize=True, segment=1.0,
    ),
    "encodec-32khz": EncodecConfig(
        sample_rate=32000, seanet=_LARGE, quantizer=residual_books(4, 2048), bandwidths=(2.2,)
    ),
    "encodec-16khz": EncodecConfig(
        sample_rate=16000, seanet=replace(_LARGE, ratios=(8, 5, 4, 2), pad_mode="constant"),
        quantizer=residual_books(4, 2048), bandwidths=(2.2,),
    ),
    "tiny": EncodecConfig(
        sample_rate=16000, seanet=_TINY, quantizer=residual_books(4, 16), bandwidths=(1.6, 3.2, 6.4)
    ),
    "tiny-stereo": EncodecConfig(
        sample_rate=16000, seanet=replace(_TINY, channels=2, causal=False, norm="time_group_norm"),
        quantizer=residual_books(4, 16), bandwidths=(1.6, 3.2, 6.4), normalize=True, segment=0.1, overlap=0.1,
    ),
}  # fmt: skip

_REFLECTED = (
    "Reflection continues the beginning of a recording, so that the first frames read audio after their end; "
    "a stream waits for it."
)
_WINDOW_QUIRKS = (
    "A window that lies wholly inside the one before it is coded all the same.",
    "Silence is divided by its gain of 1e-8 or more like everything else, so that its noise is coded at full "
    "level.",
)


@dataclass(frozen=True)
class _Windows:
    """Encoded windows of one recording: codes `[K, T]` of all of them, and where they lie."""

    codes: Tensor
    segments: tuple[Segment, ...]


class EncodecCodec(Codec):
    """EnCodec; see the module's text."""

    architecture = "encodec"
    config_class = EncodecConfig
    config: EncodecConfig

    def __init__(self, config: EncodecConfig, *, spec: Spec | None = None) -> None:
        super().__init__(config, spec=spec)
        if config.windowed:
            self._spec = replace(
                self._spec, streamable=False, lookahead=0, decoder_lookahead=0, receptive_field=None
            )

    @classmethod
    def build(cls, config: EncodecConfig) -> Parts:
        quantizer = build_quantizer(config.quantizer, config.seanet.dimension)
        return Parts(seanet_encoder(config.seanet), quantizer, seanet_decoder(config.seanet))

    @classmethod
    def default_spec(cls, config: EncodecConfig, quantizer: Quantizer, name: str) -> Spec:
        seanet = config.seanet
        rate = Fraction(config.sample_rate, seanet.hop)
        reflected = (_REFLECTED,) if seanet.causal and seanet.pad_mode == "reflect" else ()
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=config.sample_rate,
            output_sample_rate=config.sample_rate,
            channels=seanet.channels,
            streams=(StreamSpec("codes", quantizer.codebook_sizes, rate),),
            legal_prefixes=quantizer.legal_prefixes,
            # Reflection makes its first frames look ahead.
            causal=seanet.causal and not reflected and not config.windowed,
            quirks=_WINDOW_QUIRKS if config.windowed else reflected,
            source="https://arxiv.org/abs/2210.13438",
            taxonomy=Taxonomy(
                encoder="CNN+RNN (T)" if seanet.lstm_layers else "CNN (T)",
                quantizer=quantizer.label,
                training="joint",
                objective="GAN + reconstruction + feature matching + VQ",
                domain="speech, music, audio",
            ),
        )

    def books_for(self, bandwidth: float) -> int:
        """Number of books that a bitrate pays for: max(1, floor(bandwidth / (frame rate log2 N))).

        Args:
            bandwidth: in kbit/s, one of `config.bandwidths`.

        Raises:
            TokensError: another bandwidth.
        """
        if bandwidth not in self.config.bandwidths:
            offered = ", ".join(map(str, self.config.bandwidths))
            raise TokensError(f"{self.spec.name}: bandwidth is {bandwidth} kbit/s, expected one of {offered}")
        sizes = self.quantizer.codebook_sizes
        frame_rate = math.ceil(self.spec.frame_rate)
        return min(max(1, math.floor(bandwidth / (math.log2(sizes[0]) * frame_rate / 1000))), len(sizes))

    def forward(
        self, waveform: Tensor, *, num_codebooks: Tensor | int | None = None, quantize: bool = True
    ) -> CodecOutput:
        """Reconstruct `[B, C, T]` for training, as one window each; see `Codec.forward`."""
        if not self.config.normalize:
            return super().forward(waveform, num_codebooks=num_codebooks, quantize=quantize)
        normalized, gains = _normalized(waveform, None)
        output = super().forward(normalized, num_codebooks=num_codebooks, quantize=quantize)
        return replace(output, waveform=output.waveform * gains)

    # Windows

    def encoder(self, *, num_codebooks: int | None = None) -> CodecEncoder:
        self._check_windows()
        return super().encoder(num_codebooks=num_codebooks)

    def decoder(self, *, num_codebooks: int | None = None) -> CodecDecoder:
        self._check_windows()
        return super().decoder(num_codebooks=num_codebooks)

    def _check_windows(self) -> None:
        if self.config.windowed:
            why = "gain" if self.config.segment is None else "overlapping windows"
            raise NotOfferedError(f"{self.spec.name} reads whole recordings, because of its {why}")

    @torch.inference_mode()
    def encode_codes(
        self, waveforms: Tensor, lengths: Tensor, num_codebooks: int | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encode a padded batch in one call, all windows at once; see `Codec.encode_codes`.

        The gains of windows are not among the results: `encode` gives them.
        """
        if not self.config.windowed:
            return super().encode_codes(waveforms, lengths, num_codebooks)
        books = self.spec.check_prefix(num_codebooks)
        items = self._encode_windows(waveforms, lengths.tolist(), books, together=None)
        frames = torch.tensor([item.codes.shape[1] for item in items])
        longest = int(frames.max())
        padded = [functional.pad(item.codes, (0, longest - item.codes.shape[1])) for item in items]
        return {"codes": torch.stack(padded)}, {"codes": frames}

    @torch.inference_mode()
    def decode_codes(self, codes: dict[str, Tensor], lengths: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Decode a padded batch in one call; see `Codec.decode_codes`.

        Raises:
            NotOfferedError: the codes came in windows, whose places and gains tensors of codes do not tell.
        """
        if self.config.windowed:
            raise NotOfferedError(
                f"{self.spec.name} decodes windows with their gains, which codes do not tell: use decode"
            )
        return super().decode_codes(codes, lengths)

    @torch.inference_mode()
    def features(self, waveform: WaveformLike, sample_rate: int) -> np.ndarray:
        """Return the latents before quantization, float32 `[D, T]`; those of all windows in a row."""
        if not self.config.windowed:
            return super().features(waveform, sample_rate)
        prepared, _ = self.prepare(waveform, sample_rate)
        batch = torch.from_numpy(prepared)[None]
        parts = [latents for *_, latents in self._window_latents(batch, [prepared.shape[1]], _TOGETHER)]
        return torch.cat(parts, 1).float().cpu().numpy()

    @torch.inference_mode()
    def decode_features(self, features: np.ndarray) -> np.ndarray:
        """Decode latents that no quantizer has touched; see `Codec.decode_features`.

        Raises:
            NotOfferedError: they came in windows, whose places and gains they do not tell.
        """
        if self.config.windowed:
            raise NotOfferedError(
                f"{self.spec.name} decodes windows with their gains, which latents do not tell"
            )
        return super().decode_features(features)

    @torch.inference_mode()
    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        if not self.config.windowed:
            return super()._encode(waveform, num_codebooks)
        batch = torch.from_numpy(waveform)[None]
        (item,) = self._encode_windows(batch, [waveform.shape[1]], num_codebooks, together=_TOGETHER)
        (stream,) = self.spec.streams
        codes = item.codes.cpu().numpy()
        sizes = stream.codebook_sizes[: len(codes)]
        return {"codes": CodeStream(codes, sizes, stream.frame_rate, segments=item.segments)}, {}

    def _encode_windows(
        self, waveforms: Tensor, lengths: Sequence[int], num_codebooks: int, *, together: int | None
    ) -> list[_Windows]:
        """Encode recordings `[B, C, T]` of the given lengths, `together` windows at a time (None: all)."""
        codes: list[list[Tensor]] = [[] for _ in lengths]
        segments: list[list[Segment]] = [[] for _ in lengths]
        for row, start, size, gain, latents in self._window_latents(waveforms, lengths, together):
            found = self.quantize(latents[None], num_codebooks)
            codes[row].append(found[0])
            segments[row].append(Segment(start, size, latents.shape[1], gain))
        return [_Windows(torch.cat(each, 1), tuple(own)) for each, own in zip(codes, segments)]

    def _window_latents(
        self, waveforms: Tensor, lengths: Sequence[int], together: int | None
    ) -> Iterator[tuple[int, int, int, float, Tensor]]:
        """For each window its item, first sample, number of samples, gain, and latents `[D, T]`."""
        places = [(row, *place) for row, n in enumerate(lengths) for place in self.config.windows(n)]
        for first in range(0, len(places), together or len(places)):
            group = places[first : first + (together or len(places))]
            longest = max(size for *_, size in group)
            pieces = [waveforms[row, :, start : start + size] for row, start, size in group]
            batch = torch.stack([functional.pad(piece, (0, longest - piece.shape[1])) for piece in pieces])
            batch = batch.to(self.device, self._type)
            sizes = torch.tensor([size for *_, size in group], device=self.device)
            padded = None if int(sizes.min()) == longest else sizes
            gains = batch.new_ones(len(group))
            if self.config.normalize:
                batch, gains = _normalized(batch, padded)
            latents = self.encoder_net(batch, padded)
            frames = self.encoder_net.output_lengths(sizes).tolist()
            for place, gain, found, count in zip(group, gains.flatten().tolist(), latents, frames):
                yield *place, gain, found[:, :count]

    @torch.inference_mode()
    def _decode(self, tokens: Tokens) -> np.ndarray:
        if not self.config.windowed:
            return super()._decode(tokens)
        stream = tokens.streams["codes"]
        segments = self._checked_segments(stream)
        hop = self.config.seanet.hop
        end = max((segment.start_sample + segment.frames * hop for segment in segments), default=0)
        total = torch.zeros(self.spec.channels, end, device=self.device)
        weights = torch.zeros(end, device=self.device)
        for segment, waveform in self._decoded_windows(stream.codes, segments):
            size = waveform.shape[1]
            weight = _triangle(max(size, segments[0].frames * hop)).to(self.device)[:size]
            here = slice(segment.start_sample, segment.start_sample + size)
            total[:, here] += weight * waveform
            weights[here] += weight
        total /= weights
        return total.cpu().numpy()

    def _checked_segments(self, stream: CodeStream) -> tuple[Segment, ...]:
        if stream.segments is None:
            raise TokensError(f"{self.spec.name} codes windows, but the tokens have none: encode again")
        for number, segment in enumerate(stream.segments):
            frames = -(-segment.num_samples // self.config.seanet.hop)
            if segment.frames != frames:
                raise TokensError(
                    f"window {number} has {segment.frames} frames for {segment.num_samples} samples, "
                    f"expected {frames}: encode again"
                )
        return stream.segments

    def _decoded_windows(
        self, codes: np.ndarray, segments: Sequence[Segment]
    ) -> Iterator[tuple[Segment, Tensor]]:
        """Each window with its samples `[C, frames hop]` times its gain; equally long ones run together."""
        read = 0
        for frames, run in groupby(segments, key=lambda segment: segment.frames):
            alike = list(run)
            for first in range(0, len(alike), _TOGETHER):
                group = alike[first : first + _TOGETHER]
                count = frames * len(group)
                part = torch.from_numpy(np.array(codes[:, read : read + count])).to(self.device)
                read += count
                latents = self.dequantize({"codes": part.unflatten(1, (len(group), frames)).transpose(0, 1)})
                for segment, waveform in zip(group, self.decoder_net(latents.to(self._type)).float()):
                    yield segment, waveform * segment.scale


def _normalized(waveforms: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Divide recordings `[B, C, T]` by their gains `[B, 1, 1]`; also return these."""
    sizes = waveforms.shape[2] if lengths is None else lengths.to(waveforms.dtype)
    inside = waveforms if lengths is None else mask_time(waveforms, lengths)
    gains = (inside.mean(1).square().sum(1) / sizes).sqrt()[:, None, None] + _SILENCE
    return waveforms / gains, gains


def _triangle(size: int) -> Tensor:
    """Weights `[size]` of a window, largest in the middle."""
    time = torch.linspace(0, 1, size + 2)[1:-1]
    return 0.5 - (time - 0.5).abs()


# Checkpoints


@dataclass(frozen=True)
class _QuantizerArguments:
    """Arguments of the original's `ResidualVectorQuantizer`; those of its training do not matter here."""

    dimension: int = 256
    n_q: int = 8
    bins: int = 1024
    decay: float = 0.99
    kmeans_init: bool = True
    kmeans_iters: int = 50
    threshold_ema_dead_code: int = 2


@dataclass(frozen=True)
class _Arguments:
    """Arguments of the original's `EncodecModel`."""

    target_bandwidths: tuple[float, ...]
    quantizer: _QuantizerArguments
    seanet: SEANetArguments = field(default_factory=SEANetArguments)
    decoder_extra: SEANetDecoderArguments = field(default_factory=SEANetDecoderArguments)
    sample_rate: int = 24000
    channels: int = 1
    normalize: bool = False
    segment: float | None = None
    overlap: float = 0.01
    name: str = "unset"


@dataclass(frozen=True)
class _TransformersArguments:
    """Keys of `EncodecConfig` in transformers."""

    target_bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0, 24.0)
    sampling_rate: int = 24000
    audio_channels: int = 1
    normalize: bool = False
    chunk_length_s: float | None = None
    overlap: float | None = None
    hidden_size: int = 128
    num_filters: int = 32
    num_residual_layers: int = 1
    upsampling_ratios: tuple[int, ...] = (8, 5, 4, 2)
    norm_type: Literal["weight_norm", "time_group_norm"] = "weight_norm"
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_growth_rate: int = 2
    use_causal_conv: bool = True
    pad_mode: PadMode = "reflect"
    compress: int = 2
    num_lstm_layers: int = 2
    trim_right_ratio: float = 1.0
    codebook_size: int = 1024
    codebook_dim: int | None = None
    use_conv_shortcut: bool = True


def read_config(arguments: Mapping[str, Any]) -> EncodecConfig:
    """Read the arguments of the original's modules, or the `config.json` of transformers.

    Args:
        arguments: of `EncodecModel`, with those of both SEANet halves under "seanet", those of the decoder
            alone under "decoder_extra" and those of the quantizer under "quantizer"; or a transformers
            configuration, known by its "model_type" or "upsampling_ratios".

    Raises:
        ConfigError: an unknown, missing or ill-typed key, or a value that is not built.
    """
    try:
        if "model_type" in arguments or "upsampling_ratios" in arguments:
            return _from_transformers(arguments)
        return _from_original(arguments)
    except ValueError as error:
        raise ConfigError(f"these arguments make no EnCodec: {error}") from None


def _from_original(arguments: Mapping[str, Any]) -> EncodecConfig:
    given = from_dict(_Arguments, arguments, where="EncodecModel")
    own, quantizer = given.seanet, given.quantizer
    if own.channels != given.channels or own.dimension != quantizer.dimension:
        raise ConfigError(
            f"seanet has {own.channels} channels and {own.dimension} dimensions, expected those of model and "
            f"quantizer, {given.channels} and {quantizer.dimension}"
        )
    return EncodecConfig(
        sample_rate=given.sample_rate,
        seanet=own.config(given.decoder_extra),
        quantizer=residual_books(quantizer.n_q, quantizer.bins),
        bandwidths=given.target_bandwidths,
        normalize=given.normalize,
        segment=given.segment,
        overlap=given.overlap,
    )


def _from_transformers(arguments: Mapping[str, Any]) -> EncodecConfig:
    kind = arguments.get("model_type", "encodec")
    if kind != "encodec":
        raise ConfigError(f'model_type is "{kind}", expected "encodec"')
    own = {key: value for key, value in arguments.items() if key not in TRANSFORMERS_BOOKKEEPING}
    given = from_dict(_TransformersArguments, own, where="config.json")
    if given.codebook_dim not in (None, given.hidden_size):
        raise ConfigError(f"codebook_dim is {given.codebook_dim}, expected hidden_size, {given.hidden_size}")
    seanet = replace(
        seanet_of_transformers(given),
        norm="time_group_norm" if given.norm_type == "time_group_norm" else "none",
        lstm_layers=given.num_lstm_layers,
    )
    bits = math.ceil(math.log2(given.codebook_size))
    frame_rate = math.ceil(given.sampling_rate / seanet.hop)
    books = int(1000 * given.target_bandwidths[-1] // (frame_rate * bits))
    return EncodecConfig(
        sample_rate=given.sampling_rate,
        seanet=seanet,
        quantizer=residual_books(books, given.codebook_size),
        bandwidths=given.target_bandwidths,
        normalize=given.normalize,
        segment=given.chunk_length_s,
        overlap=0.01 if given.overlap is None else given.overlap,
    )


def _guess(shapes: Shapes) -> EncodecConfig | None:
    """The published variant with these tensors; shapes alone do not tell a sample rate."""
    books = [shape for name, shape in shapes.items() if name.endswith(".embed")]
    own = re.compile(r"encoder\.(?:model|layers)\.(\d+)\.conv\.(?:conv\.)?weight")
    convolutions = sorted((int(m[1]), shapes[name]) for name in shapes if (m := own.fullmatch(name)))
    if not books or len(convolutions) < 3:
        return None
    (_, first), *strided, _ = convolutions
    facts = (
        first[:2],
        tuple(shape[2] // 2 for _, shape in reversed(strided)),
        not any(".shortcut." in name for name in shapes),
        any(".norm." in name for name in shapes),
        books,
    )
    return next((config for config in VARIANTS.values() if _facts(config) == facts), None)


def _facts(config: EncodecConfig) -> tuple[Any, ...]:
    """What `_guess` compares."""
    seanet = config.seanet
    books = build_quantizer(config.quantizer, seanet.dimension).codebook_sizes
    return (
        (seanet.filters, seanet.channels),
        seanet.ratios,
        seanet.true_skip,
        seanet.norm != "none",
        [(size, seanet.dimension) for size in books],
    )


def _rework(tensors: Tensors, config: EncodecConfig) -> Tensors:
    return place_biases(tensors, "decoder_net", config.seanet)


EncodecCodec.reference = Reference(
    read_config=read_config,
    rules=(
        *seanet_rules("encoder_net", "encoder"),
        *seanet_rules("decoder_net", "decoder"),
        (r"quantizer\.(?:vq\.)?layers\.(\d+)\._?codebook\.embed", r"quantizer.levels.\1.book"),
    ),
    ignored=(r"quantizer\..*\.(?:inited|cluster_size|embed_avg)",),
    rework=_rework,
    guess=_guess,
)
