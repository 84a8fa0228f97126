"""`audiotokens verify`: the ten promises of a tokenizer, tried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from audiotokens.cli import paths
from audiotokens.cli.batch import loaded
from audiotokens.cli.options import (
    DEFAULT_MODEL,
    choice,
    device_option,
    engine_option,
    exact_option,
    force_option,
    gathered,
    json_option,
    progress_option,
)
from audiotokens.cli.progress import ProgressBar
from audiotokens.cli.text import print_json
from audiotokens.errors import AudioTokensError

if TYPE_CHECKING:
    from audiotokens.engines import Engine
    from audiotokens.verify import Verification

_BROKEN = 1


@dataclass(frozen=True)
class Recordings:
    """Real audio to verify with, and how much of it."""

    audio: tuple[str, ...]
    minutes: float
    max_codes: int

    def files(self, more: Sequence[str]) -> list[str] | None:
        """Return the files that the option and further arguments stand for; None: made signals.

        Raises:
            AudioTokensError: further arguments without the option, or nothing is found.
        """
        from audiotokens.audio import AUDIO_SUFFIXES

        if more and not self.audio:
            raise AudioTokensError(f"{more[0]} stands after the tokenizer: give audio with --audio")
        found = paths.collect([*self.audio, *more], AUDIO_SUFFIXES)
        return [each.source for each in found] if found else None


@dataclass(frozen=True)
class Writing:
    """Where the findings go."""

    report: str | None
    force: bool
    as_json: bool
    progress: bool


@click.command(epilog="Example: audiotokens verify speech-16k --promise I3 --audio recordings/")
@click.argument("tokenizer", default=DEFAULT_MODEL)
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--promise", "promises", multiple=True, metavar="I1..I10", help="Check only this; can be repeated."
)
@gathered(
    Recordings,
    "recordings",
    click.option(
        "--audio",
        multiple=True,
        metavar="PATH",
        help="Real recordings instead of made signals: file, folder or pattern; can be repeated.",
    ),
    choice("--minutes", default=20.0, text="Audio for each promise, at most."),
    choice("--max-codes", default=2_000_000, text="Codes of that audio, at most."),
)
@click.option("--thorough", is_flag=True, help="Many more chunkings, lengths and files; takes minutes.")
@click.option("--seed", default=0, show_default=True, help="Of the random choices.")
@device_option
@engine_option
@exact_option
@gathered(
    Writing,
    "writing",
    click.option("--report", metavar="FILE", help="Write the verdicts as a page."),
    force_option,
    json_option,
    progress_option,
)
def verify(
    tokenizer: str,
    more: tuple[str, ...],
    promises: tuple[str, ...],
    recordings: Recordings,
    thorough: bool,
    seed: int,
    device: str,
    engine: Engine,
    exact: bool,
    writing: Writing,
) -> None:
    """Check the ten promises of a tokenizer.

    TOKENIZER is a name, a folder or hf:org/name. Without --audio this takes seconds, with much audio minutes.
    With --fast, codes that rounding may flip are counted. The exit code is 1 if a promise is broken.
    """
    from audiotokens import verify as verification
    from audiotokens.config import to_dict

    if writing.report:
        paths.check_free(writing.report, writing.force)
    files = recordings.files(more)
    subject = loaded(tokenizer, exact, device, engine=engine)
    with ProgressBar(writing.progress) as bar:
        found = verification.verify(
            subject,
            promises=promises or None,
            audio=files,
            budget=verification.Budget(recordings.max_codes, recordings.minutes),
            seed=seed,
            thorough=thorough,
            progress=bar.note,
        )
    if writing.report:
        _write_report(writing.report, found)
    if writing.as_json:
        print_json(to_dict(found) | {"ok": found.ok})
    else:
        click.echo(verification.format_verification(found))
    if not found.ok:
        raise click.exceptions.Exit(_BROKEN)


def _write_report(path: str, found: Verification) -> None:
    from audiotokens.evaluation.machine import package_version, processor_name
    from audiotokens.evaluation.report import write_report
    from audiotokens.evaluation.results import Comparison

    versions = {f"version {name}": package_version(name) for name in ("audiotokens", "numpy", "torch")}
    settings = {"machine": processor_name(), "seed": str(found.seed)} | versions
    nothing = Comparison(points=(), rows=(), settings={name: each for name, each in settings.items() if each})
    write_report(path, nothing, [], title=f"The promises of {found.tokenizer}", verifications=[found])
