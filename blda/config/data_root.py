"""One key for the place of all data: paths that begin with `data/` move with `data_root`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

DEFAULT = "data"
"""First folder of the paths that move, and the default of the key `data_root`."""


def located(value: Any, data_root: str) -> Any:
    """Replace the leading folder `data` of every path in a component's keywords by `data_root`.

    value: text, path, or mappings, lists and tuples of them; anything else is returned as it is.
    """
    if isinstance(value, dict):
        return {key: located(item, data_root) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(located(item, data_root) for item in value)
    if data_root == DEFAULT or not _moves(value):
        return value
    return type(value)(PurePath(data_root, *PurePath(value).parts[1:]))


def require_moves(data_root: str, *values: Any) -> None:
    """Raise ValueError when a `data_root` of the user's would move none of the paths in `values`."""
    if data_root != DEFAULT and not any(map(_moves, _leaves(values))):
        raise ValueError(
            f"data_root is '{data_root}', but no path of this config begins with {DEFAULT}/, so it would move nothing; "
            "give the readers' paths instead"
        )


def _moves(value: Any) -> bool:
    return isinstance(value, str | PurePath) and PurePath(value).parts[:1] == (DEFAULT,)


def _leaves(value: Any) -> Iterator[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    if items is None:
        yield value
    else:
        for item in items:
            yield from _leaves(item)
