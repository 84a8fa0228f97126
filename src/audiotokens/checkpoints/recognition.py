"""Which family, which of its variants, and which configuration a checkpoint belongs to."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from audiotokens import registry
from audiotokens.checkpoints.conversion import Match, match
from audiotokens.codec import StoredModel
from audiotokens.errors import CheckpointError, ConfigError, one_line
from audiotokens.published import Published, published

_KNOWN_SHARE = 0.5
_SHOWN = 8
UNPUBLISHED = "tiny"
"""Variants whose names begin like this are there for tests; they are not looked for among checkpoints."""


@dataclass(frozen=True)
class Candidate:
    """A configuration that a checkpoint may have.

    Args:
        config: of the family.
        source: where it comes from, as a phrase.
    """

    config: Any
    source: str


@dataclass(frozen=True)
class Fit:
    """How well the shapes of a checkpoint fit a configuration.

    Args:
        candidate: the configuration.
        model: one of that configuration without weights, on the meta device.
        match: what becomes of each tensor.
    """

    candidate: Candidate
    model: StoredModel
    match: Match


def find_family(name: str) -> tuple[type[StoredModel], str]:
    """Return the family that a name means, and the variant that it means, if it means one.

    Args:
        name: an architecture ("dac"), which wins, a variant ("dac-44khz") or a published checkpoint.

    Raises:
        ConfigError: nothing of that name, or there are no checkpoints of it to import.
    """
    if name in registry.architectures:
        return family_of(name), ""
    if name in published and published[name].architecture in registry.architectures:
        return family_of(published[name].architecture), published[name].variant
    families = importable()
    for family in families.values():
        if name in published_variants(family):
            return family, name
    known = [*families, *(v for family in families.values() for v in published_variants(family))]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
    raise ConfigError(f'no architecture and no variant is called "{name}"; {hint}')


def family_of(architecture: str) -> type[StoredModel]:
    """Import the codec class of an architecture.

    Raises:
        ConfigError: there are no checkpoints of it to import.
    """
    module, _, attribute = registry.architectures[architecture].partition(":")
    family: type[StoredModel] = getattr(importlib.import_module(module), attribute)
    if family.reference is None:
        raise ConfigError(
            f"{architecture} has no checkpoints of others to import; known: {', '.join(importable())}"
        )
    return family


def importable() -> dict[str, type[StoredModel]]:
    """Return the families whose published checkpoints can be read, by architecture."""
    found = {}
    for architecture, place in registry.architectures.items():
        module, _, attribute = place.partition(":")
        family = getattr(importlib.import_module(module), attribute)
        if family.reference is not None:
            found[architecture] = family
    return found


def variants(family: type[StoredModel]) -> Mapping[str, Any]:
    """Return the named configurations of a family."""
    named: Mapping[str, Any] = importlib.import_module(family.__module__).VARIANTS
    return named


def published_variants(family: type[StoredModel]) -> dict[str, Any]:
    """Return the named configurations that checkpoints are of."""
    return {name: c for name, c in variants(family).items() if not name.startswith(UNPUBLISHED)}


def variant_of(family: type[StoredModel], config: Any) -> str:
    """Return the name of the variant that has this configuration; empty: none."""
    return next((name for name, known in variants(family).items() if known == config), "")


def check_keys(family: type[StoredModel], tensors: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose keys are those of another family.

    Args:
        family: that was asked for.
        tensors: with weight norm folded.

    Raises:
        CheckpointError: fewer than half of the keys are known; tells which family knows them.
    """
    share = known_share(family, tensors)
    if share >= _KNOWN_SHARE:
        return
    shares = {name: known_share(other, tensors) for name, other in importable().items()}
    best = [name for name, found in shares.items() if found == max(shares.values())]
    if shares[best[0]] > max(share, _KNOWN_SHARE):
        hint = f"these look like keys of {' or '.join(best)}: try --architecture {best[0]}"
    else:
        hint = "no family here has such keys: is this another model, or a part of one?"
    raise CheckpointError(
        f"{share:.0%} of {len(tensors)} keys are known to {family.architecture}, "
        f'the first is "{next(iter(tensors))}"; {hint}'
    )


