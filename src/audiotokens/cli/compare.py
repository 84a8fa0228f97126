"""`audiotokens compare`: tokenizers measured on real audio."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import numpy as np

from audiotokens.cli import paths
from audiotokens.cli.batch import loaded
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
    from audiotokens.evaluation.report import Example
    from audiotokens.evaluation.results import Comparison
    from audiotokens.evaluation.systems import Named
    from audiotokens.tokenizer import Tokenizer

_COUNT = click.IntRange(min=1)
_MOST_PAGE_RATE = 48000


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

    report: str | None
    examples: int
    output: str | None
    force: bool
    as_json: bool
    markdown: bool
    progress: bool


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
    click.option("--metrics", metavar="LIST", help="Ids of measures, separated by commas; default: all."),
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
    Writing,
    "writing",
    click.option("--report", metavar="FILE", help="Write a page with players, pictures and plots."),
    choice("--examples", default=6, kind=click.IntRange(min=0), text="Recordings to hear on that page."),
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

    for path in filter(None, (writing.report, writing.output)):
        paths.check_free(path, writing.force)
    files = selection.files([argument for argument in arguments if not _is_tokenizer(argument)])
    names = dict.fromkeys([*models, *filter(_is_tokenizer, arguments)] or [DEFAULT_MODEL])
    tokenizers = [Named(name, exact, device, search_width) for name in names]
    found = _measure(tokenizers, files, measuring, beside, writing.progress)
    if writing.output:
        found.write_json(writing.output)
    if writing.report:
        _write_report(writing, found, [loaded(n, exact, device, search_width) for n in names], files)
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


def _finish(found: Comparison) -> None:
    failed = {record.file: record.reason for record in found.records if record.status == "failed"}
    for file, reason in failed.items():
        click.echo(f"error: {reason if file in reason else f'{file}: {reason}'}", err=True)
    if failed:
        total = len({record.file for record in found.records})
        click.echo(f"error: {len(failed)} of {total} files failed", err=True)
        raise click.exceptions.Exit(AudioTokensError.exit_code)


def _write_report(
    writing: Writing, found: Comparison, tokenizers: Sequence[Tokenizer], files: Sequence[Path]
) -> None:
    from audiotokens.evaluation.report import write_report

    first = tokenizers[0]
    own = [point for point in found.points if point.tokenizer == first.spec.name]
    books = sorted({point.num_codebooks for point in own if point.kind == "tokenizer"})
    good = [file for file in files if not any(file.as_posix().endswith(name) for name in found.failed_files)]
    examples = [_example(file, first, books) for file in spread(good, writing.examples)]
    title = " and ".join(tokenizer.spec.name for tokenizer in tokenizers)
    notes = [f"The players let you hear {first.spec.name}."] if len(tokenizers) > 1 else []
    write_report(str(writing.report), found, examples, title=title, notes=notes)


def _example(file: Path, tokenizer: Tokenizer, books: Sequence[int]) -> Example:
    from audiotokens.audio import read_audio, resample
    from audiotokens.evaluation.report import Example

    waveform, sample_rate = read_audio(file)
    page_rate = min(sample_rate, _MOST_PAGE_RATE)
    original = resample(waveform.mean(0, keepdims=True), sample_rate, page_rate)[0]
    versions = {}
    for number in books:
        tokens = tokenizer.encode(waveform, sample_rate, num_codebooks=number)
        decoded = tokenizer.decode(tokens).mean(0, keepdims=True)
        version = resample(decoded, tokenizer.spec.output_sample_rate, page_rate)[0, : original.size]
        label = f"{tokenizer.spec.bitrate(number) / 1000:.3g} kbit/s"
        versions[label] = np.pad(version, (0, original.size - version.size))
    return Example(file.name, page_rate, original, versions, tokens)
