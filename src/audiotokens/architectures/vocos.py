"""Vocos (Siuzdak 2023, Vocos: Closing the gap between time-domain and Fourier-based neural vocoders).

    features -> conv, norm, ConvNeXt blocks, norm -> magnitudes and phases -> inverse STFT -> waveform

No layer runs faster than the frame rate; what makes samples of frames is a fixed transform. Two kinds of
features are read:

- log-mel spectrograms: a vocoder without codes, `MelVocos`;
- sums of entries of EnCodec's books: a decoder of EnCodec's codes, `EncodecVocos`. Its norms are adaptive,
  one condition for each of the bandwidths that it was trained with, so that many prefixes of the books decode
  and no others. With EnCodec's weights beside its own it encodes too.

`Vocos(config)` gives the one that the features of the configuration call for. A backbone of dilated residual
blocks (Kong et al. 2020, HiFi-GAN), and heads with an inverse MDCT in place of the STFT, are in the code of
the original, but no checkpoint of them was published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiotokens.architectures.encodec import residual_books
from audiotokens.architectures.fourier import (
    FOURIER_IGNORED,
    FOURIER_RULES,
    ConvNeXtArguments,
    ConvNeXtBackbone,
    IMDCTHead,
    ISTFTArguments,
    ISTFTHead,
    ResNetBackbone,
    convnext_backbone,
    fourier_head,
    fourier_tensors,
    read_part,
    resnet_backbone,
    seanet_of,
)
from audiotokens.architectures.reference import Reference, Shapes, Tensors
from audiotokens.architectures.seanet import SEANetConfig, seanet_encoder, seanet_rules
from audiotokens.codec import Codec, Parts, StoredModel
from audiotokens.codec.files import read_description
from audiotokens.codec.vocoder import NetVocoder
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError, NotOfferedError, TokensError
from audiotokens.nn.block import Block, Reach, Sequential, State
from audiotokens.nn.convnext import under_condition
from audiotokens.nn.framing import WholeFrames
from audiotokens.nn.spectrograms import LogMel
from audiotokens.nn.transforms import Padding
from audiotokens.quantizers import Quantized, Quantizer, QuantizerConfig, RVQConfig, build_quantizer
from audiotokens.quantizers.statistics import nest
from audiotokens.spec import FeatureSpec, Spec, StreamSpec, Taxonomy
from audiotokens.tokens import Tokens

_NO_ENCODEC = "these weights of Vocos hold no EnCodec: import them together with EnCodec's"


@dataclass(frozen=True)
class MelFeatures:
    """Log-mel spectrograms of magnitudes.

    Args:
        kind: names these features in a configuration.
        sample_rate: in Hz.
        n_fft: length of window and transform.
        hop: samples per frame.
        bands: number of mel bands.
        padding: how frames lie on the samples; see `LogMel`.
    """

    kind: Literal["mel"] = "mel"
    sample_rate: int = 24000
    n_fft: int = 1024
    hop: int = 256
    bands: int = 100
    padding: Padding = "center"

    @property
    def size(self) -> int:
        """Numbers per frame."""
        return self.bands


@dataclass(frozen=True)
class EncodecFeatures:
    """Sums of entries of EnCodec's books.

    Args:
        kind: names these features in a configuration.
        sample_rate: in Hz.
        hop: samples per frame.
        size: dimensions of the entries.
        codebook_size: entries per book.
        bandwidths: in kbit/s, one for each condition of the norms.
        encoder: EnCodec's encoder; None: there is none, and codes are only decoded.
    """

    kind: Literal["encodec"] = "encodec"
    sample_rate: int = 24000
    hop: int = 320
    size: int = 128
    codebook_size: int = 1024
    bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0)
    encoder: SEANetConfig | None = None

    def __post_init__(self) -> None:
        if not self.bandwidths:
            raise ValueError("bandwidths are empty, expected at least one")
        if self.encoder and (self.encoder.hop, self.encoder.dimension) != (self.hop, self.size):
            raise ValueError(
                f"the encoder has a hop of {self.encoder.hop} and {self.encoder.dimension} dimensions, "
                f"expected {self.hop} and {self.size}"
            )

    @property
    def books(self) -> tuple[int, ...]:
        """Books that each bandwidth has room for."""
        bits = math.log2(self.codebook_size) * math.ceil(self.sample_rate / self.hop)
        return tuple(max(1, math.floor(1000 * bandwidth / bits)) for bandwidth in self.bandwidths)


@dataclass(frozen=True)
class VocosConfig:
    """Configuration of Vocos.

    Args:
        features: what is read.
        backbone: the network at the frame rate.
        head: what makes samples of its frames.
        condition: of the norms of a mel vocoder, if they are adaptive; EnCodec's codes tell it themselves.
        keep_tail: False: a mel vocoder leaves the samples behind the last whole hop out, as the original
            does. True: zeros fill the last hop up before the analysis, so that nothing is lost.
    """

    features: MelFeatures | EncodecFeatures = field(default_factory=MelFeatures)
    backbone: ConvNeXtBackbone | ResNetBackbone = field(default_factory=ConvNeXtBackbone)
    head: ISTFTHead | IMDCTHead = field(default_factory=ISTFTHead)
    condition: int = 0
    keep_tail: bool = False

    def __post_init__(self) -> None:
        if self.features.sample_rate * self.head.hop % self.features.hop:
            raise ValueError(
                f"a hop of {self.features.hop} becomes {self.head.hop} samples, expected a whole sample rate"
            )
        conditions = getattr(self.backbone, "conditions", 0)
        bandwidths = len(getattr(self.features, "bandwidths", ())) or conditions
        if conditions and conditions != bandwidths:
            raise ValueError(f"there are {conditions} conditions for {bandwidths} bandwidths")
        if not 0 <= self.condition < max(conditions, 1):
            raise ValueError(f"condition is {self.condition}, expected 0 to {max(conditions, 1) - 1}")

    @property
    def output_sample_rate(self) -> int:
        """Samples per second that come out."""
        return self.features.sample_rate * self.head.hop // self.features.hop


_ENCODEC = VocosConfig(
    EncodecFeatures(),
    ConvNeXtBackbone(width=384, hidden=1152, conditions=4),
    ISTFTHead(n_fft=1280, hop=320, padding="same"),
)
VARIANTS: dict[str, VocosConfig] = {
    "vocos-mel-24khz": VocosConfig(),
    "vocos-encodec-24khz": _ENCODEC,
    "vocos-encodec-24khz-codec": replace(_ENCODEC, features=EncodecFeatures(encoder=SEANetConfig())),
    "tiny": VocosConfig(
        MelFeatures(sample_rate=16000, n_fft=160, hop=40, bands=12),
        ConvNeXtBackbone(width=16, hidden=24, layers=2),
        ISTFTHead(n_fft=160, hop=40),
    ),
}


class Vocos(StoredModel):
    """A `MelVocos` or an `EncodecVocos`, as the features of the configuration tell.

    Example:
        >>> type(Vocos(VARIANTS["tiny"])).__name__
        'MelVocos'
    """

    architecture: ClassVar[str] = "vocos"
    config_class: ClassVar[type] = VocosConfig
    config: VocosConfig

    def __new__(cls, config: VocosConfig | None = None, *, spec: Spec | None = None) -> Self:
        """Choose the class; copies come without a configuration, and with theirs."""
        kind: Any = _class_of(config) if cls is Vocos and config is not None else cls
        made: Self = super().__new__(kind)
        return made

    @classmethod
    def load(
        cls, folder: Path | str, *, exact: bool = True, device: str = "cpu", search_width: int = 1
    ) -> Any:
        """Load a folder; see `NetVocoder.load` and `Codec.load`."""
        values = read_description(Path(folder)).get("config")
        config = from_dict(VocosConfig, values, where="config.json: config")
        return _class_of(config).load(folder, exact=exact, device=device, search_width=search_width)


class MelVocos(NetVocoder, Vocos):
    """Vocos on log-mel spectrograms; see the module's text.

    Example:
        >>> vocoder = MelVocos(VARIANTS["tiny"]).eval()
        >>> vocoder.synthesize(vocoder.features(torch.zeros(4000), 16000)).shape
        (1, 4000)
    """

    @classmethod
    def build(cls, config: VocosConfig) -> tuple[Sequential, Sequential]:
        mel = config.features
        if not isinstance(mel, MelFeatures):
            raise ConfigError(f'the features are of the kind "{mel.kind}", expected "mel"')
        analysis = LogMel(mel.sample_rate, mel.n_fft, mel.hop, mel.bands, padding=mel.padding)
        whole = [WholeFrames(mel.hop, beyond=max(_short(config), 0))] if config.keep_tail else []
        return Sequential(*whole, analysis), vocos_decoder(config, config.condition)

    @classmethod
    def default_spec(cls, config: VocosConfig, name: str) -> Spec:
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=config.features.sample_rate,
            output_sample_rate=config.output_sample_rate,
            streams=(),
            legal_prefixes=(),
            can_encode=False,
            can_decode=False,
            features=FeatureSpec("log-mel", config.features.size, _rate(config)),
            quirks=_lost(config),
            source="https://arxiv.org/abs/2306.00814",
            taxonomy=Taxonomy(tokens="none", training="separate", objective="reconstruction, GAN"),
        )


class EncodecVocos(Codec, Vocos):
    """Vocos on EnCodec's codes; see the module's text.

    Without EnCodec's encoder it decodes only, and takes the codes of any tokenizer with the same books. In
    training the norms are under the condition of the most books.

    Example:
        >>> codec = EncodecVocos(VARIANTS["vocos-encodec-24khz"]).eval()
        >>> codec.spec.legal_prefixes, codec.spec.can_encode
        ((2, 4, 8, 16), False)
    """

    @classmethod
    def build(cls, config: VocosConfig) -> Parts:
        features = _codes(config)
        most = features.books.index(max(features.books))
        return Parts(
            seanet_encoder(features.encoder) if features.encoder else Sequential(NoEncoder(features.hop)),
            CodeSums(features),
            vocos_decoder(config, most if _conditions(config) else 0),
        )

    @classmethod
    def default_spec(cls, config: VocosConfig, quantizer: Quantizer, name: str) -> Spec:
        features = _codes(config)
        foreign = "It decodes codes of any tokenizer whose books have these sizes; they must be EnCodec's."
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=features.sample_rate,
            output_sample_rate=config.output_sample_rate,
            streams=(StreamSpec("codes", quantizer.codebook_sizes, _rate(config)),),
            legal_prefixes=quantizer.legal_prefixes,
            can_encode=features.encoder is not None,
            quirks=(*(() if features.encoder else (foreign,)), *_lost(config)),
            source="https://arxiv.org/abs/2306.00814",
            taxonomy=Taxonomy(
                encoder="CNN+RNN (T)",
                quantizer=quantizer.label,
                training="separate",
                objective="GAN + reconstruction + feature matching",
                domain="speech, music, audio",
            ),
        )

    def decoder_for(self, num_codebooks: int) -> Sequential:
        """The net under the condition of the bandwidth that has so many books; it shares all tensors."""
        if not _conditions(self.config):
            return self.decoder_net
        return self.decoder_under(_codes(self.config).books.index(num_codebooks))

    def decoder_under(self, condition: int) -> Sequential:
        """The net under a condition, the place of a bandwidth in `config.features.bandwidths`."""
        return Sequential(*(under_condition(block, condition) for block in self.decoder_net))

    def checked(self, tokens: Tokens, num_codebooks: int | None = None) -> Tokens:
        return super().checked(tokens if self.spec.can_encode else self.adopt(tokens), num_codebooks)

    def adopt(self, tokens: Tokens) -> Tokens:
        """Take codes of another tokenizer as one's own, cut to the most books that decode here.

        Args:
            tokens: of EnCodec with the same books; whether they are EnCodec's, nothing can tell.

        Raises:
            TokensError: another frame rate, or fewer books than decode.
        """
        stream = tokens.streams.get("codes")
        if stream is None or stream.frame_rate != self.spec.frame_rate:
            found = ", ".join(f"{name} at {each.frame_rate} Hz" for name, each in tokens.streams.items())
            raise TokensError(f'found {found}, expected "codes" at {self.spec.frame_rate} Hz')
        legal = [books for books in self.spec.legal_prefixes if books <= tokens.num_codebooks]
        if not legal:
            fewest = min(self.spec.legal_prefixes)
            raise TokensError(f"the tokens have {tokens.num_codebooks} books, expected at least {fewest}")
        taken = tokens.take(max(legal)) if max(legal) < tokens.num_codebooks else tokens
        return replace(taken, tokenizer=self.spec.name, fingerprint=self.fingerprint)


class NoEncoder(Block):
    """Stands where a checkpoint holds no encoder."""

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop = hop

    @property
    def reach(self) -> Reach:
        return Reach(stride=Fraction(self.hop))

    def step(self, x: Tensor, state: State, *, final: bool = False) -> tuple[Tensor, State]:
        raise NotOfferedError(_NO_ENCODEC)


class CodeSums(Quantizer):
    """EnCodec's codes as Vocos reads them: rows of a table of its own are added, N of them for each book.

    Books of EnCodec itself find the codes; without them codes are only decoded.
    """

    config_class: ClassVar[type[QuantizerConfig]] = RVQConfig
    label = "RVQ"

    def __init__(self, features: EncodecFeatures) -> None:
        config = residual_books(max(features.books), features.codebook_size)
        super().__init__(features.size, config)
        self.books, self.size = sorted(set(features.books)), features.codebook_size
        self.rows = nn.Parameter(torch.randn(self.books[-1] * self.size, features.size))
        self.search = build_quantizer(config, features.size) if features.encoder else None

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.size,) * self.books[-1]

    @property
    def legal_prefixes(self) -> tuple[int, ...]:
        return tuple(self.books)

    def forward(
        self, latents: Tensor, *, num_codebooks: Tensor | int | None = None, mask: Tensor | None = None
    ) -> Quantized:
        found: Quantized = self._searched()(latents, num_codebooks=num_codebooks, mask=mask)
        return replace(found, latents=self.decode(found.codes), statistics=nest(found.statistics, "search"))

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        return self._searched().encode(latents, num_codebooks=num_codebooks)

    def margins(self, latents: Tensor, codes: Tensor) -> Tensor:
        return self._searched().margins(latents, codes)

    def decode(self, codes: Tensor) -> Tensor:
        first = torch.arange(codes.shape[1], device=codes.device)[:, None] * self.size
        return functional.embedding(codes + first, self.rows).sum(1).mT

    def _searched(self) -> Quantizer:
        if self.search is None:
            raise NotOfferedError(
                "these weights of Vocos hold no EnCodec: import them together with EnCodec's"
            )
        return self.search


def vocos_decoder(config: VocosConfig, condition: int) -> Sequential:
    """Backbone and head, `[B, D, T]` to a waveform."""
    if isinstance(config.backbone, ResNetBackbone):
        backbone = resnet_backbone(config.features.size, config.backbone)
    else:
        backbone = convnext_backbone(config.features.size, config.backbone, condition)
    return Sequential(backbone, fourier_head(config.backbone.width, config.head))


def _class_of(config: VocosConfig) -> type[MelVocos] | type[EncodecVocos]:
    return MelVocos if isinstance(config.features, MelFeatures) else EncodecVocos


def _codes(config: VocosConfig) -> EncodecFeatures:
    if not isinstance(config.features, EncodecFeatures):
        raise ConfigError(f'the features are of the kind "{config.features.kind}", expected "encodec"')
    return config.features


def _conditions(config: VocosConfig) -> int:
    return 0 if isinstance(config.backbone, ResNetBackbone) else config.backbone.conditions


def _rate(config: VocosConfig) -> Fraction:
    return Fraction(config.features.sample_rate, config.features.hop)


def _short(config: VocosConfig) -> int:
    """Samples, at most, that a recording of whole hops has more than what is made of it; negative: fewer."""
    features, short = config.features, 0
    if isinstance(features, MelFeatures):
        odd = (features.n_fft - features.hop) % 2
        short = -features.hop if features.padding == "center" else odd
    return short + (features.hop if config.head.padding == "center" else 0)


def _lost(config: VocosConfig) -> tuple[str, ...]:
    """What the end of a recording loses, as a quirk."""
    features = config.features
    lost = _short(config) + (features.hop - 1 if isinstance(features, MelFeatures) else 0)
    if lost <= 0 or config.keep_tail:
        return ()
    return (f"The last samples of a recording, {lost} at most, are left out and are zero in what comes out.",)


# Checkpoints


@dataclass(frozen=True)
class _MelArguments:
    """Arguments of the original's `MelSpectrogramFeatures`."""

    sample_rate: int = 24000
    n_fft: int = 1024
    hop_length: int = 256
    n_mels: int = 100
    padding: Padding = "center"


