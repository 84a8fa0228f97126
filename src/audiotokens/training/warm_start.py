"""Begin a run from the weights of another: a tokenizer, or a training checkpoint.

Where the new architecture is the old one with more room, what it computes stays the same: new hidden units of
a block have zero output weights, and depthwise taps move with the look-ahead. Everything else must fit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from audiotokens.codec import Codec
from audiotokens.config import from_dict
from audiotokens.errors import ConfigError, NotOfferedError
from audiotokens.nn.block import Pointwise, Sequential
from audiotokens.nn.conv import DepthwiseConv1d
from audiotokens.nn.layers import Linear
from audiotokens.training.build import build_codec
from audiotokens.training.checkpoint import (
    Checkpoint,
    find_checkpoints,
    module_tensors,
    read_checkpoint,
    restore_tensors,
)
from audiotokens.training.config import Recipe

LEARNING_STATE = re.compile(r"quantizer\.(.+\.)?(counts|sums|updates)")
"""Names of what quantizers learn with; checkpoints have it, tokenizers do not."""
MAY_BE_NEW = ("quantizer.offsets",)
"""Tensors that begin at zero and then change nothing."""


@dataclass(frozen=True)
class Transfer:
    """What became of one tensor.

    Args:
        name: of the tensor in the new codec.
        action: "taken", "widened", "shifted" or "new".
        detail: in what way, for people; may be empty.
    """

    name: str
    action: str
    detail: str = ""


def warm_start(codec: Codec, source: str | Path) -> list[Transfer]:
    """Put the weights of `source` into an untrained codec, and its books with their counts where it has them.

    Args:
        codec: of the new run; changed in place.
        source: a tokenizer (name or folder), the folder of a run (its newest checkpoint), or a checkpoint.

    Returns:
        One entry per tensor.

    Raises:
        ConfigError: a tensor does not fit; the message names it.
        TokenizerNotFoundError: there is no such tokenizer, folder or file.
        CheckpointError: damaged weights.
        NotOfferedError: a tokenizer without weights of ours.
    """
    checkpoint = _find_checkpoint(source)
    old = _stored_codec(checkpoint) if checkpoint else _tokenizer_codec(source)
    if old.architecture != codec.architecture:
        raise ConfigError(
            f'{source}: its architecture is "{old.architecture}", the recipe\'s "{codec.architecture}"; '
            "a warm start needs the same one"
        )
    return transfer(old, codec, learning_state=checkpoint is not None, where=str(source))


def _find_checkpoint(source: str | Path) -> Checkpoint | None:
    path = Path(source)
    if path.is_file():
        return read_checkpoint(path)
    found = find_checkpoints(path / "checkpoints")
    return read_checkpoint(found[-1]) if found else None


def _stored_codec(checkpoint: Checkpoint) -> Codec:
    codec = build_codec(from_dict(Recipe, checkpoint.recipe, where=str(checkpoint.path)))
    restore_tensors(module_tensors(codec), checkpoint.part("codec."), checkpoint.path)
    return codec


def _tokenizer_codec(source: str | Path) -> Codec:
    from audiotokens.registry import load

    codec = load(source, exact=False)
    if not isinstance(codec, Codec):
        raise NotOfferedError(f"{source}: its weights are not of this package, so no run can begin with them")
    return codec


@torch.no_grad()
def transfer(old: Codec, new: Codec, *, learning_state: bool, where: str) -> list[Transfer]:
    """Copy what `old` has learned into `new`.

    Args:
        old: a trained codec.
        new: an untrained one, changed in place only if everything fits.
        learning_state: whether the counts and sums of the books of `old` are those of its training.
        where: names `old` in messages.

    Raises:
        ConfigError: a tensor is missing, left over or of another shape, or a computed constant differs.
    """
    sources, targets = module_tensors(old), module_tensors(new)
    left = sorted(set(sources) - set(targets))
    if left:
        raise ConfigError(f"{where}: {left[0]} has no place in the recipe's codec; change the recipe")
    learned = set(new.state_dict())
    hidden, depthwise = dict(_hidden_axes(new)), dict(_depthwise(new))
    values: dict[str, Tensor] = {}
    report = []
    for name, target in targets.items():
        if LEARNING_STATE.fullmatch(name) and not learning_state:
            report.append(Transfer(name, "new", "as at the start of books"))
            continue
        if name not in sources:
            if name not in MAY_BE_NEW:
                raise ConfigError(f"{where}: has no {name}; change the recipe")
            report.append(Transfer(name, "new", "zero"))
            continue
        source = sources[name]
        if name in depthwise:
            values[name], entry = _shifted(name, source, old, depthwise[name], where)
        elif name in hidden and source.shape != target.shape:
            values[name], entry = _widened(name, source, target, hidden[name], where)
        else:
            values[name], entry = _taken(name, source, target, constant=name not in learned, where=where)
        if name in learned or LEARNING_STATE.fullmatch(name):
            report.append(entry)
    for name, value in values.items():
        targets[name].copy_(value)
    if not learning_state:
        # Where books are loaded, what they learn with follows them.
        new.load_state_dict(new.state_dict())
    return report


def _taken(
    name: str, source: Tensor, target: Tensor, *, constant: bool, where: str
) -> tuple[Tensor, Transfer]:
    if source.shape != target.shape:
        raise ConfigError(
            f"{where}: {name} has the shape {list(source.shape)}, the recipe's codec needs "
            f"{list(target.shape)}; change the recipe"
        )
    if constant and not LEARNING_STATE.fullmatch(name) and not torch.equal(source.to(target.dtype), target):
        raise ConfigError(f"{where}: {name} differs from that of the recipe's codec; change the recipe")
    return source, Transfer(name, "taken")


def _hidden_axes(codec: nn.Module) -> Iterator[tuple[str, int]]:
    """Names of tensors along a hidden layer, and their axis that counts its units.

    A hidden layer stands between two linear maps with nothing but a parameter-free function between them.
    """
    for path, module in codec.named_modules():
        if not isinstance(module, Sequential):
            continue
        blocks = list(module)
        for index, (first, between, second) in enumerate(zip(blocks, blocks[1:], blocks[2:])):
            plain = isinstance(between, Pointwise) and not list(between.parameters())
            if isinstance(first, Linear) and plain and isinstance(second, Linear):
                yield f"{path}.blocks.{index}.linear.weight", 0
                yield f"{path}.blocks.{index}.linear.bias", 0
                yield f"{path}.blocks.{index + 2}.linear.weight", 1


def _widened(name: str, source: Tensor, target: Tensor, axis: int, where: str) -> tuple[Tensor, Transfer]:
    before, after = source.shape[axis], target.shape[axis]
    others = [size for place, size in enumerate(source.shape) if place != axis]
    if after < before or others != [size for place, size in enumerate(target.shape) if place != axis]:
        return _taken(name, source, target, constant=False, where=where)
    value = target.clone() if axis == 0 else torch.zeros_like(target)
    value.narrow(axis, 0, before).copy_(source)
    return value, Transfer(name, "widened", f"{before} to {after} hidden units")


def _depthwise(codec: nn.Module) -> Iterator[tuple[str, DepthwiseConv1d]]:
    for path, module in codec.named_modules():
        if isinstance(module, DepthwiseConv1d):
            yield f"{path}.taps", module


def _shifted(
    name: str, source: Tensor, old: Codec, new: DepthwiseConv1d, where: str
) -> tuple[Tensor, Transfer]:
    """Put every tap where it reads the same frame as before; a frame beyond the new reach is not read."""
    before = old.get_submodule(name.removesuffix(".taps"))
    if not isinstance(before, DepthwiseConv1d) or source.shape[1] != new.taps.shape[1]:
        return _taken(name, source, new.taps, constant=False, where=where)
    if (before.span, before.lookahead) == (new.span, new.lookahead):
        return source, Transfer(name, "taken")
    value = torch.zeros_like(new.taps)
    dropped = []
    for index, tap in enumerate(source):
        frame = index - before.past
        if -new.past <= frame <= new.lookahead:
            value[frame + new.past] = tap
        else:
            dropped.append(frame)
    detail = f"look-ahead {before.lookahead} to {new.lookahead}, taps {before.span} to {new.span}"
    lost = f"; dropped: frames {', '.join(f'{frame:+d}' for frame in dropped)}" if dropped else ""
    return value, Transfer(name, "shifted", detail + lost)


def describe(transfers: Sequence[Transfer]) -> str:
    """Report of a warm start: one line per tensor under a line of totals."""
    totals = Counter(entry.action for entry in transfers)
    head = ", ".join(f"{count} {action}" for action, count in totals.items())
    width = max((len(entry.name) for entry in transfers), default=0)
    lines = [f"{entry.name:<{width}}  {entry.action:<8} {entry.detail}".rstrip() for entry in transfers]
    return "\n".join([f"warm start: {head}", *lines]) + "\n"
