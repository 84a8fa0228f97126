"""Whether the words survive: word errors of a recogniser (PocketSphinx, en-us) on the reconstruction.

The recogniser is small and errs often on originals too. What counts is therefore what the reconstruction
adds: errors against the recogniser's own transcript of the original, or more errors against the true one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from audiotokens.errors import MetricError, MissingExtraError
from audiotokens.evaluation.measures.packages import RATE, remembered, require_rate
from audiotokens.evaluation.metrics import Measured, Metric, require_pair

LONGEST = 30.0
"""Seconds above which a recording is cut, at a quiet place of the original, before it is recognised."""
_SECONDS = 0.5
_QUIET = 0.2
_LEAST_INSERTIONS = 10


class WordErrors(NamedTuple):
    """The edits of a cheapest alignment of words, and the length of the reference."""

    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def total(self) -> int:
        """Number of edits."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def hallucinated(self) -> bool:
        """Whether words were invented: ten or more, and more than were said."""
        return self.insertions >= _LEAST_INSERTIONS and self.insertions > self.words


def normalized_words(text: str) -> list[str]:
    """Return the words of a text in lower case; all but letters, digits and inner apostrophes part words.

    Example:
        >>> normalized_words("MISTER Quilter's manner, (or 2) 'twas")
        ['mister', "quilter's", 'manner', 'or', '2', 'twas']
    """
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("’", "'"))


def word_errors(reference: Sequence[str], output: Sequence[str]) -> WordErrors:
    """Count the fewest edits from one sequence of words to another (Levenshtein; substitutions first).

    Example:
        >>> word_errors("the cat sat".split(), "a cat sat down".split())
        WordErrors(substitutions=1, deletions=0, insertions=1, words=3)
    """
    # row[j]: (edits, substitutions, deletions, insertions) from the words so far to the first j of the output
    row = [(j, 0, 0, j) for j in range(len(output) + 1)]
    for i, word in enumerate(reference, 1):
        above, row = row, [(i, 0, i, 0)]
        for j, other in enumerate(output, 1):
            if word == other:
                row.append(above[j - 1])
                continue
            (a, b, c, d), (e, f, g, h), (k, m, n, o) = above[j - 1], above[j], row[j - 1]
            choices = (a + 1, b + 1, c, d), (e + 1, f, g + 1, h), (k + 1, m, n, o + 1)
            row.append(min(choices, key=lambda choice: choice[0]))
    return WordErrors(*row[-1][1:], words=len(reference))


def quiet_cuts(signal: np.ndarray, sample_rate: int) -> list[int]:
    """Return where a signal `[T]` is cut so that no part is longer than 30 s.

    Each cut lies in the quietest 0.2 s of the second half of the 30 s before which it must come.
    """
    longest, window = round(LONGEST * sample_rate), round(_QUIET * sample_rate)
    energy = np.concatenate([[0.0], np.cumsum(signal.astype(np.float64) ** 2)])
    cuts = [0]
    while len(signal) - cuts[-1] > longest:
        first, last = cuts[-1] + longest // 2, cuts[-1] + longest
        power = energy[first + window : last + 1] - energy[first : last + 1 - window]
        cuts.append(first + int(np.argmin(power)) + window // 2)
    return cuts[1:]


@remembered
def recognised(signal: np.ndarray) -> str:
    """Return what PocketSphinx hears in `[T]` at 16 kHz, as one utterance.

    Raises:
        MissingExtraError: the extra "asr" is not installed.
    """
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw((np.clip(signal, -1, 1) * 32767).round().astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp()
    return str(heard.hypstr) if heard else ""


def word_error_difference(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> Measured:
    """Return the word error rate, in percent, against what is heard in the original (dWER).

    Raises:
        MetricError: a signal is shorter than 0.5 s or silent, no word is heard in the original, or the
            recogniser hallucinates.
        MissingExtraError: the extra "asr" is not installed.
    """
    original, heard = _heard(reference, output, sample_rate)
    errors = _checked(word_errors(original, heard))
    return Measured(100 * errors.total / errors.words, errors.words)


def word_error_increase(
    reference: np.ndarray, output: np.ndarray, sample_rate: int, transcript: str
) -> Measured:
    """Return the word error rate of the reconstruction minus that of the original, in points.

    Raises:
        MetricError: a signal is shorter than 0.5 s or silent, the transcript has no words, or the recogniser
            hallucinates.
        MissingExtraError: the extra "asr" is not installed.
    """
    spoken = normalized_words(transcript)
    original, heard = (
        _checked(word_errors(spoken, words)) for words in _heard(reference, output, sample_rate)
    )
    return Measured(100 * (heard.total - original.total) / len(spoken), len(spoken))


def _heard(reference: np.ndarray, output: np.ndarray, sample_rate: int) -> tuple[list[str], list[str]]:
    require_rate(sample_rate)
    _decoder()
    require_pair(reference, output, sample_rate, _SECONDS)
    cuts = quiet_cuts(reference, sample_rate)
    texts = (" ".join(map(recognised, np.split(signal, cuts))) for signal in (reference, output))
    original, heard = map(normalized_words, texts)
    return original, heard


def _checked(errors: WordErrors) -> WordErrors:
    if not errors.words:
        raise MetricError("there are no words to compare with")
    if errors.hallucinated:
        found = f"{errors.insertions} words were invented where {errors.words} were said"
        raise MetricError(f"{found}: the recogniser hallucinates, its rate means nothing")
    return errors


@cache
def _decoder() -> Any:
    try:
        from pocketsphinx import Decoder
    except ImportError:
        raise MissingExtraError("Speech recognition", "asr") from None
    return Decoder(samprate=RATE, loglevel="FATAL")


_HOW = (
    "PocketSphinx en-us with its language model, 16 kHz, cut above 30 s; lower case, punctuation removed; "
    "corpus rate: files count by their words; no value where ten or more words and more than were said are "
    "invented"
)


def _metric(
    name: str, title: str, definition: str, function: Callable[..., Measured], unit: str, *, spoken: bool
) -> Metric:
    return Metric(
        id=name,
        title=title,
        definition=f"{definition}; {_HOW}",
        function=function,
        larger_is_better=False,
        unit=unit,
        domains=("speech",),
        extra="asr",
        best=0.0,
        decimals=1,
        packages=("pocketsphinx",),
        group="judges",
        needs_transcript=spoken,
    )


METRICS = (
    _metric(
        "dwer/pocketsphinx",
        "dWER",
        "word error rate against the same recogniser's transcript of the original",
        word_error_difference,
        "%",
        spoken=False,
    ),
    _metric(
        "wer/pocketsphinx-difference",
        "WER difference",
        "word error rate of the reconstruction minus that of the original, in points",
        word_error_increase,
        "points",
        spoken=True,
    ),
)
"""The measures of this file."""