@dataclass(frozen=True)
class _EncodecArguments:
    """Arguments of the original's `EncodecFeatures`."""

    encodec_model: Literal["encodec_24khz"] = "encodec_24khz"
    bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0)
    train_codebooks: bool = False


@dataclass(frozen=True)
class _ResNetArguments:
    """Arguments of the original's `VocosResNetBackbone`."""

    input_channels: int
    dim: int
    num_blocks: int
    layer_scale_init_value: float | None = None


@dataclass(frozen=True)
class _IMDCTArguments:
    """Arguments of the original's heads with an MDCT; the sample rate only sets where training starts."""

    dim: int
    mdct_frame_len: int
    padding: Padding = "same"
    sample_rate: int | None = None
    clip_audio: bool = False


_CLASSES: dict[str, dict[str, type]] = {
    "feature_extractor": {
        "mel": _MelArguments,
        "MelSpectrogramFeatures": _MelArguments,
        "encodec": _EncodecArguments,
        "EncodecFeatures": _EncodecArguments,
    },
    "backbone": {
        "convnext": ConvNeXtArguments,
        "VocosBackbone": ConvNeXtArguments,
        "resnet": _ResNetArguments,
        "VocosResNetBackbone": _ResNetArguments,
    },
    "head": {
        "istft": ISTFTArguments,
        "ISTFTHead": ISTFTArguments,
        "imdct_symexp": _IMDCTArguments,
        "IMDCTSymExpHead": _IMDCTArguments,
        "imdct_cos": _IMDCTArguments,
        "IMDCTCosHead": _IMDCTArguments,
    },
}


