"""The tree of errors that a user's input can cause.

    AudioTokensError            exit code 2: the input is wrong
    ├── AudioError              a file or waveform is not usable sound
    ├── ConfigError             a configuration has an unknown, missing or ill-typed key
    ├── TokensError             tokens contradict themselves, or the tokenizer they are given to
    ├── TokenizerNotFoundError  no tokenizer has this name, and no folder either
    ├── NotOfferedError         this tokenizer does not offer the operation (streaming, decoding, ...)
    ├── MetricError             a measure is not defined for this pair of signals
    ├── MissingExtraError       an optional dependency is not installed
    ├── TrainingError           a training run cannot go on
    └── DamagedError            exit code 3: stored data were cut or changed
        ├── TokenFileError      a .tok file
        └── CheckpointError     weights, a tokenizer folder, packed data or a training checkpoint

Every message is one line: what was found, what was expected, what to do.
"""

from __future__ import annotations


class AudioTokensError(Exception):
    """Base class of every error that input can cause; catching it catches them all."""

    exit_code = 2


class AudioError(AudioTokensError):
    """A file or waveform is not usable sound."""


class ConfigError(AudioTokensError):
    """A configuration has an unknown, missing or ill-typed key."""


class TokensError(AudioTokensError):
    """Tokens contradict themselves, or the tokenizer they are given to."""


class TokenizerNotFoundError(AudioTokensError):
    """No tokenizer has this name, and there is no such folder."""


class NotOfferedError(AudioTokensError):
    """The tokenizer does not offer the requested operation."""


class MetricError(AudioTokensError):
    """A measure is not defined for the given pair of signals."""


class MissingExtraError(AudioTokensError):
    """An optional dependency is not installed.

    Args:
        purpose: what the dependency is needed for, as the subject of a sentence ("PESQ").
        extra: the extra of this package that brings it ("metrics").
        command: what must be run besides, where an extra cannot bring everything; empty: nothing.
        alternative: another extra that would do instead; empty: none.
    """

    def __init__(self, purpose: str, extra: str, *, command: str = "", alternative: str = "") -> None:
        more = f" and then {command}" if command else ""
        other = f' or "{alternative}"' if alternative else ""
        super().__init__(
            f'{purpose} needs the extra "{extra}"{other}: pip install "audiotokens[{extra}]"{more}'
        )


class TrainingError(AudioTokensError):
    """A training run cannot go on."""


class DamagedError(AudioTokensError):
    """Stored data were cut or changed."""

    exit_code = 3


class TokenFileError(DamagedError):
    """A .tok file was cut or changed."""


class CheckpointError(DamagedError):
    """Weights, a tokenizer folder, packed data or a training checkpoint cannot be used."""


def one_line(error: BaseException) -> str:
    """Return the text of an error as one line; its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
