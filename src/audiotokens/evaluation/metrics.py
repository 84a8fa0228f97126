"""Measures of a reconstruction against its reference, each under an id that fixes its definition.

Every measure takes two aligned mono signals of one length at `EVALUATION_RATE` and returns one number, or
raises `MetricError` where it is not defined: no failure ever becomes a score. `METRICS` is a dictionary;
packages of others add `Metric` objects to it through the entry point group `audiotokens.metrics`. Measures by
models of others (`measures/`) form the group "judges".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import entry_points
from typing import NamedTuple

import numpy as np

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation.spectral import MelDistance, MelScale, StftDistance

EVALUATION_RATE = 16000
"""The one rate, in Hz, to which both signals are brought (soxr VHQ) before any measure."""
ENTRY_POINTS = "audiotokens.metrics"

ALL = "all"
"""What `get_metrics` takes for every measure; the groups of measures are other such names."""

_STOI_SECONDS = 0.4
_PESQ_SECONDS = 0.25
_PESQ_PART = 20.0


class Measured(NamedTuple):
    """A value of one file, and its weight in the mean over files.

    Args:
        value: of the file.
        weight: 1 for what is averaged over files; the number of reference words for word error rates, whose
            weighted mean is then the rate of the whole corpus.
    """

    value: float
    weight: float = 1.0


Measure = Callable[..., float | Measured]


@dataclass(frozen=True)
class Metric:
    """One measure with everything that fixes its numbers.

    Args:
        id: name of the definition, such as "mel/dac-eval".
        title: for tables.
        definition: one sentence with all settings.
        function: called with reference `[T]`, output `[T]` (float32) and their rate, and with the transcript
            where `needs_transcript`; returns the value, or a `Measured` where files differ in weight. For
            parallel work it must be picklable, so a function of a module or an instance of its class.
        larger_is_better: direction of quality.
        unit: of the value; empty for plain numbers.
        domains: where the measure is defined; empty: everywhere.
        extra: extra of this package that it needs; empty: none.
        best: value for equal signals.
        decimals: digits after the point in tables.
        packages: distributions whose version changes the numbers; part of the key of cached values.
        group: "default" is measured where nobody chooses; see `get_metrics`.
        needs_transcript: whether it is defined only where the spoken words are known.
    """

    id: str
    title: str
    definition: str
    function: Measure
    larger_is_better: bool
    unit: str = ""
    domains: tuple[str, ...] = ()
    extra: str = ""
    best: float | None = None
    decimals: int = 3
    packages: tuple[str, ...] = ()
    group: str = "default"
    needs_transcript: bool = False

    def why_not(self, domain: str, transcript: str) -> str:
        """Return why the measure is not defined for files of a domain and transcript; empty where it is."""
        if self.domains and domain not in self.domains:
            domains = ", ".join(self.domains)
            return f"defined for {domains} only, the domain of this file is {domain}"
        if self.needs_transcript and not transcript:
            return "what is said in this file is not known; a transcript is needed"
        return ""

    def __call__(self, reference: np.ndarray, output: np.ndarray, *, transcript: str = "") -> float:
        """Return the value that `measure` finds."""
        return self.measure(reference, output, transcript=transcript).value

    def measure(self, reference: np.ndarray, output: np.ndarray, *, transcript: str = "") -> Measured:
        """Measure `output` against `reference`, both `[T]` at `EVALUATION_RATE`.

        Args:
            reference: the original.
            output: its reconstruction.
            transcript: the words that are spoken; empty: not known.

        Raises:
            MetricError: lengths differ, samples are not finite, or the measure is not defined for this pair.
            MissingExtraError: the extra is not installed.
        """
        if reference.ndim != 1 or reference.shape != output.shape:
            found = f"{reference.shape} and {output.shape}"
            raise MetricError(f"{self.id}: found shapes {found}, expected two [T] of one length")
        if not len(reference):
            raise MetricError(f"{self.id}: the signals are empty")
        if not (np.isfinite(reference).all() and np.isfinite(output).all()):
            raise MetricError(f"{self.id}: a signal holds NaN or infinity")
        if self.needs_transcript and not transcript:
            raise MetricError(f"{self.id}: what is said in this file is not known; a transcript is needed")
        spoken = (transcript,) if self.needs_transcript else ()
        result = self.function(reference, output, EVALUATION_RATE, *spoken)
        measured = result if isinstance(result, Measured) else Measured(result)
        if math.isnan(measured.value):
            raise MetricError(f"{self.id}: the result is not a number")
        return Measured(float(measured.value), float(measured.weight))


METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Add a measure to `METRICS`.

    Raises:
        MetricError: the id is taken, or another id measures the same.
    """
    for known in METRICS.values():
        if known.id == metric.id and known != metric:
            raise MetricError(f'the metric "{metric.id}" exists already: choose another id')
        if known.id != metric.id and _configuration(known) == _configuration(metric):
            raise MetricError(f'the metric "{metric.id}" measures the same as "{known.id}": use that one')
    METRICS[metric.id] = metric
    return metric


