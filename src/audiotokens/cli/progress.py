"""Progress on stderr: a bar on a terminal, with --progress a line for each step elsewhere."""

from __future__ import annotations

import sys

import click

from audiotokens.cli.text import one_line

_LINE_SECONDS = 600


class ProgressBar:
    """Shows how far a verb is; a context manager.

    Args:
        wanted: whether --progress was given; without it nothing is shown where stderr is no terminal.
    """

    def __init__(self, wanted: bool = False) -> None:
        self._bar = sys.stderr.isatty()
        self._lines = wanted and not self._bar
        self._said = 0.0

    def __enter__(self) -> ProgressBar:
        if self._bar:
            from rich.console import Console
            from rich.progress import Progress

            # Lines for a stdout that is no terminal must not be drawn above the bar: they would go to stderr.
            console, shared = Console(stderr=True), sys.stdout.isatty()
            self._rich = Progress(console=console, transient=True, redirect_stdout=shared)
            self._task = self._rich.add_task("")
            self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._rich.stop()

    def update(self, done: int, total: int, label: str = "") -> None:
        """Show that `done` of `total` steps are done, the last of them `label`."""
        self._said = 0.0
        if self._bar:
            from rich.markup import escape

            self._rich.update(self._task, completed=done, total=total, description=escape(one_line(label)))
        elif self._lines:
            click.echo(one_line(f"{done}/{total} {label}"), err=True)

    def within(self, done: int, total: int, seconds: float, length: float | None, label: str) -> None:
        """Show that beside `done` of `total` steps, `seconds` of the next one's `length` are done.

        Lines come every ten minutes of audio, so that a short file has none.
        """
        if self._bar:
            from rich.markup import escape

            part = 0.0 if length is None else min(seconds / length, 1.0)
            place = clock(seconds) if length is None else f"{clock(seconds)} of {clock(length)}"
            described = escape(one_line(f"{label} {place}"))
            self._rich.update(self._task, completed=done + part, total=total, description=described)
        elif self._lines and seconds - self._said >= _LINE_SECONDS:
            self._said = seconds
            whole = "" if length is None else f" of {length:.0f}"
            click.echo(one_line(f"{label}: {seconds:.0f}{whole} s"), err=True)

    def note(self, label: str) -> None:
        """Show what is being done, where it is not known how much is left."""
        if self._bar:
            from rich.markup import escape

            self._rich.update(self._task, total=None, description=escape(one_line(label)))
        elif self._lines:
            click.echo(one_line(label), err=True)


def clock(seconds: float) -> str:
    """Return a length of time as 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
