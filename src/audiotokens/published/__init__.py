"""Checkpoints that others have published: one record each, plain data.

What the authors' files, papers and pages say; what could not be checked is named in `Origin.unverified`.
`originals` finds or fetches the files, and `registry.load` imports them.
"""

from __future__ import annotations

from typing import Any

from audiotokens.errors import TokenizerNotFoundError
from audiotokens.published.record import File, Origin, Published
from audiotokens.published.table import published

__all__ = ["File", "Origin", "Published", "facts", "published"]


def facts(name: str) -> dict[str, Any]:
    """Return what is known of a published checkpoint without its files, ready for JSON.

    Raises:
        TokenizerNotFoundError: there is no record of that name.

    Example:
        >>> facts("mimi")["weights_license"]
        'CC-BY-4.0'
    """
    if name not in published:
        raise TokenizerNotFoundError(f'no published checkpoint is called "{name}": see "audiotokens list"')
    record = published[name]
    return {
        "architecture": record.architecture,
        "variant": record.variant,
        "sample_rate": record.sample_rate,
        "channels": record.channels,
        "streams": {
            stream.name: {
                "frame_rate": str(stream.frame_rate),
                "codebook_sizes": list(stream.codebook_sizes),
            }
            for stream in record.streams
        },
        "bitrate": record.bitrate,
        "published_bitrates": list(record.bitrates),
        "parameters": record.parameters,
        "weights_license": record.license,
        "noncommercial": record.noncommercial,
        "paper": f"https://arxiv.org/abs/{record.paper}",
        "training_data": record.training_data or "not stated",
        "notes": list(record.notes),
        "origins": [_origin_facts(origin) for origin in record.origins],
    }


def _origin_facts(origin: Origin) -> dict[str, Any]:
    return {
        "page": origin.page,
        "files": {file.name: file.sha256 or "SHA-256 not verified" for file in origin.files},
        "not_verified": origin.unverified,
    }
