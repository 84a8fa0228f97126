"""Sizes that are known only when a graph runs, as affine expressions.

A `Dim` is c + sum_i a_i v_i with integers c and a_i. An atom v_i is a size of an input of the graph, the
quotient or the positive part of another expression. Comparisons are decided by bounds: with them a block's
own code runs on sizes without numbers, and where it asks what cannot be known it ends in an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from audiotokens.errors import NotOfferedError

Size: TypeAlias = "int | Dim"
"""A number, or an expression."""


@dataclass(frozen=True)
class Atom:
    """An indivisible size; equal ones have equal keys.

    Args:
        key: what it is, as nested tuples.
        lower: smallest value.
        upper: largest value.
    """

    key: tuple[Any, ...]
    lower: float
    upper: float = math.inf


@dataclass(frozen=True, eq=False)
class Variable(Atom):
    """A size of an input.

    Args:
        name: its name.
    """

    name: str = ""


@dataclass(frozen=True, eq=False)
class Quotient(Atom):
    """floor(of / divisor).

    Args:
        of: what is divided.
        divisor: positive.
    """

    of: Dim = None  # type: ignore[assignment]
    divisor: int = 1


@dataclass(frozen=True, eq=False)
class Positive(Atom):
    """max(of, 0).

    Args:
        of: positive or negative.
    """

    of: Dim = None  # type: ignore[assignment]


def variable(name: str, *, least: int) -> Dim:
    """A size of an input that is at least `least`."""
    return Dim({Variable((name,), least, math.inf, name): 1}, 0)


class Dim:
    """c + sum_i a_i v_i; see the module's text.

    As a condition it is true unless it is surely 0: a graph takes the way for pieces with frames, which gives
    the same for pieces without.

    Args:
        terms: factor of each atom, none of them 0.
        constant: c.
    """

    def __init__(self, terms: dict[Atom, int], constant: int) -> None:
        ordered = sorted(terms.items(), key=lambda item: repr(item[0].key))
        self.terms = dict(ordered)
        self.constant = constant
        self.key = (tuple((atom.key, factor) for atom, factor in ordered), constant)

    def __repr__(self) -> str:
        parts = [f"{factor} {atom.key}" for atom, factor in self.terms.items()]
        return " + ".join([*parts, str(self.constant)])

    def __hash__(self) -> int:
        return hash(self.key)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Torch asks for it where a size meets a tensor; the active `Tracing` has answered before.
        return NotImplemented

    def __add__(self, other: Size) -> Any:
        if isinstance(other, int):
            return Dim(self.terms, self.constant + other)
        terms = dict(self.terms)
        for atom, factor in other.terms.items():
            terms[atom] = terms.get(atom, 0) + factor
        return _made(terms, self.constant + other.constant)

    __radd__ = __add__

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Size) -> Any:
        return self + -other

    def __rsub__(self, other: Size) -> Any:
        return -self + other

    def __mul__(self, factor: int) -> Any:
        return _made({atom: own * factor for atom, own in self.terms.items()}, self.constant * factor)

    __rmul__ = __mul__

    def __floordiv__(self, divisor: int) -> Any:
        whole = {atom: factor // divisor for atom, factor in self.terms.items() if factor % divisor == 0}
        rest = {atom: factor for atom, factor in self.terms.items() if factor % divisor}
        if not rest:
            return _made(whole, self.constant // divisor)
        below = Dim(rest, self.constant % divisor)
        lower, upper = bounds(below)
        key = ("//", below.key, divisor)
        quotient = Quotient(key, _divided(lower, divisor), _divided(upper, divisor), below, divisor)
        return _made({**whole, quotient: 1}, self.constant // divisor)

    def __mod__(self, divisor: int) -> Any:
        return self - divisor * (self // divisor)

    def at_least(self, least: Size) -> Any:
        """max(self, least)."""
        return least + _positive(self - least)

    def __bool__(self) -> bool:
        return bounds(self) != (0, 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, int | Dim):
            return NotImplemented
        difference = self - other
        if isinstance(difference, int):
            return difference == 0
        lower, upper = bounds(difference)
        if lower > 0 or upper < 0:
            return False
        raise _undecided(self, "==", other)

    def __lt__(self, other: Size) -> bool:
        return _less(self, other, strictly=True)

    def __le__(self, other: Size) -> bool:
        return _less(self, other, strictly=False)

    def __gt__(self, other: Size) -> bool:
        return not self <= other

    def __ge__(self, other: Size) -> bool:
        return not self < other


def surely(size: Size, least: int) -> bool:
    """Whether a size is `least` or more, whatever the inputs are."""
    return bounds(size)[0] >= least


def same(first: Size, second: Size) -> bool:
    """Whether two sizes are equal, whatever the inputs are."""
    difference = first - second
    return isinstance(difference, int) and difference == 0


def bounds(size: Size) -> tuple[float, float]:
    """Smallest and largest value that can be proven."""
    if isinstance(size, int):
        return size, size
    negative = -size
    return _lower(size), -(negative if isinstance(negative, int) else _lower(negative))


def _lower(size: Dim) -> float:
    best = size.constant + sum(f * (atom.lower if f > 0 else atom.upper) for atom, f in size.terms.items())
    for atom, factor in size.terms.items():
        rest: Any = size - Dim({atom: factor}, 0)
        if isinstance(atom, Quotient) and factor % atom.divisor == 0:
            # s q = e - r with a remainder r from 0 to s - 1.
            times = factor // atom.divisor
            remainder = min(0, -times * (atom.divisor - 1))
            best = max(best, bounds(rest + times * atom.of)[0] + remainder)
        elif isinstance(atom, Positive):
            without, within = bounds(rest)[0], bounds(rest + factor * atom.of)[0]
            best = max(best, max(without, within) if factor > 0 else min(without, within))
    return best


def _positive(size: Size) -> Any:
    lower, upper = bounds(size)
    if lower >= 0:
        return size
    if upper <= 0:
        return 0
    if isinstance(size, int):
        return max(size, 0)
    # max(-e, 0) = max(e, 0) - e: of the two one is written, so that they cancel.
    if next(iter(size.terms.values())) < 0:
        return size + _positive(-size)
    return Dim({Positive(("max", size.key), 0, upper, size): 1}, 0)


def _less(first: Dim, second: Size, *, strictly: bool) -> bool:
    lower, upper = bounds(first - second)
    if upper < 0 or (upper <= 0 and not strictly):
        return True
    if lower > 0 or (lower >= 0 and strictly):
        return False
    raise _undecided(first, "<" if strictly else "<=", second)


def _divided(value: float, divisor: int) -> float:
    return value if math.isinf(value) else value // divisor


def _made(terms: dict[Atom, int], constant: int) -> Size:
    left = {atom: factor for atom, factor in terms.items() if factor}
    return Dim(left, constant) if left else constant


def _undecided(first: Size, sign: str, second: object) -> NotOfferedError:
    return NotOfferedError(
        f"a graph cannot be written: a block asks whether {first} {sign} {second}, which depends on the input"
    )
