"""The ten promises as checks, for every tokenizer: shipped, of another package, or one that you are writing.

from audiotokens.verify import format_verification, verify

print(format_verification(verify(tokenizer)))
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from audiotokens.audio import WaveformLike, as_waveform, mix_to_channels
from audiotokens.errors import AudioTokensError, MissingExtraError, NotOfferedError
from audiotokens.spec import Spec
from audiotokens.tokenizer import Tokenizer
from audiotokens.verify.batches import check_alone, check_neighbours
from audiotokens.verify.chunks import check_decoding, check_encoding
from audiotokens.verify.engines import check_engines
from audiotokens.verify.files import check_storage
from audiotokens.verify.finality import check_finality
from audiotokens.verify.lengths import check_lengths
from audiotokens.verify.recordings import Budget, read_recordings
from audiotokens.verify.repeats import check_prefixes, check_repeats
from audiotokens.verify.signals import make_waveforms
from audiotokens.verify.subject import Subject
from audiotokens.verify.tally import ROUNDING, Tally
from audiotokens.verify.verdicts import PROMISES, Verdict, Verification, format_verification

__all__ = [
    "PROMISES",
    "Budget",
    "Verdict",
    "Verification",
    "format_verification",
    "make_waveforms",
    "verify",
]


def verify(
    tokenizer: Tokenizer,
    *,
    promises: Sequence[str] | None = None,
    waveforms: Sequence[WaveformLike] | Mapping[str, WaveformLike] | None = None,
    audio: Sequence[str | os.PathLike[str]] | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    thorough: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Verification:
    """Check what a tokenizer promises, by trying.

    Args:
        tokenizer: any `Tokenizer`; a torch module with `encode_codes` is also tried in padded calls.
        promises: identifiers such as "I3"; default: all ten.
        waveforms: at the tokenizer's own rate, `[T]` or `[C, T]`, optionally by name, each of which is tried
            in many ways; default: varied signals, made on the spot.
        audio: instead of `waveforms`, sound files of any rate and number, each of which is tried in few ways.
        budget: how much of the files each promise is tried on; default: 2 million codes or 20 minutes.
        seed: of all random choices; equal seeds try the same things.
        thorough: 200 random chunkings, every length from 1 sample to 3 hops + 7, more of everything.
        progress: called with a line before each check.

    Returns:
        One verdict for each promise. A check that fails with an exception is a broken promise.

    Raises:
        AudioTokensError: an unknown promise, a waveform or file that is not usable, or both kinds.
        MissingExtraError: the tokenizer needs an optional dependency that is not installed.

    Example:
        >>> verify(tokenizer, promises=["I3", "I8"]).ok  # doctest: +SKIP
        True
    """
    chosen = _chosen(promises)
    if audio is not None and waveforms is not None:
        raise AudioTokensError("both audio and waveforms are given: give one of them")
    recorded = audio is not None
    if audio is not None:
        given = read_recordings(tokenizer, audio, budget=budget or Budget(), seed=seed)
    else:
        given = _signals(tokenizer.spec, waveforms, seed, thorough)
    subject = Subject(tokenizer, given, promises=chosen, seed=seed, thorough=thorough, recorded=recorded)
    verdicts = []
    for promise in chosen:
        if progress is not None:
            progress(f"{promise}: {PROMISES[promise]}")
        verdicts.append(_verdict(subject, promise))
    samples = sum(waveform.shape[1] for waveform in given.values()) if recorded else 0
    return Verification(
        tokenizer.spec.name,
        tokenizer.fingerprint,
        thorough,
        seed,
        tuple(verdicts),
        exact=subject.exact,
        recordings=len(given) if recorded else 0,
        audio_seconds=round(samples / tokenizer.spec.sample_rate, 3),
    )


_CHECKS: dict[str, Callable[[Subject], Tally]] = {
    "I1": check_alone,
    "I2": check_neighbours,
    "I3": check_encoding,
    "I4": check_decoding,
    "I5": check_repeats,
    "I6": check_engines,
    "I7": check_finality,
    "I8": check_lengths,
    "I9": check_storage,
    "I10": check_prefixes,
}


def _rounding(subject: Subject, promise: str) -> float | None:
    """Margin up to which flips are counted and break nothing: between engines, and in fast mode."""
    if promise == "I6":
        return ROUNDING
    return subject.rounding if promise in {"I1", "I2", "I3", "I5", "I7"} else None


def _chosen(promises: Sequence[str] | None) -> list[str]:
    if promises is None:
        return list(PROMISES)
    for promise in promises:
        if promise not in PROMISES:
            raise AudioTokensError(f'there is no promise "{promise}": give some of {", ".join(PROMISES)}')
    return [promise for promise in PROMISES if promise in promises]


def _signals(
    spec: Spec,
    waveforms: Sequence[WaveformLike] | Mapping[str, WaveformLike] | None,
    seed: int,
    thorough: bool,
) -> dict[str, np.ndarray]:
    if waveforms is None:
        return make_waveforms(spec.sample_rate, spec.channels, seed=seed, thorough=thorough)
    if not isinstance(waveforms, Mapping):
        waveforms = {f"waveform {index}": waveform for index, waveform in enumerate(waveforms)}
    if not waveforms:
        raise AudioTokensError(
            "there are no waveforms to verify with: give at least one, or none for made signals"
        )
    return {name: mix_to_channels(as_waveform(each), spec.channels) for name, each in waveforms.items()}


def _verdict(subject: Subject, promise: str) -> Verdict:
    start = time.perf_counter()
    verdict = _tried(subject, promise)
    return replace(verdict, seconds=round(time.perf_counter() - start, 3))


def _tried(subject: Subject, promise: str) -> Verdict:
    title = PROMISES[promise]
    try:
        return _CHECKS[promise](subject).verdict(promise, rounding=_rounding(subject, promise))
    except NotOfferedError as error:
        return Verdict(promise, title, "not offered", f"not offered, because {error}")
    except MissingExtraError:
        raise
    # Whatever a tokenizer raises on valid input is a finding about it, and must not hide the other verdicts.
    except Exception as error:
        text = " ".join(str(error).split())
        return Verdict(promise, title, "broken", f"{type(error).__name__}: {text}", flips=1)
