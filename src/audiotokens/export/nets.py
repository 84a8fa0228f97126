"""A net as graphs: of any length, and of the first, the middle and the last steps of a stream."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audiotokens.errors import NotOfferedError
from audiotokens.export.computed import tables
from audiotokens.export.dims import Dim, Size, same, variable
from audiotokens.export.graph import Graph, Port
from audiotokens.export.rules import rules
from audiotokens.export.traced import Traced, Tracing, traced
from audiotokens.export.weights import StoredWeights
from audiotokens.nn.block import Sequential, State

_MOST_HOPS = 512
_MOST_PERIOD = 32


@dataclass(frozen=True)
class Steps:
    """How a net is stepped through a stream.

    Args:
        first: frames that the first step takes.
        first_gives: frames that come out of it.
        size: frames that each step between takes, or a multiple.
        gives: frames that come out for so many.
        states: the net's state after the first step; the shapes stay.
        varying: which of them change; the others are empty, or zeros that count by their number.
    """

    first: int
    first_gives: int
    size: int
    gives: int
    states: State
    varying: tuple[int, ...]

    @property
    def ports(self) -> list[Port]:
        """The states that are inputs and outputs, as "state.0" and so on."""
        states = [self.states[index] for index in self.varying]
        return [
            Port(f"state.{number}", str(state.dtype).removeprefix("torch."), tuple(state.shape))
            for number, state in enumerate(states)
        ]


@torch.no_grad()
def find_steps(net: Sequential, channels: int, hop: int) -> Steps:
    """Step through noise, hop by hop, until the state keeps its shapes and every hop gives as much.

    Args:
        net: in float32.
        channels: of its input.
        hop: frames of its input.

    Raises:
        NotOfferedError: that does not happen.
    """
    generator = torch.Generator().manual_seed(0)
    state = net.initial_state(1, like=torch.zeros(0))
    states, totals = [state], [0]
    for _ in range(_MOST_HOPS):
        y, state = net.step(0.1 * torch.randn(1, channels, hop, generator=generator), state)
        states.append(state)
        totals.append(totals[-1] + y.shape[2])
        for period in range(1, min(_MOST_PERIOD, (len(states) - 1) // 2) + 1):
            found = states[-1 - 2 * period :: period]
            gives = totals[-1] - totals[-1 - period]
            begun = totals[-1 - 2 * period]
            if _steady(found) and begun >= gives > 0 and totals[-1] - begun == 2 * gives:
                varying = tuple(i for i in range(len(state)) if _varies([each[i] for each in found]))
                count = len(states) - 1 - 2 * period
                return Steps(count * hop, begun, period * hop, gives, found[0], varying)
    raise NotOfferedError(
        "graphs of steps cannot be written, as the state of a net keeps no size: export without streaming"
    )


def _steady(states: list[State]) -> bool:
    """Whether all have equal shapes."""
    shapes = [[tensor.shape for tensor in state] for state in states]
    return all(each == shapes[0] for each in shapes)


def _varies(values: list[Tensor]) -> bool:
    last = values[-1]
    counts = last.ndim == 2 and last.is_floating_point() and not any(bool(value.any()) for value in values)
    return bool(last.numel()) and not counts


class NetTracer:
    """Writes the graphs of one net.

    Args:
        net: encoder or decoder, in float32 and evaluation mode.
        channels: of its input.
        weights: what the graphs point at.
        config: of the codec.
        least: frames that an input has at least.
    """

    def __init__(
        self, net: Sequential, channels: int, weights: StoredWeights, config: Any, *, least: int
    ) -> None:
        self.net, self.channels, self.least = net, channels, least
        self._weights, self._config = weights, config

    def offline(self) -> Graph:
        """A graph of whole inputs."""
        graph, x = self._begun(variable("t", least=self.least), 1)
        with _tracing(self.net, graph, self._config):
            y = self.net(x)
            self._output(graph, y)
        return graph

    def first(self, steps: Steps) -> Graph:
        """A graph of the first step, with the initial state in it."""
        graph, x = self._begun(steps.first, 1)
        with _tracing(self.net, graph, self._config):
            y, state = self.net.step(x, self.net.initial_state(1, like=torch.zeros(0)))
            self._check(y, steps.first_gives)
            self._output(graph, y)
            self._output_states(graph, state, steps)
        return graph

    def middle(self, steps: Steps) -> Graph:
        """A graph of any number of steps at once."""
        number = variable("n", least=1)
        graph, x = self._begun(number * steps.size, steps.size)
        with _tracing(self.net, graph, self._config):
            y, state = self.net.step(x, self._input_states(graph, steps))
            self._check(y, number * steps.gives)
            self._output(graph, y)
            self._output_states(graph, state, steps)
        return graph

    def last(self, steps: Steps) -> Graph:
        """A graph of the end of a stream."""
        graph, x = self._begun(variable("r", least=0), 1)
        with _tracing(self.net, graph, self._config):
            y, _ = self.net.step(x, self._input_states(graph, steps), final=True)
            self._output(graph, y)
        return graph

    def _begun(self, frames: Size, divisor: int) -> tuple[Graph, Any]:
        graph = Graph(self._weights)
        axis: int | str = frames if isinstance(frames, int) else "t"
        graph.inputs.append(Port("x", "float32", (1, self.channels, axis)))
        if isinstance(frames, Dim):
            (atom,) = frames.terms
            graph.variables[atom.key[0]] = ("x", 2, divisor)
        return graph, Traced("x", (1, self.channels, frames))

    def _input_states(self, graph: Graph, steps: Steps) -> Any:
        state: list[Any] = list(steps.states)
        for port, index in zip(steps.ports, steps.varying):
            graph.inputs.append(port)
            state[index] = Traced(port.name, tuple(state[index].shape), state[index].dtype)
        return tuple(state)

    def _output(self, graph: Graph, y: Any) -> None:
        y = traced(y)
        shape = tuple(size if isinstance(size, int) else "u" for size in y.shape)
        graph.output(Port("y", "float32", shape), y.plain())

    def _output_states(self, graph: Graph, state: Any, steps: Steps) -> None:
        for index, (after, before) in enumerate(zip(state, steps.states, strict=True)):
            self._check_shape(after, before)
            empty = any(same(size, 0) for size in after.shape)
            if not (index in steps.varying or empty) and (isinstance(after, Traced) or bool(after.any())):
                raise NotOfferedError("a graph of steps cannot be written: a state that only counts varies")
        for port, index in zip(steps.ports, steps.varying):
            name = traced(state[index]).plain() if state[index].ndim > 1 else traced(state[index]).name
            graph.output(Port(port.name.replace("state", "next"), port.dtype, port.shape), name)

    def _check(self, y: Any, frames: Size) -> None:
        if not same(y.shape[2], frames):
            raise NotOfferedError(
                f"a graph of steps cannot be written: a step gives {y.shape[2]} frames, expected {frames}"
            )

    def _check_shape(self, after: Any, before: Tensor) -> None:
        if len(after.shape) != before.ndim or not all(map(same, after.shape, before.shape)):
            raise NotOfferedError(
                "a graph of steps cannot be written: the shape of a state changes from "
                f"{tuple(before.shape)} to {tuple(after.shape)}"
            )


@contextlib.contextmanager
def _tracing(net: Sequential, graph: Graph, config: Any) -> Iterator[None]:
    """Trace a net under its rules, with gradients: then no kernel that a graph cannot say is taken."""
    with torch.enable_grad(), rules(net), Tracing(graph, dict(tables(net, config))):
        yield
