"""How a family's published checkpoints are read: plain data that `checkpoints` applies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Tensors = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]
TRANSFORMERS_BOOKKEEPING = frozenset(
    ("_name_or_path", "architectures", "dtype", "model_type", "torch_dtype", "transformers_version")
)
"""Keys of every configuration of transformers that say nothing about the model."""


def _unchanged(tensors: Tensors, config: Any) -> Tensors:
    """Names alone say all."""
    return tensors


def _as_told(config: Any, shapes: Shapes) -> Any:
    """Arguments leave nothing open."""
    return config


def _unknown(shapes: Shapes) -> None:
    """Shapes alone do not tell."""
    return None


@dataclass(frozen=True)
class Reference:
    """Reading rules of one family.

    Keys are matched with weight norm folded: "weight_g" with "weight_v", and
    "parametrizations.weight.original0" with "original1", are one "weight".

    Args:
        read_config: from the reference's own constructor arguments, or from the configuration of its model in
            transformers, to the family's configuration; refuses what it does not know with a `ConfigError`.
        rules: regular expressions of whole keys, and what each becomes in the state dict of the codec
            (as in `re.sub`). The first that matches counts. All key styles of the family stand here.
        ignored: regular expressions of keys that decoding and encoding do not need.
        rework: says what names cannot: takes the renamed tensors and the configuration, and returns those of
            the codec's state dict.
        guess: from the shapes by folded key to a configuration; None where they do not tell.
        complete: from a configuration that was read and the shapes by folded key to one with what the
            reference's arguments leave open, such as the sizes of a net that they only name.
    """

    read_config: Callable[[Mapping[str, Any]], Any]
    rules: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...] = ()
    rework: Callable[[Tensors, Any], Tensors] = _unchanged
    guess: Callable[[Shapes], Any] = _unknown
    complete: Callable[[Any, Shapes], Any] = _as_told
