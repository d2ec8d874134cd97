"""Public names of a package that are imported when they are first used, so that importing the package is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package that offers names of other modules.

    homes: the module of each name. The first raises AttributeError with all names for one that is not among them.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'; it offers {', '.join(sorted(homes))}")
        return getattr(import_module(homes[name]), name)

    return get, lambda: [*vars(sys.modules[package]), *homes]
