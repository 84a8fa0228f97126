"""Any tokenizer in overlapping windows: bounded memory for networks that read whole recordings."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import replace

import numpy as np

from audiotokens.errors import NotOfferedError, TokensError
from audiotokens.recordings.window_sessions import InnerDecoder, Plan, WindowDecoder, WindowEncoder
from audiotokens.spec import Spec
from audiotokens.splice import common_frame
from audiotokens.tokenizer import Decoder, Streams, Tokenizer
from audiotokens.tokens import Conditioning, Tokens

_NAME = re.compile(r"(?P<name>.+):window=(?P<window>[0-9.]{1,12}),overlap=(?P<overlap>[0-9.]{1,12})")


class Windowed(Tokenizer):
    """A tokenizer of its own that works on overlapping windows of the recording.

    For tokenizers whose networks read whole recordings (bidirectional LSTM, attention over everything, group
    norm over time). Codes near a cut differ from those of one pass; how many, a session measures: see
    `encoder`. Recordings no longer than a window get the plain codes. Every window but the last is equally
    long; each overlap is cut in its middle, where both windows have seen as much on the farther side.

    Decoding uses the inner streaming decoder where there is one; else it goes by windows too, with a linear
    cross-fade over 20 ms in the middle of each overlap. The fade is short because two decodings may differ in
    phase, and then cancel while both sound; a bare cut would click.

    Args:
        tokenizer: what encodes and decodes each window.
        window: seconds; rounded to whole frames.
        overlap: seconds that neighbours share, at most half a window; rounded to pairs of frames.

    Raises:
        NotOfferedError: the tokenizer has codes for the whole recording, which every window would have anew.
        TokensError: a length is not usable.

    Example:
        >>> tokens = encode_file(Windowed(tokenizer, window=20), "lecture.flac")  # doctest: +SKIP
    """

    def __init__(self, tokenizer: Tokenizer, *, window: float = 20.0, overlap: float = 2.0) -> None:
        spec = tokenizer.spec
        if not spec.streams or any(not stream.frame_rate for stream in spec.streams):
            raise NotOfferedError(
                f"{spec.name} has codes that stand for the whole recording, so windows cannot be joined"
            )
        if not (0 < overlap <= window / 2 and math.isfinite(window)):
            raise TokensError(
                f"a window of {window} s with an overlap of {overlap} s; expected at most half of a window"
            )
        frame = common_frame(spec.sample_rate / stream.frame_rate for stream in spec.streams)
        # Windows must begin on whole samples of the output as well.
        unit = math.lcm(frame, spec.sample_rate // math.gcd(spec.sample_rate, spec.output_sample_rate))
        pairs = max(round(overlap * spec.sample_rate / (2 * unit)), 1)
        length = max(round(window * spec.sample_rate / unit), 4 * pairs)
        self.inner = tokenizer
        self.plan = Plan(unit, length * unit, 2 * pairs * unit)
        name = f"{spec.name}:window={window:.10g},overlap={overlap:.10g}"
        self._spec = _windowed_spec(spec, name, self.plan)

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def fingerprint(self) -> str:
        text = f"windowed {self.inner.fingerprint} {self.plan.window} {self.plan.overlap}"
        return hashlib.sha256(text.encode()).hexdigest()

    def encoder(self, *, num_codebooks: int | None = None) -> WindowEncoder:
        """Start a session; its `disagreement` says afterwards what the windows changed."""
        return WindowEncoder(self, self.plan, self.spec.check_prefix(num_codebooks))

    def decoder(self, *, num_codebooks: int | None = None) -> Decoder:
        try:
            return InnerDecoder(self, self.inner.decoder(num_codebooks=num_codebooks))
        except NotOfferedError:
            return WindowDecoder(self, self.plan, num_codebooks)

    def checked(self, tokens: Tokens, num_codebooks: int | None = None) -> Tokens:
        """Return the tokens cut to `num_codebooks`; those of the inner tokenizer are taken too."""
        if tokens.fingerprint == self.inner.fingerprint:
            tokens = self.outward(tokens)
        return super().checked(tokens, num_codebooks)

    def inward(self, tokens: Tokens) -> Tokens:
        """Return tokens of this tokenizer as those of the inner one, to decode them."""
        return replace(tokens, tokenizer=self.inner.spec.name, fingerprint=self.inner.fingerprint)

    def outward(self, tokens: Tokens) -> Tokens:
        """Return tokens of the inner tokenizer as those of this one."""
        return replace(tokens, tokenizer=self.spec.name, fingerprint=self.fingerprint)

    def _encode(self, waveform: np.ndarray, num_codebooks: int) -> tuple[Streams, dict[str, Conditioning]]:
        session = self.encoder(num_codebooks=num_codebooks)
        first, rest = session.push(waveform), session.finish()
        tokens = rest if first is None else Tokens.concatenate([first, rest])
        return dict(tokens.streams), dict(tokens.conditioning)

    def _decode(self, tokens: Tokens) -> np.ndarray:
        session = self.decoder()
        return np.concatenate([session.push(tokens), session.finish()], axis=1)


def windows_of(name: str) -> tuple[str, float, float] | None:
    """Return the inner name, window and overlap in seconds that the name of a `Windowed` states; else None.

    Example:
        >>> windows_of("bigcodec:window=20,overlap=2")
        ('bigcodec', 20.0, 2.0)
    """
    found = _NAME.fullmatch(name)
    try:
        return (found["name"], float(found["window"]), float(found["overlap"])) if found else None
    except ValueError:
        return None


def _windowed_spec(spec: Spec, name: str, plan: Plan) -> Spec:
    quirk = (
        f"Works on windows of {plan.window / spec.sample_rate:g} s that overlap by "
        f"{plan.overlap / spec.sample_rate:g} s: codes near their ends differ from those of one pass."
    )
    waits = plan.window - int(spec.hop)
    return replace(
        spec,
        name=name,
        streamable=True,
        causal=False,
        lookahead=waits,
        decoder_lookahead=waits,
        receptive_field=plan.window,
        quirks=(*spec.quirks, quirk),
    )
