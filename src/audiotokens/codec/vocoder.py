"""`NetVocoder`: a vocoder made of an analysis and a decoder in torch."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from audiotokens.audio import WaveformLike
from audiotokens.codec.complexity import Complexity, multiply_adds, parameters
from audiotokens.codec.facts import with_latency, with_texts
from audiotokens.codec.stored import StoredModel
from audiotokens.errors import NotOfferedError
from audiotokens.nn.block import Sequential, in_pieces
from audiotokens.sessions import NetSynthesizer
from audiotokens.spec import Spec
from audiotokens.tokenizer import Exactness
from audiotokens.vocoder import Vocoder


class NetVocoder(StoredModel, Vocoder):
    """Waveform `[B, C, T]` to features `[B, D, T']`, and features to a waveform.

    A family subclasses it and gives `architecture`, `config_class`, `build` and `default_spec`. Arguments and
    attributes: see `StoredModel`.
    """

    block_seconds = 4

    def __init__(self, config: Any, *, spec: Spec | None = None) -> None:
        super().__init__(config, spec=spec)
        self.encoder_net, self.decoder_net = self.build(config)
        computed = self.default_spec(config, spec.name if spec else self.architecture)
        described = with_latency(with_texts(computed, spec), self.encoder_net, self.decoder_net)
        self._spec = replace(described, parameters=parameters(self))

    @classmethod
    def build(cls, config: Any) -> tuple[Sequential, Sequential]:
        """Build the analysis and the decoder that a configuration describes."""
        raise TypeError(f"{cls.__name__} has no build")

    @classmethod
    def default_spec(cls, config: Any, name: str) -> Spec:
        """Facts that follow from the configuration."""
        raise TypeError(f"{cls.__name__} has no default_spec")

    def counted(self) -> Spec:
        seconds = self.block_seconds
        frames = round(seconds * self.spec.frame_rate)
        samples = seconds * self.spec.sample_rate
        work = Complexity(
            parameters(self),
            round(multiply_adds(self.encoder_net, (1, self.spec.channels, samples)) / seconds),
            round(multiply_adds(self.decoder_net, (1, _size(self.spec), frames)) / seconds),
        )
        return replace(self.spec, **asdict(work))

    # Training and batches of tensors

    def forward(self, waveform: Tensor) -> Tensor:
        """Reconstruct `[B, C, T]` for training, cut to its length."""
        made: Tensor = self.decoder_net(self.encoder_net(waveform))
        return made[..., : waveform.shape[2]]

    @torch.inference_mode()
    def synthesize_batch(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Synthesize a padded batch in one call.

        Args:
            features: `[B, D, T]`.
            lengths: frames of each item `[B]`.

        Returns:
            Waveforms `[B, C, N]`, and the number of valid samples `[B]`.
        """
        lengths = lengths.to(self.device)
        made = self.decoder_net(features.to(self.device, self._type), lengths).float()
        return made, self.decoder_net.output_lengths(lengths)

    # Vocoder

    @torch.inference_mode()
    def features(self, waveform: WaveformLike, sample_rate: int) -> np.ndarray:
        prepared, _ = self.prepare(waveform, sample_rate)
        samples = torch.from_numpy(prepared).to(self.device, self._type)[None]
        made = in_pieces(self.encoder_net, samples, self.block_seconds * self.spec.sample_rate)
        return made[0].float().cpu().numpy()

    @torch.inference_mode()
    def _synthesize(self, features: np.ndarray) -> np.ndarray:
        x = self.sample.new_tensor(features)[None]
        made = in_pieces(self.decoder_net, x, round(self.block_seconds * self.spec.frame_rate))
        return made[0].float().cpu().numpy()

    def synthesizer(self) -> NetSynthesizer:
        return NetSynthesizer(self)

    @property
    def sample(self) -> Tensor:
        """An empty tensor of the networks' type and device."""
        return torch.zeros(0, dtype=self._type, device=self.device)

    # Files

    @classmethod
    def load(
        cls, folder: Path | str, *, exact: Exactness = True, device: str = "cpu", search_width: int = 1
    ) -> Self:
        """Load a vocoder's folder of this family.

        Args:
            folder: what `save` wrote.
            exact: see `make_exact`.
            device: torch device.
            search_width: 1, as there is nothing to search.

        Raises:
            ConfigError: a key of config.json is unknown, missing or ill-typed.
            CheckpointError: a file is missing or damaged, or the weights do not fit the configuration.
            NotOfferedError: another search width.
        """
        model = cls.read(Path(folder))
        if search_width != 1:
            raise NotOfferedError(f"{model.spec.name} has no books, so search_width must be 1")
        return model.to(device).eval().make_exact(exact)


def _size(spec: Spec) -> int:
    return spec.features.size if spec.features else 0
