"""From the tensors of a published checkpoint to a codec of this package, every key and shape checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from audiotokens.architectures.reference import Reference
from audiotokens.codec import Codec
from audiotokens.errors import CheckpointError

C = TypeVar("C", bound=Codec)

_NORMED = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)
_SHOWN = 8


def convert(family: type[C], tensors: Mapping[str, Tensor], config: Any) -> C:
    """Build a codec from a reference's state dict.

    Args:
        family: the codec class; its `reference` says how keys are read.
        tensors: by the reference's keys, in any of its styles.
        config: the family's own configuration.

    Raises:
        CheckpointError: tensors are missing, unknown or of another shape; each is named.
    """
    codec = family(config)
    reference: Reference = family.reference
    renamed, unknown = rename(fold_weight_norm(tensors), reference)
    found = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in reference.rework(renamed, config).items()
    }
    problems = mismatches(codec.state_dict(), found) + [f"{key} is unknown" for key in unknown]
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(
            f"{len(problems)} tensors do not fit {family.architecture}: {'; '.join(problems[:_SHOWN])}{more}"
        )
    codec.load_state_dict(found)
    codec.weight_bits = 32
    return codec.eval()


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put w = g v / ||v|| where a checkpoint holds g and v, the norm over all axes but the first.

    (Salimans and Kingma 2016, eq. 2.) Both spellings of torch are read.

    Raises:
        CheckpointError: one half of a pair is missing.
    """
    folded = dict(tensors)
    for gain_end, direction_end in _NORMED:
        stems = {
            n.removesuffix(gain_end).removesuffix(direction_end): n
            for n in folded
            if n.endswith((gain_end, direction_end))
        }
        for stem, name in stems.items():
            gain, direction = folded.pop(stem + gain_end, None), folded.pop(stem + direction_end, None)
            if gain is None or direction is None:
                lacking = gain_end if gain is None else direction_end
                raise CheckpointError(f"{stem}{lacking} is missing beside {name}: get the checkpoint again")
            v = direction.double()
            norm = torch.linalg.vector_norm(v.flatten(1), dim=1).view(-1, *[1] * (v.ndim - 1))
            folded[stem + ".weight"] = (gain.double() * v / norm).to(direction.dtype)
    return folded


def rename(tensors: Mapping[str, Tensor], reference: Reference) -> tuple[dict[str, Tensor], list[str]]:
    """Apply a family's rules; return the renamed tensors, and the keys that no rule knows."""
    rules = [(re.compile(pattern), replacement) for pattern, replacement in reference.rules]
    ignored = [re.compile(pattern) for pattern in reference.ignored]
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        if any(pattern.fullmatch(name) for pattern in ignored):
            continue
        match = next(((m, to) for rule, to in rules if (m := rule.fullmatch(name))), None)
        if match is None:
            unknown.append(name)
        else:
            renamed[match[0].expand(match[1])] = tensor
    return renamed, unknown


def mismatches(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """One sentence for each tensor that is missing, left over or of another shape."""
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is left over" for name in found if name not in expected]
    problems += [
        f"{name} has the shape {list(found[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return problems
