"""I6: the same tokenizer on another engine."""

from __future__ import annotations

from audiotokens.errors import NotOfferedError
from audiotokens.tokenizer import Tokenizer
from audiotokens.verify.subject import Subject
from audiotokens.verify.tally import Tally, arrays, short

ENGINE_TOLERANCE = 1e-3
"""Samples that two engines decode may differ by this much; full scale is 1."""


def check_engines(subject: Subject) -> Tally:
    """I6: another engine gives the same codes, and decodes them to the same samples within 1e-3.

    A tokenizer names its other engines by a method `other_engines() -> dict[str, Tokenizer]`.
    """
    subject.require()
    offered = getattr(subject.tokenizer, "other_engines", None)
    engines: dict[str, Tokenizer] = offered() if callable(offered) else {}
    if not engines:
        raise NotOfferedError("it has no other engine here")
    tally = Tally()
    for engine, other in engines.items():
        for name, waveform in subject.waveforms.items():
            found = arrays(other.encode(waveform, subject.spec.sample_rate))
            subject.compare(tally, arrays(subject.tokens(name)), found, f'"{name}" by {engine}', waveform)
        if subject.spec.can_decode and other.spec.can_decode:
            _compare_decoding(subject, tally, engine, other)
    return tally


def _compare_decoding(subject: Subject, tally: Tally, engine: str, other: Tokenizer) -> None:
    samples = Tally(unit="samples", tolerance=ENGINE_TOLERANCE)
    for name in subject.waveforms:
        tokens = subject.tokens(name)
        expected, found = subject.tokenizer.decode(tokens), other.decode(tokens)
        samples.compare_samples(expected, found, f'"{name}" decoded by {engine}')
    if samples.faults:
        tally.expect(False, samples.faults[0])
    tally.notes.append(
        f"decoded by {engine}: largest difference {short(samples.difference)} in {samples.checked:,} samples"
    )
