"""What all pages share: one complete file whose policy lets only its own script run, and a limit of size."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from audiotokens.errors import AudioTokensError

SIZE_LIMIT = 15_000_000
"""A page never has more bytes than this."""
MAX_EXAMPLES = 12
MAX_SECONDS = 20.0
"""A page holds at most so many recordings, and so many seconds of each."""
FOOTER = "Made by audiotokens. This file is complete in itself: it loads nothing and sends nothing."


def assemble(template: str, styles: Sequence[str], scripts: Sequence[str], parts: Mapping[str, str]) -> str:
    """Return a page from files of the folder `page`.

    Args:
        template: HTML with `$`-names; beside `parts` it may use `style`, `script`, `policy` and `footer`.
        styles: style sheets, joined in this order.
        scripts: scripts, joined in this order into one.
        parts: HTML for the names of the template, already escaped.
    """
    style, script = ("\n".join(map(_resource, names)) for names in (styles, scripts))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_resource(template)).substitute(
        parts, style=style, script=script, policy=policy, footer=escape(FOOTER)
    )


def write_page(path: str | Path, text: str, *, advice: str, limit: int) -> Path:
    """Write a page that is not too large.

    Args:
        path: file to write; its folder must exist.
        text: of the page.
        advice: what to do where it is too large, as in "compare fewer points".
        limit: largest number of bytes.

    Returns:
        The path written.

    Raises:
        AudioTokensError: the page is too large, or the file cannot be written.
    """
    content, path = text.encode("utf-8"), Path(path)
    if len(content) > limit:
        raise AudioTokensError(f"{path.name} has {len(content)} bytes, at most {limit} are allowed: {advice}")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise AudioTokensError(f"{path}: cannot write the page: {error.strerror or error}") from None
    return path


def _resource(name: str) -> str:
    return (files("audiotokens.evaluation") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
