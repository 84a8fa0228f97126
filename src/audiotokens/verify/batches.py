"""I1 and I2: what a batch may not change.

The two are told apart like this. I2 compares batches of one shape with each other, so that only places and
neighbours differ. I1 compares a recording alone with the same one in batches. Where neighbours leak, being
alone or not makes a difference too; then I1 answers only for padding: one silent neighbour, short and long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audiotokens.verify.subject import Batch, Subject
from audiotokens.verify.tally import Arrays, Tally, arrays

BATCH = 16
"""Recordings in a batch."""

_MOST_SAMPLES = 2_000_000
"""A padded batch has at most so many samples, as nets need memory for each; longer recordings are cut."""


def check_alone(subject: Subject) -> Tally:
    """I1: an item alone and in a padded batch gives equal codes."""
    subject.require()
    tally = _padding(subject)
    joined = _alone_or_together(subject)
    apart = joined.status(subject.rounding) == "broken" and "I2" in subject.promises
    if apart and check_neighbours(subject).status(subject.rounding) == "broken":
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
    # Recordings meet padding of all lengths in their batches, too.
    for name, long in subject.longest(1 if subject.recorded else 4).items():
        waveform = long[:, : 2 * subject.spec.sample_rate]
        short = np.zeros_like(waveform)
        for spare in (1, hop - 1, hop, 7 * hop + 3):
            padded = np.pad(short, ((0, 0), (0, spare)))
            for way, batch in subject.batches().items():
                expected = batch([waveform, short])[0]
                where = f'{way}, "{name}" with {spare} samples of padding'
                subject.compare(tally, expected, batch([waveform, padded])[0], where, waveform)
            if subject.codec is not None:
                expected, found = (subject.padded_call([waveform], padding=n)[0] for n in (0, spare))
                subject.compare(tally, expected, found, f'one call, "{name}", {spare} zeros more', waveform)
    return tally


def _alone_or_together(subject: Subject) -> Tally:
    tally = Tally()
    items = list(subject.waveforms.items())
    groups = _batches(subject) if subject.recorded else [items, items[::2], items[:1] * 3]
    for way, batch in subject.batches().items():
        for group in groups:
            found = batch([waveform for _, waveform in group])
            for (name, waveform), codes in zip(group, found, strict=True):
                expected = arrays(subject.alone(waveform))
                # A call of tensors gives codes only, no durations and no conditioning.
                expected = expected if way == "encode_batch" else {key: expected[key] for key in codes}
                where = f'"{name}" alone and by {way} of {len(group)}'
                subject.compare(tally, expected, codes, where, waveform)
    tally.notes += _remark(subject, groups)
    return tally


def _places_and_neighbours(subject: Subject) -> Tally:
    tally = Tally()
    random = subject.random("neighbours")
    ways = subject.batches()
    if subject.recorded:
        groups = _batches(subject)
        for way, part in zip(ways, subject.share(groups, len(ways))):
            for group in part:
                items = [waveform for _, waveform in group]
                expected = ways[way](items)
                _permute(subject, tally, ways[way], items, expected, random, way)
                kept = {*random.permutation(len(items))[: len(items) // 2].tolist()}
                _replace(subject, tally, ways[way], items, expected, kept, random, way)
        tally.notes += _remark(subject, groups)
        return tally
    items = list(subject.longest(6 if not subject.thorough else 16).values())
    equal = [subject.noise(random, items[-1].shape[1]) for _ in items]
    for way, batch in ways.items():
        for batch_items, kind in ((items, "of mixed lengths"), (equal, "of equal lengths")):
            where = f"{way} {kind}"
            expected = batch(batch_items)
            for _ in range(8 if subject.thorough else 2):
                _permute(subject, tally, batch, batch_items, expected, random, where)
            for place in {0, len(batch_items) - 1}:
                _replace(subject, tally, batch, batch_items, expected, {place}, random, where)
    return tally


def _batches(subject: Subject) -> list[list[tuple[str, np.ndarray]]]:
    """Recordings in batches of different lengths; where there are too few, parts of them stand in again."""
    random = subject.random("batches")
    recordings = list(subject.waveforms.items())
    most = max(_MOST_SAMPLES // (BATCH * subject.spec.channels), 1)
    chosen = []
    for index in range(-(-len(recordings) // BATCH) * BATCH):
        name, waveform = recordings[index % len(recordings)]
        length = waveform.shape[1]
        if length > most or index >= len(recordings):
            length = int(random.integers(min(length, most) // 2, min(length, most))) + 1
        chosen.append((name, waveform[:, :length]))
    return [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]


def _remark(subject: Subject, groups: Sequence[Sequence[tuple[str, np.ndarray]]]) -> list[str]:
    """Say what the batches of recordings were."""
    if not subject.recorded:
        return []
    lengths = [waveform.shape[1] / subject.spec.sample_rate for group in groups for _, waveform in group]
    batches = f"{len(groups)} batches" if len(groups) > 1 else "a batch"
    return [f"{batches} of {BATCH} recordings of {min(lengths):.1f} to {max(lengths):.1f} s"]


def _permute(
    subject: Subject,
    tally: Tally,
    batch: Batch,
    items: Sequence[np.ndarray],
    expected: Sequence[Arrays],
    random: np.random.Generator,
    where: str,
) -> None:
    order = random.permutation(len(items))
    for place, codes in zip(order, batch([items[i] for i in order]), strict=True):
        subject.compare(tally, expected[place], codes, f"{where}, item {place} moved", items[place])


def _replace(
    subject: Subject,
    tally: Tally,
    batch: Batch,
    items: Sequence[np.ndarray],
    expected: Sequence[Arrays],
    kept: set[int],
    random: np.random.Generator,
    where: str,
) -> None:
    """Put loud noise in the place of all items but the kept ones."""
    others = [
        item if i in kept else subject.noise(random, item.shape[1], 1.0) for i, item in enumerate(items)
    ]
    found = batch(others)
    for place in kept:
        where_in = f"{where}, neighbours of item {place} replaced"
        subject.compare(tally, expected[place], found[place], where_in, items[place])
