"""Which compiled kernels serve a device."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

NEEDS = {"cpu": "numba", "cuda": "triton"}
"""Device -> the library that compiles `blda/kernels/DEVICE.py`."""


@cache
def mixtures(device: str) -> ModuleType | None:
    """The module with `fit` and `align` of mixtures, for the CPU only; None where plain torch does the work."""
    return import_module("blda.kernels.mixtures") if device == "cpu" and _works("numba") else None


@cache
def fused(device: str) -> ModuleType | None:
    """The module with `fit` and `aligned`, of all mixtures in one launch, for a GPU only; None elsewhere."""
    return import_module("blda.kernels.cuda_mixtures") if device == "cuda" and find_spec("triton") else None


@cache
def kernels(device: str) -> ModuleType | None:
    """The module for a device type, with `count` and `loss_and_gradient`; None where plain torch does the work."""
    needs = NEEDS.get(device)
    return import_module(f"blda.kernels.{device}") if needs and _works(needs) else None


@cache
def _works(library: str) -> bool:
    """Whether a library is there and can be imported: numba refuses releases of numpy that are newer than it."""
    if find_spec(library) is None:
        return False
    try:
        import_module(library)
    except ImportError as error:
        warnings.warn(f"{library} cannot be used, plain torch does its work: {error}", stacklevel=3)
        return False
    return True
