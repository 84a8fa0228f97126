"""Configuration files of others: JSON or YAML in, the family's own configuration out. Plain data only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiotokens.codec import StoredModel
from audiotokens.config import from_dict
from audiotokens.errors import AudioTokensError, ConfigError, MissingExtraError, one_line

BESIDE = ("config.json", "config.yaml", "config.yml")
"""Names of configurations that lie beside published weights."""

_BYTES = 1 << 20
_VALUES = 10_000
_PARTS = ("feature_extractor", "backbone", "head")


def read_config_file(path: Path) -> Mapping[str, Any]:
    """Read a configuration; YAML is read by its safe loader, which makes plain values only.

    Raises:
        ConfigError: there is no such file, it is larger than 1 MiB, or not a mapping in JSON or YAML.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file: give the configuration that came with the weights")
    with path.open("rb") as file:
        content = file.read(_BYTES + 1)
    if len(content) > _BYTES:
        raise ConfigError(f"{path}: larger than 1 MiB, expected a small file in JSON or YAML")
    try:
        values = json.loads(content) if path.suffix == ".json" else _parse_yaml(content)
    except AudioTokensError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: neither JSON nor YAML ({one_line(error)[:120]})") from None
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: found a {type(values).__name__}, expected a mapping of keys to values")
    return values


def _parse_yaml(content: bytes) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise MissingExtraError("Reading a configuration in YAML", "torch") from None
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from None


def find_beside(weights: Path) -> Path | None:
    """Return the configuration that lies beside a weight file, if there is one."""
    return next((path for name in BESIDE if (path := weights.with_name(name)).is_file()), None)


def read_arguments(family: type[StoredModel], values: Mapping[str, Any], *, where: str) -> Any:
    """Return the family's configuration that a mapping describes.

    Args:
        family: the codec class.
        values: a tokenizer folder's config.json, the constructor arguments of the reference, the
            configuration of its model in transformers, or a Lightning file that names classes
            (`model.init_args`).
        where: names the mapping in errors.

    Raises:
        ConfigError: a key is unknown, missing or ill-typed, or it is the configuration of another family.
    """
    _check_extent(values, where)
    if values.get("format") == "audiotokens":
        if values.get("architecture") != family.architecture:
            raise ConfigError(
                f"{where}: describes the architecture {values.get('architecture')!r}, "
                f'expected "{family.architecture}"'
            )
        return from_dict(family.config_class, values.get("config"), where=where)
    try:
        return family.reference.read_config(_lightning_parts(values))
    except ConfigError as error:
        raise ConfigError(f"{where}: {one_line(error)}") from None
    except KeyError as error:
        raise ConfigError(f"{where}: the key {error} is missing for {family.architecture}") from None
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: does not describe {family.architecture} ({one_line(error)})") from None


def _check_extent(values: Mapping[str, Any], where: str) -> None:
    """Refuse values that hold themselves, or one another so often that to print them would never end."""
    waiting: list[Any] = [values]
    for _ in range(_VALUES):
        if not waiting:
            return
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
    raise ConfigError(f"{where}: holds more than {_VALUES} values, expected a small configuration")


def _lightning_parts(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave of a training configuration what is about the model, and name classes without their modules."""
    model = values.get("model")
    arguments = model.get("init_args") if isinstance(model, Mapping) else None
    if isinstance(arguments, Mapping) and set(_PARTS) <= arguments.keys():
        values = {name: arguments[name] for name in (*_PARTS, "sample_rate") if name in arguments}
    return values