def _read_config(arguments: Mapping[str, Any]) -> VocosConfig:
    """Read the original's `config.yaml` (class_path, init_args); short names (class, args) will do too."""
    unknown = sorted(set(arguments) - {*_CLASSES, "sample_rate"})
    if unknown:
        raise ConfigError(f'unknown key "{unknown[0]}"; valid keys: {", ".join(_CLASSES)}, sample_rate')
    (extractor, _), (backbone, _), (head, kind) = (
        read_part(part, arguments, kinds) for part, kinds in _CLASSES.items()
    )
    if isinstance(extractor, _MelArguments):
        features: MelFeatures | EncodecFeatures = MelFeatures(
            sample_rate=extractor.sample_rate,
            n_fft=extractor.n_fft,
            hop=extractor.hop_length,
            bands=extractor.n_mels,
            padding=extractor.padding,
        )
    else:
        features = EncodecFeatures(size=backbone.input_channels, bandwidths=extractor.bandwidths)
    sizes = {
        "sample_rate": (arguments.get("sample_rate", features.sample_rate), features.sample_rate),
        "input_channels": (backbone.input_channels, features.size),
        "the head's dim": (head.dim, backbone.dim),
    }
    for name, (found, expected) in sizes.items():
        if found != expected:
            raise ConfigError(f"{name} is {found}, expected {expected} as elsewhere")
    try:
        return VocosConfig(features, _backbone(backbone), _head(head, kind))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _backbone(given: ConvNeXtArguments | _ResNetArguments) -> ConvNeXtBackbone | ResNetBackbone:
    if isinstance(given, ConvNeXtArguments):
        return given.backbone()
    return ResNetBackbone(width=given.dim, layers=given.num_blocks, layer_scale=given.layer_scale_init_value)


