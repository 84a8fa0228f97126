"""One file from the web: checked, and under its final name only when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from audiotokens.cache import ENVIRONMENT
from audiotokens.errors import AudioTokensError, CheckpointError, one_line

TIMEOUT = 30.0
"""Seconds without a byte after which a server counts as out of reach."""
_PIECE = 1 << 20


class UnreachableError(AudioTokensError):
    """The server cannot be reached, or does not have the file."""


def download(
    address: str, target: Path, sha256: str = "", size: int | None = None, headers: Mapping[str, str] = {}
) -> None:
    """Fetch a file, showing a bar where stderr is a terminal.

    Args:
        address: http or https.
        target: where it goes, by renaming a temporary file beside it.
        sha256: first digits of the expected hash, or all of them; empty: not checked.
        size: expected number of bytes; None: what the server says.
        headers: sent to the server of the address, and not to those that it points to.

    Raises:
        UnreachableError: see there.
        CheckpointError: what came was cut, or is another file.
        AudioTokensError: the folder cannot be written.
    """
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with _opened(address, headers) as response:
            announced = response.headers.get("Content-Length")
            expected = size if size is not None else int(announced) if announced else None
            digest = hashlib.sha256()
            received = _receive(response, partial, digest.update, expected, address)
        if expected is not None and received != expected:
            raise CheckpointError(f"{address}: {received} bytes came, expected {expected}: try again")
        if not digest.hexdigest().startswith(sha256):
            raise CheckpointError(f"{address} {wrong_hash(digest.hexdigest(), sha256)}: it has changed")
        os.replace(partial, target)
    except OSError as error:
        raise AudioTokensError(
            f"{target.parent}: cannot write the cache ({one_line(error)}): "
            f"let {ENVIRONMENT} name another folder"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def wrong_hash(found: str, expected: str) -> str:
    """Return the second half of a sentence about a file with another SHA-256."""
    return f"has the SHA-256 {found[: len(expected)]}, expected {expected}"


def _opened(address: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "audiotokens"})
        if request.type not in ("http", "https"):
            raise ValueError(f"{request.type} is not offered")
        for name, value in headers.items():
            request.add_unredirected_header(name, value)
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnreachableError(_reason(address, error)) from None
    return response


def _receive(
    response: http.client.HTTPResponse,
    partial: Path,
    digest: Callable[[bytes], None],
    expected: int | None,
    address: str,
) -> int:
    partial.parent.mkdir(parents=True, exist_ok=True)
    received = 0
    with partial.open("wb") as file, _bar(address.rpartition("/")[2], expected) as show:
        while True:
            try:
                piece = response.read(_PIECE)
            except (OSError, http.client.HTTPException) as error:
                raise UnreachableError(f"{_reason(address, error)}, after {received} bytes") from None
            if not piece:
                return received
            received += len(piece)
            digest(piece)
            file.write(piece)
            show(received)


@contextlib.contextmanager
def _bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield lambda received: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(label, total=total)
        yield lambda received: progress.update(task, completed=received)


def _reason(address: str, error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{address}: HTTP {error.code}"
    inner = getattr(error, "reason", None)
    cause = inner if isinstance(inner, BaseException) else error
    text = getattr(cause, "strerror", None) or one_line(cause)
    return f"{urllib.parse.urlsplit(address).netloc or address}: {text}"
