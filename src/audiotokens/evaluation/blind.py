"""The blind test: one HTML file in which listeners compare two systems at a time without knowing which.

The order of the trials and the sides are drawn from a seed. The names of the systems are on the page, coded
so that nobody reads them by accident; that is no cryptography, and who wants to cheat can.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np

from audiotokens.errors import AudioTokensError
from audiotokens.evaluation.report_audio import CODINGS, Coding, embed, match_loudness
from audiotokens.evaluation.report_players import ORIGINAL, PLAY_ICON, Example
from audiotokens.evaluation.report_shell import MAX_SECONDS, SIZE_LIMIT, assemble, write_page

Form = Literal["preference", "abx"]
Side = Literal["a", "b"]
DEFAULT_TRIALS = 24
_RESERVE = 200_000
_QUESTIONS: dict[Form, str] = {"preference": "Which one sounds better?", "abx": "Is X the same as A or as B?"}
_TASKS: dict[Form, str] = {
    "preference": "In each trial, listen to A and B as often as you like and say which one sounds better.",
    "abx": "In each trial, X is the same as A or the same as B. Listen as often as you like and say which.",
}
_VOTES: dict[Form, tuple[tuple[str, str, str], ...]] = {
    "preference": (("a", "A is better", "1"), ("same", "No difference", "0"), ("b", "B is better", "2")),
    "abx": (("a", "X is A", "1"), ("b", "X is B", "2")),
}
_SIDES: dict[Form, tuple[str, ...]] = {"preference": ("A", "B"), "abx": ("A", "X", "B")}
_KEYS = (
    (("1", "←"), "vote for A"),
    (("2", "→"), "vote for B"),
    (("Space",), "pause, go on"),
    (("Enter",), "next trial"),
)


@dataclass(frozen=True)
class Trial:
    """One question of a blind test.

    Args:
        recording: index of the recording.
        a: label of the system behind side A.
        b: label of the system behind side B.
        x: the side that X repeats, or None where there is no X.
    """

    recording: int
    a: str
    b: str
    x: Side | None


def plan_trials(
    recordings: int, systems: Sequence[str], *, form: Form, trials: int, seed: int
) -> list[Trial]:
    """Draw the trials: every pair of systems equally often (within one), over the recordings in turn.

    Args:
        recordings: number of recordings.
        systems: at least two different labels.
        form: "preference", or "abx" (X repeats A or B).
        trials: so many; a preference test asks about a pair on a recording only once, so it may have fewer.
        seed: equal seeds give equal plans.

    Example:
        >>> [trial] = plan_trials(1, ["one", "two"], form="preference", trials=24, seed=0)
        >>> sorted([trial.a, trial.b])
        ['one', 'two']
    """
    generator = random.Random(seed)
    pairs = list(itertools.combinations(systems, 2))
    orders = [generator.sample(range(recordings), recordings) for _ in pairs]
    drawn: list[tuple[int, tuple[str, str]]] = []
    for turn in range(recordings if form == "preference" else -(-trials // len(pairs))):
        round_ = [(order[turn % recordings], pair) for order, pair in zip(orders, pairs, strict=True)]
        drawn += generator.sample(round_, len(round_))
    planned = []
    for recording, pair in generator.sample(drawn[:trials], min(trials, len(drawn))):
        a, b = generator.sample(pair, 2)
        x: Side | None = generator.choice(("a", "b")) if form == "abx" else None
        planned.append(Trial(recording, a, b, x))
    return planned


def write_blind(
    path: str | Path,
    examples: Sequence[Example],
    *,
    title: str,
    systems: Sequence[str] | None = None,
    form: Form = "preference",
    hidden_reference: bool = False,
    trials: int = DEFAULT_TRIALS,
    seed: int = 0,
) -> Path:
    """Write a blind listening test as one HTML file of at most 15 MB.

    All versions of a recording have equal loudness. Audio is FLAC; where that would pass the limit, Opus at
    about 110, then 60 kbit/s.

    Args:
        path: file to write; its folder must exist.
        examples: recordings with the versions to compare; at most the first 20 s of each are used.
        title: heading of the page; listeners see it, so it should not give the systems away.
        systems: labels of the versions to compare; default: all that every example has.
        form: "preference" (A or B, or no difference) or "abx" (is X the same as A or as B?).
        hidden_reference: compare the original too, under the name "Original": who often prefers another
            system to it does not listen closely.
        trials: so many; a preference test has at most one for each pair and recording.
        seed: of order and sides; part of the page and of every file of votes.

    Returns:
        The path written.

    Raises:
        AudioTokensError: fewer than two systems, an unknown label, or a page that is too large.

    Example:
        >>> write_blind("blind.html", examples, title="Which sounds better?")  # doctest: +SKIP
    """
    if not examples:
        raise AudioTokensError("found no recording, expected at least one for a blind test")
    cut = [example.beginning(MAX_SECONDS) for example in examples]
    chosen = _chosen(cut, systems, hidden_reference)
    if trials < 1:
        raise AudioTokensError(f"{trials} trials, expected at least one")
    planned = plan_trials(len(cut), chosen, form=form, trials=trials, seed=seed)
    coding, clips = _clips(cut, planned)
    names = _clip_names(clips, seed)
    facts = {"title": title, "form": form, "seed": seed}
    plan = {**facts, "trials": [_described(trial, cut[trial.recording], names) for trial in planned]}
    plan["page"] = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
    parts = _parts(title, form, planned, coding)
    parts["data"] = _data(plan, {names[key]: text for key, text in clips.items()}, coding)
    text = assemble("blind.html", ("base.css", "blind.css"), ("sound.js", "blind.js"), parts)
    return write_page(path, text, advice="take fewer recordings, systems or trials", limit=SIZE_LIMIT)


def _chosen(examples: Sequence[Example], systems: Sequence[str] | None, hidden_reference: bool) -> list[str]:
    common = [
        label for label in examples[0].versions if all(label in example.versions for example in examples)
    ]
    chosen = list(dict.fromkeys(common if systems is None else systems))
    for label in chosen:
        if label not in common:
            raise AudioTokensError(f'no version "{label}" in every recording: it has {", ".join(common)}')
    if hidden_reference:
        chosen.append(ORIGINAL)
    if len(chosen) < 2:
        raise AudioTokensError(f"a blind test compares at least two systems, found {len(chosen)}: name more")
    return chosen


def _clips(examples: Sequence[Example], trials: Sequence[Trial]) -> tuple[Coding, dict[tuple[int, str], str]]:
    """Code the versions that are heard, as well as they fit."""
    needed = sorted({(trial.recording, label) for trial in trials for label in (trial.a, trial.b)})
    loud: dict[tuple[int, str], np.ndarray] = {}
    for recording in {recording for recording, _ in needed}:
        example = examples[recording]
        matched = match_loudness([example.original, *example.versions.values()], example.sample_rate)
        loud |= {(recording, label): waveform for label, waveform in zip(example.labels, matched)}
    for coding in CODINGS:
        clips = {key: embed(loud[key], examples[key[0]].sample_rate, coding) for key in needed}
        if sum(map(len, clips.values())) <= SIZE_LIMIT - _RESERVE:
            break
    return coding, clips


def _clip_names(clips: dict[tuple[int, str], str], seed: int) -> dict[tuple[int, str], str]:
    """Name the clips so that neither names nor their order say which version is which."""
    numbers = random.Random(f"clips {seed}").sample(range(16**6), len(clips))
    return {key: f"clip-{number:06x}" for key, number in zip(clips, numbers, strict=True)}


def _described(trial: Trial, example: Example, names: dict[tuple[int, str], str]) -> dict[str, Any]:
    clips = {"a": names[trial.recording, trial.a], "b": names[trial.recording, trial.b]}
    if trial.x is not None:
        clips["x"] = clips[trial.x]
    return {
        "recording": example.name,
        "seconds": round(example.seconds, 4),
        "clips": clips,
        "x": trial.x,
        "systems": [trial.a, trial.b],
    }


def _data(plan: dict[str, Any], clips: dict[str, str], coding: Coding) -> str:
    blocks = [
        f'<script type="{coding.media_type};base64" id="{name}">{text}</script>'
        for name, text in sorted(clips.items())
    ]
    plain = json.dumps(plan, ensure_ascii=False).encode("utf-8")
    coded = base64.b64encode(bytes(byte ^ ((i * 73 + 41) & 255) for i, byte in enumerate(plain)))
    blocks.append(f'<script type="text/plain" id="plan">{coded.decode("ascii")}</script>')
    return "\n".join(blocks)


def _parts(title: str, form: Form, trials: Sequence[Trial], coding: Coding) -> dict[str, str]:
    count = f"{len(trials)} trial{'s' if len(trials) != 1 else ''}"
    facts = (
        f"{count}, as fast or slow as you like. Use headphones if you can.",
        "You hear one recording in versions of equal loudness; switching keeps the position.",
        "Your votes stay in this browser, a reload loses none, and at the end you save them as a file.",
        f"Audio on this page is {coding.name}.",
    )
    return {
        "title": escape(title),
        "form": form,
        "lede": escape(_TASKS[form]),
        "question": escape(_QUESTIONS[form]),
        "facts": "".join(f"<li>{escape(fact)}</li>" for fact in facts),
        "keys": _key_list(form),
        "play": PLAY_ICON,
        "sides": "".join(
            f'<button type="button" data-side="{side.lower()}" aria-pressed="false" '
            f'aria-keyshortcuts="{side}" aria-label="Hear {side}">{side}</button>'
            for side in _SIDES[form]
        ),
        "votes": "".join(
            f'<button type="button" data-vote="{vote}" aria-pressed="false">{escape(text)} '
            f"<kbd>{key}</kbd></button>"
            for vote, text, key in _VOTES[form]
        ),
    }


def _key_list(form: Form) -> str:
    same = ((("0", "↓"), "no difference"),) if form == "preference" else ()
    lines = ((_SIDES[form], "hear a side"), *_KEYS[:2], *same, *_KEYS[2:])
    return "".join(
        f"<li>{' '.join(f'<kbd>{key}</kbd>' for key in keys)} {escape(what)}</li>" for keys, what in lines
    )