def _head(given: ISTFTArguments | _IMDCTArguments, name: str) -> ISTFTHead | IMDCTHead:
    if isinstance(given, ISTFTArguments):
        return given.head()
    return IMDCTHead(
        kind="imdct-symexp" if name in ("imdct_symexp", "IMDCTSymExpHead") else "imdct-cos",
        hop=given.mdct_frame_len // 2,
        padding=given.padding,
        clip=given.clip_audio,
    )


def _complete(config: VocosConfig, shapes: Shapes) -> VocosConfig:
    """Take EnCodec's sizes from its tensors: the arguments of the original only name it."""
    features = config.features
    if isinstance(features, MelFeatures):
        return config
    own = {name.removeprefix("feature_extractor.encodec."): shape for name, shape in shapes.items()}
    encoder = seanet_of(own, "encoder.model", features.encoder or SEANetConfig())
    size, _ = own.get("quantizer.vq.layers.0._codebook.embed", (0, 0))
    if encoder and size:
        named = replace(features, size=encoder.dimension, hop=encoder.hop, encoder=encoder)
        return replace(config, features=replace(named, codebook_size=size))
    rows = shapes.get("feature_extractor.codebook_weights", (0,))[0]
    powers = (replace(features, codebook_size=2**bits) for bits in range(1, 17))
    fitting = [each for each in powers if each.codebook_size * max(each.books) == rows]
    return replace(config, features=fitting[0]) if len(fitting) == 1 else config


