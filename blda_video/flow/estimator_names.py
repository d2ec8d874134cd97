"""Estimators as text: short in a config, complete in the manifest of a flow store."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from blda.config.components import Constructors, component_name
from blda.config.data_schema import Component


def component_of(estimator: str | Component, constructors: Constructors) -> Component:
    """Expand a short name: 'dis-medium' becomes {name: dis, preset: medium}.

    The text after the first '-' or '_' is the value of the constructor's first keyword. A mapping, or a name that is
    not among the constructors, is returned unchanged.
    """
    if isinstance(estimator, Mapping):
        return estimator
    estimator = str(estimator)
    name, value = (*re.split("[-_]", estimator, maxsplit=1), "")[:2]
    if not value or name not in constructors:
        return {"name": name if name in constructors else estimator}
    return {"name": name, next(iter(inspect.signature(constructors[name]).parameters)): value}


def described(estimator: str | Component, constructors: Constructors) -> str:
    """Describe an estimator for a flow store: 'dis-medium', 'raft-small weights=raft_small.pth'.

    The first keyword is always named, the others where they differ from their defaults. Paths are cut to their last
    part, because a store may be read on another machine, and without the weights.
    """
    part = dict(component_of(estimator, constructors))
    name = component_name("flow.estimator", part, constructors)
    del part["name"]
    if name not in constructors:
        return name
    (first, *_), defaults = _defaults(name, constructors)
    arguments = {
        key: value for key, value in {**defaults, **part}.items() if key == first or defaults.get(key) != value
    }
    head = f"{name}-{_short(arguments.pop(first, None))}"
    return " ".join((head, *(f"{key}={_short(arguments[key])}" for key in sorted(arguments))))


def _defaults(name: str, constructors: Constructors) -> tuple[list[str], dict[str, Any]]:
    parameters = inspect.signature(constructors[name]).parameters
    defaults = {key: each.default for key, each in parameters.items() if each.default is not each.empty}
    return list(parameters), defaults


def _short(value: object) -> str:
    return PurePath(value).name if isinstance(value, (str, PurePath)) and value else str(value)
