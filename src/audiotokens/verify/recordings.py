"""Real recordings to verify with: as much as a budget allows, in pieces that fit into memory."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiotokens.audio import audio_info, read_audio
from audiotokens.errors import AudioTokensError
from audiotokens.spec import Spec
from audiotokens.tokenizer import Tokenizer

PIECE_SECONDS = 30
"""Longer recordings are taken apart into pieces of this length."""


@dataclass(frozen=True)
class Budget:
    """How much real audio each promise is tried on; what is reached first counts.

    Args:
        codes: of all streams and books.
        minutes: of audio.

    Raises:
        AudioTokensError: one of them is not positive.
    """

    codes: int = 2_000_000
    minutes: float = 20.0

    def __post_init__(self) -> None:
        if self.codes < 1 or not self.minutes > 0:
            raise AudioTokensError(
                f"the budget is {self.codes} codes and {self.minutes:g} minutes: give positive numbers"
            )

    def num_samples(self, spec: Spec) -> int:
        """Return how many samples of a tokenizer the budget stands for."""
        codes_per_second = sum(stream.frame_rate * stream.num_codebooks for stream in spec.streams)
        seconds = 60 * self.minutes
        if codes_per_second:
            seconds = min(seconds, float(self.codes / codes_per_second))
        return max(math.ceil(seconds * spec.sample_rate), 1)


def read_recordings(
    tokenizer: Tokenizer, files: Sequence[str | os.PathLike[str]], *, budget: Budget, seed: int = 0
) -> dict[str, np.ndarray]:
    """Read pieces of sound files in a random order until the budget is reached.

    Args:
        tokenizer: at whose rate and channels they are wanted.
        files: sound files of any kind and rate.
        budget: how much to read.
        seed: of the order.

    Returns:
        Name -> float32 `[C, N]` at the tokenizer's rate, N at most 30 s.

    Raises:
        AudioTokensError: no files.
        AudioError: a file is missing, damaged or no audio.
    """
    pieces: list[tuple[str, int, int]] = []
    for file in files:
        info = audio_info(os.fspath(file))
        size = PIECE_SECONDS * info.sample_rate
        pieces += [(os.fspath(file), start, size) for start in range(0, info.num_samples, size)]
    if not pieces:
        raise AudioTokensError("there are no recordings to verify with: give at least one file")
    left = budget.num_samples(tokenizer.spec)
    found: dict[str, np.ndarray] = {}
    for index in np.random.default_rng(seed).permutation(len(pieces)):
        file, start, size = pieces[index]
        waveform, sample_rate = read_audio(file, start=start, frames=size)
        piece = tokenizer.prepare(waveform, sample_rate)[0][:, :left]
        found[f"{file} from {start // sample_rate} s" if start else file] = piece
        left -= piece.shape[1]
        if not left:
            break
    return found
