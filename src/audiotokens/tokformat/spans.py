"""From intact runs of frames to stretches of time in which every part of the tokens is intact."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

import numpy as np

from audiotokens.splice import common_frame, cut_frames, cut_source
from audiotokens.streams import CodeStream, Conditioning, Segment
from audiotokens.tokens import Tokens
from audiotokens.tokformat.bitpack import Table
from audiotokens.tokformat.header import ConditioningHeader, Header, StreamHeader
from audiotokens.tokformat.tables import to_segments, to_stream, to_values

Piece = CodeStream | Conditioning
END = math.inf


@dataclass(frozen=True, eq=False)
class Run:
    """Intact neighbouring frames of one part.

    Args:
        part: index of the part in the layout.
        label: the part in words, such as `stream "codes"`.
        start: first frame (of windows: first window).
        end: first frame after them.
        table: the numbers as stored, int64 `[R, n]`: of streams durations, if there are any, above codes; of
            windows start, length, frames and the bits of the scale; of conditioning the bits of float32.
        position: base frame at which the run begins, for streams with durations.
    """

    part: int
    label: str
    start: int
    end: int
    table: Table
    position: int = 0


@dataclass(frozen=True)
class Span:
    """A stretch of the recording in which everything is intact.

    Args:
        start_sample: where it begins, at the tokenizer's input rate.
        end_sample: where it ends.
        tokens: what `clip` of the written tokens gives there.
    """

    start_sample: int
    end_sample: int
    tokens: Tokens


@dataclass(frozen=True)
class _Stretch:
    """What one part covers: samples `begin` to `end`, and how to cut from it.

    `end` is `END` if the last frame is there. `cut` takes the first sample and the one after the last, None
    for the end.
    """

    begin: Fraction
    end: Fraction | float
    cut: Callable[[int, int | None], Piece]


@dataclass(frozen=True)
class _Overlap:
    """A time that stretches of several parts cover together."""

    begin: Fraction = Fraction(0)
    end: Fraction | float = END
    stretches: tuple[_Stretch, ...] = ()


def find_spans(header: Header, runs: Sequence[Run]) -> tuple[Span, ...]:
    """Return the longest stretches in which every part is intact, cut where `Tokens.clip` would cut.

    Args:
        header: of the file.
        runs: intact runs of its parts, in order.

    Raises:
        TokensError: intact chunks contradict each other.
    """
    overlaps, starts = [_Overlap()], []
    for track, window_starts in _tracks(header, runs):
        overlaps = list(_intersect(overlaps, sorted(track, key=lambda stretch: stretch.begin)))
        starts += window_starts
    rates = [s.frame_rate for s in header.streams if s.segments is None]
    rates += [c.frame_rate for c in header.conditioning]
    step = common_frame(header.sample_rate / rate for rate in rates if rate)
    cuts = _cuts(header, starts, step)
    spans = []
    for overlap in overlaps:
        first, last = _snap(header.num_samples, step, cuts, overlap)
        if first < last:
            spans.append(Span(first, last, _build(header, overlap.stretches, first, last)))
    return tuple(spans)


def _tracks(header: Header, runs: Sequence[Run]) -> Iterator[tuple[list[_Stretch], list[set[int]]]]:
    """What each stream and conditioning covers, and where its windows start."""
    groups: dict[int, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.part, []).append(run)
    part = 0
    for stream in header.streams:
        if stream.segments is not None:
            windows = _windows(stream, groups.get(part, []))
            part += 1
            yield (
                _window_stretches(stream, windows, groups.get(part, [])),
                [{w.start_sample for w in windows}],
            )
        else:
            yield _stream_stretches(stream, header, groups.get(part, [])), []
        part += 1
    for item in header.conditioning:
        yield _conditioning_stretches(item, header, groups.get(part, [])), []
        part += 1


def _stream_stretches(stream: StreamHeader, header: Header, runs: Sequence[Run]) -> list[_Stretch]:
    if not stream.frames:
        return [_everywhere(to_stream(stream, _no_columns(len(stream.widths))))]
    if not stream.frame_rate:
        return [_everywhere(to_stream(stream, run.table)) for run in runs if _is_whole(run, stream.frames)]
    hop = header.sample_rate / stream.frame_rate
    return [_stream_stretch(to_stream(stream, run.table), run, hop, run.end == stream.frames) for run in runs]


def _stream_stretch(stream: CodeStream, run: Run, hop: Fraction, is_last: bool) -> _Stretch:
    begin = run.position if stream.durations is not None else run.start
    end = begin + stream.base_frames

    def cut(first: int, last: int | None) -> Piece:
        stop = end if last is None else int(last / hop)
        return cut_frames(stream, int(first / hop) - begin, stop - begin)

    return _Stretch(begin * hop, END if is_last else end * hop, cut)


def _conditioning_stretches(item: ConditioningHeader, header: Header, runs: Sequence[Run]) -> list[_Stretch]:
    if not item.frames:
        return [_everywhere(Conditioning(to_values(_no_columns(item.rows)), item.frame_rate))]
    if not item.frame_rate:
        whole = [run for run in runs if _is_whole(run, item.frames)]
        return [_everywhere(Conditioning(to_values(run.table))) for run in whole]
    hop = header.sample_rate / item.frame_rate
    return [_conditioning_stretch(item, run, hop) for run in runs]


def _conditioning_stretch(item: ConditioningHeader, run: Run, hop: Fraction) -> _Stretch:

    def cut(first: int, last: int | None) -> Piece:
        stop = run.end if last is None else int(last / hop)
        values = to_values(run.table[:, int(first / hop) - run.start : stop - run.start])
        return Conditioning(values, item.frame_rate)

    return _Stretch(run.start * hop, END if run.end == item.frames else run.end * hop, cut)


def _windows(stream: StreamHeader, runs: Sequence[Run]) -> tuple[Segment, ...]:
    """All windows of a stream, or none if one is lost: then nobody knows where its frames belong."""
    whole = [run for run in runs if stream.segments and _is_whole(run, stream.segments.count)]
    return to_segments(whole[0].table) if whole else ()


def _window_stretches(
    stream: StreamHeader, windows: tuple[Segment, ...], runs: Sequence[Run]
) -> list[_Stretch]:
    if not stream.segments or not stream.segments.count:
        return [_everywhere(to_stream(stream, _no_columns(len(stream.widths)), ()))]
    edges = list(accumulate((window.frames for window in windows), initial=0))
    stretches = []
    for run in runs:
        first = bisect_left(edges, run.start)
        last = bisect_right(edges, run.end) - 1
        if first < last:
            stretches.append(_window_stretch(stream, windows, edges, (first, last), run))
    return stretches


def _window_stretch(
    stream: StreamHeader, windows: tuple[Segment, ...], edges: list[int], among: tuple[int, int], run: Run
) -> _Stretch:
    """Windows `among[0]` to `among[1]` of a stream, whose first frames are `edges`."""

    def cut(first: int, last: int | None) -> Piece:
        kept = [
            i for i in range(*among) if first <= windows[i].start_sample < (END if last is None else last)
        ]
        segments = tuple(replace(windows[i], start_sample=windows[i].start_sample - first) for i in kept)
        table = run.table[:, edges[kept[0]] - run.start : edges[kept[-1] + 1] - run.start]
        return to_stream(stream, table, segments)

    end = Fraction(windows[among[1]].start_sample) if among[1] < len(windows) else END
    return _Stretch(Fraction(windows[among[0]].start_sample), end, cut)


def _intersect(overlaps: Sequence[_Overlap], track: Sequence[_Stretch]) -> Iterator[_Overlap]:
    i = j = 0
    while i < len(overlaps) and j < len(track):
        one, other = overlaps[i], track[j]
        begin, end = max(one.begin, other.begin), min(one.end, other.end)
        if begin < end:
            yield _Overlap(begin, end, (*one.stretches, other))
        if one.end <= other.end:
            i += 1
        else:
            j += 1


def _cuts(header: Header, starts: Sequence[set[int]], step: int) -> list[int] | None:
    """Samples where windows can be cut; None without windows."""
    if not starts:
        return None
    shared = {start for start in set.intersection(*starts) if start % step == 0}
    return sorted({0, header.num_samples} | shared)


def _snap(num_samples: int, step: int, cuts: list[int] | None, overlap: _Overlap) -> tuple[int, int]:
    """Return the first and last possible cut in an overlap; the recording's end only with all last frames."""
    to_the_end = overlap.end == END
    if cuts is None:
        first = math.ceil(overlap.begin / step) * step
        last = num_samples if to_the_end else min(int(overlap.end / step), (num_samples - 1) // step) * step
        return first, last
    inside = cuts[bisect_left(cuts, overlap.begin) : bisect_right(cuts, overlap.end)]
    if not to_the_end and inside and inside[-1] == num_samples:
        inside.pop()
    return (inside[0], inside[-1]) if inside else (0, 0)


def _build(header: Header, stretches: Sequence[_Stretch], first: int, last: int) -> Tokens:
    pieces = [stretch.cut(first, None if last == header.num_samples else last) for stretch in stretches]
    names = [stream.name for stream in header.streams] + [item.name for item in header.conditioning]
    named = list(zip(names, pieces))
    return Tokens(
        streams={name: piece for name, piece in named if isinstance(piece, CodeStream)},
        num_samples=last - first,
        sample_rate=header.sample_rate,
        channels=header.channels,
        tokenizer=header.tokenizer,
        fingerprint=header.fingerprint,
        source=cut_source(header.full_source(), header.num_samples, first, last),
        conditioning={name: piece for name, piece in named if isinstance(piece, Conditioning)},
    )


def _everywhere(piece: Piece) -> _Stretch:
    return _Stretch(Fraction(0), END, lambda first, last: piece)


def _is_whole(run: Run, frames: int) -> bool:
    return run.start == 0 and run.end == frames


def _no_columns(rows: int) -> Table:
    return np.zeros((rows, 0), dtype=np.int64)