def get_metrics(names: tuple[str, ...] | list[str] | None = None) -> tuple[Metric, ...]:
    """Return measures by id or group, each once, in the order of their first mention.

    Args:
        names: ids, groups ("default", "judges") or "all"; None: the group "default". Measures of entry points
            are among them.

    Raises:
        MetricError: a name is unknown or given twice.
    """
    _load_entry_points()
    wanted = ("default",) if names is None else tuple(names)
    groups = dict.fromkeys(metric.group for metric in METRICS.values())
    found: dict[str, Metric] = {}
    for name in wanted:
        if name not in METRICS and name not in groups and name != ALL:
            known = ", ".join((*METRICS, *groups, ALL))
            raise MetricError(f'there is no metric "{name}"; known: {known}')
        for metric in METRICS.values():
            if name in (metric.id, metric.group, ALL):
                found.setdefault(metric.id, metric)
    if len(set(wanted)) != len(wanted):
        raise MetricError(f"a metric is named twice: {', '.join(wanted)}")
    return tuple(found.values())


def require_sound(signal: np.ndarray, name: str, sample_rate: int, seconds: float) -> None:
    """Refuse a signal `[T]` that is shorter than `seconds`, or silent.

    Raises:
        MetricError: a sentence about the signal `name`.
    """
    if len(signal) < seconds * sample_rate:
        raise MetricError(f"{len(signal) / sample_rate:.3f} s is too short, {seconds} s are needed")
    if not np.any(signal):
        raise MetricError(f"the {name} is silent")


def require_pair(reference: np.ndarray, output: np.ndarray, sample_rate: int, seconds: float) -> None:
    """Refuse two signals `[T]` of which one is shorter than `seconds`, or silent.

    Raises:
        MetricError: a sentence about the first such signal.
    """
    for name, signal in (("reference", reference), ("reconstruction", output)):
        require_sound(signal, name, sample_rate, seconds)


