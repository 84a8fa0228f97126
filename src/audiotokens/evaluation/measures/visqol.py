"""ViSQOL v3 in speech mode: M. Chinen et al., "ViSQOL v3", 2020, by the package visqol-python."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import numpy as np

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation.measures.packages import require_rate
from audiotokens.evaluation.metrics import Metric, require_pair

_SECONDS = 1.0


def visqol_speech(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
    """Return the MOS-LQO of ViSQOL's speech mode for `[T]` against `[T]`, 1 to 5, 5 for equal signals.

    The mapping is the polynomial one. The lattice, the other one that ViSQOL has, gives equal signals 4.3 to
    4.7 and scored one recording higher with noise at -80 dB than without.

    Raises:
        MetricError: a signal is shorter than 1 s or silent, or ViSQOL finds no speech.
        MissingExtraError: the package is not installed.
    """
    require_rate(sample_rate)
    api = _api()
    require_pair(reference, output, sample_rate, _SECONDS)
    pair = (reference.astype(np.float64), output.astype(np.float64))
    with contextlib.suppress(ImportError):  # without numba it is slower and gives the same
        import numba

        numba.set_num_threads(1)
    try:
        return float(api.measure_from_arrays(*pair, sample_rate).moslqo)
    except ValueError as error:
        raise MetricError(f"ViSQOL is not defined here: {error}") from None


@cache
def _api() -> Any:
    try:
        from visqol import VisqolApi
    except ImportError:
        raise MissingExtraError("ViSQOL", "visqol") from None
    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=False)
    return api


METRICS = (
    Metric(
        id="visqol/speech",
        title="ViSQOL (speech)",
        definition="ViSQOL v3 speech mode, 16 kHz, polynomial mapping (no lattice), 5 for equal signals",
        function=visqol_speech,
        larger_is_better=True,
        domains=("speech",),
        extra="visqol",
        best=5.0,
        packages=("visqol-python", "scipy"),
        group="judges",
    ),
)
"""The measures of this file."""
