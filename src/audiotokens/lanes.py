"""Lanes: many streams of one codec, whose steps run as one batch where they can.

Each lane is a session of its own, which starts, ends and is forked without regard to the others. A step of a
session counts what comes in, calls the net, and counts what goes out; lanes whose pieces and states have
equal shapes share the call. A lane runs alone in its first steps, while its state still grows, in its last,
and where its pieces are of another length than those of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from audiotokens.audio import WaveformLike
from audiotokens.errors import TokensError
from audiotokens.nn.block import State
from audiotokens.sessions import CodecDecoder, CodecEncoder
from audiotokens.tokens import Tokens

if TYPE_CHECKING:
    from audiotokens.codec import Codec
    from audiotokens.codec.base import Codes

Session = TypeVar("Session", CodecEncoder, CodecDecoder)


class _Lanes(Generic[Session]):
    """Sessions by the number of their lane; a lane without one is free."""

    def __init__(self, count: int, start: Callable[[], Session]) -> None:
        if count < 1:
            raise TokensError(f"the number of lanes is {count}; expected at least 1")
        start()  # Says at once if there are no sessions.
        self.count = count
        self._start: Callable[[], Session] = start
        self._sessions: dict[int, Session] = {}

    @property
    def running(self) -> tuple[int, ...]:
        """Lanes in which a stream has begun and not ended."""
        return tuple(sorted(self._sessions))

    def reset(self, lane: int) -> None:
        """Drop the stream of a lane; its next piece begins another one."""
        self._check(lane)
        self._sessions.pop(lane, None)

    def fork(self, source: int, target: int) -> None:
        """Let a lane go on from where another one is; what was in it is dropped."""
        self._check(target)
        self._sessions[target] = self._running(source).fork()

    def save(self, lane: int) -> bytes:
        """Return the state of a lane, as its session would."""
        return self._running(lane).save()

    def restore(self, lane: int, state: bytes) -> None:
        """Let a lane go on from a saved state, of a lane or of a session.

        Raises:
            TokensError: the state is another tokenizer's, or damaged.
        """
        self._check(lane)
        session = self._start()
        session.restore(state)
        self._sessions[lane] = session

    def _check(self, lane: int) -> None:
        if not 0 <= lane < self.count:
            raise TokensError(f"the lane is {lane}; expected 0 to {self.count - 1}")

    def _running(self, lane: int) -> Session:
        self._check(lane)
        if lane not in self._sessions:
            raise TokensError(f"lane {lane} has no stream; push to it first")
        return self._sessions[lane]

    def _session(self, lane: int) -> Session:
        """The session of a lane, begun if need be."""
        self._check(lane)
        if lane not in self._sessions:
            self._sessions[lane] = self._start()
        return self._sessions[lane]

    def _finished(self, lane: int) -> Session:
        """The session of a lane, which is free from now on."""
        session = self._running(lane)
        del self._sessions[lane]
        return session

    def _groups(self, pieces: Mapping[int, Tensor]) -> list[list[int]]:
        """Lanes whose pieces and states can share a call."""
        groups: dict[object, list[int]] = {}
        for lane, piece in pieces.items():
            session: Session = self._sessions[lane]
            shapes = piece.shape, *(tensor.shape for tensor in session.state)
            groups.setdefault((shapes, self._books(session)), []).append(lane)
        return list(groups.values())

    def _books(self, session: Session) -> int:
        """Number of books on which the net of a session depends; 0: on none."""
        return 0

    def _joined(self, lanes: list[int]) -> State:
        """States of several lanes as those of a batch."""
        states = (self._sessions[lane].state for lane in lanes)
        return tuple(torch.cat(tensors) for tensors in zip(*states))

    def _deal(self, lanes: list[int], state: State) -> None:
        """Give every lane its part of the state of a batch."""
        for index, lane in enumerate(lanes):
            self._sessions[lane].state = tuple(tensor[index : index + 1] for tensor in state)


class EncoderLanes(_Lanes[CodecEncoder]):
    """Many streams of sound that are encoded together; what comes out is what single sessions give.

    Args:
        codec: a codec with encoder sessions.
        count: number of lanes; they are called 0 to count - 1.
        num_codebooks: a legal prefix; default: all books.

    Raises:
        NotOfferedError: the codec has no encoder sessions.
        TokensError: `num_codebooks` is not a legal prefix, or there are no lanes.

    Example:
        >>> lanes = EncoderLanes(codec, 16)  # doctest: +SKIP
        >>> lanes.push({0: chunk, 3: another})  # doctest: +SKIP
        {0: Tokens(...), 3: Tokens(...)}
    """

    def __init__(self, codec: Codec, count: int, *, num_codebooks: int | None = None) -> None:
        super().__init__(count, lambda: codec.encoder(num_codebooks=num_codebooks))

    def push(self, chunks: Mapping[int, WaveformLike]) -> dict[int, Tokens]:
        """Take a chunk `[T]` or `[C, T]` for each of some lanes; return the codes that are now final.

        A lane without a stream begins one; a lane without new codes is absent from the result.

        Raises:
            AudioError: a chunk is not usable; no lane has taken its own then.
            TokensError: there is no such lane.
        """
        checked = {lane: self._session(lane).checked(chunk) for lane, chunk in chunks.items()}
        pieces = {
            lane: self._sessions[lane].received(samples, final=False) for lane, samples in checked.items()
        }
        found = {}
        for lanes in self._groups(pieces):
            x, state = torch.cat([pieces[lane] for lane in lanes]), self._joined(lanes)
            codes, frames, state = self._sessions[lanes[0]].step(x, state, final=False)
            self._deal(lanes, state)
            for index, lane in enumerate(lanes):
                tokens = self._sessions[lane].returned(_item(codes, index), frames, final=False)
                if tokens.num_samples:
                    found[lane] = tokens
        return found

    def finish(self, lane: int) -> Tokens:
        """End the stream of a lane and return its remaining codes; the lane is free then.

        Raises:
            AudioError: no sample came.
            TokensError: there is no such lane, or no stream in it.
        """
        return self._finished(lane).finish()


class DecoderLanes(_Lanes[CodecDecoder]):
    """Many streams of tokens that are decoded together; what comes out is what single sessions give.

    Args:
        codec: a codec with decoder sessions.
        count: number of lanes; they are called 0 to count - 1.
        num_codebooks: a legal prefix to which tokens are cut; default: they are taken as they are.

    Raises:
        NotOfferedError: the codec has no decoder sessions.
        TokensError: `num_codebooks` is not a legal prefix, or there are no lanes.
    """

    def __init__(self, codec: Codec, count: int, *, num_codebooks: int | None = None) -> None:
        super().__init__(count, lambda: codec.decoder(num_codebooks=num_codebooks))

    def push(self, tokens: Mapping[int, Tokens]) -> dict[int, np.ndarray]:
        """Take the next tokens of some lanes; return the samples `[C, N]` of each that became final.

        N may be 0. A lane without a stream begins one.

        Raises:
            TokensError: there is no such lane, or the tokens are another tokenizer's; none takes any then.
        """
        checked = {lane: self._session(lane).checked(part) for lane, part in tokens.items()}
        pieces = {lane: self._sessions[lane].received(part) for lane, part in checked.items()}
        found = {}
        for lanes in self._groups(pieces):
            latents, state = torch.cat([pieces[lane] for lane in lanes]), self._joined(lanes)
            waveforms, state = self._sessions[lanes[0]].step(latents, state, final=False)
            self._deal(lanes, state)
            for index, lane in enumerate(lanes):
                found[lane] = self._sessions[lane].returned(waveforms[index : index + 1], final=False)
        return found

    def finish(self, lane: int) -> np.ndarray:
        """End the stream of a lane and return its remaining samples `[C, N]`; the lane is free then.

        Raises:
            TokensError: there is no such lane, or no stream in it.
        """
        return self._finished(lane).finish()

    def _books(self, session: CodecDecoder) -> int:
        return session.codebooks


def _item(codes: Codes, index: int) -> Codes:
    """Codes of one item of a batch, as a batch of 1."""
    if isinstance(codes, tuple):
        return tuple(part[index : index + 1] for part in codes)
    return codes[index : index + 1]
