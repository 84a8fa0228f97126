"""Where the package keeps what it has made or fetched."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ENVIRONMENT = "AUDIOTOKENS_CACHE"
"""Environment variable that names the folder of all caches."""


def cache_folder() -> Path:
    """Return the folder that AUDIOTOKENS_CACHE names, else the one in the user's cache of this platform."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "audiotokens"