def pesq_wideband(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
    """PESQ-WB (ITU-T P.862.2) as MOS-LQO, 1.0 to 4.64, at 16 kHz.

    P.862 is meant for 8 to 20 s: longer signals are cut into equal parts of at most 20 s, whose mean is
    returned.

    Raises:
        MetricError: a signal is silent or too short, or no speech was found.
    """
    try:
        import pesq
    except ImportError:
        raise MissingExtraError("PESQ", "metrics") from None
    require_pair(reference, output, sample_rate, _PESQ_SECONDS)
    # the C code of pesq writes past its arrays after 50 utterances, which need 0.4 s each
    parts = math.ceil(len(reference) / (_PESQ_PART * sample_rate))
    pairs = zip(np.array_split(reference, parts), np.array_split(output, parts), strict=True)
    try:
        return float(np.mean([pesq.pesq(sample_rate, x, y, "wb") for x, y in pairs]))
    except (pesq.PesqError, ValueError) as error:
        detail = error.args[0] if error.args else type(error).__name__
        text = detail.decode("ascii", "replace") if isinstance(detail, bytes) else str(detail)
        raise MetricError(f"PESQ is not defined here: {text}") from None


def short_time_intelligibility(
    reference: np.ndarray, output: np.ndarray, sample_rate: int, *, extended: bool = False
) -> float:
    """STOI (Taal et al. 2011), or ESTOI (Jensen, Taal 2016) if `extended`; at most 1.

    Raises:
        MetricError: a signal is silent, or fewer than 30 frames (384 ms) are left without the silent ones.
    """
    try:
        import pystoi
    except ImportError:
        raise MissingExtraError("STOI", "metrics") from None
    require_pair(reference, output, sample_rate, _STOI_SECONDS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(reference, output, sample_rate, extended=extended))
        except (RuntimeWarning, ValueError, IndexError) as error:
            reason = "fewer than 30 frames are left without the silent ones"
            if "Not enough STFT frames" not in str(error):
                reason = f"too short or not finite ({error})"
            raise MetricError(f"STOI is not defined here: {reason}") from None


def scale_invariant_sdr(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
    """SI-SDR in dB, both signals without their mean (Le Roux et al. 2019, equation 3).

    Equal signals up to a factor give +inf, an output orthogonal to the reference gives -inf.

    Raises:
        MetricError: a signal is constant.
    """
    x = reference.astype(np.float64) - reference.mean(dtype=np.float64)
    y = output.astype(np.float64) - output.mean(dtype=np.float64)
    energy = float(x @ x)
    for name, own in (("reference", energy), ("reconstruction", float(y @ y))):
        if not own > 0.0:
            raise MetricError(f"SI-SDR is not defined here: the {name} is constant")
    target = (float(x @ y) / energy) * x
    residual = y - target
    wanted, unwanted = float(target @ target), float(residual @ residual)
    # beyond double precision there is nothing left to compare
    if unwanted <= 1e-26 * wanted:
        return math.inf
    return 10 * math.log10(wanted / unwanted) if wanted > 0 else -math.inf


def _configuration(metric: Metric) -> object:
    function = metric.function
    if isinstance(function, partial):
        return (function.func, function.args, tuple(sorted(function.keywords.items())))
    return function


@cache
def _load_entry_points() -> None:
    for entry in entry_points(group=ENTRY_POINTS):
        metric = entry.load()
        if not isinstance(metric, Metric):
            raise MetricError(f'entry point "{entry.name}" of {ENTRY_POINTS}: expected a Metric object')
        register(metric)


register(
    Metric(
        id="pesq-wb",
        title="PESQ-WB",
        definition="ITU-T P.862.2, 16 kHz, MOS-LQO, package pesq; mean over equal parts of at most 20 s",
        function=pesq_wideband,
        larger_is_better=True,
        domains=("speech",),
        extra="metrics",
        best=4.644,
        packages=("pesq",),
    )
)
register(
    Metric(
        id="stoi",
        title="STOI",
        definition="Taal et al. 2011, package pystoi (10 kHz, 15 third octaves from 150 Hz, 384 ms)",
        function=partial(short_time_intelligibility, extended=False),
        larger_is_better=True,
        domains=("speech",),
        extra="metrics",
        best=1.0,
        decimals=4,
        packages=("pystoi", "scipy"),
    )
)
register(
    Metric(
        id="estoi",
        title="ESTOI",
        definition="Jensen and Taal 2016, package pystoi (10 kHz, 15 third octaves from 150 Hz, 384 ms)",
        function=partial(short_time_intelligibility, extended=True),
        larger_is_better=True,
        domains=("speech",),
        extra="metrics",
        best=1.0,
        decimals=4,
        packages=("pystoi", "scipy"),
    )
)
register(
    Metric(
        id="si-sdr",
        title="SI-SDR",
        definition="Le Roux et al. 2019 equation 3, zero mean, the reference is scaled, no filter, 16 kHz",
        function=scale_invariant_sdr,
        larger_is_better=True,
        unit="dB",
        best=math.inf,
        decimals=2,
    )
)
register(
    Metric(
        id="mel/dac-eval",
        title="mel (DAC eval)",
        definition="150 bands of window 2048 plus 80 of 512, hop a quarter, Slaney; L1 of log10 of the "
        "square, clamped at 1e-5 before it, plus L1 of magnitudes; at 16 kHz",
        function=MelDistance(
            (MelScale(150, 2048, 512), MelScale(80, 512, 128)), base=10.0, power=2.0, floor=1e-5, linear=1.0
        ),
        larger_is_better=False,
        best=0.0,
    )
)
register(
    Metric(
        id="mel/vocos",
        title="mel (Vocos)",
        definition="100 HTK bands, window 1024, hop 256, magnitudes, natural log clamped at 1e-7, L1; "
        "at 16 kHz (Vocos itself: 24 kHz)",
        function=MelDistance(
            (MelScale(100, 1024, 256, htk=True),), base=math.e, power=1.0, floor=1e-7, linear=0.0
        ),
        larger_is_better=False,
        best=0.0,
    )
)
register(
    Metric(
        id="stft/parallel-wavegan",
        title="STFT (multi-resolution)",
        definition="spectral convergence plus L1 of natural log magnitudes, mean over FFT 1024, 2048, 512 "
        "with hops 120, 240, 50 and windows 600, 1200, 240; power clamped at 1e-7; at 16 kHz",
        function=StftDistance(((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)), floor=1e-7),
        larger_is_better=False,
        best=0.0,
    )
)
