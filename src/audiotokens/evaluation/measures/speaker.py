"""Whether the voice is still the same: cosine of speaker embeddings by Resemblyzer.

L. Wan et al., "Generalized End-to-End Loss for Speaker Verification", 2018. The network and its weights are
those of the package; its features are computed here, because it would bring librosa and numba for them.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation.measures.features import mel_power
from audiotokens.evaluation.measures.packages import (
    RATE,
    import_without,
    one_thread,
    remembered,
    require_rate,
)
from audiotokens.evaluation.metrics import Metric, require_sound
from audiotokens.evaluation.spectral import MelScale

RESEMBLYZER_COMMAND = "pip install --no-deps resemblyzer"
"""Resemblyzer requires packages that do not install on a current Python, so it is installed without them."""
_SECONDS = 1.0
_VOICE_SECONDS = 0.5
_MEL = MelScale(40, 400, 160)


def speaker_similarity(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
    """Return the cosine of the speaker embeddings of `[T]` and `[T]`, 0 to 1.

    Raises:
        MetricError: a signal is shorter than 1 s or silent, or holds less than 0.5 s of voice.
        MissingExtraError: a package is not installed.
    """
    require_rate(sample_rate)
    _package()
    embeddings = []
    for name, signal in (("reference", reference), ("reconstruction", output)):
        require_sound(signal, name, sample_rate, _SECONDS)
        try:
            embeddings.append(speaker_embedding(signal))
        except MetricError as error:
            raise MetricError(f"{name}: {error}") from None
    return float(embeddings[0] @ embeddings[1])


@remembered
def speaker_embedding(signal: np.ndarray) -> np.ndarray:
    """Return the embedding of `[T]` at 16 kHz, float64 `[256]` of norm 1, equal to that of the package.

    Long pauses are cut out first (WebRTC voice activity detector), then windows of 1.6 s are embedded, 1.3 a
    second, and averaged.

    Raises:
        MetricError: less than 0.5 s of voice is found.
        MissingExtraError: a package is not installed.
    """
    package, encoder = _package(), _encoder()
    # the package turns samples into 16 bit, where values beyond full scale would wrap around
    voice = package.preprocess_wav(np.clip(signal, -1.0, 1.0))
    if len(voice) < _VOICE_SECONDS * RATE:
        raise MetricError(f"found {len(voice) / RATE:.2f} s of voice, {_VOICE_SECONDS} s are needed")
    waveform_slices, mel_slices = encoder.compute_partial_slices(len(voice), 1.3, 0.75)
    padded = np.pad(voice, (0, max(0, waveform_slices[-1].stop - len(voice))))
    mel = mel_power(padded, _MEL, RATE).T
    with one_thread():
        import torch

        parts = encoder(torch.from_numpy(np.stack([mel[part] for part in mel_slices])))
    mean = parts.numpy().astype(np.float64).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


@cache
def _package() -> ModuleType:
    try:
        return import_without("resemblyzer", "librosa")
    except ImportError:
        raise MissingExtraError("Speaker similarity", "speaker", command=RESEMBLYZER_COMMAND) from None


@cache
def _encoder() -> Any:
    return _package().VoiceEncoder("cpu", verbose=False).eval()


METRICS = (
    Metric(
        id="speaker/resemblyzer",
        title="speaker (Resemblyzer)",
        definition="cosine of GE2E embeddings of Resemblyzer 0.1 (256-d), 16 kHz, pauses cut by WebRTC VAD",
        function=speaker_similarity,
        larger_is_better=True,
        domains=("speech",),
        extra="speaker",
        best=1.0,
        packages=("resemblyzer", "webrtcvad-wheels", "torch"),
        group="judges",
    ),
)
"""The measures of this file."""
