"""I5 and I10: the same codes again, and the same codes with fewer books."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from audiotokens.errors import NotOfferedError
from audiotokens.verify.subject import Subject
from audiotokens.verify.tally import Tally, arrays

_MOST_PREFIXES = 8
_THREADS = (1, 2, 3)


def check_repeats(subject: Subject) -> Tally:
    """I5: run again, with other thread counts, after training steps on a copy: same codes."""
    subject.require()
    tally = Tally()
    for name in subject.waveforms:
        subject.tokens(name)  # what all is compared with comes before anything is changed
    first, second, *threads, trained = subject.share(list(subject.waveforms), 3 + len(_THREADS))
    for names in (first, second):
        _encode_again(subject, tally, names, "again")
    _other_threads(subject, tally, threads)
    if subject.codec is not None:
        _train_copy(subject)
        _encode_again(subject, tally, trained, "after training a copy")
    return tally


def check_prefixes(subject: Subject) -> Tally:
    """I10: a legal prefix of the codes is the encode with that many codebooks."""
    subject.require()
    legal = sorted(subject.spec.legal_prefixes)
    if len(legal) < 2:
        raise NotOfferedError(f"{legal[0]} is its only legal number of codebooks")
    if not subject.spec.nested:
        raise NotOfferedError("its search looks at all books at once")
    many = subject.recorded and len(subject.waveforms) >= len(legal)
    if len(legal) > _MOST_PREFIXES and not subject.thorough and not many:
        legal = [legal[i] for i in np.unique(np.linspace(0, len(legal) - 1, _MOST_PREFIXES).astype(int))]
    tally = Tally()
    tried = subject.waveforms if subject.thorough or subject.recorded else subject.longest(3)
    for books, part in zip(legal, subject.share(list(tried.items()), len(legal))):
        for name, waveform in part:
            expected = arrays(subject.tokens(name, max(legal)).take(books))
            where = f'"{name}" with {books} books'
            subject.compare(tally, expected, arrays(subject.encode(waveform, books)), where, waveform)
    return tally


def _encode_again(subject: Subject, tally: Tally, names: Sequence[str], how: str) -> None:
    for name in names:
        waveform = subject.waveforms[name]
        expected = arrays(subject.tokens(name))
        found = arrays(subject.encode(waveform))
        subject.compare(tally, expected, found, f'"{name}" {how}', waveform)


def _other_threads(subject: Subject, tally: Tally, shares: Sequence[Sequence[str]]) -> None:
    # A tokenizer that uses torch has imported it by now; importing it here would slow numpy-only ones down.
    torch: Any = sys.modules.get("torch")
    if torch is None:
        tally.notes.append("thread counts were not changed: torch is not in use")
        return
    before = torch.get_num_threads()
    try:
        for threads, names in zip(_THREADS, shares):
            torch.set_num_threads(threads)
            _encode_again(subject, tally, names, f"with {threads} threads, {before} before")
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
