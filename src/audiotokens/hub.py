"""The Hugging Face hub: its cache on this machine, and what it takes to fetch from it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from audiotokens.errors import MissingExtraError, TokenizerNotFoundError, one_line

FOLDER_FILES: tuple[str, ...] = ("config.json", "model.safetensors", "README.md")
"""Files of a tokenizer folder."""
GRAPH_FILES: tuple[str, ...] = ("graphs.json", "graphs.data", "encoder.onnx", "decoder.onnx")
GRAPH_FILES += ("encoder.*.onnx", "decoder.*.onnx", "quantizer.*.onnx")
"""Files of exported graphs beside them, as patterns: the hub also holds large graphs of other makers."""
_REFERENCE = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_YES = {"1", "on", "true", "yes"}


def offline() -> bool:
    """Return whether AUDIOTOKENS_OFFLINE or HF_HUB_OFFLINE forbids the network."""
    names = ("AUDIOTOKENS_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(name, "").lower() in _YES for name in names)


def cache_folder() -> Path:
    """Return the hub's own cache: HF_HUB_CACHE, else HF_HOME/hub, else in the user's cache."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface" / "hub"


def snapshots(repository: str, cache: Path) -> Iterator[Path]:
    """Yield the revisions of a repository in a cache of the hub: first that of "main", then the newest."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    try:
        found = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
    except OSError:
        return
    try:
        main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        main = ""
    yield from sorted(found, key=lambda path: (path.name != main, -path.stat().st_mtime))


def file_request(repository: str, name: str) -> tuple[str, dict[str, str]]:
    """Return the address of a file on the hub, and the headers of whoever is logged in there.

    HF_ENDPOINT names another server than huggingface.co. Public files need no login; huggingface_hub, where
    it is installed, knows of one.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    address = f"{endpoint}/{repository}/resolve/main/{quote(name)}"
    try:
        from huggingface_hub import get_token
    except ModuleNotFoundError:
        return address, {}
    token = get_token()
    return address, {"Authorization": f"Bearer {token}"} if token else {}


def hub_folder(reference: str, *, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the local folder of a tokenizer on the Hugging Face hub; fetches it if the cache lacks it.

    Args:
        reference: "hf:organisation/name" with an optional "@revision" (branch, tag or commit).
        cache_dir: the hub's cache folder; default: huggingface_hub's own.

    Raises:
        TokenizerNotFoundError: the reference is ill-formed or unknown, or the hub cannot be reached.
        MissingExtraError: huggingface_hub is not installed.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise TokenizerNotFoundError(f'"{reference}" is not of the form "hf:organisation/name[@revision]"')
    try:
        from huggingface_hub import constants, errors, snapshot_download
    except ModuleNotFoundError:
        raise MissingExtraError("Loading from the Hugging Face hub", "hub") from None
    repository, revision = match["repository"], match["revision"] or "main"
    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache,
            allow_patterns=[*FOLDER_FILES, *GRAPH_FILES],
            local_files_only=offline(),
        )
    except errors.HFValidationError as error:
        raise TokenizerNotFoundError(f'"{reference}": {one_line(error)}') from None
    except (errors.RevisionNotFoundError, errors.RepositoryNotFoundError):
        raise TokenizerNotFoundError(
            f'the hub has no "{repository}" at revision "{revision}", or access needs a login (hf auth login)'
        ) from None
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError):
        raise TokenizerNotFoundError(
            f'"{reference}" is not in the cache and the hub cannot be reached: put config.json and '
            f"model.safetensors of {repository} into a folder and load that folder, or copy "
            f"models--{repository.replace('/', '--')} from another machine's cache into {cache}"
        ) from None
    return Path(folder)
