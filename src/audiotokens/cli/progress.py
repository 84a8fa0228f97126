"""Progress on stderr: a bar on a terminal, with --progress a line for each step elsewhere."""

from __future__ import annotations

import sys

import click

from audiotokens.cli.text import one_line


class ProgressBar:
    """Shows how far a verb is; a context manager.

    Args:
        wanted: whether --progress was given; without it nothing is shown where stderr is no terminal.
    """

    def __init__(self, wanted: bool = False) -> None:
        self._bar = sys.stderr.isatty()
        self._lines = wanted and not self._bar

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
        if self._bar:
            from rich.markup import escape

            self._rich.update(self._task, completed=done, total=total, description=escape(one_line(label)))
        elif self._lines:
            click.echo(one_line(f"{done}/{total} {label}"), err=True)

    def note(self, label: str) -> None:
        """Show what is being done, where it is not known how much is left."""
        if self._bar:
            from rich.markup import escape

            self._rich.update(self._task, total=None, description=escape(one_line(label)))
        elif self._lines:
            click.echo(one_line(label), err=True)
