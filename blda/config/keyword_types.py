"""Type check of a component's keywords against the annotations of its constructor."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

_PLURALS = {"text": "texts", "an integer": "integers", "a number": "numbers"}


def hints_of(constructor: Callable[..., Any]) -> dict[str, Any]:
    """Return parameter -> annotation of a class's constructor or a function; empty if they cannot be resolved."""
    called = constructor.__init__ if isinstance(constructor, type) else constructor
    try:
        return typing.get_type_hints(called)
    except (NameError, TypeError, AttributeError):
        return {}


def require_type(where: str, value: Any, hint: Any) -> None:
    """Raise ValueError naming `where` unless a YAML value fits an annotation.

    Annotations that YAML cannot express accept any value.
    """
    if not fits(value, hint):
        raise ValueError(f"{where} must be {shown(hint)}, not {value!r}{_why(value, hint)}")


def fits(value: Any, hint: Any) -> bool:
    """Return whether a YAML value fits a type: lists fit tuples and sequences, strings of digits fit int keys."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return fits(value, inner[0]) and all(value in note for note in inner[1:] if hasattr(note, "__contains__"))
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in inner)
    if origin is typing.Literal:
        return value in inner
    if origin is tuple:
        return _fits_tuple(value, inner)
    if origin in (Mapping, dict):
        return isinstance(value, Mapping) and all(_key(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if origin in (list, set, frozenset, Sequence, Collection):
        return isinstance(value, list | tuple) and all(fits(item, inner[0]) for item in value)
    return _fits_plain(value, hint)


def _fits_plain(value: Any, hint: Any) -> bool:
    if hint in (str, Path):
        return isinstance(value, str | Path)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint in (bool, types.NoneType):
        return isinstance(value, hint)
    return True


def _fits_tuple(value: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if len(inner) == 2 and inner[1] is Ellipsis:
        return all(fits(item, inner[0]) for item in value)
    return len(value) == len(inner) and all(map(fits, value, inner))


def _key(value: Any, hint: Any) -> bool:
    """Return whether a mapping's key fits a type; JSON has only strings as keys."""
    return fits(value, hint) or (hint is int and isinstance(value, str) and value.isdecimal())


def shown(hint: Any) -> str:
    """Describe an annotation in the words of YAML."""
    origin, inner = typing.get_origin(hint), [item for item in typing.get_args(hint) if item is not Ellipsis]
    if origin is typing.Annotated:
        return shown(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(shown(option) for option in inner))
    if origin is typing.Literal:
        return " or ".join(map(repr, inner))
    if origin in (Mapping, dict):
        return f"a mapping of {shown(inner[0])} to {shown(inner[1])}"
    if origin is not None and inner:
        each = shown(inner[0])
        return f"a list of {_PLURALS.get(each, each)}"
    names = {str: "text", Path: "text", int: "an integer", float: "a number", bool: "true or false"}
    return names.get(hint, "null" if hint is types.NoneType else getattr(hint, "__name__", str(hint)))


def _why(value: Any, hint: Any) -> str:
    """Return a hint at the likely mistake, empty if there is none."""
    inside = [*value, *value.values()] if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    if "text" in shown(hint) and any(isinstance(item, bool) for item in inside):
        return "; YAML reads yes, no, on and off as true and false: put them in quotes"
    if isinstance(value, Mapping) and all(isinstance(item, int) for item in value.values()) and value:
        return "; turn it round: {0: sky, 1: road}"
    return ""
