"""Settings of a trained network: what a run's config.yaml says of its network, its classes and its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from blda.config.loading import config_of, tree_of
from blda.config.schema import Config
from blda.spelling import nearest

CONFIG = "config.yaml"
_SIZES = ("crop", "resize", "keep_ratio")
READ: Mapping[str, tuple[str, ...] | None] = {
    "classes": None,
    "model": None,
    "evaluation": None,
    "resolution": None,
    "seed": None,
    "source": _SIZES,
    "target": _SIZES,
    "training": ("precision",),
}
"""Keys of a config that a network in use needs -> those of its subkeys that it needs, None for all."""
PREDICTION = ("size", "keep_ratio", "window", "stride", "window_batch", "flip")
"""Keys of `evaluation` that say how an image is predicted."""


def saved_settings(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a run's config.yaml with overrides, as plain keys and values; of any kind of run.

    path: checkpoint, or another file beside the config. Raises FileNotFoundError without a config, and ValueError for
    an override of a key that neither it nor any config has.
    """
    beside = path.parent / CONFIG
    if not beside.is_file():
        raise FileNotFoundError(f"no {CONFIG} beside {path}; copy it from the folder of the run that wrote {path.name}")
    tree = tree_of(beside, overrides)
    known = tree_of(beside).keys() | {field.name for field in fields(Config)}
    for key in tree:
        if key not in known:
            raise ValueError(f"{beside}: unknown key '{key}'; {nearest(key, sorted(known))}")
    return tree


def network_config(settings: Mapping[str, Any], where: Path, **prediction: Any) -> Config:
    """Reduce a run's settings to the config of its network and evaluation; all else has defaults.

    where: file of the settings, for messages. prediction: values for keys of PREDICTION. Raises ValueError for a run
    that classifies whole images, for a wrong key, and for a value of a wrong type.
    """
    if "classification" in settings:
        raise ValueError(f"{where}: this run classifies whole images; give the checkpoint of one that segments them")
    tree: dict[str, Any] = {key: _part(settings[key], READ[key]) for key in READ if key in settings}
    for domain in ("source", "target", "evaluation"):
        tree[domain] = {"reader": {}, **tree.get(domain, {})}
    tree["evaluation"] |= _checked(prediction)
    # Null leaves the precision to the launcher of a training, which is not known here.
    tree["training"] = {"precision": tree.get("training", {}).get("precision") or "no"}
    # Nothing is trained, so no crops of both domains need to be of one size.
    return config_of({**tree, "run": str(where.parent), "method": "source_only"}, Config, str(where))


def _part(value: Any, subkeys: Sequence[str] | None) -> Any:
    if subkeys is not None and isinstance(value, list) and value:
        value = value[0]  # of several data sets, the first says what they share
    if subkeys is None or not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if key in subkeys}


def _checked(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for keys of `evaluation`; a window without a stride replaces the run's stride too."""
    for key in prediction:
        if key not in PREDICTION:
            raise ValueError(f"load: unknown keyword '{key}'; {nearest(key, PREDICTION)}")
    return {**({"stride": None} if "window" in prediction else {}), **prediction}
