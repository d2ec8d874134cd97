"""Compilation by numba, with a cache on disk if a folder for it can be written."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba

from blda.cache_folders import temporary_folder


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """Return `numba.njit` that releases the interpreter's lock, with a cache on disk if possible."""
    return numba.njit(nogil=True, cache=_caching(), error_model="numpy", **options)


def inlined(**options: Any) -> Callable[[Callable], Callable]:
    """Return `numba.njit` for functions that other compiled ones call: their code becomes part of the caller's.

    Otherwise the process that compiles calls a copy of its own, and later ones call the copy in the caller's cached
    code, which LLVM optimised anew: a sum in another order, so another last digit.
    """
    return numba.njit(nogil=True, error_model="numpy", forceinline=True, **options)


@cache
def _caching() -> bool:
    """Tell whether numba can cache compiled code: beside the source, in the home, or in a temporary folder."""
    if _can_cache():
        return True
    folder = temporary_folder("numba")
    if folder is None:
        return False
    numba.config.CACHE_DIR = str(folder)
    return _can_cache()


def _can_cache() -> bool:
    """Try whether numba finds a folder for its cache."""
    try:
        numba.njit(cache=True)(_nothing)
    except RuntimeError:  # "cannot cache function: no locator available"
        return False
    return True


def _nothing() -> None:
    """Do nothing: a function of this folder, for which numba looks for a cache."""
