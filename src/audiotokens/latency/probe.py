"""What a tokenizer reads, found by changing what goes in and watching what comes out.

Nothing rests on what the spec declares, from which a search only starts: sound is changed from a sample on,
codes from a frame on, and the first thing that comes out otherwise tells what was read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from audiotokens.errors import NotOfferedError
from audiotokens.tokenizer import Tokenizer
from audiotokens.tokens import CodeStream, Tokens

Arrays = dict[str, np.ndarray]

_FIRST_FRAMES = 2
_LEVELS = (1e4, 1.0, 1e8, 1e12)
_LONGEST_FIELD = 5
_SOUNDS = 4


@dataclass(frozen=True)
class Delay:
    """Samples behind the end of a frame that one direction waits for.

    Args:
        declared: what the spec says.
        changed: the most that any frame read, as perturbation finds it.
        later: what a frame read where the beginning of the stream, and so its padding, is out of reach.
        session: the most that had to be pushed before a session gave a frame.
    """

    declared: int
    changed: int
    later: int
    session: int

    @property
    def agrees(self) -> bool:
        """Whether sessions wait as long as is declared, and no frame reads more.

        It may read less where sessions take whole frames, as those of exported graphs do.
        """
        return self.changed <= self.declared == self.session


@dataclass(frozen=True)
class Field:
    """Samples that one frame's codes depend on.

    Args:
        declared: what the spec says; None: no bound.
        changed: the most that perturbation found; None: not measured, since there is no bound, or since it is
            longer than 5 seconds.
    """

    declared: int | None
    changed: int | None

    @property
    def agrees(self) -> bool:
        """Whether nothing beyond the declared field was read."""
        return self.declared is None or self.changed is None or self.changed <= self.declared


class Probe:
    """Sounds, codes and changes of them, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.tokenizer, self.spec, self.seed = tokenizer, tokenizer.spec, seed
        self.hop = int(self.spec.hop)

    def encoder(self) -> Delay:
        """Look-ahead of the encoder."""

        def given(frame: int, pushed: np.ndarray) -> bool:
            tokens = self.tokenizer.encoder().push(pushed)
            return tokens is not None and tokens.num_samples > frame * self.hop

        return self._delay(self.spec.lookahead, lambda frame, sound: self._codes(sound, 0, frame), given)

    def round_trip(self) -> Delay:
        """Look-ahead of both: samples behind the end of a hop that change what is heard up to its end."""

        def heard(frame: int, sound: np.ndarray) -> Arrays:
            decoded = self.tokenizer.decode(self.tokenizer.encode(sound, self.spec.sample_rate))
            return {"sound": decoded[:, : self.spec.output_length((frame + 1) * self.hop)]}

        def given(frame: int, pushed: np.ndarray) -> bool:
            tokens = self.tokenizer.encoder().push(pushed)
            waveform = None if tokens is None else self.tokenizer.decoder().push(tokens)
            return waveform is not None and self._hops(waveform.shape[1]) > frame

        # One sample seldom flips a code, so other sounds are tried where less than declared was found.
        declared = self.spec.lookahead + self.decoder_lookahead
        found = [self._delay(declared, heard, given)]
        while found[-1].changed < declared and len(found) < _SOUNDS:
            found.append(self._delay(declared, heard, given, variant=len(found)))
        return max(found, key=lambda delay: (delay.changed, delay.later))

    def _delay(
        self,
        declared: int,
        result: Callable[[int, np.ndarray], Arrays],
        given: Callable[[int, np.ndarray], bool],
        *,
        variant: int = 0,
    ) -> Delay:
        """Find what the first frames read and wait for, and one that is far from the beginning.

        Args:
            declared: look-ahead; where the search starts.
            result: what comes out up to a frame, for a sound.
            given: whether fresh sessions that got a sound have given a frame.
            variant: of the sounds.
        """
        read, waited = [], []
        for frame in (*range(_FIRST_FRAMES), _FIRST_FRAMES + 4 + 2 * math.ceil(declared / self.hop)):
            end = (frame + 1) * self.hop
            limit = end + 2 * declared + 4 * self.hop
            sound = self.sound(limit + declared + 2 * self.hop, variant)
            expected = result(frame, sound)

            def changes(start: int) -> bool:
                """Whether other sound from a sample on comes out otherwise."""
                others = (
                    np.concatenate([sound[:, :start], noise], 1)  # noqa: B023
                    for noise in self._noises(sound.shape[1] - start)  # noqa: B023
                )
                return any(_differ(expected, result(frame, other)) for other in others)  # noqa: B023

            def waits(size: int) -> bool:
                return size < 1 or not given(frame, sound[:, :size])  # noqa: B023

            read.append(_last(changes, end + declared - 1, limit) + 1 - end)
            waited.append(_last(waits, end + declared - 1, limit) + 1 - end)
        return Delay(declared, max(0, *read), max(0, read[-1]), max(0, *waited))

    def decoder(self) -> Delay:
        """Look-ahead of the decoder, in whole frames."""
        ahead = self.decoder_lookahead // self.hop
        changed, total = 2 * ahead + _FIRST_FRAMES + 4, 3 * ahead + 16
        reads = [0] * changed
        for variant in range(2):
            before = self.codes(total, variant)
            waveform = self.tokenizer.decode(before)
            for frame in range(changed):
                other = self.tokenizer.decode(self._other_codes(before, frame, variant))
                found = np.flatnonzero((waveform != other).any(0))
                if found.size:
                    reads[frame] = max(reads[frame], frame - self._hops(int(found[0])))
        session, waited, heard = self.tokenizer.decoder(), 0, 0
        for frame in range(total):
            before_push = self._hops(heard)
            heard += session.push(self.codes(1, frame)).shape[1]
            if self._hops(heard) > before_push:
                waited = max(waited, frame - before_push)
        return Delay(self.decoder_lookahead, max(reads) * self.hop, reads[-1] * self.hop, waited * self.hop)

    @property
    def decoder_lookahead(self) -> int:
        """What the spec declares, up to whole frames of the slowest stream, in which codes come."""
        return -(-self.spec.decoder_lookahead // self.hop) * self.hop

    def field(self, lookahead: int) -> Field:
        """Receptive field: how many samples, up to the last one that a frame reads, change its codes."""
        declared = self.spec.receptive_field
        if declared is None or declared > _LONGEST_FIELD * self.spec.sample_rate:
            return Field(declared, None)
        frame = math.ceil(declared / self.hop) + _FIRST_FRAMES
        end = (frame + 1) * self.hop + lookahead
        sound = self.sound(end + 2 * self.hop, 0)
        expected = self._codes(sound, frame, frame)

        def reads(size: int) -> bool:
            """Whether other samples before the last `size` up to `end` change the frame."""
            past = end - size
            others = (np.concatenate([noise, sound[:, past:]], 1) for noise in self._noises(past))
            return any(_differ(expected, self._codes(other, frame, frame)) for other in others)

        return Field(declared, _last(reads, declared - 1, end) + 1)

    def _codes(self, sound: np.ndarray, first: int, last: int) -> Arrays:
        """Codes and latents of the frames `first` to `last` of the slowest stream."""
        tokens = self.tokenizer.encode(sound, self.spec.sample_rate)
        found = self._latents(sound, first, last)
        for name, stream in tokens.streams.items():
            if stream.frame_rate:
                ratio = int(stream.frame_rate / self.spec.frame_rate)
                found[name] = stream.codes[:, first * ratio : (last + 1) * ratio]
        return found

    def _latents(self, sound: np.ndarray, first: int, last: int) -> Arrays:
        """Latents of the same frames, if they are offered: they tell of changes too small to flip a code."""
        try:
            latents = self.tokenizer.features(sound, self.spec.sample_rate)
        except NotOfferedError:
            return {}
        ratio = round(latents.shape[1] * self.hop / sound.shape[1])
        return {"latents": latents[:, first * ratio : (last + 1) * ratio]}

    def _hops(self, samples: int) -> int:
        """Whole hops in a number of output samples."""
        return int(samples * self.spec.sample_rate / (self.spec.output_sample_rate * self.hop))

    def sound(self, num_samples: int, variant: int) -> np.ndarray:
        """Noise of a changing level, float32 `[C, N]`."""
        random = np.random.default_rng((self.seed, 0, variant))
        level = 0.05 + 0.3 * random.random((1, -(-num_samples // 100))).repeat(100, 1)[:, :num_samples]
        return (level * random.standard_normal((self.spec.channels, num_samples))).astype(np.float32)

    def _noises(self, num_samples: int) -> Iterator[np.ndarray]:
        """Other sounds; some are so loud that one sample shows through the weights of many layers."""
        for variant, level in enumerate(_LEVELS):
            random = np.random.default_rng((self.seed, 1, variant))
            signs = random.choice((-level, level), (self.spec.channels, num_samples))
            yield (signs * random.uniform(0.5, 1, signs.shape)).astype(np.float32)

    def codes(self, frames: int, variant: int) -> Tokens:
        """Random tokens of so many frames of the slowest stream."""
        random = np.random.default_rng((self.seed, 2, variant))
        streams = {}
        left = self.spec.check_prefix(None)
        for stream in self.spec.streams:
            sizes = stream.codebook_sizes[:left]
            left -= len(sizes)
            if sizes:
                shape = len(sizes), int(frames * stream.frame_rate / self.spec.frame_rate)
                drawn = random.integers(0, np.array(sizes)[:, None], shape)
                streams[stream.name] = CodeStream(drawn, sizes, stream.frame_rate)
        return self.tokenizer.make_tokens(streams, {}, frames * self.hop, None)

    def _other_codes(self, tokens: Tokens, frame: int, variant: int) -> Tokens:
        """The same tokens, with every code different from a frame of the slowest stream on."""
        random = np.random.default_rng((self.seed, 3, variant))
        streams = {}
        for name, stream in tokens.streams.items():
            sizes = np.array(stream.codebook_sizes)[:, None]
            changed = stream.codes + random.integers(1, np.maximum(sizes, 2), stream.codes.shape)
            start = int(frame * stream.frame_rate / self.spec.frame_rate)
            codes = np.concatenate([stream.codes[:, :start], (changed % sizes)[:, start:]], 1)
            streams[name] = CodeStream(codes, stream.codebook_sizes, stream.frame_rate)
        return self.tokenizer.make_tokens(streams, {}, tokens.num_samples, None)


def _differ(one: Arrays, other: Arrays) -> bool:
    return any(not np.array_equal(one[name], other[name]) for name in one)


def _last(holds: Callable[[int], bool], guess: int, limit: int) -> int:
    """The last number below `limit` for which something holds that holds for all before it; -1: none."""
    low, high = -1, limit
    for tried in (guess, guess + 1):
        if low < tried < high:
            low, high = (tried, high) if holds(tried) else (low, tried)
    while high - low > 1:
        tried = (low + high) // 2
        low, high = (tried, high) if holds(tried) else (low, tried)
    return low
