"""numba's compiler, with what it compiled kept on disk wherever that is possible."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba

from blda.cache_folders import temporary_folder


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """`numba.njit` with the interpreter's lock released and a cache, if a folder for that can be written."""
    return numba.njit(nogil=True, cache=_caching(), error_model="numpy", **options)


@cache
def _caching() -> bool:
    """Whether numba can keep what it compiles: beside the code, in the home, or else in a temporary folder."""
    if _has_place():
        return True
    folder = temporary_folder("numba")
    if folder is None:
        return False
    numba.config.CACHE_DIR = str(folder)
    return _has_place()


def _has_place() -> bool:
    try:
        numba.njit(cache=True)(_nothing)
    except RuntimeError:  # "cannot cache function: no locator available"
        return False
    return True


def _nothing() -> None:
    """Something to look for a cache of, in the kernels' folder."""
