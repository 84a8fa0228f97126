"""SpeechTokenizer (Zhang et al. 2023, Unified speech tokenizer for speech language models).

    waveform -> SEANet encoder with a bidirectional LSTM -> RVQ -> SEANet decoder with an LSTM -> waveform

The first book is distilled: a linear map of its entries alone, the transform, was trained to give features of
HuBERT, so that the first codes say what is said and those of the other books how it sounds.

The encoder reads whole recordings, because of the bidirectional LSTM: there is no streaming encode, and audio
that follows changes the codes before it. The decoder streams; its centered convolutions look ahead.

The reference can start to encode at a later book, but then it gives this book the latents themselves, not
what the books before leave over; those codes go with no others. Here the codes of later books are those of
`encode`, and `decode_books` decodes them without the first ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from audiotokens.architectures.reference import Reference, Shapes
from audiotokens.architectures.seanet import SEANetConfig, seanet_decoder, seanet_encoder, seanet_rules
from audiotokens.audio import WaveformLike
from audiotokens.codec import Codec, Parts
from audiotokens.codec.complexity import parameters
from audiotokens.config import from_dict
from audiotokens.errors import TokensError
from audiotokens.quantizers import (
    EMALearning,
    Quantizer,
    ResidualQuantizer,
    RVQConfig,
    VectorConfig,
    build_quantizer,
)
from audiotokens.spec import Spec, StreamSpec, Taxonomy
from audiotokens.tokens import Tokens

_SEANET = SEANetConfig(
    dimension=1024,
    filters=64,
    ratios=(8, 5, 4, 2),
    causal=False,
    lstm_layers=2,
    bidirectional=True,
)


def _rvq(codebook_size: int, num_codebooks: int) -> RVQConfig:
    learning = EMALearning(decay=0.99, smoothing=1e-5, expire_below=2.0)
    inner = VectorConfig(codebook_size=codebook_size, learning=learning)
    return RVQConfig(num_codebooks=num_codebooks, inner=inner)


@dataclass(frozen=True)
class SpeechTokenizerConfig:
    """Configuration of SpeechTokenizer; the defaults are those of the published one.

    Args:
        sample_rate: in Hz.
        seanet: the encoder and the decoder; only the encoder's LSTM is bidirectional.
        semantic_dimension: of the features that the first book is distilled from.
        quantizer: residual books; the first one is the semantic one.
    """

    sample_rate: int = 16000
    seanet: SEANetConfig = _SEANET
    semantic_dimension: int = 768
    quantizer: RVQConfig = field(default_factory=lambda: _rvq(1024, 8))


VARIANTS: dict[str, SpeechTokenizerConfig] = {
    "speechtokenizer-hubert-avg": SpeechTokenizerConfig(),
    "speechtokenizer-snake": SpeechTokenizerConfig(seanet=replace(_SEANET, activation="snake")),
    "tiny": SpeechTokenizerConfig(
        seanet=replace(_SEANET, dimension=16, filters=2, lstm_layers=1),
        semantic_dimension=12,
        quantizer=_rvq(16, 4),
    ),
}


class SpeechTokenizerCodec(Codec):
    """SpeechTokenizer; see the module's text.

    Attributes:
        transform: from the entries of the first book to the features that it was distilled from; the identity
            where both have as many dimensions.

    Example:
        >>> codec = SpeechTokenizerCodec(VARIANTS["tiny"]).eval()
        >>> tokens = codec.encode(np.zeros(16000), 16000)
        >>> codec.semantic_features(tokens).shape, codec.decode_books(tokens, first=1).shape
        ((12, 50), (1, 16000))
    """

    architecture = "speechtokenizer"
    config_class = SpeechTokenizerConfig
    config: SpeechTokenizerConfig
    quantizer: ResidualQuantizer
    transform: nn.Linear | nn.Identity

    def __init__(self, config: SpeechTokenizerConfig, *, spec: Spec | None = None) -> None:
        super().__init__(config, spec=spec)
        sizes = config.seanet.dimension, config.semantic_dimension
        self.transform = nn.Identity() if sizes[0] == sizes[1] else nn.Linear(*sizes)
        self._spec = replace(self._spec, parameters=parameters(self))

    @classmethod
    def build(cls, config: SpeechTokenizerConfig) -> Parts:
        quantizer = build_quantizer(config.quantizer, config.seanet.dimension)
        return Parts(seanet_encoder(config.seanet), quantizer, seanet_decoder(config.seanet))

    @classmethod
    def default_spec(cls, config: SpeechTokenizerConfig, quantizer: Quantizer, name: str) -> Spec:
        rate = Fraction(config.sample_rate, config.seanet.hop)
        return Spec(
            name=name,
            architecture=cls.architecture,
            sample_rate=config.sample_rate,
            output_sample_rate=config.sample_rate,
            channels=config.seanet.channels,
            streams=(StreamSpec("codes", quantizer.codebook_sizes, rate),),
            legal_prefixes=quantizer.legal_prefixes,
            quirks=(
                "Codes that the reference encodes from a later book on are not those of encode, and are not "
                "offered: take the later books of encode, and decode them with decode_books.",
            ),
            weights_license="Apache-2.0",
            source="Zhang et al. 2023, arXiv:2308.16692; https://github.com/ZhangXInFD/SpeechTokenizer",
            taxonomy=Taxonomy(
                tokens="hybrid",
                encoder="CNN and RNN",
                quantizer=quantizer.label,
                training="joint",
                objective="GAN, reconstruction, feature matching, VQ, semantic distillation",
            ),
        )

    @torch.inference_mode()
    def semantic_features(self, source: Tokens | WaveformLike, sample_rate: int | None = None) -> np.ndarray:
        """Return the features that the first book was distilled to give.

        Args:
            source: tokens of this codec, of any number of books, or a waveform `[T]` or `[C, T]`.
            sample_rate: of a waveform.

        Returns:
            float32 `[semantic_dimension, T']`, one column per frame.

        Raises:
            TokensError: the tokens are another tokenizer's.
            AudioError: the waveform or its rate is not usable.
        """
        if not isinstance(source, Tokens):
            rate = self.spec.sample_rate if sample_rate is None else sample_rate
            source = self.encode(source, rate, num_codebooks=1)
        codes = self.code_tensors(self.checked(source, 1))["codes"]
        entries = self.quantizer.level(0).decode(codes)
        features: Tensor = self.transform(entries.mT)
        return features[0].T.cpu().numpy()

    @torch.inference_mode()
    def decode_books(self, tokens: Tokens, *, first: int) -> np.ndarray:
        """Decode without the books before `first`: what the others say alone, such as timbre without words.

        Args:
            tokens: of this codec.
            first: index of the first book to decode; 0 is `decode`.

        Returns:
            float32 `[C, N]` at `spec.output_sample_rate`, as long as `decode` gives.

        Raises:
            TokensError: the tokens are another tokenizer's, or have no such book.
        """
        codes = self.code_tensors(self.checked(tokens))["codes"]
        books = codes.shape[1]
        if not 0 <= first < books:
            raise TokensError(f"first is {first}, expected 0 to {books - 1}: the tokens have {books} books")
        latents = [self.quantizer.level(k).decode(codes[:, k : k + 1]) for k in range(first, books)]
        total = torch.stack(latents).sum(0)
        return self.fit_length(self.decode_features(total[0].cpu().numpy()), tokens.num_samples)


# Reading published checkpoints


@dataclass(frozen=True)
class _Arguments:
    """What the reference's configuration says about the model, and what of it this package builds."""

    n_filters: int
    strides: tuple[int, ...]
    dimension: int
    semantic_dimension: int
    bidirectional: bool
    dilation_base: int
    residual_kernel_size: int
    n_residual_layers: int
    lstm_layers: int
    activation: Literal["ELU", "Snake"]
    codebook_size: int
    n_q: int
    sample_rate: int = 16000


