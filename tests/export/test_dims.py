"""Sizes without numbers: arithmetic, what can be proven of them, and what cannot."""

from __future__ import annotations

import random
from typing import Any

import pytest

from audiotokens.errors import NotOfferedError
from audiotokens.export.dims import Dim, Positive, Quotient, bounds, same, variable

T = variable("t", least=1)


def value(size: Any, t: int) -> int:
    """The number that an expression stands for."""
    if isinstance(size, int):
        return size
    total = size.constant
    for atom, factor in size.terms.items():
        if isinstance(atom, Quotient):
            total += factor * (value(atom.of, t) // atom.divisor)
        elif isinstance(atom, Positive):
            total += factor * max(value(atom.of, t), 0)
        else:
            total += factor * t
    return total


def test_expressions_fold() -> None:
    assert same(T + 3 - T, 3)
    assert same((6 * T + 8) // 3, 2 * T + 2)
    assert same(-(-T // 5) * 5 - T, -T + 5 * -(-T // 5))
    assert same((T - 7).at_least(0) - (7 - T).at_least(0), T - 7)
    assert same(T.at_least(0), T)
    assert same((-T).at_least(0), 0)


@pytest.mark.parametrize("seed", range(30))
def test_random_expressions_are_what_numbers_give(seed: int) -> None:
    draw = random.Random(seed)
    size: Any = T
    steps = []
    for _ in range(5):
        number = draw.randint(1, 7)
        steps.append((draw.choice("+-*/%m"), number))

    def run(x: Any) -> Any:
        for step, number in steps:
            if step == "m":
                x = x.at_least(number) if isinstance(x, Dim) else max(x, number)
            else:
                x = {
                    "+": x + number,
                    "-": number - x,
                    "*": x * number,
                    "/": x // number,
                    "%": x + x % number,
                }[step]
        return x

    made = run(size)
    lower, upper = bounds(made)
    for t in (*range(1, 40), 1000):
        assert value(made, t) == run(t)
        assert lower <= run(t) <= upper


def test_what_windows_ask_is_proven() -> None:
    frames = -(-T // 320)
    assert frames >= 1
    missing = (frames - 1) * 320 + 640 - T
    assert missing >= 320
    assert missing < 640
    assert (T + 6 - 7) // 1 + 1 >= 1


def test_what_depends_on_the_input_is_an_error() -> None:
    with pytest.raises(NotOfferedError, match="which depends on the input"):
        _ = T < 5
    with pytest.raises(NotOfferedError, match="which depends on the input"):
        _ = T == 5
    with pytest.raises(TypeError):
        range(T)  # type: ignore[arg-type]
    assert T != 0
    assert bool(variable("r", least=0)), "a graph takes the way for pieces with frames"
