"""I5 and I10: the same codes again, and the same codes with fewer books."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np

from audiotokens.errors import NotOfferedError
from audiotokens.verify.subject import Subject
from audiotokens.verify.verdicts import Tally, arrays

_MOST_PREFIXES = 8


def check_repeats(subject: Subject) -> Tally:
    """I5: run again, with other thread counts, after training steps on a copy: same codes."""
    subject.require()
    tally = Tally()
    for _ in range(2):
        _encode_again(subject, tally, "again")
    _other_threads(subject, tally)
    if subject.codec is not None:
        _train_copy(subject)
        _encode_again(subject, tally, "after training a copy")
    return tally


def check_prefixes(subject: Subject) -> Tally:
    """I10: a legal prefix of the codes is the encode with that many codebooks."""
    subject.require()
    legal = sorted(subject.spec.legal_prefixes)
    if len(legal) < 2:
        raise NotOfferedError(f"{legal[0]} is its only legal number of codebooks")
    if not subject.spec.nested:
        raise NotOfferedError("its search looks at all books at once")
    if len(legal) > _MOST_PREFIXES and not subject.thorough:
        legal = [legal[i] for i in np.unique(np.linspace(0, len(legal) - 1, _MOST_PREFIXES).astype(int))]
    tally = Tally()
    for name, waveform in (subject.waveforms if subject.thorough else subject.longest(3)).items():
        for books in legal:
            expected = arrays(subject.tokens(name, max(legal)).take(books))
            where = f'"{name}" with {books} books'
            subject.compare(tally, expected, arrays(subject.encode(waveform, books)), where, waveform)
    return tally


def _encode_again(subject: Subject, tally: Tally, how: str) -> None:
    for name, waveform in subject.waveforms.items():
        found = arrays(subject.encode(waveform))
        subject.compare(tally, arrays(subject.tokens(name)), found, f'"{name}" {how}', waveform)


def _other_threads(subject: Subject, tally: Tally) -> None:
    # A tokenizer that uses torch has imported it by now; importing it here would slow numpy-only ones down.
    torch: Any = sys.modules.get("torch")
    if torch is None:
        tally.notes.append("thread counts were not changed: torch is not in use")
        return
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            _encode_again(subject, tally, f"with {threads} threads, {before} before")
    finally:
        torch.set_num_threads(before)


def _train_copy(subject: Subject) -> None:
    """Take optimizer steps on a deep copy; what the copy shares by mistake shows in the original's codes."""
    import torch

    student: Any = copy.deepcopy(subject.codec)
    student.train()
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    if not weights:
        return
    optimizer = torch.optim.SGD(weights, lr=0.1)
    random = subject.random("training a copy")
    num_samples = max(subject.spec.min_samples, subject.spec.sample_rate // 2)
    with torch.random.fork_rng(devices=[]):
        for _ in range(3):
            noise = torch.from_numpy(subject.noise(random, num_samples))[None]
            output = student(noise.to(weights[0]))
            optimizer.zero_grad()
            output.waveform.square().mean().backward()
            optimizer.step()
            if getattr(output, "quantized", None) is not None:
                student.quantizer.update(output.quantized.statistics)
