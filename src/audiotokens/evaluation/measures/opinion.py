"""Opinion scores that models predict from the reconstruction alone: DNSMOS, PLCMOS, DistillMOS.

They say how clean and natural speech sounds, not whether it is still the same speech. DNSMOS: Reddy et al.,
"DNSMOS P.835" (2022) and "DNSMOS" (2021). PLCMOS: Diener et al., "PLCMOS" (2023). DistillMOS: Stahl and
Gamper, "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
Assessment" (2025).
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation.loudness import at_loudness
from audiotokens.evaluation.measures.features import mel_power
from audiotokens.evaluation.measures.packages import (
    RATE,
    import_without,
    one_thread,
    onnx_session,
    package_folder,
    remembered,
    require_rate,
)
from audiotokens.evaluation.metrics import Metric, require_sound
from audiotokens.evaluation.spectral import MelScale

if TYPE_CHECKING:
    import onnxruntime
    from torch import nn

LOUDNESS = -26.0
"""Loudness, in LUFS, at which DNSMOS and PLCMOS listen; they would score other levels differently."""
DISTILLMOS_COMMAND = "pip install --no-deps distillmos xls-r-sqa"
"""DistillMOS requires torchaudio but does not use it, so it is installed without what it requires."""
_SECONDS = 1.0
_P835, _P808 = "dnsmos_models/sig_bak_ovr.onnx", "dnsmos_models/model_v8.onnx"
_PLCMOS = "plcmos_models/plcmos_v2.onnx"
_DNSMOS_WINDOW = int(9.01 * RATE)
_P808_MEL = MelScale(120, 321, 160)
_RATERS = 15
_DISTILLMOS_WINDOW, _DISTILLMOS_HOP = 122880, 16000


class Opinions(NamedTuple):
    """DNSMOS P.835: quality of the speech, of the background, and overall, each about 1 to 5."""

    sig: float
    bak: float
    ovrl: float


def dnsmos(waveform: np.ndarray) -> Opinions:
    """Return the DNSMOS P.835 scores of `[T]` at 16 kHz as it is, equal to those of speechmos.

    Means over windows of 9.01 s every second; a shorter recording is doubled until it fills one.

    Raises:
        MissingExtraError: the extra "mos" is not installed.
    """
    session = _session(_P835)
    raw = [session.run(None, {"input_1": part[None]})[0][0] for part in _windows(waveform)]
    sig, bak, ovrl = np.array(raw, dtype=np.float64).T
    # the polynomials of speechmos, from the network's scale to that of the listeners
    return Opinions(
        float(np.polyval([-0.08397278, 1.22083953, 0.0052439], sig).mean()),
        float(np.polyval([-0.13166888, 1.60915514, -0.39604546], bak).mean()),
        float(np.polyval([-0.06766283, 1.11546468, 0.04602535], ovrl).mean()),
    )


def dnsmos_p808(waveform: np.ndarray) -> float:
    """Return the DNSMOS P.808 score of `[T]` at 16 kHz as it is, equal to that of speechmos.

    Raises:
        MissingExtraError: the extra "mos" is not installed.
    """
    session = _session(_P808)
    scores = []
    for part in _windows(waveform):
        power = np.maximum(mel_power(part[:-160], _P808_MEL, RATE), 1e-10)
        decibels = 10 * np.log10(power / power.max())
        features = np.maximum(decibels, -80.0).T / 40 + 1
        scores.append(session.run(None, {"input_1": features[None].astype(np.float32)})[0][0, 0])
    return float(np.mean(scores, dtype=np.float64))


def plcmos(waveform: np.ndarray) -> float:
    """Return the PLCMOS v2 score of `[T]` at 16 kHz as it is.

    The model imagines a rater from random numbers; the mean is over 15 raters, the same for every
    recording. After `numpy.random.seed(0)` speechmos gives the same score.

    Raises:
        MissingExtraError: the extra "mos" is not installed.
    """
    session = _session(_PLCMOS)
    hop, window = 256, np.hamming(513)[:-1]
    frames = math.ceil((len(waveform) + hop) / hop)
    padded = np.pad(waveform, (hop, frames * hop - len(waveform))).astype(np.float32)
    power = np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, 512)[::hop] * window)) ** 2
    positive = power[power > 0]
    if not len(positive):
        raise MetricError("PLCMOS is not defined for silence")
    floor = positive.min() * 1e-12
    features = (np.log(np.where(power > 0, power, floor)) / 20).astype(np.float32)[None, None]
    raters = np.random.RandomState(0).normal(size=(_RATERS, 1, 64)).astype(np.float32)
    inputs = ({"degraded_audio": features, "rater_embed": rater} for rater in raters)
    return float(np.mean([np.asarray(session.run(None, each)[0], np.float64).item() for each in inputs]))


def distillmos(waveform: np.ndarray) -> float:
    """Return the DistillMOS score of `[T]` at 16 kHz, 1 to 5, equal to that of its package.

    Mean over windows of 7.68 s, at most 1 s apart, each normalized to its peak; zeros fill a shorter one.

    Raises:
        MissingExtraError: DistillMOS is not installed.
    """
    model = _distillmos_model()
    import torch

    over = max(0, len(waveform) - _DISTILLMOS_WINDOW)
    padded = np.pad(waveform.astype(np.float32), (0, max(0, _DISTILLMOS_WINDOW - len(waveform))))
    scores = []
    with one_thread():
        for place in np.linspace(0, 1, math.ceil(over / _DISTILLMOS_HOP) + 1):
            part = padded[int(place * over) : int(place * over) + _DISTILLMOS_WINDOW]
            scores.append(float(model(torch.from_numpy(part[None]))))
    return float(np.mean(scores))


def opinion(reference: np.ndarray, output: np.ndarray, sample_rate: int, *, scale: str) -> float:
    """Return one DNSMOS, PLCMOS or DistillMOS score of the output; the reference is not looked at.

    Args:
        reference: `[T]`, not used.
        output: `[T]`.
        sample_rate: 16000.
        scale: "sig", "bak", "ovrl", "p808", "plcmos" or "distillmos".

    Raises:
        MetricError: the output is shorter than 1 s, or silent.
        MissingExtraError: a package is not installed.
    """
    require_rate(sample_rate)
    prepare, score = _SCALES[scale]
    prepare()
    require_sound(output, "reconstruction", sample_rate, _SECONDS)
    return score(output)


@remembered
def _levelled_dnsmos(signal: np.ndarray) -> Opinions:
    return dnsmos(_levelled(signal))


@remembered
def _levelled_p808(signal: np.ndarray) -> float:
    return dnsmos_p808(_levelled(signal))


@remembered
def _levelled_plcmos(signal: np.ndarray) -> float:
    return plcmos(_levelled(signal))


@remembered
def _kept_distillmos(signal: np.ndarray) -> float:
    return distillmos(signal)


def _levelled(signal: np.ndarray) -> np.ndarray:
    brought = at_loudness(signal, RATE, LOUDNESS)
    if brought is None:
        raise MetricError("the reconstruction is silent: it lies below -70 LUFS")
    return brought.astype(np.float32)


def _windows(waveform: np.ndarray) -> Iterator[np.ndarray]:
    """Yield float32 windows of 9.01 s, one second apart; like speechmos, count whole seconds only."""
    while len(waveform) < _DNSMOS_WINDOW:
        waveform = np.concatenate([waveform, waveform])
    for second in range(max(1, len(waveform) // RATE - 9)):
        yield waveform[second * RATE : second * RATE + _DNSMOS_WINDOW].astype(np.float32)


@cache
def _session(model: str) -> onnxruntime.InferenceSession:
    return onnx_session(package_folder("speechmos", "DNSMOS", "mos") / model, "DNSMOS", "mos")


@cache
def _distillmos_model() -> nn.Module:
    try:
        package = import_without("distillmos", "torchaudio")
    except ImportError:
        raise MissingExtraError("DistillMOS", "mos", command=DISTILLMOS_COMMAND) from None
    with contextlib.redirect_stdout(io.StringIO()):  # it announces its weights
        model: nn.Module = package.ConvTransformerSQAModel(segmenting_in_forward=False).eval()
    return model


def _metric(scale: str, title: str, definition: str, *packages: str) -> Metric:
    return Metric(
        id=scale if scale in ("plcmos", "distillmos") else f"dnsmos/{scale}",
        title=title,
        definition=definition,
        function=partial(opinion, scale=scale),
        larger_is_better=True,
        domains=("speech",),
        extra="mos",
        decimals=3,
        packages=packages,
        group="judges",
    )


_SCALES: dict[str, tuple[Callable[[], object], Callable[[np.ndarray], float]]] = {
    "sig": (partial(_session, _P835), lambda signal: _levelled_dnsmos(signal).sig),
    "bak": (partial(_session, _P835), lambda signal: _levelled_dnsmos(signal).bak),
    "ovrl": (partial(_session, _P835), lambda signal: _levelled_dnsmos(signal).ovrl),
    "p808": (partial(_session, _P808), _levelled_p808),
    "plcmos": (partial(_session, _PLCMOS), _levelled_plcmos),
    "distillmos": (_distillmos_model, _kept_distillmos),
}
_DNSMOS = (
    "DNSMOS {} of speechmos, no reference, 16 kHz, output at -26 LUFS (BS.1770), mean over windows of 9.01 s "
    "every second, shorter recordings repeated"
)
_ONNX = ("speechmos", "onnxruntime")
METRICS = (
    _metric("ovrl", "DNSMOS OVRL", _DNSMOS.format("P.835 overall"), *_ONNX),
    _metric("sig", "DNSMOS SIG", _DNSMOS.format("P.835 speech"), *_ONNX),
    _metric("bak", "DNSMOS BAK", _DNSMOS.format("P.835 background"), *_ONNX),
    _metric("p808", "DNSMOS P.808", _DNSMOS.format("P.808"), *_ONNX),
    _metric(
        "plcmos",
        "PLCMOS",
        "PLCMOS v2 of speechmos, no reference, 16 kHz, output at -26 LUFS (BS.1770), mean over 15 imagined "
        "raters with seed 0",
        *_ONNX,
    ),
    _metric(
        "distillmos",
        "DistillMOS",
        "DistillMOS v7, no reference, 16 kHz, mean over windows of 7.68 s at most 1 s apart, each normalized "
        "to its peak",
        *("distillmos", "xls-r-sqa", "torch"),
    ),
)
"""The measures of this file."""
