"""From the tensors of a published checkpoint to a codec of this package, every key and shape checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from audiotokens.architectures.reference import Reference
from audiotokens.codec import StoredModel
from audiotokens.errors import CheckpointError, one_line
from audiotokens.spec import Spec

C = TypeVar("C", bound=StoredModel)

_NORMED = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)
_SHOWN = 8


class MismatchError(CheckpointError):
    """Tensors of a checkpoint do not fit a codec.

    Args:
        message: one line with the first of them.
        problems: a sentence for each of them.
    """

    def __init__(self, message: str, problems: tuple[str, ...]) -> None:
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True)
class Match:
    """What becomes of the tensors of a checkpoint.

    Args:
        tensors: the state dict of the codec.
        used: key of the checkpoint, weight norm folded -> name by the family's rules.
        ignored: keys that encoding and decoding do not need.
        problems: a sentence for each tensor that is missing, unknown or does not fit.
    """

    tensors: dict[str, Tensor]
    used: dict[str, str]
    ignored: tuple[str, ...]
    problems: tuple[str, ...]

    def check(self, architecture: str, source: str = "") -> None:
        """Raise a `MismatchError` that names the first problems, if there are any."""
        if self.problems:
            count = len(self.problems)
            misfit = "1 tensor does" if count == 1 else f"{count} tensors do"
            shown = "; ".join(self.problems[:_SHOWN])
            more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
            raise MismatchError(f"{misfit} not fit {architecture}{source}: {shown}{more}", self.problems)


def convert(family: type[C], tensors: Mapping[str, Tensor], config: Any, *, spec: Spec | None = None) -> C:
    """Build a codec from a reference's state dict.

    Args:
        family: the codec class; its `reference` says how keys are read.
        tensors: by the reference's keys, in any of its styles.
        config: the family's own configuration; what it leaves open, the tensors tell.
        spec: facts that the configuration does not imply; default: the family's.

    Raises:
        MismatchError: tensors are missing, unknown or of another shape; each is named.
    """
    folded = fold_weight_norm(tensors)
    config = family.reference.complete(config, {key: tuple(tensor.shape) for key, tensor in folded.items()})
    codec = family(config, spec=spec)
    found = match(codec.state_dict(), folded, family.reference, config)
    found.check(family.architecture)
    codec.load_state_dict(found.tensors)
    codec.weight_bits = 32
    return codec.eval()


def match(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], reference: Reference, config: Any
) -> Match:
    """Rename the tensors of a checkpoint and compare them with a codec's state dict.

    Args:
        expected: the state dict of a codec of that configuration.
        tensors: by the reference's keys; both arguments may be on the meta device.
        reference: the family's rules.
        config: the family's own configuration.
    """
    renamed, used, ignored, unknown = _deal(fold_weight_norm(tensors), reference)
    keys = {name: key for key, name in used.items()}
    try:
        reworked = reference.rework(renamed, config)
    except KeyError as error:
        return Match({}, used, ignored, (f"{error.args[0]} is missing", *unknown))
    except (IndexError, RuntimeError, ValueError) as error:
        return Match({}, used, ignored, (*mismatches(expected, renamed, keys), one_line(error), *unknown))
    found = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in reworked.items()
    }
    return Match(found, used, ignored, (*mismatches(expected, found, keys), *unknown))


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put w = g v / ||v|| where a checkpoint holds g and v, the norm over all axes but the first.

    (Salimans and Kingma 2016, eq. 2.) Both spellings of torch are read.

    Raises:
        CheckpointError: one half of a pair is missing, or the two do not go together.
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
            if not direction.ndim or gain.numel() != direction.shape[0]:
                raise CheckpointError(
                    f"{stem}{gain_end} has the shape {list(gain.shape)}, which does not go with "
                    f"{list(direction.shape)} of {stem}{direction_end}: get the checkpoint again"
                )
            v = direction.double()
            ones = [1] * (v.ndim - 1)
            norm = torch.linalg.vector_norm(v.flatten(1) if ones else v[:, None], dim=1).view(-1, *ones)
            folded[stem + ".weight"] = (gain.double().view(-1, *ones) * v / norm).to(direction.dtype)
    return folded


def rename(tensors: Mapping[str, Tensor], reference: Reference) -> tuple[dict[str, Tensor], list[str]]:
    """Apply a family's rules; return the renamed tensors, and the keys that no rule knows."""
    renamed, used, ignored, _ = _deal(tensors, reference)
    return renamed, [key for key in tensors if key not in used and key not in ignored]


def _deal(
    tensors: Mapping[str, Tensor], reference: Reference
) -> tuple[dict[str, Tensor], dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """Renamed tensors, new name by key, ignored keys, and a sentence for each key that has no place."""
    rules = [(re.compile(pattern), replacement) for pattern, replacement in reference.rules]
    renamed: dict[str, Tensor] = {}
    used: dict[str, str] = {}
    unused = [re.compile(pattern) for pattern in reference.ignored]
    ignored, problems = [], []
    for key, tensor in tensors.items():
        if any(pattern.fullmatch(key) for pattern in unused):
            ignored.append(key)
            continue
        found = next(((m, to) for rule, to in rules if (m := rule.fullmatch(key))), None)
        name = found[0].expand(found[1]) if found else ""
        if not found:
            problems.append(f"{key} is unknown")
        elif name in renamed:
            problems.append(f"{key} is a second {name}")
        else:
            renamed[name] = tensor
            used[key] = name
    return renamed, used, tuple(ignored), tuple(problems)


def mismatches(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], keys: Mapping[str, str] | None = None
) -> list[str]:
    """One sentence for each tensor that is missing, left over, of another shape or of another kind.

    Args:
        expected: the state dict of a codec.
        found: the tensors that shall fill it.
        keys: what a tensor is called in the checkpoint, by its name here.
    """
    problems = [f"{name} is missing" for name in expected if name not in found]
    for name, other in found.items():
        tensor = expected.get(name)
        label = f"{keys[name]} (here {name})" if keys and name in keys else name
        if tensor is None:
            problems.append(f"{label} is left over")
        elif other.shape != tensor.shape:
            problems.append(f"{label} has the shape {list(other.shape)}, expected {list(tensor.shape)}")
        elif tensor.is_floating_point() and not other.is_floating_point():
            problems.append(f"{label} holds {other.dtype}, expected {tensor.dtype}")
    return problems
