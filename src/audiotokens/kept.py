"""What sessions of every engine share: counters, forks, and saved states that know where they belong."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np

from audiotokens.errors import TokensError, one_line


class Marked(Protocol):
    """What has a fingerprint."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over configuration and weights."""


class KeptSession:
    """Counters of what went in and came out, and a state of arrays that is saved with them.

    Args:
        model: the tokenizer or vocoder; its fingerprint is asked for when a state is saved or restored.
    """

    def __init__(self, model: Marked) -> None:
        self._model = model
        self._counters = {"received": 0, "returned": 0, "finished": 0}

    def fork(self) -> Self:
        """Return an independent copy; states are values, which nobody changes in place."""
        twin = copy.copy(self)
        twin._counters = dict(self._counters)
        return twin

    def _check_open(self) -> None:
        if self._counters["finished"]:
            raise TokensError("the session is finished; start another one")

    def _packed(self, tensors: Mapping[str, np.ndarray], more: Mapping[str, int] | None = None) -> bytes:
        """Pack arrays with the counters, and more numbers, as a safetensors file."""
        from safetensors.numpy import save

        numbers = {name: str(value) for name, value in {**self._counters, **(more or {})}.items()}
        origin = {"session": type(self).__name__, "fingerprint": self._model.fingerprint}
        data: bytes = save(dict(tensors), {**numbers, **origin})
        return data

    def _unpacked(self, state: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
        """Return what `_packed` was given, its numbers as text.

        Raises:
            TokensError: the state is damaged, or of another session.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(state)
            size = int.from_bytes(state[:8], "little")
            metadata: dict[str, str] = json.loads(state[8 : 8 + size])["__metadata__"]
        except (SafetensorError, ValueError, KeyError) as error:
            raise TokensError(f"the saved state cannot be read ({one_line(error)}); save it again") from None
        expected = (type(self).__name__, self._model.fingerprint)
        found = (metadata.get("session"), metadata.get("fingerprint"))
        if found != expected:
            raise TokensError(
                f"the saved state is of {found[0]} {str(found[1])[:8]}, "
                f"this is {expected[0]} {expected[1][:8]}: restore it where it came from"
            )
        return metadata, tensors
