"""I7: later audio never changes a frame, and sessions give it in time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from audiotokens.errors import NotOfferedError
from audiotokens.tokens import Tokens
from audiotokens.verify.subject import Subject
from audiotokens.verify.tally import Arrays, Tally

_RECORDED_FRAMES = 2


def check_finality(subject: Subject) -> Tally:
    """I7: frame t is final once (t + 1) hop + look-ahead samples are in."""
    subject.require()
    spec = subject.spec
    if not (spec.streamable or spec.causal or spec.lookahead):
        raise NotOfferedError("it states no look-ahead: its codes may depend on the whole recording")
    tally = Tally()
    random = subject.random("later audio")
    tried = subject.waveforms if subject.recorded else subject.longest(4)
    for name, waveform in tried.items():
        if any(stream.segments is not None for stream in subject.tokens(name).streams.values()):
            raise NotOfferedError("it encodes in overlapping windows")
        for frame in _frames(subject, waveform.shape[1], random):
            bound = _bound(subject, frame)
            _perturb(subject, tally, name, frame, bound, random)
            if spec.streamable:
                _in_time(subject, tally, name, frame, bound)
    tally.notes += _slack(subject, random)
    return tally


def _bound(subject: Subject, frame: int) -> int:
    return math.ceil((frame + 1) * subject.spec.hop) + subject.spec.lookahead


def _frames(subject: Subject, num_samples: int, random: np.random.Generator) -> list[int]:
    """First and last frames that have audio beyond their bound, and random ones between."""
    count = int((num_samples - 1 - subject.spec.lookahead) / subject.spec.hop)
    if count < 1:
        return []
    if subject.recorded and not subject.thorough:
        return sorted({0, *random.integers(0, count, _RECORDED_FRAMES).tolist()})
    some = random.integers(0, count, 60 if subject.thorough else 8).tolist()
    return sorted({0, count - 1, *some})


def _perturb(
    subject: Subject, tally: Tally, name: str, frame: int, bound: int, random: np.random.Generator
) -> None:
    waveform = subject.waveforms[name]
    expected = _first_frames(subject, subject.tokens(name), frame)
    noise = subject.noise(random, min(waveform.shape[1] - bound, subject.spec.sample_rate), 1.0)
    longer = np.concatenate([waveform[:, :bound], noise, noise], axis=1)
    for changed, how in ((longer, "noise follows"), (waveform[:, :bound], "the audio ends")):
        found = _first_frames(subject, subject.encode(changed), frame)
        where = f'"{name}", frames up to {frame}, {how} after {bound} samples'
        subject.compare(tally, expected, found, where, waveform)


def _in_time(subject: Subject, tally: Tally, name: str, frame: int, bound: int) -> None:
    """A fresh session that got `bound` samples must have given all frames up to `frame`."""
    given = subject.tokenizer.encoder().push(subject.waveforms[name][:, :bound])
    expected = _first_frames(subject, subject.tokens(name), frame)
    found = {} if given is None else _first_frames(subject, given, frame)
    for key, wanted in expected.items():
        count = found[key].shape[1] if key in found else 0
        late = f'a session gave {count} of {wanted.shape[1]} frames of "{key}" after {bound} samples'
        tally.expect(count == wanted.shape[1], late)


def _first_frames(subject: Subject, tokens: Tokens, frame: int) -> Arrays:
    """Codes of all frames that end with frame `frame` of the slowest stream; global codes are left out."""
    found: dict[str, np.ndarray] = {}
    for name, stream in tokens.streams.items():
        if not stream.frame_rate:
            continue
        codes = (
            stream.codes if stream.durations is None else np.repeat(stream.codes, stream.durations, axis=1)
        )
        found[name] = codes[:, : int((frame + 1) * Fraction(stream.frame_rate, subject.spec.frame_rate))]
    return found


def _slack(subject: Subject, random: np.random.Generator) -> list[str]:
    """A remark where the last hop of the look-ahead changed no feature in a few tries; no proof."""
    rate, less = subject.spec.sample_rate, math.floor(subject.spec.hop)
    if subject.spec.lookahead < less:
        return []
    for waveform in subject.longest(2).values():
        for frame in _frames(subject, waveform.shape[1], random)[:4]:
            kept = waveform[:, : _bound(subject, frame) - less]
            noise = subject.noise(random, waveform.shape[1] - kept.shape[1], 1.0)
            try:
                before = subject.tokenizer.features(waveform, rate)
                after = subject.tokenizer.features(np.concatenate([kept, noise], axis=1), rate)
            except NotOfferedError:
                return []
            if not np.array_equal(before[:, : frame + 1], after[:, : frame + 1]):
                return []
    return [f"the last {less} of {subject.spec.lookahead} samples of look-ahead changed no feature here"]
