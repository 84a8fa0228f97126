r"""Codes as lines of JSON, each written as soon as its frames are final.

The first line names the tokenizer, every other one holds the next frames:

    {"tokenizer": "speech-16k-stream", "fingerprint": "..."}
    {"num_samples": 320, "codes": {"codes": [[17], [4], [250]]}}

`codes` are, by stream, K lists (one for each book) of T codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from audiotokens.errors import TokensError
from audiotokens.tokenizer import Tokenizer
from audiotokens.tokens import CodeStream, Tokens

_LONGEST_LINE = 1 << 24


class CodeLines:
    """Write tokens as lines.

    Args:
        file: open for writing bytes.
        tokenizer: that makes the tokens.
    """

    def __init__(self, file: IO[bytes], tokenizer: Tokenizer) -> None:
        self._file = file
        self._write({"tokenizer": tokenizer.spec.name, "fingerprint": tokenizer.fingerprint})

    def __call__(self, tokens: Tokens) -> None:
        """Write and flush one line; nothing for tokens of no samples."""
        if tokens.num_samples:
            codes = {name: stream.codes.tolist() for name, stream in tokens.streams.items()}
            self._write({"num_samples": tokens.num_samples, "codes": codes})

    def _write(self, values: dict[str, Any]) -> None:
        self._file.write(json.dumps(values, separators=(",", ":")).encode() + b"\n")
        self._file.flush()


class LineReader:
    """Tokens of a stream of lines, each as soon as its line is there.

    Args:
        file: open for reading bytes.
        tokenizer: that shall decode them.
    """

    def __init__(self, file: IO[bytes], tokenizer: Tokenizer) -> None:
        self._file, self._tokenizer = file, tokenizer

    def __iter__(self) -> Iterator[Tokens]:
        """Give the tokens of each line.

        Raises:
            TokensError: a line is not as `CodeLines` writes it, or another tokenizer's.
        """
        number = 0
        while line := self._file.readline(_LONGEST_LINE):
            number += 1
            try:
                values = json.loads(line)
                if number == 1:
                    self._check(values["tokenizer"], values["fingerprint"])
                else:
                    yield self._tokens(values["num_samples"], values["codes"])
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                raise TokensError(
                    f"line {number} of the codes is not as audiotokens stream --encode writes it: "
                    "expected a line that names the tokenizer, then lines of codes"
                ) from None

    def _check(self, name: object, fingerprint: object) -> None:
        own = self._tokenizer
        if fingerprint != own.fingerprint:
            raise TokensError(
                f'the codes were made by "{name}" ({str(fingerprint)[:8]}), this is "{own.spec.name}" '
                f"({own.fingerprint[:8]}): give the tokenizer that made them"
            )

    def _tokens(self, num_samples: int, codes: dict[str, list[list[int]]]) -> Tokens:
        streams = {}
        for stream in self._tokenizer.spec.streams:
            if stream.name in codes:
                array = np.array(codes[stream.name])
                if array.ndim != 2 or array.dtype.kind != "i":
                    raise ValueError
                sizes = stream.codebook_sizes[: len(array)]
                streams[stream.name] = CodeStream(array.astype(np.int64), sizes, stream.frame_rate)
        return self._tokenizer.make_tokens(streams, {}, num_samples, None)
