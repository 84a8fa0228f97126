"""I8: the length rule."""

from __future__ import annotations

import math

import numpy as np

from audiotokens.tokens import Tokens
from audiotokens.verify.subject import Subject
from audiotokens.verify.tally import Tally

_FRAME_SLACK = 2


def check_lengths(subject: Subject) -> Tally:
    """I8: decode(encode(x)) has ceil(n * output rate / input rate) samples, from 1 sample up."""
    subject.require()
    lengths = _lengths(subject)
    tally = Tally(unit="lengths")
    random = subject.random("lengths")
    for num_samples in lengths:
        fault = _fault(subject, subject.encode(subject.sound(random, num_samples)), num_samples)
        tally.expect(not fault, fault)
    tally.notes.append(
        f"1 to {lengths[-1]:,} samples" + ("" if subject.spec.can_decode else ", encoding only")
    )
    return tally


def _lengths(subject: Subject) -> list[int]:
    hop = math.ceil(subject.spec.hop) if subject.spec.frame_rate else max(subject.spec.min_samples // 3, 1)
    last = 3 * hop + 7
    random = subject.random("which lengths")
    if subject.thorough:
        return sorted({*range(1, last + 1), *random.integers(1, 40 * hop, 200).tolist()})
    edges = [1, 2, 3, *(n * hop + d for n in (1, 2, 3) for d in (-1, 0, 1)), last]
    some = [*random.integers(1, last + 1, 20).tolist(), *random.integers(1, 40 * hop, 10).tolist()]
    return sorted({length for length in (*edges, *some) if length > 0})


def _fault(subject: Subject, tokens: Tokens, num_samples: int) -> str:
    """How the rule is broken for one recording; empty if it holds."""
    spec = subject.spec
    if tokens.num_samples != num_samples:
        return f"{num_samples} samples in, tokens say {tokens.num_samples}"
    for name, stream in tokens.streams.items():
        if not stream.frame_rate or stream.segments is not None:
            continue
        frames = stream.base_frames
        fitting = max(num_samples, spec.min_samples) * stream.frame_rate / spec.sample_rate
        # Codes come in whole frames of the slowest stream, and in whole windows of an encoder that has some.
        slack = _FRAME_SLACK * stream.frame_rate / spec.frame_rate
        windows = spec.lookahead * stream.frame_rate / spec.sample_rate
        if not -slack < frames - fitting < slack + windows:
            return f'{num_samples} samples in, {frames} frames of "{name}": {float(fitting):.2f} fit'
    if not spec.can_decode:
        return ""
    waveform = subject.tokenizer.decode(tokens)
    expected = (spec.channels, spec.output_length(num_samples))
    if waveform.shape == expected and waveform.dtype == np.float32 and np.isfinite(waveform).all():
        return ""
    found = f"{waveform.dtype} {list(waveform.shape)}"
    return f"{num_samples} samples in, {found} out, expected finite float32 {list(expected)}"
