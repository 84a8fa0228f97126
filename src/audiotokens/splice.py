"""Cutting and joining tokens in time; the methods of `Tokens` explain the rules.

All positions are exact: a frame of a stream is sample_rate / frame_rate samples, a fraction. Cuts are
possible where a whole sample is a frame boundary of every time-varying part; windows only where one starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from audiotokens.errors import TokensError
from audiotokens.streams import CodeStream, Conditioning

if TYPE_CHECKING:
    from audiotokens.tokens import Source, Tokens


def clip_bounds(tokens: Tokens, start: float | Fraction, end: float | Fraction | None) -> tuple[int, int]:
    """Return the samples that a clip really covers; see `Tokens.clip_bounds`."""
    first, last = _requested(tokens, start, end)
    step = common_frame(hop for _, hop in _time_lines(tokens))
    window_starts = _window_starts(tokens)
    if window_starts is not None:
        cuts = [0, *sorted(cut for cut in window_starts if cut and cut % step == 0), tokens.num_samples]
        return max(cut for cut in cuts if cut <= first), min(cut for cut in cuts if cut >= last)
    return first // step * step, min(-(-last // step) * step, tokens.num_samples)


def clip(tokens: Tokens, start: float | Fraction, end: float | Fraction | None) -> Tokens:
    """Return a part of the recording; see `Tokens.clip`."""
    first, last = clip_bounds(tokens, start, end)
    return replace(
        tokens,
        streams={name: _cut_stream(tokens, stream, first, last) for name, stream in tokens.streams.items()},
        conditioning={
            name: _cut_conditioning(tokens, c, first, last) for name, c in tokens.conditioning.items()
        },
        num_samples=last - first,
        source=cut_source(tokens.source, tokens.num_samples, first, last),
    )


def concatenate(items: Sequence[Tokens]) -> Tokens:
    """Join items in time; see `Tokens.concatenate`."""
    if not items:
        raise TokensError("there is nothing to concatenate: give at least one item")
    for index, item in enumerate(items[1:], start=1):
        _check_fits(items[0], item, index)
    parts = [(index, item) for index, item in enumerate(items) if not _is_empty(item)]
    if len(parts) < 2:
        return parts[0][1] if parts else items[0]
    for index, item in parts[:-1]:
        _check_whole(item, index)
    joined = [item for _, item in parts]
    return replace(
        joined[0],
        streams={name: _join_streams(joined, name) for name in joined[0].streams},
        conditioning={name: _join_conditioning(joined, name) for name in joined[0].conditioning},
        num_samples=sum(item.num_samples for item in joined),
        source=_join_sources([item.source for item in joined]),
    )


def with_globals(tokens: Tokens, other: Tokens) -> Tokens:
    """Exchange the global parts; see `Tokens.with_globals`."""
    _check_same_tokenizer(tokens, other, "the other tokens")
    mine, theirs = _globals(tokens), _globals(other)
    if not mine:
        raise TokensError(f'tokens of "{tokens.tokenizer}" have no global codes or conditioning to exchange')
    if list(mine) != list(theirs):
        found = ", ".join(theirs) or "none"
        raise TokensError(
            f"the other tokens have other global parts: found {found}, expected {', '.join(mine)}"
        )
    for name, stream in tokens.streams.items():
        if not stream.frame_rate and not stream.same_layout(other.streams[name]):
            raise TokensError(f'global stream "{name}" has other books in the other tokens')
    streams = {n: s if s.frame_rate else other.streams[n] for n, s in tokens.streams.items()}
    conditioning = {n: c if c.frame_rate else other.conditioning[n] for n, c in tokens.conditioning.items()}
    return replace(tokens, streams=streams, conditioning=conditioning)


def common_frame(hops: Iterable[Fraction]) -> int:
    """Return the least number of samples that is a multiple of all these frame lengths."""
    # The least common multiple of fractions a/b in lowest terms, among the integers, is that of all a.
    return math.lcm(*(hop.numerator for hop in hops))


def cut_frames(stream: CodeStream, begin: int, end: int) -> CodeStream:
    """Return base frames `begin` to `end` of a stream without windows; durations are shortened at the cut."""
    if stream.durations is None:
        return replace(stream, codes=stream.codes[:, begin:end])
    ends = np.cumsum(stream.durations)
    starts = ends - stream.durations
    kept = (ends > begin) & (starts < end)
    durations = np.minimum(ends, end)[kept] - np.maximum(starts, begin)[kept]
    return replace(stream, codes=stream.codes[:, kept], durations=durations)


def cut_source(source: Source | None, num_samples: int, first: int, last: int) -> Source | None:
    """Return the source of samples `first` to `last` of `num_samples`, its length in proportion."""
    if source is None:
        return None
    begin, end = (sample * source.num_samples // num_samples for sample in (first, last))
    return replace(source, num_samples=end - begin)


def _requested(tokens: Tokens, start: float | Fraction, end: float | Fraction | None) -> tuple[int, int]:
    first = _to_sample(tokens, start)
    last = tokens.num_samples if end is None else _to_sample(tokens, end)
    if not 0 <= first < last <= tokens.num_samples:
        asked = f"{float(start):g} to {'the end' if end is None else f'{float(end):g}'} s"
        raise TokensError(f"cannot clip {asked}: expected 0 <= start < end <= {tokens.duration:g} s")
    return first, last


def _to_sample(tokens: Tokens, seconds: float | Fraction) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, float | int | Fraction | np.number):
        raise TokensError(f"cannot clip at a {type(seconds).__name__}: give seconds as a number")
    if not math.isfinite(seconds):
        raise TokensError(f"cannot clip at {seconds} s: give finite seconds")
    return round(seconds * tokens.sample_rate)


def _time_lines(tokens: Tokens) -> list[tuple[int, Fraction]]:
    """Base frames and samples per frame of every time-varying part without windows."""
    streams = [(s.base_frames, s.frame_rate) for s in tokens.streams.values() if s.segments is None]
    rest = [(c.num_frames, c.frame_rate) for c in tokens.conditioning.values()]
    return [(frames, tokens.sample_rate / rate) for frames, rate in streams + rest if rate]


def _window_starts(tokens: Tokens) -> set[int] | None:
    """Samples where a window of every segmented stream starts; None without segmented streams."""
    starts = [{w.start_sample for w in s.segments} for s in tokens.streams.values() if s.segments is not None]
    return set.intersection(*starts) if starts else None


def _cut_stream(tokens: Tokens, stream: CodeStream, first: int, last: int) -> CodeStream:
    if not stream.frame_rate:
        return stream
    if stream.segments is not None:
        return _cut_windows(stream, first, last)
    return cut_frames(stream, *_frame_range(tokens, stream.frame_rate, stream.base_frames, first, last))


def _cut_windows(stream: CodeStream, first: int, last: int) -> CodeStream:
    kept, frame, columns = [], 0, []
    for window in stream.segments or ():
        if first <= window.start_sample < last:
            kept.append(replace(window, start_sample=window.start_sample - first))
            columns.append(stream.codes[:, frame : frame + window.frames])
        frame += window.frames
    codes = np.concatenate(columns, axis=1) if columns else stream.codes[:, :0]
    return replace(stream, codes=codes, segments=tuple(kept))


def _cut_conditioning(tokens: Tokens, item: Conditioning, first: int, last: int) -> Conditioning:
    if not item.frame_rate:
        return item
    begin, end = _frame_range(tokens, item.frame_rate, item.num_frames, first, last)
    return replace(item, values=item.values[:, begin:end])


def _frame_range(tokens: Tokens, rate: Fraction, frames: int, first: int, last: int) -> tuple[int, int]:
    per_sample = rate / tokens.sample_rate
    end = frames if last == tokens.num_samples else int(last * per_sample)
    return min(int(first * per_sample), frames), min(end, frames)


def _check_same_tokenizer(first: Tokens, other: Tokens, what: str) -> None:
    if (first.fingerprint, first.tokenizer) != (other.fingerprint, other.tokenizer):
        raise TokensError(
            f'{what} are of "{other.tokenizer}" ({other.fingerprint[:8]}), expected "{first.tokenizer}" '
            f"({first.fingerprint[:8]}): encode all with one tokenizer"
        )


def _check_fits(first: Tokens, item: Tokens, index: int) -> None:
    what = f"tokens of item {index}"
    _check_same_tokenizer(first, item, what)
    if (first.sample_rate, first.channels) != (item.sample_rate, item.channels):
        raise TokensError(
            f"{what} are at {item.sample_rate} Hz with {item.channels} channels, "
            f"expected {first.sample_rate} Hz with {first.channels} as item 0"
        )
    if list(first.streams) != list(item.streams) or list(first.conditioning) != list(item.conditioning):
        raise TokensError(
            f"{what} have other streams or conditioning than item 0: join tokens with the same parts"
        )
    for name, stream in first.streams.items():
        if not stream.same_layout(item.streams[name]):
            raise TokensError(
                f'{what}: stream "{name}" has other books or rate than in item 0: join the same books'
            )
        if not stream.frame_rate and stream != item.streams[name]:
            raise TokensError(f'{what}: global stream "{name}" differs from item 0: use with_globals first')
    for name, values in first.conditioning.items():
        _check_conditioning_fits(values, item.conditioning[name], f'{what}: conditioning "{name}"')


def _check_conditioning_fits(first: Conditioning, item: Conditioning, what: str) -> None:
    if (first.frame_rate, first.values.shape[0]) != (item.frame_rate, item.values.shape[0]):
        raise TokensError(f"{what} has another rate or height than in item 0")
    if not first.frame_rate and first != item:
        raise TokensError(f"{what} differs from item 0: use with_globals first")


def _check_whole(item: Tokens, index: int) -> None:
    if all(frames * hop == item.num_samples for frames, hop in _time_lines(item)):
        for name, stream in item.streams.items():
            _check_windows_whole(stream, item.num_samples, f'item {index}, stream "{name}"')
        return
    step = common_frame(hop for _, hop in _time_lines(item))
    last = min(item.num_samples - 1, *(int(frames * hop) for frames, hop in _time_lines(item))) // step * step
    raise TokensError(
        f"item {index} has {item.num_samples} samples, which is not what its frames stand for, and only the "
        f"last item may end inside a frame: use item.clip(0, {last / item.sample_rate:g}) or put it last"
    )


def _check_windows_whole(stream: CodeStream, num_samples: int, what: str) -> None:
    end = stream.segments[-1].end_sample if stream.segments else 0
    if stream.segments is not None and end < num_samples:
        raise TokensError(
            f"{what}: windows end at sample {end} of {num_samples}; only the last item may lack windows"
        )


def _is_empty(item: Tokens) -> bool:
    varying = [s.num_frames for s in item.streams.values() if s.frame_rate]
    varying += [c.num_frames for c in item.conditioning.values() if c.frame_rate]
    return not item.num_samples and not any(varying)


def _join_streams(items: Sequence[Tokens], name: str) -> CodeStream:
    streams = [item.streams[name] for item in items]
    first = streams[0]
    if not first.frame_rate:
        return first
    durations, segments = None, None
    if first.durations is not None:
        durations = np.concatenate([s.durations for s in streams if s.durations is not None])
    if first.segments is not None:
        offsets = np.cumsum([0, *(item.num_samples for item in items)]).tolist()
        segments = tuple(
            replace(window, start_sample=window.start_sample + offset)
            for stream, offset in zip(streams, offsets, strict=False)
            for window in stream.segments or ()
        )
    codes = np.concatenate([stream.codes for stream in streams], axis=1)
    return CodeStream(codes, first.codebook_sizes, first.frame_rate, durations, segments)


def _join_conditioning(items: Sequence[Tokens], name: str) -> Conditioning:
    parts = [item.conditioning[name] for item in items]
    if not parts[0].frame_rate:
        return parts[0]
    return replace(parts[0], values=np.concatenate([part.values for part in parts], axis=1))


def _join_sources(sources: Sequence[Source | None]) -> Source | None:
    known = [source for source in sources if source is not None]
    if len(known) < len(sources) or any(
        replace(s, num_samples=known[0].num_samples) != known[0] for s in known
    ):
        return None
    return replace(known[0], num_samples=sum(source.num_samples for source in known))


def _globals(tokens: Tokens) -> list[str]:
    streams = [f'stream "{name}"' for name, stream in tokens.streams.items() if not stream.frame_rate]
    return streams + [
        f'conditioning "{name}"' for name, item in tokens.conditioning.items() if not item.frame_rate
    ]
