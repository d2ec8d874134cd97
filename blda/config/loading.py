"""Loading of config files: YAML, its bases and overrides become a frozen dataclass, or an error names the key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from blda import atomic, text
from blda.config.conversion import are_mappings, converted

T = TypeVar("T")
SUFFIXES = (".yaml", ".yml", ".json")
TABLES = ("rename",)
"""Keys outside of components whose mapping is data, not a section."""
MORE = "+"
"""At the end of a key: its text follows the one that the key has below."""


def load(path: str | Path, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a YAML file and its `base` files, apply overrides, and check every key and type.

    overrides: `key.sub=value`, or further files, whose names have no "=". Later values win: base files in order, the
    file itself, the overrides in order. `key.0.sub=value` sets it in the first item of a list of mappings; a mapping
    above or below such a list, such as `key.sub=value`, applies to each of its items. If `kind` has a method
    `resolved`, its result is returned. Raises ValueError naming the key and the nearest known one, FileNotFoundError
    naming the file.
    """
    return config_of(tree_of(path, overrides), kind, str(path))


def config_of(tree: Mapping[str, Any], kind: type[T], where: str) -> T:
    """Check every key and type of plain keys and values, and return them as a config; `where` they are from.

    Errors and `resolved`: see `load`.
    """
    config = converted(tree, kind, where)
    return config.resolved() if hasattr(config, "resolved") else config


def tree_of(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file, its `base` files and the overrides as plain keys and values, which `load` checks."""
    tree = _read(Path(path))
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals:
            # YAML allows no text but Unicode; a path may hold any bytes.
            _assign(tree, key.split("."), _parse(value, override) if text.is_utf8(value) else value)
        elif Path(override).is_file() and Path(override).suffix in SUFFIXES:
            _merge(tree, _read(Path(override)))
        else:
            raise ValueError(
                f"'{override}' is neither key=value nor a config file ({SUFFIXES[0]}); see the folder configs/"
            )
    return tree


def save(config: Any, path: Path) -> None:
    """Write the resolved config; `load` reads back an equal one."""
    atomic.write(path, yaml.safe_dump(plain(config), sort_keys=False))


def plain(value: Any) -> Any:
    """Convert a config or a part of it to what YAML holds: tuples become lists, paths strings.

    A dataclass may say how by a method `unjoined`, which returns what takes its place.
    """
    if hasattr(value, "unjoined"):
        value = value.unjoined()
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _parse(content: str, where: str) -> Any:
    try:
        return yaml.load(content, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """YAML loader with YAML 1.2 numbers: 6e-5 is a number, not a string. A key may stand once in a mapping."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Read one mapping; MarkedYAMLError for a key that stands twice, of which YAML takes the last."""
        node = super().compose_mapping_node(anchor)
        found = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<" and (key.tag, key.value) in found:
                mistake = f"the key '{key.value}' stands twice; delete one"
                raise yaml.composer.ComposerError(None, None, mistake, key.start_mark)
            found.add((key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)))
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in above:
        raise ValueError(f"{above[-1]}: base: {path} is the file itself or builds on it; name another file")
    if not path.is_file():
        raise FileNotFoundError(f"no config at {path}; see the folder configs/")
    tree = _parse(text.read_text(path), str(path)) or {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must hold keys and values, not {type(tree).__name__}")
    merged: dict[str, Any] = {}
    bases = tree.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ValueError(f"{path}: base must be the name of a file or a list of names, not {bases!r}")
    for base in bases:
        _merge(merged, _read(path.parent / base, (*above, path.resolve())))
    return _merge(merged, tree)


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in above.items():
        name = key.removesuffix(MORE) if isinstance(key, str) else key
        if name == key:
            below[key] = value if _is_table(below, key) else _merged(below.get(key), value)
        else:
            # What it follows may come later: a variant names no run, but continues the name of any.
            name = name if name in below else key
            below[name] = f"{below.get(name, '')}{value}"
    return below


def _is_table(tree: Mapping[str, Any], key: str) -> bool:
    """Return whether a key holds data, such as a component's ids, of which a mapping on top replaces all."""
    old = tree.get(key)
    return key in TABLES or ("name" in tree and isinstance(old, dict) and "name" not in old)


def _merged(old: Any, value: Any) -> Any:
    if are_mappings(old) and isinstance(value, dict):
        return [_merged(item, value) for item in old]
    if isinstance(old, dict) and are_mappings(value):
        return [_merged(old, item) for item in value]
    both = isinstance(value, dict) and isinstance(old, dict)
    # Another named part replaces the old one whole: its keywords mean nothing to the new constructor.
    same = both and value.get("name", old.get("name")) == old.get("name")
    return _merge(dict(old), value) if same else value


def _assign(tree: dict[Any, Any], keys: list[str], value: Any) -> None:
    key, rest = int(keys[0]) if keys[0].isdigit() else keys[0], keys[1:]  # of ids: a.b.ids.7=car
    child = tree.get(key)
    if not rest:
        # A part given whole, with its name, is meant whole; single keywords are set by a.b.keyword=value.
        if isinstance(value, dict) and "name" in value:
            tree[key] = value
        else:
            _merge(tree, {key: value})
    elif are_mappings(child):
        tree[key] = [dict(item) for item in child]
        _assign_in_list(tree[key], key, rest, value)
    else:
        tree[key] = dict(child) if isinstance(child, dict) else {}
        _assign(tree[key], rest, value)


def _assign_in_list(items: list[dict[str, Any]], where: str, keys: list[str], value: Any) -> None:
    """Set a value in the item whose number comes first in the keys, or without a number in every item."""
    number, *rest = keys if keys[0].isdigit() else ("", *keys)
    if number and int(number) >= len(items):
        raise ValueError(f"{where}.{number}: {where} has {len(items)} items, numbered from 0; give one of them")
    for item in [items[int(number)]] if number else items:
        if rest:
            _assign(item, rest, value)
        elif isinstance(value, dict):
            _merge(item, value)
        else:
            raise ValueError(f"{where}.{number} must be a mapping, not {value!r}")
