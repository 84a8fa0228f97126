"""I9: tokens survive `.tok`, and damage never gives other tokens."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np

from audiotokens.errors import TokenFileError
from audiotokens.tokenfile import Span, read_tokens, write_tokens
from audiotokens.tokens import Tokens
from audiotokens.verify.subject import Subject
from audiotokens.verify.tally import Tally


def check_storage(subject: Subject) -> Tally:
    """I9: tokens survive `.tok`; a damaged file is an error or a flagged salvage, never other tokens."""
    subject.require()
    tally = Tally(unit="files")
    random = subject.random("damage")
    mutations = 400 if subject.thorough else 4 if subject.recorded else 12
    for name in subject.waveforms:
        for books in {None, subject.smallest_prefix}:
            tokens = subject.tokens(name, books)
            content = _stored(tokens)
            tally.expect(read_tokens(io.BytesIO(content)) == tokens, f'"{name}" came back changed from .tok')
            for _ in range(mutations):
                damaged, how = _damage(content, random)
                tally.expect(_harmless(damaged, tokens), f'"{name}": other tokens from a file with {how}')
    return tally


def _stored(tokens: Tokens) -> bytes:
    file = io.BytesIO()
    write_tokens(file, tokens)
    return file.getvalue()


def _harmless(content: bytes, tokens: Tokens) -> bool:
    """Whether reading refuses the content or gives the true tokens, and salvage gives true parts only."""
    try:
        if read_tokens(io.BytesIO(content)) != tokens:
            return False
    except TokenFileError:
        pass
    try:
        salvage = read_tokens(io.BytesIO(content), salvage=True)
    except TokenFileError:
        return True
    return salvage.tokens in (None, tokens) and all(_is_part(span, tokens) for span in salvage.spans)


def _is_part(span: Span, tokens: Tokens) -> bool:
    start, end = (Fraction(sample, tokens.sample_rate) for sample in (span.start_sample, span.end_sample))
    return span.tokens == tokens.clip(start, end)


def _damage(content: bytes, random: np.random.Generator) -> tuple[bytes, str]:
    """Flip a bit, cut the end off, take bytes out, put bytes in, or set bytes to zero."""
    place, size = int(random.integers(len(content))), int(random.integers(1, 9))
    head, tail = content[:place], content[place:]
    match int(random.integers(5)):
        case 0:
            return head + bytes([tail[0] ^ 1 << int(random.integers(8))]) + tail[
                1:
            ], f"a bit of byte {place} flipped"
        case 1:
            return head, f"{len(tail)} bytes missing at the end"
        case 2:
            return head + tail[size:], f"{size} bytes missing at byte {place}"
        case 3:
            return head + random.bytes(size) + tail, f"{size} bytes too many at byte {place}"
        case _:
            return head + bytes(len(tail[:size])) + tail[size:], f"{size} zero bytes at byte {place}"
