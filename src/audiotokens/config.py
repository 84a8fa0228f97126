"""Strict conversion between frozen dataclasses and plain JSON or YAML values.

An unknown, missing or ill-typed key is an error that names the key, where it stands, and the nearest valid
one.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeVar

from audiotokens.errors import ConfigError

T = TypeVar("T")

_FRACTION = r"-?[0-9]{1,18}(\.[0-9]{1,18}|/[0-9]{0,17}[1-9][0-9]{0,17})?"


def from_dict(kind: type[T], values: object, *, where: str = "config") -> T:
    """Build the dataclass `kind` from a plain mapping.

    Args:
        kind: a dataclass; its field types may be bool, int, float, str, None, Fraction, Literal, unions,
            tuple, dict and other dataclasses; one with a `class_of` stands for the class that this gives
            for the key "kind".
        values: what a JSON or YAML reader returned.
        where: name of the place in error messages.

    Raises:
        ConfigError: an unknown, missing or ill-typed key, or a value that the dataclass refuses.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Size:
        ...     width: int
        ...     height: int = 2
        >>> from_dict(Size, {"width": 3})
        Size(width=3, height=2)
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: found {_describe(values)}, expected a mapping of keys to values")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    hints = _hints(typing.cast(type, kind))
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"valid keys: {', '.join(fields)}"
            raise ConfigError(f'{where}: unknown key "{key}"; {hint}')
    arguments = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _convert(hints[name], values[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f'{where}: the key "{name}" is missing')
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def to_dict(instance: Any) -> dict[str, Any]:
    """Return a dataclass instance as plain values that JSON can hold; `from_dict` reverses it."""
    return {f.name: _plain(getattr(instance, f.name)) for f in dataclasses.fields(instance) if f.init}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{where}: found {value!r}, expected one of {', '.join(map(repr, arguments))}")
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: found {_describe(value)}, expected a mapping")
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        if isinstance(value, Mapping) and "class_of" in vars(kind):
            kind = _member(kind, value, where)
        return from_dict(typing.cast(type, kind), value, where=where)
    return _convert_scalar(kind, value, where)


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    choices = [argument for argument in arguments if argument is not type(None)]
    if isinstance(value, Mapping) and "kind" in value and all(map(dataclasses.is_dataclass, choices)):
        # The kind decides, so that a mistake in another key is reported for the right one.
        kinds = {kind: choice for choice in choices for kind in typing.get_args(_hints(choice).get("kind"))}
        if kinds:
            return _convert(_choose(kinds, value["kind"], f"{where}.kind"), value, where)
    if isinstance(value, Mapping):
        # So that the message is about its keys, not about what else might stand here.
        choices = [kind for kind in choices if _holds_mappings(kind)] or choices
    for choice in choices[:-1]:
        try:
            return _convert(choice, value, where)
        except ConfigError:
            continue
    return _convert(choices[-1], value, where)


def _holds_mappings(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or typing.get_origin(kind) is dict


def _member(family: Any, values: Mapping[Any, Any], where: str) -> Any:
    """The class of an open family (one with a `class_of`) that the key "kind" names."""
    if "kind" not in values:
        raise ConfigError(f'{where}: the key "kind" is missing')
    try:
        return family.class_of(values["kind"])
    except ValueError as error:
        raise ConfigError(f"{where}.kind: {error}") from None


def _choose(kinds: Mapping[object, Any], kind: object, where: str) -> Any:
    if isinstance(kind, str) and kind in kinds:
        return kinds[kind]
    raise ConfigError(f"{where}: found {_describe(kind)}, expected one of {', '.join(map(repr, kinds))}")


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: found {_describe(value)}, expected a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise ConfigError(f"{where}: found {len(value)} values, expected {len(arguments)}")
    return tuple(
        _convert(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(arguments, value))
    )


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return float(value)
    if kind is Fraction and isinstance(value, int | str) and not isinstance(value, bool):
        # Fraction("1e999999999") would compute that power: a config may come from anyone.
        if re.fullmatch(_FRACTION, str(value)):
            return Fraction(value)
        raise ConfigError(f'{where}: found {_describe(value)}, expected a fraction such as "75/2"')
    if isinstance(value, kind) and not (kind is not bool and isinstance(value, bool)):
        return value
    name = "null" if kind is type(None) else kind.__name__
    raise ConfigError(f"{where}: found {_describe(value)}, expected {name}")


def _describe(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
