"""I3 and I4: streaming sessions against one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np

from audiotokens.errors import NotOfferedError
from audiotokens.tokenizer import Decoder, Encoder
from audiotokens.tokens import Tokens
from audiotokens.verify.subject import Subject
from audiotokens.verify.tally import Tally, arrays

SAMPLE_TOLERANCE = 1e-5
"""Samples of chunked decoding may differ from one pass by this much; full scale is 1."""

_THOROUGH_PLANS = 200


def check_encoding(subject: Subject) -> Tally:
    """I3: encoding in chunks of any sizes gives the codes of one pass."""
    subject.require()
    subject.tokenizer.encoder()
    tally = Tally()
    random = subject.random("encoding in chunks")
    for name, waveform in subject.waveforms.items():
        expected = subject.tokens(name)
        for chunks, plan in _plans(subject, waveform, random):
            _compare(
                subject, tally, expected, subject.tokenizer.encoder(), chunks, f'"{name}", {plan}', waveform
            )
    name, waveform = next(iter(subject.longest(1).items()))
    books = subject.smallest_prefix
    session = subject.tokenizer.encoder(num_codebooks=books)
    expected = subject.tokens(name, books)
    chunks = _split(waveform, _sizes(random, waveform.shape[1]))
    _compare(subject, tally, expected, session, chunks, f'"{name}", {books} books', waveform)
    _where_offered(_resume_encoding, subject, tally, random)
    return tally


def check_decoding(subject: Subject) -> Tally:
    """I4: decoding in chunks of any sizes gives the samples of one pass."""
    subject.require(decode=True)
    subject.tokenizer.decoder()
    tally = Tally(unit="samples", tolerance=sample_tolerance(subject))
    random = subject.random("decoding in chunks")
    plans = subject.plans(2, _THOROUGH_PLANS)
    longest = subject.longest(1)
    for name in subject.waveforms:
        tokens = subject.tokens(name)
        expected = subject.tokenizer.decode(tokens)
        cuts = _cuts(tokens)
        chosen = [_some(random, cuts) for _ in range(plans)]
        if name in longest or not subject.recorded:
            chosen.insert(0, cuts if len(cuts) < 100 or subject.thorough else cuts[:50])
        for each in chosen:
            found = _decode(subject.tokenizer.decoder(), _pieces(tokens, each))
            tally.compare_samples(expected, found, f'"{name}" in {len(each) + 1} pieces')
    _decode_as_encoded(subject, tally, random)
    _where_offered(_resume_decoding, subject, tally, random)
    return tally


def _where_offered(
    check: Callable[[Subject, Tally, np.random.Generator], None],
    subject: Subject,
    tally: Tally,
    random: np.random.Generator,
) -> None:
    """Do a part of a check that a tokenizer may leave out; the rest of the verdict stands without it."""
    try:
        check(subject, tally, random)
    except NotOfferedError as error:
        tally.notes.append(f"no fork or restored session was tried, because {error}")


def sample_tolerance(subject: Subject) -> float:
    """Return by how much samples may differ: not at all where the tokenizer says that it is exact."""
    return 0.0 if getattr(subject.tokenizer, "exact", False) else SAMPLE_TOLERANCE


def _plans(
    subject: Subject, waveform: np.ndarray, random: np.random.Generator
) -> Iterator[tuple[list[np.ndarray], str]]:
    """Ways to cut a waveform, with a name each; sizes from 1 sample to the whole."""
    total = waveform.shape[1]
    hop = max(int(subject.spec.hop), 1)
    longest = next(iter(subject.longest(1).values()))
    if subject.thorough or waveform is longest or total < 20:
        yield _split(waveform, [1] * min(2 * hop + 1, total)), "chunks of 1 sample, then the rest"
    if waveform is longest or not subject.recorded:
        yield _split(waveform, [hop] * (total // hop)), "chunks of one hop"
    for plan in range(subject.plans(2, _THOROUGH_PLANS)):
        most = 3 * subject.spec.sample_rate
        sizes = _covering(random, total, most) if subject.recorded else _sizes(random, total)
        yield _split(waveform, sizes), f"random chunks {plan}"


def _sizes(random: np.random.Generator, total: int) -> list[int]:
    """Chunk sizes, log-uniform between 1 sample and a random largest size; the rest is one chunk."""
    largest = np.exp(random.uniform(np.log(8), np.log(max(total, 9))))
    count = random.integers(1, 100)
    sizes: list[int] = np.exp(random.uniform(0, np.log(largest), count)).astype(int).tolist()
    return sizes


def _covering(random: np.random.Generator, total: int, largest: int) -> list[int]:
    """Chunk sizes, log-uniform between 1 sample and the largest, for the whole."""
    sizes: list[int] = []
    while total > 0:
        sizes.append(int(np.exp(random.uniform(0, np.log(largest)))))
        total -= sizes[-1]
    return sizes


def _split(waveform: np.ndarray, sizes: Iterable[int]) -> list[np.ndarray]:
    parts = np.split(waveform, np.cumsum(list(sizes)), axis=1)
    return [part for part in parts if part.shape[1]]


def _encode(session: Encoder, chunks: Iterable[np.ndarray]) -> list[Tokens]:
    parts = [session.push(chunk) for chunk in chunks]
    return [part for part in (*parts, session.finish()) if part is not None]


def _compare(
    subject: Subject,
    tally: Tally,
    expected: Tokens,
    session: Encoder,
    chunks: list[np.ndarray],
    where: str,
    waveform: np.ndarray,
) -> None:
    _compare_parts(subject, tally, expected, _encode(session, chunks), where, waveform)


def _compare_parts(
    subject: Subject, tally: Tally, expected: Tokens, parts: list[Tokens], where: str, waveform: np.ndarray
) -> None:
    found = Tokens.concatenate(parts)
    subject.compare(tally, arrays(expected), arrays(found), where, waveform)
    if found.num_samples != expected.num_samples:
        tally.expect(False, f"{where}: num_samples is {found.num_samples}, expected {expected.num_samples}")


def _resume_encoding(subject: Subject, tally: Tally, random: np.random.Generator) -> None:
    """Fork a session, save it and restore it in another one: all three must go on alike."""
    name, waveform = next(iter(subject.longest(1).items()))
    first, second = np.split(waveform, [int(random.integers(1, waveform.shape[1]))], axis=1)
    session = subject.tokenizer.encoder()
    before = [part for part in [session.push(first)] if part is not None]
    twin, heir = session.fork(), subject.tokenizer.encoder()
    heir.restore(session.save())
    for each, how in ((session, "one cut"), (twin, "after fork"), (heir, "after save and restore")):
        if isinstance(each, Encoder):
            parts = before + _encode(each, [second])
            _compare_parts(subject, tally, subject.tokens(name), parts, f'"{name}", {how}', waveform)


def _cuts(tokens: Tokens) -> list[int]:
    """Samples strictly inside the recording at which its tokens can be cut, in order."""
    rates = [stream.frame_rate for stream in tokens.streams.values() if stream.frame_rate]
    hop = int(tokens.sample_rate / min(rates)) if rates else tokens.num_samples
    candidates = range(hop, tokens.num_samples, max(hop, 1))
    found = {_bounds(tokens, candidate)[0] for candidate in candidates}
    return sorted(found - {0, tokens.num_samples})


def _bounds(tokens: Tokens, sample: int) -> tuple[int, int]:
    return tokens.clip_bounds(Fraction(sample, tokens.sample_rate))


def _pieces(tokens: Tokens, cuts: Iterable[int]) -> list[Tokens]:
    edges = [0, *cuts, tokens.num_samples]
    rate = tokens.sample_rate
    return [tokens.clip(Fraction(start, rate), Fraction(end, rate)) for start, end in pairwise(edges)]


def _some(random: np.random.Generator, cuts: list[int]) -> list[int]:
    """A random subset, from few cuts to many."""
    kept = random.random(len(cuts)) < random.uniform(0, 1) ** 2
    return [cut for cut, keep in zip(cuts, kept) if keep]


def _decode(session: Decoder, pieces: Iterable[Tokens]) -> np.ndarray:
    parts = [session.push(piece) for piece in pieces]
    return np.concatenate([*parts, session.finish()], axis=1)


def _decode_as_encoded(subject: Subject, tally: Tally, random: np.random.Generator) -> None:
    """The parts of an encoder session go straight into a decoder, empty ones too."""
    if not subject.spec.streamable:
        return
    for name, waveform in subject.longest(2).items():
        chunks = _split(waveform, _sizes(random, waveform.shape[1]))
        parts = _encode(subject.tokenizer.encoder(), chunks)
        expected = subject.tokenizer.decode(Tokens.concatenate(parts))
        found = _decode(subject.tokenizer.decoder(), parts)
        tally.compare_samples(expected, found, f'"{name}", parts as the encoder gave them')


def _resume_decoding(subject: Subject, tally: Tally, random: np.random.Generator) -> None:
    name = next(iter(subject.longest(1)))
    tokens = subject.tokens(name)
    cuts = _cuts(tokens)
    if not cuts:
        return
    first, second = _pieces(tokens, [int(random.choice(cuts))])
    session = subject.tokenizer.decoder()
    before = session.push(first)
    twin, heir = session.fork(), subject.tokenizer.decoder()
    heir.restore(session.save())
    for each, how in ((twin, "after fork"), (heir, "after save and restore"), (session, "one cut")):
        if isinstance(each, Decoder):
            found = np.concatenate([before, _decode(each, [second])], axis=1)
            tally.compare_samples(subject.tokenizer.decode(tokens), found, f'"{name}", {how}')
