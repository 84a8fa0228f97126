"""An unfinished encoding on disk, to go on from after an interruption."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from audiotokens.audio.decoders import AudioPath
from audiotokens.errors import DamagedError, TokensError
from audiotokens.tokenizer import Tokenizer

_HEAD_BYTES = 1 << 16
_FORMAT = "audiotokens-partial 1"


@dataclass(frozen=True)
class Saved:
    """How far an encoding is.

    Args:
        position: samples at the tokenizer's rate that the session has taken.
        packed: the tokens so far as `.tok` files, in their order.
        session: state of the streaming encoder.
    """

    position: int
    packed: list[bytes]
    session: bytes

    def digest(self) -> str:
        """Return a hash of everything."""
        return hashlib.sha256(b"".join([str(self.position).encode(), *self.packed, self.session])).hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """A file that keeps an encoding while it is unfinished.

    It is replaced after every minute of audio, later after every sixtieth of what is done, always whole.

    Args:
        path: of this file.
        resume: go on from the file if it is there; False: begin anew, and overwrite it.
        settings: what else decides the codes, in words, such as "exact".
        facts: what is encoded, and how; `of` fills it in.

    Example:
        >>> checkpoint = Checkpoint("lecture.tok.partial", resume=True)
        >>> tokens = encode_file(tokenizer, "lecture.flac", checkpoint=checkpoint)  # doctest: +SKIP
        >>> checkpoint.remove()
    """

    path: AudioPath
    resume: bool = False
    settings: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def of(self, source: AudioPath, tokenizer: Tokenizer, num_codebooks: int) -> Checkpoint:
        """Return the checkpoint of this file, tokenizer and number of books.

        Raises:
            TokensError: the file is a pipe or cannot be read.
        """
        return replace(
            self,
            facts={
                "file": _identity(source),
                "tokenizer": f"{tokenizer.spec.name} {tokenizer.fingerprint}",
                "books": str(num_codebooks),
                "settings": self.settings,
                # Without exact mode codes depend on where the pieces end.
                "piece": f"{tokenizer.block_seconds} s",
            },
        )

    def load(self) -> Saved | None:
        """Return how far the encoding is; None: nothing is there, or it shall begin anew.

        Raises:
            DamagedError: the file cannot be read.
            TokensError: it is of another recording or tokenizer, or of other settings.
        """
        if not self.resume or not os.path.lexists(self.path):
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="numpy") as file:
                metadata = file.metadata() or {}
                self._check(metadata)
                packed = [file.get_tensor(f"tokens.{i}").tobytes() for i in range(int(metadata["parts"]))]
                session = file.get_tensor("session").tobytes()
                position = int(metadata["position"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DamagedError(f"{self._name} cannot be read ({error}): delete it, or begin anew") from None
        saved = Saved(position, packed, session)
        if saved.digest() != metadata.get("digest"):
            raise DamagedError(f"{self._name} was changed: delete it, or begin anew")
        return saved

    def save(self, saved: Saved) -> None:
        """Replace the file.

        Raises:
            TokensError: it cannot be written.
        """
        from safetensors.numpy import save

        tensors = {f"tokens.{i}": np.frombuffer(part, np.uint8) for i, part in enumerate(saved.packed)}
        tensors["session"] = np.frombuffer(saved.session, np.uint8)
        metadata = {
            "format": _FORMAT,
            "facts": json.dumps(dict(self.facts)),
            "position": str(saved.position),
            "parts": str(len(saved.packed)),
            "digest": saved.digest(),
        }
        temporary = f"{os.fsdecode(self.path)}.{secrets.token_hex(4)}.part"
        try:
            with open(temporary, "xb") as file:
                file.write(save(tensors, metadata))
            os.replace(temporary, self.path)
        except OSError as error:
            raise TokensError(
                f"cannot write {self._name}: {error.strerror}; make room, or choose another place"
            ) from None
        finally:
            with contextlib.suppress(OSError):
                os.remove(temporary)

    def remove(self) -> None:
        """Delete the file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.path)

    @property
    def _name(self) -> str:
        return f'"{os.fsdecode(self.path)}"'

    def _check(self, metadata: Mapping[str, str]) -> None:
        if metadata.get("format") != _FORMAT:
            raise DamagedError(f"{self._name} is no unfinished encoding: delete it, or choose another output")
        found = json.loads(metadata["facts"])
        others = [name for name, value in self.facts.items() if found.get(name) != value]
        if others:
            values = ", ".join(f"{name} {found.get(name)!r}, now {self.facts[name]!r}" for name in others)
            raise TokensError(f"{self._name} was begun otherwise ({values}): begin anew without resuming")


def _identity(path: AudioPath) -> str:
    """Size, time of change and hash of the first bytes of a file."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not os.path.isfile(path):
                raise TokensError(
                    f"{os.fsdecode(path)} is a pipe or device, whose encoding cannot be resumed"
                )
            head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
    except OSError as error:
        raise TokensError(f"cannot read {os.fsdecode(path)}: {error.strerror}; check the path") from None
    return f"{status.st_size} bytes of {status.st_mtime_ns} {head[:16]}"
