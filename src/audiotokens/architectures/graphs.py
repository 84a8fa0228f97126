"""Computation graphs as plain data: what a checkpoint in the form of a graph holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from audiotokens.errors import CheckpointError


@dataclass(frozen=True, eq=False)
class GraphTensor:
    """One tensor of a graph.

    Args:
        name: as in the file; not unique.
        shape: sizes of its axes.
        dtype: of its numbers; None for types without numbers, such as resources.
        values: the constant itself, read-only; None where the graph computes the tensor.
        scale: of quantized numbers: value = scale (q - zero_point); one, or one per entry of `axis`; empty:
            the numbers are not quantized.
        zero_point: as many as there are scales.
        axis: the quantized dimension, where there are several scales.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None = None
    values: np.ndarray | None = None
    scale: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    zero_point: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    axis: int = 0

    def floats(self) -> np.ndarray:
        """Return the constant as float32, quantized ones multiplied out.

        Raises:
            CheckpointError: the tensor is no constant, or a number is not finite.
        """
        if self.values is None:
            raise CheckpointError(f'the tensor "{self.name}" holds no constant: get the file again')
        sizes = [1] * len(self.shape)
        if self.scale.size > 1:
            sizes[self.axis] = -1
        with np.errstate(invalid="ignore", over="ignore"):
            numbers = self.values.astype(np.float64)
            if self.scale.size:
                shifted = numbers - self.zero_point.reshape(sizes)
                numbers = shifted * self.scale.reshape(sizes).astype(np.float64)
            floats = numbers.astype(np.float32)
        if not np.isfinite(floats).all():
            raise CheckpointError(f'the tensor "{self.name}" has numbers that are not finite: get it again')
        return floats


@dataclass(frozen=True)
class Operator:
    """One step of a graph.

    Args:
        kind: such as "CONV_2D".
        inputs: numbers of tensors; -1 for an input that is left out.
        outputs: numbers of tensors.
        options: such as {"stride_h": 2}.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Graph:
    """Tensors, and operators in the order in which they run.

    Args:
        name: as in the file.
        tensors: all of them; operators name them by number.
        operators: in order.
        inputs: numbers of tensors.
        outputs: numbers of tensors.
    """

    name: str
    tensors: tuple[GraphTensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
