"""Audio in, tokens out, and back.

Load a tokenizer, encode a waveform to `Tokens`, save them as `.tok`, decode them:

    tokenizer = audiotokens.load("speech-16k")
    tokens = tokenizer.encode(*audiotokens.read_audio("speech.wav"))
    waveform = tokenizer.decode(tokens)

Names are imported when they are first used, and nothing here imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiotokens.audio import read_audio, write_audio
    from audiotokens.checkpoints import import_checkpoint
    from audiotokens.errors import AudioTokensError
    from audiotokens.registry import list_tokenizers, load
    from audiotokens.spec import Spec, StreamSpec
    from audiotokens.tokenfile import read_tokens
    from audiotokens.tokenizer import Tokenizer
    from audiotokens.tokens import CodeStream, Conditioning, Segment, Source, Tokens

__version__ = "0.1.0"

__all__ = [
    "AudioTokensError",
    "CodeStream",
    "Conditioning",
    "Segment",
    "Source",
    "Spec",
    "StreamSpec",
    "Tokenizer",
    "Tokens",
    "__version__",
    "import_checkpoint",
    "list_tokenizers",
    "load",
    "read_audio",
    "read_tokens",
    "write_audio",
]

_HOMES = {
    "AudioTokensError": "errors",
    "CodeStream": "tokens",
    "Conditioning": "tokens",
    "Segment": "tokens",
    "Source": "tokens",
    "Spec": "spec",
    "StreamSpec": "spec",
    "Tokenizer": "tokenizer",
    "Tokens": "tokens",
    "import_checkpoint": "checkpoints",
    "list_tokenizers": "registry",
    "load": "registry",
    "read_audio": "audio",
    "read_tokens": "tokenfile",
    "write_audio": "audio",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
