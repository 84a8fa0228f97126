"""I1 and I2: what a batch may not change.

The two are told apart like this. I2 compares batches of one shape with each other, so that only places and
neighbours differ. I1 compares a recording alone with the same one in batches. Where neighbours leak, being
alone or not makes a difference too; then I1 answers only for padding: one silent neighbour, short and long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audiotokens.verify.subject import Batch, Subject
from audiotokens.verify.verdicts import Arrays, Tally, arrays


def check_alone(subject: Subject) -> Tally:
    """I1: an item alone and in a padded batch gives equal codes."""
    subject.require()
    tally = _padding(subject)
    joined = _alone_or_together(subject)
    if joined.broken and "I2" in subject.promises and check_neighbours(subject).broken:
        tally.notes.append("batches differ from single recordings because of the neighbours: see I2")
    else:
        tally.add(joined)
    if subject.codec is None:
        tally.notes.append("by encode_batch only: it has no padded call of tensors")
    return tally


def check_neighbours(subject: Subject) -> Tally:
    """I2: an item's place in the batch and its neighbours change nothing."""
    subject.require()
    if "I2" not in subject.shared:
        subject.shared["I2"] = _places_and_neighbours(subject)
    return subject.shared["I2"]


def _padding(subject: Subject) -> Tally:
    tally = Tally()
    hop = int(subject.spec.hop) if subject.spec.frame_rate else subject.spec.sample_rate // 10
    for name, waveform in subject.longest(4).items():
        short = np.zeros_like(waveform)
        for spare in (1, hop - 1, hop, 7 * hop + 3):
            long = np.pad(short, ((0, 0), (0, spare)))
            for way, batch in subject.batches().items():
                expected = batch([waveform, short])[0]
                where = f'{way}, "{name}" with {spare} samples of padding'
                subject.compare(tally, expected, batch([waveform, long])[0], where, waveform)
            if subject.codec is not None:
                expected, found = (subject.padded_call([waveform], padding=n)[0] for n in (0, spare))
                subject.compare(tally, expected, found, f'one call, "{name}", {spare} zeros more', waveform)
    return tally


def _alone_or_together(subject: Subject) -> Tally:
    tally = Tally()
    names = list(subject.waveforms)
    for way, batch in subject.batches().items():
        for group in (names, names[::2], names[:1] * 3):
            found = batch([subject.waveforms[name] for name in group])
            for name, codes in zip(group, found, strict=True):
                expected = arrays(subject.tokens(name))
                # A call of tensors gives codes only, no durations and no conditioning.
                expected = expected if way == "encode_batch" else {key: expected[key] for key in codes}
                where = f'"{name}" alone and by {way} of {len(group)}'
                subject.compare(tally, expected, codes, where, subject.waveforms[name])
    return tally


def _places_and_neighbours(subject: Subject) -> Tally:
    tally = Tally()
    random = subject.random("neighbours")
    names = list(subject.longest(6 if not subject.thorough else 16))
    items = [subject.waveforms[name] for name in names]
    equal = [subject.noise(random, items[-1].shape[1]) for _ in items]
    for way, batch in subject.batches().items():
        for group, kind in ((items, "of mixed lengths"), (equal, "of equal lengths")):
            where = f"{way} {kind}"
            expected = batch(group)
            for _ in range(8 if subject.thorough else 2):
                _permute(subject, tally, batch, group, expected, random, where)
            _replace(subject, tally, batch, group, expected, random, where)
    return tally


def _permute(
    subject: Subject,
    tally: Tally,
    batch: Batch,
    group: Sequence[np.ndarray],
    expected: Sequence[Arrays],
    random: np.random.Generator,
    where: str,
) -> None:
    order = random.permutation(len(group))
    for place, codes in zip(order, batch([group[i] for i in order]), strict=True):
        subject.compare(tally, expected[place], codes, f"{where}, item {place} moved", group[place])


def _replace(
    subject: Subject,
    tally: Tally,
    batch: Batch,
    group: Sequence[np.ndarray],
    expected: Sequence[Arrays],
    random: np.random.Generator,
    where: str,
) -> None:
    for kept in {0, len(group) - 1}:
        others = [
            item if i == kept else subject.noise(random, item.shape[1], 1.0) for i, item in enumerate(group)
        ]
        codes = batch(others)[kept]
        subject.compare(
            tally, expected[kept], codes, f"{where}, neighbours of item {kept} replaced", group[kept]
        )