# What the published configurations say about training.
_ABOUT_TRAINING = frozenset(
    [
        "adam_b1", "adam_b2", "batch_size", "betas", "commitment_loss_lambda", "dist_config",
        "distill_loss_lambda", "distill_type", "epochs", "fmax", "fmax_for_loss", "fmin", "hop_size",
        "intial_learning_rate", "lambda_distill", "learning_rate", "log_steps", "lr_decay",
        "mel_loss_lambdas", "n_fft", "num_ckpt_keep", "num_freq", "num_gpus", "num_mels", "num_warmup_steps",
        "num_workers",
        "recon_loss_lambda", "resblock", "results_folder", "sampling_rate", "save_model_steps", "seed",
        "segment_size", "semantic_model_layer", "semantic_model_path", "showpiece_num", "stdout_steps",
        "train_files", "valid_files", "wd", "win_size",
    ]
)  # fmt: skip


def _read_config(arguments: Mapping[str, Any]) -> SpeechTokenizerConfig:
    values = {name: value for name, value in arguments.items() if name not in _ABOUT_TRAINING}
    given = from_dict(_Arguments, values, where="configuration of speechtokenizer")
    seanet = replace(
        _SEANET,
        filters=given.n_filters,
        ratios=given.strides,
        dimension=given.dimension,
        bidirectional=given.bidirectional,
        dilation_base=given.dilation_base,
        residual_kernel=given.residual_kernel_size,
        residual_layers=given.n_residual_layers,
        lstm_layers=given.lstm_layers,
        activation="snake" if given.activation == "Snake" else "elu",
    )
    return SpeechTokenizerConfig(
        sample_rate=given.sample_rate,
        seanet=seanet,
        semantic_dimension=given.semantic_dimension,
        quantizer=_rvq(given.codebook_size, given.n_q),
    )


def _guess(shapes: Shapes) -> SpeechTokenizerConfig | None:
    """The published configuration, by the widths of its parts, with as many books as there are."""
    snake = "encoder.model.2.alpha" in shapes
    published = VARIANTS["speechtokenizer-snake" if snake else "speechtokenizer-hubert-avg"]
    expected = {
        "encoder.model.0.conv.conv.weight": (64, 1, 7),
        "encoder.model.13.lstm.weight_ih_l1_reverse": (4096, 2048),
        "encoder.model.15.conv.conv.weight": (1024, 2048, 7),
        "transform.weight": (768, 1024),
        "quantizer.vq.layers.0._codebook.embed": (1024, 1024),
    }
    if any(shapes.get(name) != shape for name, shape in expected.items()):
        return None
    books = sum(name.endswith("._codebook.embed") for name in shapes)
    return replace(published, quantizer=_rvq(1024, books))


SpeechTokenizerCodec.reference = Reference(
    read_config=_read_config,
    rules=(
        *seanet_rules("encoder_net", "encoder"),
        *seanet_rules("decoder_net", "decoder"),
        (r"quantizer\.vq\.layers\.(\d+)\._codebook\.embed", r"quantizer.levels.\1.book"),
        (r"transform\.(weight|bias)", r"transform.\1"),
    ),
    ignored=(r"quantizer\.vq\.layers\.\d+\._codebook\.(?:inited|cluster_size|embed_avg)",),
    guess=_guess,
)
