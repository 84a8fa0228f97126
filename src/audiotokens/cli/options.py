"""Options that several verbs share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from audiotokens.engines import Engine

DEFAULT_MODEL = "speech-16k"

Option = Callable[[Callable[..., None]], Callable[..., None]]


def switch(*names: str, text: str) -> Option:
    """Return an option that takes no value."""
    return click.option(*names, is_flag=True, help=text)


def choice(*names: str, default: object, text: str, kind: click.ParamType[Any] | None = None) -> Option:
    """Return an option whose default is shown."""
    return click.option(*names, default=default, show_default=True, type=kind, help=text)


codebooks_option = click.option(
    "-k",
    "--codebooks",
    type=click.IntRange(min=1),
    help="Number of books; fewer make fewer bits; default: all.",
)
json_option = switch("--json", "as_json", text="Print one JSON document on stdout.")
force_option = switch("-f", "--force", text="Overwrite existing files.")
progress_option = switch("--progress", text="Show progress on stderr even without a terminal.")
device_option = choice("--device", default="cpu", text="Torch device, such as cuda.")
engine_option = choice(
    "--engine",
    default="auto",
    kind=click.Choice(["auto", "torch", "onnx"]),
    text="What runs the tokenizer; auto: torch if it is installed, else ONNX Runtime.",
)
exact_option = choice(
    "--exact/--fast", default=True, text="Codes free of chunk and thread effects, or speed."
)
search_option = choice(
    "--search-width",
    default=1,
    kind=click.IntRange(min=1, max=64),
    text="Candidates kept through the books; more sound better and take longer.",
)
window_option = click.option(
    "--window",
    type=click.FloatRange(min=1, max=86400),
    metavar="SECONDS",
    help="Work in windows of this length, for a tokenizer that reads whole recordings.",
)
jobs_option = choice("-j", "--jobs", default=1, kind=click.IntRange(min=1), text="Files worked on at a time.")
model_option = choice("-m", "--model", default=DEFAULT_MODEL, text="Tokenizer: name, folder or hf:org/name.")
format_option = choice(
    "--format",
    "audio_format",
    default="wav",
    kind=click.Choice(["wav", "flac", "ogg"]),
    text="Kind of the files where --output names none.",
)
output_option = click.option(
    "-o", "--output", metavar="PATH", help="File, folder (inputs are mirrored in it), or - for stdout."
)


def gathered(kind: type, argument: str, *options: Option) -> Option:
    """Give a verb several options that arrive together.

    Args:
        kind: dataclass with one field for each option.
        argument: name of the verb's argument that receives an instance of it.
        options: in the order of the help page.
    """
    names = [field.name for field in dataclasses.fields(kind)]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def call(**values: Any) -> None:
            together = kind(**{name: values.pop(name) for name in names})
            function(**values, **{argument: together})

        declared: Callable[..., None] = call
        for option in reversed(options):
            declared = option(declared)
        return declared

    return decorate


@dataclass(frozen=True)
class BatchOptions:
    """What every verb that works on many files takes.

    Args:
        output: as given; None: beside the inputs.
        force: overwrite existing files.
        jobs: processes.
        device: torch device.
        engine: what runs the tokenizer.
        exact: load the tokenizer in its exact mode.
        as_json: print JSON instead of lines.
        progress: show progress even without a terminal.
    """

    output: str | None = None
    force: bool = False
    jobs: int = 1
    device: str = "cpu"
    engine: Engine = "auto"
    exact: bool = True
    as_json: bool = False
    progress: bool = False


batch_options = gathered(
    BatchOptions,
    "options",
    output_option,
    force_option,
    jobs_option,
    device_option,
    engine_option,
    exact_option,
    json_option,
    progress_option,
)
