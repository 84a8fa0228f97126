"""Import of published checkpoints: files of others in, a tokenizer folder out, every tensor accounted for."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from audiotokens.checkpoints import recognition
from audiotokens.checkpoints.cards import import_card
from audiotokens.checkpoints.configs import find_beside, read_arguments, read_config_file
from audiotokens.checkpoints.containers import Contents, SourceFile, find_files, identify, read_files
from audiotokens.checkpoints.conversion import Match, convert, fold_weight_norm
from audiotokens.checkpoints.recognition import Candidate, Fit
from audiotokens.codec import StoredModel
from audiotokens.errors import CheckpointError, ConfigError
from audiotokens.published import Published
from audiotokens.spec import Spec

StrPath = str | os.PathLike[str]
FOLDER_CONFIG = "config.json"


@dataclass(frozen=True)
class Imported:
    """What an import made, and of what.

    Args:
        codec: the tokenizer, its encoder in float32.
        variant: name of its configuration among the family's; empty: it is none of them.
        config_source: where the configuration comes from, as a phrase.
        sources: files that were read.
        match: what became of each tensor; its own tensors are empty.
        record: what is known of the published checkpoint; None: nothing.
        folder: where the tokenizer was written; None: nowhere.
    """

    codec: StoredModel
    variant: str
    config_source: str
    sources: tuple[SourceFile, ...]
    match: Match
    record: Published | None
    folder: Path | None


def run_import(
    architecture: str,
    weights: Sequence[StrPath],
    *,
    config: StrPath | Mapping[str, Any] | None = None,
    output: StrPath | None = None,
    name: str | None = None,
    force: bool = False,
    record: Published | None = None,
) -> Imported:
    """Do what `importing.import_checkpoint` does, and tell what became of every tensor.

    With a `record` the files are known to be that published checkpoint; without, hashes and names tell.

    Raises:
        AudioTokensError: as there.
    """
    folder = None if output is None else Path(output)
    if folder is not None:
        _check_free(folder, force)
    family, wanted = recognition.find_family(architecture)
    if not weights:
        raise ConfigError(f"found no weight files for {architecture}: give at least one")
    paths = find_files([Path(path) for path in weights])
    contents = read_files(paths)
    tensors = fold_weight_norm(contents.tensors)
    recognition.check_keys(family, tensors)
    found = _recognize(family, wanted, config, Contents(tensors, contents.arguments), paths[0])
    if found.match.problems:
        shapes = {key: tensor.to("meta") for key, tensor in tensors.items()}
        elsewhere = recognition.fitting_elsewhere(family, shapes)
        found.match.check(family.architecture, f" (configuration: {found.candidate.source}{elsewhere})")
    _check_finite(tensors, found.match)
    sources = tuple(map(identify, paths))
    variant = recognition.variant_of(family, found.candidate.config)
    record = record or recognition.find_record(
        {file.sha256 for file in sources}, family.architecture, variant, names=(name, architecture)
    )
    label = name or (record.name if record else variant) or (folder.name if folder else family.architecture)
    spec = _facts(found.model.spec, label, variant, record)
    codec = convert(family, tensors, found.candidate.config, spec=spec)
    done = Imported(codec, variant, found.candidate.source, sources, found.match, record, folder)
    if folder is not None:
        _write(done, folder)
    return done


def describe_match(found: Match) -> list[str]:
    """Return one line for each tensor: what it became, that it was not needed, or what is wrong with it."""
    lines = [f"{key} -> {name}" for key, name in found.used.items()]
    lines += [f"{key} is not needed" for key in found.ignored]
    return lines + [f"wrong: {problem}" for problem in found.problems]


def _recognize(
    family: type[StoredModel],
    wanted: str,
    config: StrPath | Mapping[str, Any] | None,
    contents: Contents,
    weights: Path,
) -> Fit:
    """Find the configuration; what is nearer to the weights comes first, and shapes decide."""
    shapes = {key: tensor.to("meta") for key, tensor in contents.tensors.items()}
    candidates = _told_candidates(family, config, contents, weights)
    beside = None if candidates else find_beside(weights)
    source = f"the variant {wanted}"
    if beside is not None:
        try:
            candidates = [_from_file(family, beside)]
        except ConfigError:
            if not wanted:
                raise
            source += f", because {beside.name} does not describe {family.architecture}"
    if wanted and (not candidates or beside is not None):
        candidates.append(Candidate(recognition.variants(family)[wanted], source))
    if not candidates:
        candidates = [recognition.guess(family, shapes)]
    return recognition.choose(family, candidates, shapes)


def _told_candidates(
    family: type[StoredModel], config: StrPath | Mapping[str, Any] | None, contents: Contents, weights: Path
) -> list[Candidate]:
    if isinstance(config, Mapping):
        return [Candidate(read_arguments(family, config, where="config"), "the given arguments")]
    if config is not None:
        named = recognition.variants(family)
        if str(config) in named and not Path(config).exists():
            return [Candidate(named[str(config)], f"the variant {config}")]
        return [_from_file(family, Path(config))]
    if contents.arguments is not None:
        where = f"{weights.name}: arguments stored with the weights"
        return [Candidate(read_arguments(family, contents.arguments, where=where), where)]
    return []


def _from_file(family: type[StoredModel], path: Path) -> Candidate:
    return Candidate(read_arguments(family, read_config_file(path), where=str(path)), str(path.name))


def _check_finite(tensors: Mapping[str, Tensor], found: Match) -> None:
    for key in found.used:
        if tensors[key].is_floating_point() and not bool(tensors[key].isfinite().all()):
            raise CheckpointError(f"{key} holds numbers that are not finite: get the checkpoint again")


def _facts(spec: Spec, name: str, variant: str, record: Published | None) -> Spec:
    """Facts that come with the checkpoint, not with its shapes; unknown ones stay empty."""
    if record is None:
        return replace(spec, name=name, weights_license=spec.weights_license if variant else "")
    return replace(
        spec,
        name=name,
        weights_license=record.license,
        training_data=record.training_data or spec.training_data,
    )


def _check_free(folder: Path, force: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise ConfigError(f"{folder}: already exists: choose another folder, or give --force")
    if not (folder / FOLDER_CONFIG).is_file():
        raise ConfigError(
            f"{folder}: is not a tokenizer folder, and nothing else is replaced: choose another"
        )


def _write(done: Imported, folder: Path) -> None:
    """Write beside the folder, then put it in its place, so that it is there whole or not at all."""
    card = import_card(
        done.codec.spec,
        variant=done.variant,
        config_source=done.config_source,
        sources=done.sources,
        record=done.record,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    partial, old = (folder.with_name(f".{folder.name}.{kind}-{mark}") for kind in ("partial", "old"))
    try:
        done.codec.save(partial, card=card)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
