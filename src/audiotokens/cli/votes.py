"""`audiotokens votes`: what the listeners of blind tests said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from audiotokens.cli.options import json_option
from audiotokens.cli.text import format_table, print_json

if TYPE_CHECKING:
    from audiotokens.evaluation.votes import Discrimination, Preference


@click.command(epilog="Example: audiotokens votes votes-*.json")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@json_option
def votes(files: tuple[str, ...], as_json: bool) -> None:
    """Count the votes of blind tests, pair by pair.

    The files are those that listeners saved from a page of "audiotokens compare --blind".
    """
    from audiotokens.config import to_dict
    from audiotokens.evaluation.votes import read_votes, tally_discriminations, tally_preferences

    ballots = read_votes(files)
    preferences, discriminations = tally_preferences(ballots), tally_discriminations(ballots)
    if as_json:
        print_json(
            {
                "preferences": [to_dict(each) for each in preferences],
                "discriminations": [to_dict(each) for each in discriminations],
            }
        )
        return
    count = sum(len(ballot.votes) for ballot in ballots)
    click.echo(f"{count} votes in {len(ballots)} file{'s' if len(ballots) != 1 else ''}")
    if preferences:
        click.echo(f"\n{_preference_table(preferences)}")
    if discriminations:
        click.echo(f"\n{_discrimination_table(discriminations)}")


def _preference_table(found: list[Preference]) -> str:
    head = [
        "preferred",
        "over",
        "listeners",
        "votes",
        "for",
        "against",
        "same",
        "share",
        "95 % interval",
        "p",
    ]
    rows = [
        [
            each.first,
            each.second,
            *map(str, (each.listeners, each.count, each.first_votes, each.second_votes, each.undecided)),
            "-" if each.share is None else f"{each.share:.0%}",
            _interval(each.low, each.high),
            f"{each.p_value:.3g}",
        ]
        for each in found
    ]
    return format_table(head, rows)


def _discrimination_table(found: list[Discrimination]) -> str:
    head = ["told apart", "from", "listeners", "votes", "right", "accuracy", "95 % interval", "p (guessing)"]
    rows = [
        [
            each.first,
            each.second,
            *map(str, (each.listeners, each.count, each.correct)),
            f"{each.accuracy:.0%}",
            _interval(each.low, each.high),
            f"{each.p_value:.3g}",
        ]
        for each in found
    ]
    return format_table(head, rows)


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.0%} to {high:.0%}"
