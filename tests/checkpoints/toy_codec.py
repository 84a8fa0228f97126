"""A family for tests of the import: the house codec under the keys and arguments of an imagined original."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from audiotokens.architectures import gain_shape
from audiotokens.architectures.gain_shape import GainShapeCodec, GainShapeConfig
from audiotokens.architectures.reference import Reference, Shapes
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError

_TINY = gain_shape.VARIANTS["tiny"]
VARIANTS = {
    "toy-8k": replace(_TINY, sample_rate=8000),
    "toy-wide": replace(_TINY, width=24),
    "toy-wide-44k": replace(_TINY, width=24, sample_rate=44100),
    "tiny": _TINY,
}


@dataclass(frozen=True)
class _Arguments:
    width: int
    sample_rate: int = 16000
    dropout: float = 0.0


def _read_config(arguments: Mapping[str, Any]) -> GainShapeConfig:
    if "head" in arguments:
        arguments = {"width": arguments["head"]["init_args"]["dim"], "sample_rate": arguments["sample_rate"]}
    given = from_dict(_Arguments, arguments, where="configuration of toy")
    if given.width < 1:
        raise ConfigError(f"configuration of toy: width is {given.width}, expected at least 1")
    return replace(_TINY, width=given.width, sample_rate=given.sample_rate)


def _guess(shapes: Shapes) -> GainShapeConfig | None:
    width = shapes.get("model.encoder_net.blocks.2.linear.weight", (0,))[0]
    return replace(_TINY, width=width) if width == 20 else None


class ToyCodec(GainShapeCodec):
    """The house codec by other names."""

    architecture = "toy"
    reference = Reference(
        read_config=_read_config,
        rules=((r"(?:model\.)?((?:encoder|decoder)_net\..*)", r"\1"), (r"books\.(.*)", r"quantizer.\1")),
        ignored=(r"discriminator\..*",),
        guess=_guess,
    )


def original(codec: GainShapeCodec) -> dict[str, Tensor]:
    """The tensors of a codec as the imagined original stores them: other names, weight norm, leftovers."""
    stored = {"discriminator.weight": torch.ones(2, 2)}
    for name, tensor in codec.state_dict().items():
        key = re.sub(r"^quantizer\.", "books.", name)
        key = key if key.startswith("books.") else f"model.{key}"
        if key.endswith("linear.weight"):
            stem = key.removesuffix("weight")
            stored[f"{stem}weight_g"] = tensor.norm(dim=1, keepdim=True)
            stored[f"{stem}weight_v"] = 3 * tensor
        else:
            stored[key] = tensor
    return {name: tensor.clone() for name, tensor in stored.items()}
