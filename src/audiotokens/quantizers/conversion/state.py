"""State dicts of vector-quantize-pytorch, and what is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from audiotokens.quantizers.base import Quantizer, QuantizerConfig
from audiotokens.quantizers.projected import ProjectedConfig
from audiotokens.quantizers.registry import build_quantizer


class Tensors:
    """A state dict, or what stands under a prefix in it, and which tensors were asked for.

    Args:
        owner: name of the class.
        tensors: by their whole names.
        prefix: of the names that are asked for.
        used: whole names that were asked for, shared by all that `under` makes.
    """

    def __init__(
        self, owner: str, tensors: Mapping[str, Tensor], prefix: str = "", used: set[str] | None = None
    ) -> None:
        self._owner, self._tensors, self._prefix = owner, tensors, prefix
        self._used: set[str] = set() if used is None else used

    def under(self, prefix: str) -> Tensors:
        """Return what stands under a prefix more."""
        return Tensors(self._owner, self._tensors, self._prefix + prefix, self._used)

    def __getitem__(self, name: str) -> Tensor:
        name = self._prefix + name
        if name not in self._tensors:
            raise ValueError(
                f"{self._owner}: found no tensor {name}; check that the options are those of the state"
            )
        self._used.add(name)
        return self._tensors[name]

    def named(self, *names: str) -> dict[str, Tensor]:
        """Return tensors whose names are the same here."""
        return {name: self[name] for name in names}

    def maps(self, *, bias: bool = True) -> dict[str, Tensor]:
        """Return the linear maps around a quantizer."""
        parts = ("weight", "bias") if bias else ("weight",)
        return self.named(*(f"project_{way}.{part}" for way in ("in", "out") for part in parts))

    def skip(self, ending: str) -> None:
        """Do without the tensors under the prefix whose names end so."""
        under = (name for name in self._tensors if name.startswith(self._prefix))
        self._used.update(name for name in under if name.endswith(ending))

    def finish(self) -> None:
        """Raise a ValueError for a tensor that nobody asked for."""
        for name in self._tensors:
            if name not in self._used:
                raise ValueError(
                    f"{self._owner}: found the tensor {name}, which these options do not ask for"
                )


@dataclass(frozen=True)
class Made:
    """What a quantizer is built of.

    Args:
        dim: dimensions of its latents.
        config: its configuration.
        state: its tensors by name, those of its learning state too.
    """

    dim: int
    config: QuantizerConfig
    state: Mapping[str, Tensor]

    def projected(self, dim: int, maps: Mapping[str, Tensor], *, bias: bool = True) -> Made:
        """Return this one between linear maps from and to `dim` dimensions."""
        config = ProjectedConfig(inner=self.config, inner_dim=self.dim, bias=bias)
        inner = {f"inner.{key}": value for key, value in self.state.items()}
        return Made(dim, config, {**inner, **maps})

    @torch.no_grad()
    def build(self, owner: str) -> Quantizer:
        """Return the quantizer.

        Raises:
            ValueError: a tensor of another shape.
        """
        quantizer = build_quantizer(self.config, self.dim)
        targets = {**dict(quantizer.named_parameters()), **dict(quantizer.named_buffers())}
        for name, value in self.state.items():
            target = targets[name]
            if value.shape != target.shape:
                raise ValueError(
                    f"{owner}: found the shape {tuple(value.shape)} for {name}, expected "
                    f"{tuple(target.shape)}; check that the options are those of the state"
                )
            target.copy_(value)
        return quantizer
