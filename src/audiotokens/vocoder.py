"""The interface of vocoders: features in, speech out, with no codes between."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from audiotokens.audio import WaveformLike
from audiotokens.errors import NotOfferedError, TokensError
from audiotokens.spec import FeatureSpec
from audiotokens.tokenizer import Session, Tokenizer
from audiotokens.tokens import Tokens


class Vocoder(Tokenizer):
    """A tokenizer's decoder alone: it makes speech of continuous features, which `spec.features` describes.

    It has no codes, so `encode` and `decode` are not offered. A subclass gives `spec`, `fingerprint`,
    `features` and `_synthesize`; checks and the length rule live here.
    """

    @abstractmethod
    def _synthesize(self, features: np.ndarray) -> np.ndarray:
        """Map float32 `[D, T]`, T at least 1, to samples `[C, N]`."""

    def synthesize(self, features: np.ndarray) -> np.ndarray:
        """Make a waveform of features.

        Args:
            features: float `[D, T]`, as `features` gives them, or as another model predicts them.

        Returns:
            float32 `[C, N]` at `spec.output_sample_rate`.

        Raises:
            TokensError: another shape, no frames, or values that are not finite.

        Example:
            >>> waveform = vocoder.synthesize(vocoder.features(speech, 24000))  # doctest: +SKIP
        """
        return self._synthesize(self.checked_features(features))

    def reconstruct(self, waveform: WaveformLike, sample_rate: int) -> np.ndarray:
        """Analyse a recording and make it anew.

        Args:
            waveform: as for `encode`.
            sample_rate: of `waveform`, in Hz.

        Returns:
            float32 `[C, N]` at `spec.output_sample_rate`; N is what the length rule says, with zeros for what
            the vocoder leaves out at the end.

        Raises:
            AudioError: the waveform is empty, not finite, or of another kind.
        """
        prepared, _ = self.prepare(waveform, sample_rate)
        made = self._synthesize(self.features(prepared, self.spec.sample_rate))
        return self.fit_length(made, prepared.shape[1])

    def synthesizer(self) -> Synthesizer:
        """Start a streaming session."""
        raise NotOfferedError(f"{self.spec.name} does not offer streaming; use synthesize")

    def encode(self, waveform: WaveformLike, sample_rate: int, *, num_codebooks: int | None = None) -> Tokens:
        """Refuse: a vocoder has no codes.

        Raises:
            NotOfferedError: always.
        """
        raise NotOfferedError(f"{self.spec.name} is a vocoder and has no codes: use features and synthesize")

    def decode(self, tokens: Tokens, *, num_codebooks: int | None = None) -> np.ndarray:
        """Refuse: a vocoder has no codes.

        Raises:
            NotOfferedError: always.
        """
        raise NotOfferedError(f"{self.spec.name} is a vocoder and has no codes: use synthesize")

    def checked_features(self, features: np.ndarray) -> np.ndarray:
        """Return features as float32, after checking that they are such as this vocoder takes.

        Raises:
            TokensError: another shape, no frames, or values that are not finite.
        """
        features = np.asarray(features, np.float32)
        size = (self.spec.features or FeatureSpec("", 0, self.spec.frame_rate)).size
        if features.ndim != 2 or features.shape[0] != size or not features.shape[1]:
            raise TokensError(f"the features have the shape {list(features.shape)}, expected [{size}, T]")
        if not np.isfinite(features).all():
            raise TokensError("the features hold values that are not finite, expected finite numbers")
        return features


class Synthesizer(Session):
    """A running vocoder: frames in, samples out as they become final."""

    @abstractmethod
    def push(self, features: np.ndarray) -> np.ndarray:
        """Take the next frames `[D, T]`; return the samples `[C, N]` that became final (N may be 0)."""

    @abstractmethod
    def finish(self) -> np.ndarray:
        """End the stream and return the remaining samples `[C, N]`; all parts equal one `synthesize`."""
