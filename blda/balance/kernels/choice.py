"""Choice of the compiled kernels of a device."""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

from blda.cache_folders import temporary_folder, writable

NEEDS = {"cpu": "numba", "cuda": "triton"}
"""Device type -> library that compiles `blda/balance/kernels/DEVICE.py`."""


@cache
def mixtures(device: str) -> ModuleType | None:
    """Return the module for mixtures of a device type, or None where plain torch is used.

    It has `align`, and on a CPU `fit`. On a GPU it has `advance`, which fits and averages with the past.
    """
    return import_module(f"blda.balance.kernels.{device}_mixtures") if kernels(device) else None


@cache
def scoring(device: str) -> ModuleType | None:
    """Return the module with `scores` of post-hoc calibration, or None where plain torch is used, as on a GPU."""
    return import_module("blda.balance.kernels.cpu_scores") if device == "cpu" and kernels(device) else None


@cache
def kernels(device: str) -> ModuleType | None:
    """Return the module for a device type, with `count` and `loss_and_gradient`; None where plain torch is used."""
    needs = NEEDS.get(device)
    if not needs or not _works(needs):
        return None
    if needs == "triton":
        _give_cache()
    module = import_module(f"blda.balance.kernels.{device}")
    return module if device != "cuda" or _compiles(module) else None


@cache
def _works(library: str) -> bool:
    """Tell whether a library is installed and can be imported; numba refuses releases of NumPy newer than itself."""
    if find_spec(library) is None:
        return False
    try:
        import_module(library)
    except ImportError as error:
        warnings.warn(f"{library} cannot be used, plain torch does its work: {error}", stacklevel=3)
        return False
    return True


def _give_cache() -> None:
    """Give Triton a temporary cache folder if it cannot write to the home; it does not work without one."""
    if not {"TRITON_CACHE_DIR", "TRITON_HOME"} & os.environ.keys() and not writable(Path.home() / ".triton"):
        folder = temporary_folder("triton")
        if folder is not None:
            os.environ["TRITON_CACHE_DIR"] = str(folder)


def _compiles(module: ModuleType) -> bool:
    """Tell whether Triton's kernels run here, which needs a GPU that Triton supports and a C compiler."""
    try:
        row = torch.zeros(1, 1, dtype=torch.int64, device="cuda")
        module.count(torch.zeros(1, 1, 1, device="cuda"), row)
    except Exception as error:  # Triton's errors are of many types
        warnings.warn(f"triton cannot be used, plain torch does its work: {error}", stacklevel=4)
        return False
    return True
