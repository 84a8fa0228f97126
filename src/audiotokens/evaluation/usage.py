"""How the books are used: entropy, perplexity, dead codes, and the bit rate an entropy coder would reach.

Every figure is per book. Pooling books hides a collapsed one behind its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from audiotokens.entropy import corrected_entropy, expected_used, plugin_entropy
from audiotokens.errors import TokensError
from audiotokens.evaluation.results import BookUsage, Point
from audiotokens.tokens import Tokens


class UsageCounter:
    """Counts of every code of every book over many recordings."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], np.ndarray] = {}
        self._active: dict[tuple[str, int], np.ndarray] = {}
        self._bits = 0.0
        self._code_bits = 0.0
        self._seconds = 0.0

    def add(self, tokens: Tokens, active: Mapping[str, np.ndarray] | None = None) -> None:
        """Count one recording.

        Args:
            tokens: of the recording.
            active: by stream, bool `[T]`: which frames are not silent; None: nobody knows.

        Raises:
            TokensError: a book has another size than before.
        """
        for name, stream in tokens.streams.items():
            for book, size in enumerate(stream.codebook_sizes):
                counts = np.bincount(stream.codes[book], minlength=size)
                known = self._counts.get((name, book))
                if known is not None and len(known) != size:
                    raise TokensError(
                        f'book {book} of "{name}" has {size} entries, it had {len(known)} before'
                    )
                self._counts[name, book] = counts if known is None else known + counts
                if active is not None:
                    heard = np.bincount(stream.codes[book][active[name]], minlength=size)
                    self._active[name, book] = self._active.get((name, book), 0) + heard
        self._bits += float(tokens.bits)
        self._code_bits += float(tokens.code_bits)
        self._seconds += tokens.duration

    def books(self, point: Point) -> tuple[BookUsage, ...]:
        """Return the use of every book, labelled with the operating point."""
        return tuple(
            book_usage(
                counts, point=point, stream=name, book=book, active_counts=self._active.get((name, book))
            )
            for (name, book), counts in self._counts.items()
        )

    def entropy_bitrate(self) -> float | None:
        """Return bits per second with every book at its zero-order entropy; the rest stays as it is.

        The entropies are those of the counted codes themselves (Miller-Madow), so a coder that has to learn
        them elsewhere needs more, and one that knows the context needs less. None before anything is counted.
        """
        if not self._seconds:
            return None
        coded = sum(int(counts.sum()) * corrected_entropy(counts) for counts in self._counts.values())
        return (self._bits - self._code_bits + coded) / self._seconds


def book_usage(
    counts: np.ndarray, *, point: Point, stream: str, book: int, active_counts: np.ndarray | None = None
) -> BookUsage:
    """Describe the use of one book from its counts `[V]`, over all frames and over the active ones."""
    active = 0 if active_counts is None else int(active_counts.sum())
    entropy = corrected_entropy(counts)
    return BookUsage(
        domain=point.domain,
        tokenizer=point.tokenizer,
        num_codebooks=point.num_codebooks,
        stream=stream,
        book=book,
        counts=tuple(int(count) for count in counts),
        used=int((counts > 0).sum()),
        expected_used=expected_used(len(counts), int(counts.sum())),
        entropy=entropy,
        plugin_entropy=plugin_entropy(counts),
        perplexity=2.0**entropy,
        group=point.group,
        active_codes=active,
        active_entropy=corrected_entropy(active_counts) if active_counts is not None and active else None,
    )
