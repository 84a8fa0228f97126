"""Running the graphs of one side step by step, with the state as a value."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiotokens.engines.graphs import Graph, Side
from audiotokens.errors import CheckpointError, MissingExtraError, one_line

_FATAL = 4


class Runtime:
    """Runs the graphs of a folder in ONNX Runtime; each is loaded when it is first needed.

    Args:
        folder: that holds them.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise MissingExtraError("Running exported graphs", "onnx") from None
        self._onnxruntime: Any = onnxruntime
        self._folder = folder
        self._lock = threading.Lock()
        self._sessions: dict[str, Any] = {}

    def run(
        self, graph: Graph, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> list[np.ndarray]:
        """Run a graph.

        Args:
            graph: one of the folder.
            inputs: by name.
            outputs: their names; default: all, in the graph's order.

        Raises:
            CheckpointError: the graph is damaged, or takes or gives something else.
        """
        session = self._session(graph)
        try:
            found: list[np.ndarray] = session.run(outputs, inputs)
        except Exception as error:  # The errors of ONNX Runtime have no other base.
            raise CheckpointError(
                f"{self._folder / graph.file} cannot be run ({one_line(error)}): export again"
            ) from None
        return found

    def output_names(self, graph: Graph) -> list[str]:
        """Names of what a graph gives, in its order."""
        return [output.name for output in self._session(graph).get_outputs()]

    def _session(self, graph: Graph) -> Any:
        with self._lock:
            session = self._sessions.get(graph.file)
            if session is None:
                session = self._sessions[graph.file] = self._loaded(self._folder / graph.file)
        return session

    def _loaded(self, path: Path) -> Any:
        options = self._onnxruntime.SessionOptions()
        # With more threads, sums would be split in other places, and last bits would change.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        try:
            return self._onnxruntime.InferenceSession(
                path, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # The errors of ONNX Runtime have no other base.
            raise CheckpointError(f"{path} cannot be loaded ({one_line(error)}): export again") from None


@dataclass(frozen=True)
class StepState:
    """A stream between two steps.

    Args:
        waiting: input `[1, C, n]` that no step took yet.
        tensors: what the last step handed on.
        started: whether the first step ran.
        returned: frames or samples that came out so far.
    """

    waiting: np.ndarray
    tensors: tuple[np.ndarray, ...] = ()
    started: bool = False
    returned: int = 0


class Net:
    """One side of a tokenizer: `[1, C, T]` to `[1, C', T']`, in whatever pieces.

    Args:
        runtime: of the folder.
        side: its graphs.
        channels: C.
        most_steps: how many middle steps may run in one call; with 1, every recording meets the same shapes
            however it is cut into pieces, so the same bits come out.
        exact: whether it is tried first if more steps in one call give the bits of single ones; where they do
            not, steps run one by one.
    """

    def __init__(
        self, runtime: Runtime, side: Side, channels: int, *, most_steps: int = 1, exact: bool = False
    ) -> None:
        self._runtime, self._side, self._channels = runtime, side, channels
        self._next = [state.name.replace("state", "next", 1) for state in side.states]
        self._most_steps = 1 if exact and not self._steps_agree(most_steps) else most_steps

    @property
    def streams(self) -> bool:
        """Whether there are graphs for streams."""
        return self._side.first is not None

    def begin(self) -> StepState:
        """Return the state before the first sample."""
        return StepState(np.zeros((1, self._channels, 0), np.float32))

    def advance(
        self, x: np.ndarray, state: StepState, *, final: bool = False, due: int | None = None
    ) -> tuple[list[np.ndarray], StepState]:
        """Take the next piece and return what became final, in parts, and the new state.

        Args:
            x: float32 `[1, C, n]`, n may be 0.
            state: from `begin` or the call before.
            final: whether the stream ends with this piece.
            due: frames or samples that the whole stream makes; when they are out, nothing is left to do.
                Default: unknown.
        """
        waiting = np.concatenate([state.waiting, x], 2)
        parts: list[np.ndarray] = []
        tensors, started, position = state.tensors, state.started, 0
        first, middle, last = self._side.first, self._side.middle, self._side.last
        if first and not started and waiting.shape[2] >= first.size:
            y, tensors = self._step(first, waiting[:, :, : first.size], ())
            started, position = True, first.size
            parts.append(y)
        while middle and started and (steps := (waiting.shape[2] - position) // middle.size):
            end = position + min(steps, self._most_steps) * middle.size
            y, tensors = self._step(middle, waiting[:, :, position:end], tensors)
            position = end
            parts.append(y)
        returned = state.returned + sum(part.shape[2] for part in parts)
        rest = waiting[:, :, position:]
        if final:
            if last and started:
                if rest.shape[2] or due is None or returned < due:
                    parts.append(self._run(last, rest, tensors, ["y"])[0])
            elif rest.shape[2] and self._side.offline:
                parts.append(self._run(self._side.offline, rest, (), ["y"])[0])
            rest = rest[:, :, :0]
        # A copy, since the piece may lie in a buffer that the caller fills again.
        return parts, replace(state, waiting=rest.copy(), tensors=tensors, started=started, returned=returned)

    def _steps_agree(self, most_steps: int) -> bool:
        """Whether calls of up to `most_steps` steps give the bits of as many calls, tried on noise."""
        first, middle = self._side.first, self._side.middle
        if not first or not middle or most_steps < 2:
            return False
        counts = sorted({2, 3, 7, most_steps})
        size = first.size + (most_steps + 7) * middle.size
        noise = 0.1 * np.random.default_rng(0).standard_normal((1, self._channels, size))
        outputs = []
        for self._most_steps in (1, *counts):
            parts, state = self.advance(noise.astype(np.float32), self.begin())
            outputs.append([np.concatenate(parts, 2), *state.tensors])
        return all(np.array_equal(a, b) for each in outputs[1:] for a, b in zip(outputs[0], each))

    def fits(self, state: StepState) -> bool:
        """Whether a state that was stored elsewhere is one of this net."""
        expected = [(each.shape, each.type) for each in self._side.states] if state.started else []
        found = [(tensor.shape, str(tensor.dtype)) for tensor in state.tensors]
        waiting = state.waiting
        shape_fits = waiting.ndim == 3 and waiting.shape[:2] == (1, self._channels)
        return found == expected and shape_fits and waiting.dtype == np.float32

    def _step(
        self, graph: Graph, x: np.ndarray, tensors: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        y, *handed_on = self._run(graph, x, tensors, ["y", *self._next])
        return y, tuple(handed_on)

    def _run(
        self, graph: Graph, x: np.ndarray, tensors: Sequence[np.ndarray], outputs: list[str]
    ) -> list[np.ndarray]:
        named = {state.name: tensor for state, tensor in zip(self._side.states, tensors)}
        return self._runtime.run(graph, {"x": np.ascontiguousarray(x), **named}, outputs)
