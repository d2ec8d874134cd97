"""Conversion of a YAML tree to frozen dataclasses; an error names the key that does not fit."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any

from blda.config.ranges import Range
from blda.spelling import nearest


def converted(value: Any, kind: Any, where: str) -> Any:
    """Convert a value of a YAML tree to `kind`; ValueError naming the key that does not fit."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        number, *notes = typing.get_args(kind)
        return _within(converted(value, number, where), notes, where)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        return converted(value, next(o for o in options if o is not type(None)), where)
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(value, kind, where)
    if origin is tuple:
        return _convert_tuple(value, typing.get_args(kind), where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be a mapping, not {value!r}")
        return value
    return _convert_plain(value, kind, where)


def _convert_plain(value: Any, kind: Any, where: str) -> Any:
    if kind is Any:
        return tuple(value) if isinstance(value, list) else value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        quotes = "; YAML reads yes, no, on and off as true and false: put it in quotes, such as '\"no\"'"
        hint = quotes if kind is str and isinstance(value, bool) else ""
        raise ValueError(f"{where} must be {kind.__name__}, not {value!r}{hint}")
    return value


def _within(value: Any, notes: Sequence[Any], where: str) -> Any:
    for note in notes:
        if isinstance(note, Range) and value not in note:
            raise ValueError(f"{where} is {value}; it must be {note}")
    return value


def _convert_dataclass(value: Any, kind: Any, where: str) -> Any:
    if isinstance(value, list) and hasattr(kind, "joined"):
        return _convert_joined(value, kind, where)
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping, not {value!r}")
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in value:
        if key not in hints:
            raise ValueError(f"{where}: unknown key '{key}'; {nearest(key, list(hints))}")
    required = {f.name for f in dataclasses.fields(kind) if _has_no_default(f)}
    if missing := sorted(required - value.keys()):
        raise ValueError(f"{where}: missing {', '.join(missing)}")
    return kind(**{key: converted(item, hints[key], f"{where}: {key}") for key, item in value.items()})


def _convert_joined(items: list[Any], kind: Any, where: str) -> Any:
    """Convert a list of mappings to one dataclass by its classmethod `joined`.

    What the first item says of the keys in `kind.SHARED` holds for all items that do not give them.
    """
    if not are_mappings(items):
        raise ValueError(f"{where} must be a mapping or a list of mappings, not {items!r}")
    shared = {key: items[0][key] for key in kind.SHARED if key in items[0]}
    members = [_convert_dataclass({**shared, **item}, kind, f"{where}.{number}") for number, item in enumerate(items)]
    try:
        return kind.joined(members)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _has_no_default(item: dataclasses.Field) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _convert_tuple(value: Any, items: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where} must be a list, not {value!r}")
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(converted(item, items[0], where) for item in value)
    if len(value) != len(items):
        raise ValueError(f"{where} must have {len(items)} values, not {list(value)}")
    return tuple(converted(item, kind, where) for item, kind in zip(value, items, strict=True))


def are_mappings(value: Any) -> bool:
    """Return whether a value is a list of at least one mapping and of nothing else."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