def known_share(family: type[StoredModel], tensors: Mapping[str, Tensor]) -> float:
    """Return the share of keys that the rules of a family know, of those that it does not ignore."""
    rules = [re.compile(pattern) for pattern, _ in family.reference.rules]
    ignored = [re.compile(pattern) for pattern in family.reference.ignored]
    known = [any(rule.fullmatch(key) for rule in rules) for key in tensors]
    unused = [any(rule.fullmatch(key) for rule in ignored) for key in tensors]
    left = sum(a or not b for a, b in zip(known, unused))
    return sum(known) / left if left else 0.0


def choose(family: type[StoredModel], candidates: list[Candidate], shapes: Mapping[str, Tensor]) -> Fit:
    """Return the first candidate that the shapes fit; where none does, the one with the fewest misfits.

    Args:
        family: the codec class.
        candidates: at least one, the preferred first.
        shapes: the tensors on the meta device, with weight norm folded.
    """
    fits = []
    sizes = {key: tuple(tensor.shape) for key, tensor in shapes.items()}
    for candidate in candidates:
        completed = replace(candidate, config=family.reference.complete(candidate.config, sizes))
        fits.append(fit(family, completed, shapes))
        if not fits[-1].match.problems:
            break
    return min(fits, key=lambda one: len(one.match.problems))


def fit(family: type[StoredModel], candidate: Candidate, shapes: Mapping[str, Tensor]) -> Fit:
    """Compare shapes with a model of a configuration, built without weights.

    Raises:
        ConfigError: the configuration contradicts itself.
    """
    try:
        with torch.device("meta"):
            model = family(candidate.config)
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(f"{candidate.source}: {one_line(error)}") from None
    return Fit(candidate, model, match(model.state_dict(), shapes, family.reference, candidate.config))


def guess(family: type[StoredModel], shapes: Mapping[str, Tensor]) -> Candidate:
    """Return the only published variant that the shapes fit, or the configuration that they tell.

    Raises:
        CheckpointError: none or several variants fit, and the shapes do not tell.
    """
    named = published_variants(family)
    misfits = {
        name: len(fit(family, Candidate(config, name), shapes).match.problems)
        for name, config in named.items()
    }
    fitting = [name for name, count in misfits.items() if not count]
    if len(fitting) == 1:
        return Candidate(named[fitting[0]], f"the variant {fitting[0]}, the only one with these shapes")
    if fitting:
        raise CheckpointError(
            f"these shapes fit {' and '.join(fitting)} alike: name one of them with --architecture, "
            "or give --config"
        )
    guessed = family.reference.guess({key: tuple(tensor.shape) for key, tensor in shapes.items()})
    if guessed is not None:
        return Candidate(guessed, "the shapes; what they do not tell, such as the sample rate, is assumed")
    order = sorted(misfits, key=misfits.__getitem__)
    counts = ", ".join(f"{name} {misfits[name]}" for name in order[:_SHOWN])
    raise CheckpointError(
        f"these shapes are of no published variant of {family.architecture} "
        f"(tensors that differ: {counts}){fitting_elsewhere(family, shapes)}: give --config"
    )


def fitting_elsewhere(family: type[StoredModel], shapes: Mapping[str, Tensor]) -> str:
    """Return a remark on the variant of another family that the shapes fit; empty if they fit none."""
    for name, other in importable().items():
        if other is not family and known_share(other, shapes) == 1:
            for variant, config in published_variants(other).items():
                if not fit(other, Candidate(config, variant), shapes).match.problems:
                    return f"; they are those of {variant}, of the family {name}"
    return ""


def find_record(
    digests: set[str], architecture: str, variant: str, names: tuple[str | None, ...] = ()
) -> Published | None:
    """Return the record of a published checkpoint: by its files, by name, by the variant if only one has it.

    Args:
        digests: SHA-256 of the files that were read.
        architecture: of the family.
        variant: name of the configuration; empty: of none.
        names: by which the user called it; a record counts only if it is of that variant.
    """
    for record in published.values():
        known = {file.sha256 for origin in record.origins for file in origin.weights if file.sha256}
        if any(digest.startswith(start) for digest in digests for start in known):
            return record
    same = [r for r in published.values() if (r.architecture, r.variant) == (architecture, variant)]
    called = [record for record in same if record.name in names]
    return called[0] if called else same[0] if len(same) == 1 else None
