"""`audiotokens compare`: tokenizers measured on real audio."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from audiotokens.cli import paths
from audiotokens.cli.manifest import Condition, select, spread
from audiotokens.cli.options import (
    DEFAULT_MODEL,
    choice,
    device_option,
    exact_option,
    force_option,
    gathered,
    json_option,
    progress_option,
    search_option,
    switch,
)
from audiotokens.cli.progress import ProgressBar
from audiotokens.cli.text import print_json
from audiotokens.errors import AudioTokensError

if TYPE_CHECKING:
    from audiotokens.evaluation.results import Comparison
    from audiotokens.evaluation.systems import Named, System
    from audiotokens.verify import Verification

_COUNT = click.IntRange(min=1)


class _Numbers(click.ParamType[tuple[int, ...]]):
    """A list such as 1,2,3,6."""

    name = "LIST"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        numbers = str(value).split(",")
        if not all(number.strip().isdecimal() and int(number) for number in numbers):
            self.fail(f'"{value}" is not a list of numbers such as 1,2,3,6', param, ctx)
        return tuple(map(int, numbers))


@dataclass(frozen=True)
class Selection:
    """Which files of a data folder, or of the given ones."""

    data: str | None
    split: str | None
    filters: tuple[str, ...]
    limit: int | None

    def files(self, audio: Sequence[str]) -> list[Path]:
        """Return the files that `audio`, or else the data folder, stands for.

        Raises:
            AudioTokensError: none of the two or both, or nothing is found.
        """
        from audiotokens.audio import AUDIO_SUFFIXES

        if bool(audio) == bool(self.data):
            raise AudioTokensError(
                "give audio files or folders, or a data folder with --data: one of the two"
            )
        conditions = [Condition.parse(text) for text in self.filters]
        if self.split is not None:
            conditions.append(Condition("split", self.split))
        if self.data:
            return select(self.data, conditions, self.limit)
        if conditions:
            raise AudioTokensError(
                "--split and --filter choose rows of a manifest: give its folder with --data"
            )
        return spread([Path(each.source) for each in paths.collect(audio, AUDIO_SUFFIXES)], self.limit)


@dataclass(frozen=True)
class Measuring:
    """How to measure; the fields are arguments of `audiotokens.evaluation.compare.compare`."""

    codebooks: tuple[int, ...] | None
    metrics: str | None
    domain: str | None
    by: Literal["domain", "corpus"]
    threads: int
    jobs: int
    seed: int
    cache: str | None
    no_cache: bool


@dataclass(frozen=True)
class Beside:
    """What stands beside the tokenizers."""

    anchors: str | None
    calibration: bool
    lyra: str | None
    unquantized: bool
    against: str | None

    @property
    def names(self) -> list[str]:
        """The anchors, as `get_anchors` takes them."""
        # "all" is what can run here: the comparison says what is left out
        given = ["available" if name == "all" else name for name in _listed(self.anchors)]
        return [*given, *(["calibration"] if self.calibration else [])]


@dataclass(frozen=True)
class Writing:
    """Where the findings go."""

    output: str | None
    force: bool
    as_json: bool
    markdown: bool
    progress: bool


@dataclass(frozen=True)
class Pages:
    """Pages to look at and to listen to."""

    report: str | None
    verify: bool
    examples: int
    hear: str | None
    blind: str | None
    blind_form: Literal["preference", "abx"]
    hidden_reference: bool


@click.command(
    epilog="Example: audiotokens compare speech-16k --data data --filter 'corpus=Libri*' -k 3,6,12"
)
@click.argument("arguments", nargs=-1, metavar="[TOKENIZER|AUDIO]...")
@click.option(
    "-m", "--model", "--tokenizer", "models", multiple=True, metavar="TOKENIZER", help="Can be repeated."
)
@gathered(
    Measuring,
    "measuring",
    click.option(
        "-k", "--codebooks", type=_Numbers(), help="Numbers of books, as 1,2,3,6; default: up to six."
    ),
    click.option(
        "--metrics", metavar="LIST", help="Ids of measures, or default, judges, all; separated by commas."
    ),
    click.option("--domain", help="Of files that no manifest knows: speech, music or sound."),
    choice("--by", default="domain", kind=click.Choice(["domain", "corpus"]), text="What gets a table."),
    choice("--threads", default=1, kind=_COUNT, text="Threads of each process."),
    choice("-j", "--jobs", default=1, kind=_COUNT, text="Processes that code and measure."),
    choice("--seed", default=0, text="Of the bootstrap."),
    click.option("--cache", metavar="FOLDER", help="Remembers what was found; default: the user's cache."),
    switch("--no-cache", text="Measure everything anew and remember nothing."),
)
@gathered(
    Beside,
    "beside",
    click.option(
        "--anchors", metavar="LIST", help="Codecs to stand beside, as opus,lyra-3.2k; all: what can run here."
    ),
    switch("--calibration", text="Treatments of the original with known effect."),
    click.option("--lyra", metavar="FOLDER", help="With the three .tflite files of Lyra V2."),
    switch("--unquantized", text="Latents straight into the decoder, too."),
    click.option(
        "--against", metavar="NAME[:BOOKS]", help="A table of differences to this tokenizer or anchor."
    ),
)
@gathered(
    Selection,
    "selection",
    click.option("--data", metavar="FOLDER", help="Folder with a manifest.csv, or a manifest."),
    click.option("--split", help="Rows of the manifest to take, such as test."),
    click.option(
        "--filter", "filters", multiple=True, metavar="COLUMN=PATTERN", help="Rows to take; also !=."
    ),
    click.option("--limit", type=_COUNT, help="At most so many files, evenly spread."),
)
@gathered(
    Pages,
    "pages",
    click.option("--report", metavar="FILE", help="Write a page with players, pictures and plots."),
    switch("--verify", text="Try the ten promises on the audio; the report shows what was found."),
    choice("--examples", default=6, kind=click.IntRange(min=0), text="Recordings to hear on a page."),
    click.option(
        "--hear", metavar="LIST", help="What to hear, as speech-16k:6,opus-9k; default: a choice of all."
    ),
    click.option("--blind", metavar="FILE", help="Write a blind listening test; see the verb votes."),
    choice(
        "--blind-form", default="preference", kind=click.Choice(["preference", "abx"]), text="What it asks."
    ),
    switch("--hidden-reference", text="Let the blind test compare the original, too."),
)
@gathered(
    Writing,
    "writing",
    click.option("-o", "--output", metavar="FILE", help="Write everything that was found as JSON."),
    force_option,
    json_option,
    switch("--markdown", text="Print the tables as Markdown."),
    progress_option,
)
@device_option
@exact_option
@search_option
def compare(
    arguments: tuple[str, ...],
    models: tuple[str, ...],
    measuring: Measuring,
    beside: Beside,
    selection: Selection,
    pages: Pages,
    writing: Writing,
    device: str,
    exact: bool,
    search_width: int,
) -> None:
    """Measure tokenizers on real audio, at each number of books.

    Every figure comes from tokens that were written, read back and decoded. Give tokenizers and audio files
    or folders in any order, or the audio with --data. Bit rates are those of the files written. What was
    found is remembered: a run that was stopped goes on from there.
    """
    from audiotokens.evaluation.systems import Named
    from audiotokens.evaluation.tables import format_table

    if pages.verify and not pages.report:
        raise AudioTokensError("--verify fills a part of the report: give --report FILE, or call verify")
    for path in filter(None, (pages.report, pages.blind, writing.output)):
        paths.check_free(path, writing.force)
    files = selection.files([argument for argument in arguments if not _is_tokenizer(argument)])
    names = dict.fromkeys([*models, *filter(_is_tokenizer, arguments)] or [DEFAULT_MODEL])
    tokenizers = [Named(name, exact, device, search_width) for name in names]
    found = _measure(tokenizers, files, measuring, beside, writing.progress)
    if writing.output:
        found.write_json(writing.output)
    if pages.report or pages.blind:
        systems = _systems(tokenizers, files, measuring, beside)
        verified = _verify(tokenizers, files, measuring.seed, writing.progress) if pages.verify else []
        _write_pages(pages, found, systems, files, verified, measuring.seed)
    if writing.as_json:
        print_json(found.to_dict())
    else:
        click.echo(format_table(found, markdown=writing.markdown))
    _finish(found)


def _is_tokenizer(argument: str) -> bool:
    from audiotokens.registry import known_names

    folder = os.path.isfile(os.path.join(argument, "config.json"))
    return folder or argument.startswith("hf:") or argument in known_names()


def _listed(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",")] if text else []


def _measure(
    tokenizers: Sequence[Named],
    files: Sequence[Path],
    measuring: Measuring,
    beside: Beside,
    progress: bool,
) -> Comparison:
    from audiotokens.evaluation.cache import default_folder
    from audiotokens.evaluation.compare import compare as compare_on

    with ProgressBar(progress) as bar:
        return compare_on(
            tokenizers,
            files,
            num_codebooks=measuring.codebooks,
            metrics=_listed(measuring.metrics) or None,
            anchors=beside.names,
            lyra=beside.lyra,
            unquantized=beside.unquantized,
            against=beside.against,
            domain=measuring.domain,
            by=measuring.by,
            threads=measuring.threads,
            jobs=measuring.jobs,
            cache=None if measuring.no_cache else measuring.cache or default_folder(),
            seed=measuring.seed,
            progress=bar.update,
        )


def _verify(
    tokenizers: Sequence[Named], files: Sequence[Path], seed: int, progress: bool
) -> list[Verification]:
    from audiotokens.verify import verify

    with ProgressBar(progress) as bar:
        return [verify(each.load(), audio=files, seed=seed, progress=bar.note) for each in tokenizers]


def _finish(found: Comparison) -> None:
    failed = {record.file: record.reason for record in found.records if record.status == "failed"}
    for file, reason in failed.items():
        click.echo(f"error: {reason if file in reason else f'{file}: {reason}'}", err=True)
    if failed:
        total = len({record.file for record in found.records})
        click.echo(f"error: {len(failed)} of {total} files failed", err=True)
        raise click.exceptions.Exit(AudioTokensError.exit_code)


def _systems(
    tokenizers: Sequence[Named], files: Sequence[Path], measuring: Measuring, beside: Beside
) -> list[System]:
    from audiotokens.evaluation.choosing import choose_anchors, choose_tokenizers

    chosen = choose_tokenizers(tokenizers, measuring.codebooks, beside.unquantized)
    return [*chosen, *choose_anchors(beside.names, chosen, lyra=beside.lyra, files=files)[0]]


def _write_pages(
    pages: Pages,
    found: Comparison,
    systems: Sequence[System],
    files: Sequence[Path],
    verifications: Sequence[Verification],
    seed: int,
) -> None:
    from audiotokens.evaluation.blind import write_blind
    from audiotokens.evaluation.report import write_report
    from audiotokens.evaluation.report_examples import choose_heard, choose_rivals, make_examples

    hear = _listed(pages.hear)
    heard = choose_heard(found, systems, names=hear)
    good = [file for file in files if not any(file.as_posix().endswith(name) for name in found.failed_files)]
    examples = make_examples(spread(good, pages.examples), heard)
    if pages.report:
        names = dict.fromkeys(point.tokenizer for point in found.points if point.kind == "tokenizer")
        title = " and ".join(names)
        write_report(pages.report, found, examples, title=title, verifications=verifications)
    if pages.blind:
        abx = pages.blind_form == "abx"
        write_blind(
            pages.blind,
            examples,
            title="Can you tell them apart?" if abx else "Which one sounds better?",
            systems=[one.label for one in heard] if hear else choose_rivals(found, heard),
            form=pages.blind_form,
            hidden_reference=pages.hidden_reference,
            seed=seed,
        )
