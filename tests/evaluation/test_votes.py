"""Votes of blind tests: what is counted, how sure it is, and which files are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from audiotokens.cli import main
from audiotokens.errors import AudioTokensError, DamagedError
from audiotokens.evaluation.votes import (
    Discrimination,
    Preference,
    binomial_tail,
    read_votes,
    tally_discriminations,
    tally_preferences,
    wilson_interval,
)


def vote(trial: int, choice: str, *, x: str | None = None, sides: Sequence[str] = "pq") -> dict[str, Any]:
    heard = {"a": 1.5, "b": 2, **({"x": 0.4} if x else {})}
    facts = {"trial": trial, "recording": "r.flac", "a": sides[0], "b": sides[1], "x": x, "vote": choice}
    return {**facts, "seconds": heard, "plays": dict.fromkeys(heard, 1)}


def ballot(votes: Sequence[dict[str, Any]], *, listener: str = "one", **changed: Any) -> dict[str, Any]:
    form = "abx" if votes and votes[0]["x"] else "preference"
    facts = {"format": "audiotokens votes 1", "page": "0123", "title": "t", "form": form, "seed": 3}
    times = {"begun": "2026-01-01T00:00:00.000Z", "ended": None}
    return {**facts, "trials": 12, "listener": listener, "name": "", **times, "votes": votes, **changed}


def saved(folder: Path, *ballots: dict[str, Any]) -> list[Path]:
    paths = [folder / f"votes-{i}.json" for i in range(len(ballots))]
    for path, one in zip(paths, ballots, strict=True):
        path.write_text(json.dumps(one), encoding="utf-8")
    return paths


def test_preferences_are_counted_whatever_the_side(tmp_path: Path) -> None:
    first = [vote(0, "a"), vote(1, "b", sides="qp"), vote(2, "same"), vote(3, "a", sides="zp")]
    second = [vote(0, "a"), vote(1, "a", sides="qp")]
    paths = saved(tmp_path, ballot(first), ballot(second, listener="two"))
    pair, other = tally_preferences(read_votes(paths))
    # p won three of four decided votes: the tail of 3 of 4 is 5/16, twice that is 0.625
    assert pair == Preference("p", "q", 2, 5, 3, 1, 1, 0.75, pair.low, pair.high, 0.625)
    assert (pair.low, pair.high) == (pytest.approx(0.300642, abs=1e-6), pytest.approx(0.954413, abs=1e-6))
    assert (other.first, other.second, other.count, other.p_value) == ("z", "p", 1, 1.0)


def test_undecided_votes_alone_give_no_share(tmp_path: Path) -> None:
    [only] = tally_preferences(read_votes(saved(tmp_path, ballot([vote(0, "same")]))))
    assert only == Preference("p", "q", 1, 1, 0, 0, 1, None, None, None, 1.0)


def test_discriminations_are_counted(tmp_path: Path) -> None:
    votes = [vote(i, "a" if i < 9 else "b", x="a", sides="qp") for i in range(10)]
    [found] = tally_discriminations(read_votes(saved(tmp_path, ballot(votes))))
    assert found == Discrimination("p", "q", 1, 10, 9, 0.9, found.low, found.high, 11 / 1024)
    assert (found.low, found.high) == (pytest.approx(0.595850, abs=1e-6), pytest.approx(0.982124, abs=1e-6))


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(0, 10, 0.0, 0.277533), (10, 10, 0.722467, 1.0), (50, 100, 0.403832, 0.596168), (1, 1, 0.206549, 1.0)],
)
def test_wilson_interval(successes: int, count: int, low: float, high: float) -> None:
    # z = 1.959964, z^2 = 3.841459: for none of n the upper end is z^2 / (n + z^2)
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=1e-6)


def test_binomial_tail() -> None:
    assert [binomial_tail(k, 3) for k in range(5)] == [1.0, 7 / 8, 4 / 8, 1 / 8, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a file that a blind test saved: Expecting"),
        ("[1]", "not a file that a blind test saved: votes: found list"),
        (json.dumps({**ballot([]), "extra": 1}), 'unknown key "extra"'),
        (json.dumps({**ballot([]), "format": "audiotokens votes 9"}), "found 'audiotokens votes 9'"),
        (json.dumps(ballot([vote(0, "c")])), r"votes\[0\].vote: found 'c', expected one of 'a', 'b', 'same'"),
        (json.dumps(ballot([vote(0, "a"), vote(0, "b")])), r"found votes for the trials \[0, 0\]"),
        (json.dumps(ballot([vote(12, "a")])), "expected each of 12 once"),
        (json.dumps(ballot([vote(0, "same", x="a")])), 'found the vote "same" in a trial with X'),
        (json.dumps(ballot([vote(0, "a", sides="pp")])), 'found the system "p" on both sides'),
        (json.dumps(ballot([vote(0, "a", x="a")], form="preference")), 'do not fit a test of the form "pref'),
        ("\udc00", "not text"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "votes.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DamagedError, match=message) as caught:
        read_votes([path])
    assert "\n" not in str(caught.value) and "votes.json" in str(caught.value)


def test_one_listener_is_counted_once(tmp_path: Path) -> None:
    paths = saved(tmp_path, ballot([vote(0, "a")]), ballot([vote(0, "a"), vote(1, "b")]))
    with pytest.raises(AudioTokensError, match="hold votes of one listener on one page: give the later file"):
        read_votes(paths)
    with pytest.raises(AudioTokensError, match=r"none.json: cannot be read: No such file"):
        read_votes([tmp_path / "none.json"])


def test_the_verb_prints_and_fails(tmp_path: Path) -> None:
    votes = [vote(i, "a", x="a" if i else "b") for i in range(4)]
    paths = saved(tmp_path, ballot([vote(0, "a")]), ballot(votes, listener="two"))
    shown = CliRunner().invoke(main, ["votes", *map(str, paths)]).output.splitlines()
    assert shown[0] == "5 votes in 2 files"
    assert shown[3].split() == ["p", "q", "1", "1", "1", "0", "0", "100%", "21%", "to", "100%", "1"]
    assert shown[6].split() == ["p", "q", "1", "4", "3", "75%", "30%", "to", "95%", "0.312"]
    printed = json.loads(CliRunner().invoke(main, ["votes", "--json", str(paths[1])]).output)
    assert printed["preferences"] == [] and printed["discriminations"][0]["correct"] == 3
    paths[0].write_text("{}")
    failed = CliRunner().invoke(main, ["votes", str(paths[0])])
    assert failed.exit_code == 3 and failed.stderr.count("\n") == 1
    assert 'the key "format" is missing' in failed.stderr
