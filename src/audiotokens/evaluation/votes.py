"""Votes of blind tests: read the files that listeners saved, count, and say how sure the counts are.

Intervals and p-values treat votes as independent. Votes of one listener are not quite, so a few listeners
with many votes each make the intervals look a little too narrow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Literal

from audiotokens import config
from audiotokens.errors import AudioTokensError, DamagedError

FORMAT = "audiotokens votes 1"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Vote:
    """One answered trial.

    Args:
        trial: index in the order of the page, from 0.
        recording: its name.
        a: system behind side A.
        b: system behind side B.
        x: the side that X repeated; None in a preference test.
        vote: the side preferred, or the side that X was taken for; "same": no difference was heard.
        seconds: listened to each side.
        plays: how often each side was started or switched to.

    Raises:
        ValueError: a and b are one system, or "same" stands in a trial with X.
    """

    trial: int
    recording: str
    a: str
    b: str
    x: Literal["a", "b"] | None
    vote: Literal["a", "b", "same"]
    seconds: dict[str, float]
    plays: dict[str, int]

    def __post_init__(self) -> None:
        if self.a == self.b:
            raise ValueError(f'found the system "{self.a}" on both sides, expected two systems')
        if self.x is not None and self.vote == "same":
            raise ValueError('found the vote "same" in a trial with X, expected "a" or "b"')


@dataclass(frozen=True)
class Ballot:
    """One file of votes: what one listener said on one page.

    Args:
        format: always "audiotokens votes 1".
        page: identifier of the page; equal pages have equal trials.
        title: heading of the page.
        form: "preference" or "abx".
        seed: from which order and sides were drawn.
        trials: number of trials of the page.
        listener: drawn by the browser.
        name: as typed by the listener; may be empty.
        begun: time of the start, ISO 8601.
        ended: time of the last vote, or None where the listener stopped earlier.
        votes: in order.

    Raises:
        ValueError: a trial is answered twice or does not exist, or X is missing or too much.
    """

    format: Literal["audiotokens votes 1"]
    page: str
    title: str
    form: Literal["preference", "abx"]
    seed: int
    trials: int
    listener: str
    name: str
    begun: str
    ended: str | None
    votes: tuple[Vote, ...]

    def __post_init__(self) -> None:
        answered = [vote.trial for vote in self.votes]
        if len(set(answered)) < len(answered) or not set(answered) <= set(range(self.trials)):
            raise ValueError(f"found votes for the trials {answered}, expected each of {self.trials} once")
        if any((vote.x is not None) != (self.form == "abx") for vote in self.votes):
            raise ValueError(f'found trials that do not fit a test of the form "{self.form}"')


@dataclass(frozen=True)
class Preference:
    """What all listeners preferred of two systems.

    Args:
        first: the system that got more votes (of equally many, the alphabetically first).
        second: the other one.
        listeners: number of listeners.
        count: number of votes.
        first_votes: votes for `first`.
        second_votes: votes for `second`.
        undecided: votes for "no difference".
        share: `first_votes` over all decided votes; None without any.
        low: lower end of its 95 % interval (Wilson score), or None.
        high: upper end.
        p_value: probability of a split at least so uneven if both were equally good (two-sided exact sign
            test).
    """

    first: str
    second: str
    listeners: int
    count: int
    first_votes: int
    second_votes: int
    undecided: int
    share: float | None
    low: float | None
    high: float | None
    p_value: float


@dataclass(frozen=True)
class Discrimination:
    """Whether all listeners together can tell two systems apart (ABX).

    Args:
        first, second: the systems, in alphabetical order.
        listeners: number of listeners.
        count: number of votes.
        correct: number of right ones.
        accuracy: `correct / count`.
        low: lower end of its 95 % interval (Wilson score).
        high: upper end.
        p_value: probability of at least so many right by guessing (one-sided exact binomial test).
    """

    first: str
    second: str
    listeners: int
    count: int
    correct: int
    accuracy: float
    low: float
    high: float
    p_value: float


def read_votes(paths: Sequence[str | Path]) -> list[Ballot]:
    """Read the files that blind tests saved.

    Raises:
        AudioTokensError: a file cannot be read, or two files are of one listener on one page.
        DamagedError: a file is not what a blind test saves.

    Example:
        >>> ballots = read_votes(["votes-1.json", "votes-2.json"])  # doctest: +SKIP
    """
    ballots: dict[tuple[str, str], tuple[str | Path, Ballot]] = {}
    for path in paths:
        ballot = _read(path)
        key = (ballot.page, ballot.listener)
        if key in ballots:
            raise AudioTokensError(
                f"{path} and {ballots[key][0]} hold votes of one listener on one page: give the later file"
            )
        ballots[key] = (path, ballot)
    return [ballot for _, ballot in ballots.values()]


def tally_preferences(ballots: Sequence[Ballot]) -> list[Preference]:
    """Count the votes of preference tests, pair by pair; the pairs are sorted by name."""
    found = []
    for pair, votes in _by_pair(ballots, "preference").items():
        counts = [sum(_winner(vote) == system for _, vote in votes) for system in pair]
        (first, most), (second, fewest) = sorted(zip(pair, counts, strict=True), key=lambda item: -item[1])
        share = low = high = None
        if most:
            share = most / (most + fewest)
            low, high = wilson_interval(most, most + fewest)
        listeners = len({listener for listener, _ in votes})
        rest = len(votes) - most - fewest
        p_value = min(1.0, 2 * binomial_tail(most, most + fewest))
        found.append(
            Preference(first, second, listeners, len(votes), most, fewest, rest, share, low, high, p_value)
        )
    return found


def tally_discriminations(ballots: Sequence[Ballot]) -> list[Discrimination]:
    """Count the votes of ABX tests, pair by pair; the pairs are sorted by name."""
    found = []
    for (first, second), votes in _by_pair(ballots, "abx").items():
        correct, count = sum(vote.vote == vote.x for _, vote in votes), len(votes)
        low, high = wilson_interval(correct, count)
        listeners = len({listener for listener, _ in votes})
        p_value = binomial_tail(correct, count)
        found.append(
            Discrimination(first, second, listeners, count, correct, correct / count, low, high, p_value)
        )
    return found


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (E. B. Wilson, JASA 22, 1927).

    Args:
        successes: out of `count`.
        count: at least one.

    Example:
        >>> [round(end, 3) for end in wilson_interval(8, 10)]
        [0.49, 0.943]
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, spread = successes / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def binomial_tail(successes: int, count: int) -> float:
    """Return the probability of at least so many heads in `count` tosses of a fair coin.

    Example:
        >>> binomial_tail(9, 10)
        0.0107421875
    """
    favourable = sum(math.comb(count, k) for k in range(successes, count + 1))
    return favourable / (1 << count)


def _read(path: str | Path) -> Ballot:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise AudioTokensError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise DamagedError(f"{path}: not text, expected the JSON that a blind test saves") from None
    try:
        return config.from_dict(Ballot, json.loads(text), where="votes")
    except (ValueError, RecursionError, AudioTokensError) as error:
        raise DamagedError(f"{path}: not a file that a blind test saved: {error}") from None


def _by_pair(ballots: Sequence[Ballot], form: str) -> dict[tuple[str, str], list[tuple[str, Vote]]]:
    pairs: dict[tuple[str, str], list[tuple[str, Vote]]] = {}
    for ballot in ballots:
        for vote in ballot.votes if ballot.form == form else ():
            first, second = sorted((vote.a, vote.b))
            pairs.setdefault((first, second), []).append((ballot.listener, vote))
    return dict(sorted(pairs.items()))


def _winner(vote: Vote) -> str | None:
    return {"a": vote.a, "b": vote.b}.get(vote.vote)
