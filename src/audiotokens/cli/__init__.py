"""The command line: a dictionary of verbs, each in a file of its own that is imported when it is called.

Exit codes: 0, 2 (bad input), 3 (damaged data), 1 (anything else, with a trace). Errors are one line.
"""

from __future__ import annotations

import errno
import importlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from audiotokens.cli.text import one_line
from audiotokens.errors import AudioTokensError, MissingExtraError

VERBS = {
    "encode": ("encode:encode", "Turn audio into token files."),
    "decode": ("decode:decode", "Turn token files back into audio."),
    "reconstruct": ("reconstruct:reconstruct", "Pass audio through tokens and back, to hear what they keep."),
    "info": ("info:info", "Show what a token file, a tokenizer or an audio file holds."),
    "import": ("import_:import_verb", "Turn a published checkpoint into a tokenizer folder."),
    "list": ("list_:list_verb", "List the tokenizers that can be loaded by name."),
    "catalog": ("catalog:catalog", "Show the tokenizers of two surveys, and what is done with each here."),
    "compare": ("compare:compare", "Measure tokenizers on real audio, at each number of books."),
    "votes": ("votes:votes", "Count the votes of blind tests, pair by pair."),
    "verify": ("verify:verify", "Check the ten promises of a tokenizer."),
    "latency": ("latency:latency", "Tell how late a tokenizer is, declared and measured."),
    "stream": ("stream:stream", "Pass live sound through tokens and back."),
    "export": ("export:export", "Write a tokenizer as graphs that run without torch."),
    "train": ("train:train", "Train a tokenizer from a recipe."),
    "pack": ("pack:pack", "Pack audio into one file for training."),
    "bench": ("bench:bench", "Compare the parts of tokenizers in studies."),
    "demo": ("demo:demo", "Hear, see and measure audio tokens: writes one page."),
}
"""Verb -> ("module:attribute" below `audiotokens.cli`, one line of help)."""


def fail(message: str, exit_code: int) -> NoReturn:
    """Print one line on stderr and end the command."""
    click.echo(f"error: {one_line(message)}", err=True)
    raise click.exceptions.Exit(exit_code)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn every error into the line and the exit code that the house promises."""
    bad_input = AudioTokensError.exit_code
    try:
        yield
    except (click.exceptions.NoArgsIsHelpError, click.exceptions.Exit, click.Abort):
        raise
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "audiotokens"
        fail(f"{error.format_message()} (see {command} --help)", bad_input)
    except click.ClickException as error:
        fail(error.format_message(), bad_input)
    except AudioTokensError as error:
        fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        fail(str(MissingExtraError("This command", "torch")), bad_input)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        fail(f"{error.filename or 'input or output'}: {error.strerror or error}", bad_input)
    except Exception as error:
        traceback.print_exc()
        fail(f"unexpected {type(error).__name__}: {error}: please report this with the trace above", 1)


class Verbs(click.Group):
    """A group whose commands are imported only when they are called; its help is static."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the help page."""
        return [*VERBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs with their static help, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options that stand before the verb."""
        with one_line_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        with one_line_errors():
            return super().invoke(ctx)


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from audiotokens import __version__

        click.echo(f"audiotokens {__version__}")
        ctx.exit()


@click.command(
    "audiotokens",
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: audiotokens reconstruct speech.wav -k 6. Each command shows its own with --help.",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show it."
)
def main() -> None:
    """Audio in, tokens out, and back."""
