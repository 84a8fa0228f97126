"""The page of a blind test: its plan, what it hides, and what a browser does with it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotokens.errors import AudioTokensError
from audiotokens.evaluation import blind
from audiotokens.evaluation.blind import Form, plan_trials, write_blind
from audiotokens.evaluation.loudness import loudness
from audiotokens.evaluation.report_players import Example
from audiotokens.evaluation.votes import read_votes, tally_discriminations, tally_preferences
from audiotokens.streams import CodeStream
from audiotokens.tokens import Tokens

RATE = 16000
NAMES = ("fine <system>", "rough & ready", "third")


def example(name: str, seconds: float = 2.0, names: tuple[str, ...] = NAMES) -> Example:
    samples = round(seconds * RATE)
    generator = np.random.default_rng(len(name))
    original = generator.normal(0, 0.05, samples).astype(np.float32)
    versions = {label: original / (2 + i) for i, label in enumerate(names)}
    stream = CodeStream(np.zeros((1, -(-samples // 320)), np.int64), (16,), Fraction(50))
    return Example(name, RATE, original, versions, Tokens({"codes": stream}, samples, RATE, 1, "f", "0" * 64))


EXAMPLES = [example("one.wav"), example("second </script>.wav", 3.0)]


def decoded_plan(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="text/plain" id="plan">([^<]*)</script>', text)
    assert found is not None
    coded = base64.b64decode(found[1], validate=True)
    plan: dict[str, Any] = json.loads(bytes(byte ^ ((i * 73 + 41) & 255) for i, byte in enumerate(coded)))
    return plan


def clips(text: str) -> dict[str, bytes]:
    found = re.findall(r'<script type="audio/[^"]+" id="(clip-[0-9a-f]{6})">([^<]*)</script>', text)
    return {name: base64.b64decode(data, validate=True) for name, data in found}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("blind") / "blind.html"
    write_blind(path, EXAMPLES, title="A <title>", hidden_reference=True, seed=5)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("form", "trials", "planned"), [("preference", 99, 12), ("preference", 7, 7)])
def test_pairs_and_recordings_come_equally_often(form: Form, trials: int, planned: int) -> None:
    found = plan_trials(4, NAMES, form=form, trials=trials, seed=1)
    assert len(found) == planned == len({(t.recording, frozenset((t.a, t.b))) for t in found})
    pairs = Counter(frozenset((trial.a, trial.b)) for trial in found)
    assert len(pairs) == 3 and max(pairs.values()) - min(pairs.values()) <= 1
    assert {trial.x for trial in found} == {None}


def test_order_and_sides_are_random_but_repeatable() -> None:
    plans = [plan_trials(20, ["p", "q"], form="abx", trials=200, seed=seed) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
    assert len(plans[0]) == 200 and Counter(t.recording for t in plans[0]) == dict.fromkeys(range(20), 10)
    # of 200 fair draws between 70 and 130 are one side in all but 2 of 100,000 seeds
    assert 70 < sum(trial.a == "p" for trial in plans[0]) < 130
    assert 70 < sum(trial.x == "a" for trial in plans[0]) < 130


def test_page_runs_only_its_own_script_and_loads_nothing(text: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None and policy[1].startswith(
        "default-src 'none'; img-src data:; style-src 'sha256-"
    )
    assert "unsafe" not in policy[1] and "connect-src" not in policy[1]
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)
    assert len(re.findall(r"<script>", text)) == 1 and not re.search(r"<[^>]+ (style|on\w+)=", text)


def test_names_stand_on_the_page_only_in_the_coded_plan(text: str) -> None:
    assert "A &lt;title&gt;" in text and "A <title>" not in text
    for name in (*NAMES, "Original", "one.wav", "&amp; ready", "fine &lt;"):
        assert name not in text
    plan = decoded_plan(text)
    assert {name for trial in plan["trials"] for name in trial["systems"]} == {*NAMES, "Original"}
    assert {trial["recording"] for trial in plan["trials"]} == {"one.wav", "second </script>.wav"}
    assert (plan["seed"], plan["form"], len(plan["trials"])) == (5, "preference", 12)
    assert re.fullmatch("[0-9a-f]{16}", plan["page"])


def test_clips_are_what_the_plan_says_and_their_order_says_nothing(text: str) -> None:
    plan, audio = decoded_plan(text), clips(text)
    assert len(audio) == 2 * 4 and list(audio) == sorted(audio)
    behind = {}
    for trial in plan["trials"]:
        for side, system in zip("ab", trial["systems"], strict=True):
            behind[trial["clips"][side]] = (trial["recording"], system)
    assert len(behind) == len(audio) == len(set(behind.values()))
    levels = []
    for name, data in audio.items():
        waveform, _ = soundfile.read(io.BytesIO(data))
        assert len(waveform) == RATE * (2 if behind[name][0] == "one.wav" else 3)
        levels.append(loudness(waveform, RATE))
    assert np.ptp(np.array(levels, float)) < 0.1
    order = [behind[name] for name in audio]
    assert order != sorted(order) and order != sorted(
        order, key=lambda each: [*NAMES, "Original"].index(each[1])
    )


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blind.html"
    with pytest.raises(AudioTokensError, match='no version "fourth" in every recording: it has fine'):
        write_blind(path, EXAMPLES, title="t", systems=["third", "fourth"])
    with pytest.raises(AudioTokensError, match="at least two systems, found 1"):
        write_blind(path, EXAMPLES, title="t", systems=["third"])
    with pytest.raises(AudioTokensError, match="found no recording"):
        write_blind(path, [], title="t")
    with pytest.raises(AudioTokensError, match="0 trials, expected at least one"):
        write_blind(path, EXAMPLES, title="t", trials=0)
    some = [EXAMPLES[0], replace(EXAMPLES[1], versions={"third": EXAMPLES[1].original})]
    with pytest.raises(AudioTokensError, match="found 1"):
        write_blind(path, some, title="t")
    assert not path.exists()
    write_blind(path, some, title="t", hidden_reference=True)
    assert len(clips(path.read_text(encoding="utf-8"))) == 4


def test_audio_is_coded_until_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_blind(tmp_path / "b.html", EXAMPLES, title="t")
    size = sum(map(len, clips(path.read_text(encoding="utf-8")).values())) * 4 // 3
    monkeypatch.setattr(blind, "SIZE_LIMIT", blind._RESERVE + size - 1000)
    assert "Opus at about 110" in write_blind(path, EXAMPLES, title="t").read_text(encoding="utf-8")
    monkeypatch.setattr(blind, "SIZE_LIMIT", 1000)
    with pytest.raises(AudioTokensError, match="at most 1000 are allowed: take fewer recordings"):
        write_blind(path, EXAMPLES, title="t")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, browse: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("browser")
    preference = write_blind(folder / "p.html", EXAMPLES, title="t", systems=NAMES[:2], trials=4, seed=2)
    abx = write_blind(folder / "x.html", EXAMPLES, title="t", form="abx", systems=NAMES[:2], trials=3, seed=2)
    plan = decoded_plan(preference.read_text(encoding="utf-8"))
    return {**browse("blind_browser.js", preference, abx), "plan": plan}


@pytest.mark.slow
@pytest.mark.browser
def test_browser_finds_no_errors_no_requests_and_no_overflow(seen: dict[str, Any]) -> None:
    assert seen["log"] == []
    assert all(layout["page"] <= layout["window"] and not layout["nameless"] for layout in seen["layouts"])


@pytest.mark.slow
@pytest.mark.browser
def test_keys_play_and_vote(seen: dict[str, Any]) -> None:
    keys = seen["keys"]
    assert (keys["begin"]["screen"], keys["started"]["screen"]) == ("begin", "test")
    assert keys["early"]["hint"] == "Listen first: A, B." and keys["half"]["hint"] == "Listen first: B."
    assert keys["half"]["vote"] is None
    assert keys["a"]["side"] == "a" and keys["a"]["gains"] == pytest.approx([1, 0], abs=0.01)
    assert keys["b"]["side"] == "b" and keys["b"]["gains"] == pytest.approx([0, 1], abs=0.01)
    assert 0.2 < keys["b"]["position"] - keys["a"]["position"] < 1.5
    assert (keys["voted"]["vote"], keys["changed"]["vote"]) == ("a", "b")
    assert keys["paused"]["side"] is None and keys["resumed"]["side"] == "b"
    assert 0 <= keys["resumed"]["position"] - keys["paused"]["position"] < 0.6
    assert keys["next"]["count"] == "Trial 2 of 2" and keys["next"]["vote"] is None


@pytest.mark.slow
@pytest.mark.browser
def test_nothing_visible_names_a_system_before_the_end(seen: dict[str, Any]) -> None:
    for name in NAMES[:2]:
        assert name not in seen["keys"]["text"] and name in seen["keys"]["revealed"]


@pytest.mark.slow
@pytest.mark.browser
def test_votes_outlive_a_reload_and_are_saved(seen: dict[str, Any], tmp_path: Path) -> None:
    keys, plan = seen["keys"], seen["plan"]
    assert (keys["reloaded"]["screen"], keys["reloaded"]["vote"]) == ("test", "same")
    assert len(json.loads(keys["partial"])["votes"]) == 1 and json.loads(keys["partial"])["ended"] is None
    assert keys["end"]["screen"] == "end"
    path = tmp_path / "votes.json"
    path.write_text(keys["file"], encoding="utf-8")
    [ballot] = read_votes([path])
    assert (ballot.page, ballot.seed, ballot.trials) == (plan["page"], 2, 2) and ballot.ended is not None
    assert [vote.vote for vote in ballot.votes] == ["b", "same"]
    assert [[vote.a, vote.b] for vote in ballot.votes] == [trial["systems"] for trial in plan["trials"]]
    assert ballot.votes[0].plays == {"a": 1, "b": 2} and 0.3 < ballot.votes[0].seconds["a"] < 1.5
    [found] = tally_preferences([ballot])
    assert found.first == plan["trials"][0]["systems"][1] and (found.count, found.undecided) == (2, 1)


@pytest.mark.slow
@pytest.mark.browser
def test_a_phone_takes_an_abx_test_by_touch(seen: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "votes.json"
    path.write_text(seen["abx"], encoding="utf-8")
    [ballot] = read_votes([path])
    assert ballot.form == "abx" and [vote.vote for vote in ballot.votes] == ["b"] * 3
    [found] = tally_discriminations([ballot])
    assert found.correct == sum(vote.x == "b" for vote in ballot.votes) and found.count == 3