def _rework(tensors: Tensors, config: VocosConfig) -> Tensors:
    if isinstance(config.features, MelFeatures):
        return fourier_tensors(tensors)
    # EnCodec has books beyond those that Vocos was trained with.
    used = max(config.features.books) if config.features.encoder else 0
    books = {name: int(name.split(".")[3]) for name in tensors if name.startswith("quantizer.search.")}
    kept = {name: tensor for name, tensor in tensors.items() if books.get(name, -1) < used}
    return fourier_tensors(kept)


Vocos.reference = Reference(
    read_config=_read_config,
    rules=(
        *FOURIER_RULES,
        *seanet_rules("encoder_net", r"(?:feature_extractor\.encodec\.)?encoder"),
        (r"feature_extractor\.codebook_weights", "quantizer.rows"),
        (
            r"(?:feature_extractor\.encodec\.)?quantizer\.vq\.layers\.(\d+)\._codebook\.embed",
            r"quantizer.search.levels.\1.book",
        ),
    ),
    ignored=(
        *FOURIER_IGNORED,
        r"feature_extractor\.mel_spec\.(?:spectrogram\.window|mel_scale\.fb)",
        r"(?:feature_extractor\.encodec\.)?decoder\..*",
        r"(?:feature_extractor\.encodec\.)?quantizer\..*\.(?:inited|cluster_size|embed_avg)",
    ),
    rework=_rework,
    complete=_complete,
)
