"""From names to the systems of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from audiotokens.errors import AudioTokensError, NotOfferedError
from audiotokens.evaluation.anchors.base import Anchor
from audiotokens.evaluation.results import Reference
from audiotokens.evaluation.systems import (
    UNQUANTIZED,
    AnchorSystem,
    DecodesFeatures,
    Named,
    NamedAnchor,
    System,
    TokenizerSystem,
    unique_name,
)
from audiotokens.tokenizer import Tokenizer

TokenizerLike = str | Path | Named | Tokenizer
_PARTS = (1, 2, 3, 4, 6, 12)


def default_prefixes(legal: Sequence[int]) -> tuple[int, ...]:
    """Return at most six legal numbers of books: all, a half, a third, a quarter, a sixth and a twelfth."""
    most = max(legal)
    return tuple(
        sorted({max((k for k in legal if k <= most // part), default=min(legal)) for part in _PARTS})
    )


def choose_tokenizers(
    tokenizers: TokenizerLike | Sequence[TokenizerLike],
    num_codebooks: Sequence[int] | None,
    unquantized: bool,
) -> list[TokenizerSystem]:
    """Return the tokenizers of a comparison; the arguments are those of `compare`.

    Raises:
        AudioTokensError: none is given, one is unknown or given twice, or a number of books is legal nowhere.
        NotOfferedError: one does not both encode and decode, or none can do without its quantizer.
    """
    given = [tokenizers] if isinstance(tokenizers, str | Path | Named | Tokenizer) else list(tokenizers)
    if not given:
        raise AudioTokensError("no tokenizer to compare: give a name, a folder or a Tokenizer")
    if num_codebooks is not None and not num_codebooks:
        raise AudioTokensError("num_codebooks is empty: name at least one number of books")
    systems: list[TokenizerSystem] = []
    for item in given:
        tokenizer, source = _opened(item)
        spec = tokenizer.spec
        if not (spec.can_encode and spec.can_decode):
            raise NotOfferedError(f"{spec.name} does not both encode and decode, which a comparison needs")
        wanted = default_prefixes(spec.legal_prefixes) if num_codebooks is None else num_codebooks
        books = tuple(sorted(set(wanted) & set(spec.legal_prefixes)))
        if not books:
            spec.check_prefix(wanted[0])
        if unquantized and isinstance(tokenizer, DecodesFeatures):
            books = (*books, UNQUANTIZED)
        if any(system.fingerprint == tokenizer.fingerprint for system in systems):
            short = tokenizer.fingerprint[:8]
            raise AudioTokensError(f"{spec.name} ({short}) is given twice: name each tokenizer once")
        name = unique_name(spec.name, tokenizer.fingerprint, systems)
        systems.append(TokenizerSystem(name, tokenizer, books, source))
    legal = {books for system in systems for books in system.books}
    for number in num_codebooks or ():
        if number not in legal:
            raise AudioTokensError(f"num_codebooks {number} is legal for none of the tokenizers")
    if unquantized and UNQUANTIZED not in legal:
        raise NotOfferedError("no tokenizer of this comparison can decode its latents: leave unquantized out")
    return systems


def choose_anchors(
    anchors: str | Anchor | Sequence[str | Anchor],
    before: Sequence[System],
    *,
    lyra: str | Path | None,
    files: Sequence[Path],
) -> tuple[list[AnchorSystem], list[str]]:
    """Return the anchors of a comparison, and a sentence about each of those that cannot run here.

    Args:
        anchors: names and groups, as `get_anchors` takes them, and `Anchor` objects.
        before: systems whose names are taken.
        lyra: folder with the files of Lyra.
        files: all recordings.

    Raises:
        AudioTokensError: one is unknown, cannot run, or has the name of another system.
    """
    chosen: dict[str, AnchorSystem] = {}
    notes: list[str] = []
    taken = {system.name for system in before}
    for item in [anchors] if isinstance(anchors, str | Anchor) else anchors:
        if isinstance(item, Anchor):
            found = [AnchorSystem(item)]
            taken |= set(chosen)
        else:
            found, left_out = _by_name(item, lyra, files)
            notes += left_out
        for system in found:
            if system.name in taken:
                raise AudioTokensError(f'two systems are called "{system.name}": give each a name of its own')
            # groups may overlap
            chosen.setdefault(system.name, system)
    return list(chosen.values()), list(dict.fromkeys(notes))


def choose_reference(against: str, systems: Sequence[System]) -> Reference:
    """Return the system and setting that "name" or "name:books" means.

    A tokenizer without a number stands for all its books.

    Raises:
        AudioTokensError: there is no such point in the comparison.
    """
    name, _, number = against.rpartition(":")
    by_name = {system.name: system for system in systems}
    if against in by_name:
        return Reference(against, by_name[against].most)
    if name in by_name and number.isdecimal() and int(number) in by_name[name].books:
        return Reference(name, int(number))
    points = [f"{s.name}:{books}" if books else s.name for s in systems for books in s.books]
    raise AudioTokensError(f'"{against}" is not compared here; known: {", ".join(dict.fromkeys(points))}')


def _opened(item: TokenizerLike) -> tuple[Tokenizer, Named | None]:
    if isinstance(item, Tokenizer):
        return item, None
    source = item if isinstance(item, Named) else Named(item)
    return source.load(), source


def _by_name(
    name: str, lyra: str | Path | None, files: Sequence[Path]
) -> tuple[list[AnchorSystem], list[str]]:
    from audiotokens.evaluation.anchors import ANCHORS, get_anchors

    selection = get_anchors(name, lyra=lyra, files=files)
    source = NamedAnchor("", lyra, tuple(files))
    systems = [
        AnchorSystem(anchor, replace(source, name=anchor.name) if anchor.name in ANCHORS else None)
        for anchor in selection.anchors
    ]
    return systems, [f"{out} is left out: {reason}" for out, reason in selection.left_out.items()]
