"""What can be saved from a damaged `.tok` file.

Every chunk carries its number and a checksum that is bound to the file, so intact ones are found wherever
they stand. Nothing is filled in: what is missing is listed, and tokens are given for the stretches of time
in which every part is intact. Such a span equals `clip` of the tokens that were written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audiotokens.errors import TokenFileError, TokensError
from audiotokens.tokens import Tokens
from audiotokens.tokformat.bitpack import Table
from audiotokens.tokformat.header import MOST_PAYLOAD_BYTES
from audiotokens.tokformat.layout import CHECKSUM, CHUNK_HEAD, MARKER, Layout, Start, frame_chunk, is_intact
from audiotokens.tokformat.spans import Run, Span, find_spans
from audiotokens.tokformat.tables import from_tables, unpack_chunk


@dataclass(frozen=True)
class Missing:
    """Frames that are lost.

    Args:
        part: the part of the tokens, such as `stream "codes"`.
        start: first lost frame (of windows: first lost window).
        end: first frame after them.
        total: frames of the whole part.
    """

    part: str
    start: int
    end: int
    total: int

    def __str__(self) -> str:
        return f"{self.part}: {self.start} to {self.end - 1} of {self.total} frames are missing"


@dataclass(frozen=True)
class Salvage:
    """What is intact in a `.tok` file, and what is not.

    Args:
        spans: stretches of time in which everything is intact, in order; there are none if global codes or
            conditioning or windows are lost.
        runs: every intact run of frames of every part, as stored; also those that are in no span.
        missing: what is lost.
        notes: other damage, in words.
        num_samples: of the whole recording.
        sample_rate: in Hz.
    """

    spans: tuple[Span, ...]
    runs: tuple[Run, ...]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]
    num_samples: int
    sample_rate: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing is lost; the file may still be damaged (`notes`)."""
        return not self.missing

    @property
    def tokens(self) -> Tokens | None:
        """The whole recording if nothing is lost, otherwise None: see `spans`."""
        return self.spans[0].tokens if self.is_complete else None

    def report(self) -> list[str]:
        """Return what is lost and what is intact, one sentence each; empty for an undamaged file."""
        rate = self.sample_rate
        lines = [*self.notes, *map(str, self.missing)]
        if self.missing:
            times = [f"{span.start_sample / rate:g} to {span.end_sample / rate:g} s" for span in self.spans]
            lines.append(f"intact: {', '.join(times) or 'no stretch'} of {self.num_samples / rate:g} s")
        return lines


def rescue(body: bytes, start: Start, layout: Layout) -> Salvage:
    """Find what is intact after an intact header.

    Args:
        body: the file after its header.
        start: what stands before.
        layout: what the header announces.

    Raises:
        TokenFileError: no chunk is intact, or they contradict each other or the content hash.
    """
    found = _scan(body, layout, start.seed)
    header, runs = layout.header, _runs(layout, found)
    missing = tuple(_missing(layout, runs))
    notes: tuple[str, ...] = ()
    if missing and not runs:
        raise TokenFileError("no chunk is intact: nothing can be recovered")
    if missing:
        try:
            spans = find_spans(header, runs)
        except TokensError as error:
            raise TokenFileError(f"the content contradicts itself: {error}") from None
    else:
        notes = _check_content(body, layout, start, found)
        spans = (Span(0, header.num_samples, from_tables(header, _whole_tables(layout, runs))),)
    return Salvage(spans, tuple(runs), missing, notes, header.num_samples, header.sample_rate)


def _scan(body: bytes, layout: Layout, seed: int) -> dict[int, memoryview]:
    """Return the payloads of all intact chunks by number, wherever they stand."""
    found: dict[int, memoryview] = {}
    # Bytes that only look like chunks cost a checksum each; a file full of them must not take for ever.
    budget = 8 * len(body) + MOST_PAYLOAD_BYTES
    place = body.find(MARKER)
    while 0 <= place <= len(body) - CHUNK_HEAD.size and budget > 0:
        step = 1
        _, number = CHUNK_HEAD.unpack_from(body, place)
        if number < layout.num_chunks:
            chunk = layout.chunk(number)
            framed = memoryview(body)[place : place + chunk.total_bytes]
            budget -= len(framed)
            if len(framed) == chunk.total_bytes and is_intact(framed, seed):
                found.setdefault(number, framed[CHUNK_HEAD.size : -CHECKSUM.size])
                step = chunk.total_bytes
        place = body.find(MARKER, place + step)
    return found


def _runs(layout: Layout, found: dict[int, memoryview]) -> list[Run]:
    """Join neighbouring chunks; one that contradicts the durations before it begins a new run."""
    groups: list[list[Run]] = []
    for number in sorted(found):
        chunk = layout.chunk(number)
        part = layout.parts[chunk.part]
        position, table = unpack_chunk(part, chunk, found[number])
        run = Run(chunk.part, part.label, chunk.start, chunk.end, table, position)
        if groups and _continues(groups[-1][-1], run, part.has_position):
            groups[-1].append(run)
        else:
            groups.append([run])
    return [
        replace(group[0], end=group[-1].end, table=np.concatenate([run.table for run in group], axis=1))
        for group in groups
    ]


def _continues(before: Run, run: Run, has_position: bool) -> bool:
    if (before.part, before.end) != (run.part, run.start):
        return False
    return not has_position or run.position == before.position + sum(before.table[0].tolist())


def _missing(layout: Layout, runs: Sequence[Run]) -> Iterator[Missing]:
    for index, part in enumerate(layout.parts):
        reached = 0
        for run in runs:
            if run.part == index:
                if run.start > reached:
                    yield Missing(part.label, reached, run.start, part.columns)
                reached = run.end
        if reached < part.columns:
            yield Missing(part.label, reached, part.columns, part.columns)


def _whole_tables(layout: Layout, runs: Sequence[Run]) -> list[Table]:
    tables = {run.part: run.table for run in runs}
    if len(tables) < len(runs) or any(run.position for run in runs):
        raise TokenFileError("the content contradicts itself: durations and positions do not agree")
    return [
        tables[index] if part.columns else np.zeros((len(part.widths), 0), dtype=np.int64)
        for index, part in enumerate(layout.parts)
    ]


def _check_content(
    body: bytes, layout: Layout, start: Start, found: dict[int, memoryview]
) -> tuple[str, ...]:
    """Check the content hash of a file of which nothing is missing, and say what else is damaged."""
    content = start.content_hash()
    frames = []
    for chunk in layout.in_file_order():
        payload = bytes(found[chunk.number])
        content.update(payload)
        frames.append(frame_chunk(chunk, payload, start.seed))
    digest = content.digest()
    if digest[:8] != start.content_id:
        raise TokenFileError(
            "every chunk is intact, but the content hash does not match: the file was changed"
        )
    if b"".join([*frames, digest[8:]]) == body:
        return ()
    return ("the file was damaged outside its content (order of chunks, foreign bytes or closing hash)",)
