"""Construction of components: {name: ..., keyword: value} in a config becomes the call of a constructor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from blda.config.data_schema import Component
from blda.config.keyword_types import hints_of, require_type
from blda.spelling import nearest

Constructors = Mapping[str, Callable[..., Any]]
"""Names that a part may bear, for example {"dis": DIS}."""


def component_name(where: str, part: Component, constructors: Constructors) -> str:
    """Return the name in a component, whether or not a constructor has it.

    Raises ValueError naming the key when the component has no name.
    """
    if not isinstance(part, Mapping) or not isinstance(part.get("name"), str):
        among = ", ".join(constructors)
        raise ValueError(f"{where}: {part!r} names no part; write {{name: WHICH, ...}} with one of {among}")
    return part["name"]


def construct(where: str, part: Component, constructors: Constructors, **fixed: Any) -> Any:
    """Call the constructor that a component names, with the component's keywords and the fixed ones.

    Raises ValueError naming the key when a name or keyword is unknown, or one is missing.
    """
    name = component_name(where, part, constructors)
    keywords = {key: value for key, value in part.items() if key != "name"}
    if name not in constructors:
        raise ValueError(f"{where}: unknown name '{name}'; {nearest(str(name), list(constructors))}")
    hints = hints_of(constructors[name])
    known = inspect.signature(constructors[name]).parameters
    for key in keywords:
        if key not in known or key in fixed:
            raise ValueError(f"{where}: {name} has no '{key}'; {nearest(key, [k for k in known if k not in fixed])}")
        require_type(f"{where}: {key}", keywords[key], hints.get(key, Any))
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in keywords and key not in fixed:
            raise ValueError(f"{where}: {name} needs '{key}'")
    return constructors[name](**keywords, **fixed)
