"""A short, small run of a config on miniatures of its data: no download, no weights, seconds on a CPU."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from blda.config import loading
from blda.config.classification import ClassifyConfig
from blda.config.data_schema import Component, Target
from blda.config.method_schema import SelfTraining
from blda.config.schema import Config, Model
from blda_video.config import VideoConfig
from blda_video.street_world.miniature import copies, moved
from blda_video.street_world.world_writer import write

MARK = "# A rehearsal, made by blda make-world"
"""First words of the config in a folder that may be made anew."""
STEPS = 20
SHORT = 64
"""Shorter side of the training crop."""
BATCH = 4
HEADS = {"daformer": {"embed": 16}, "segformer": {"embed": 16}, "linear": {"bottleneck": 32}}


def make(path: Path, kind: type[Config], root: Path, variants: Sequence[Path] = ()) -> Path:
    """Write `<root>/<name of the config>` with copies of the data sets and `config.yaml`; returns the latter.

    The config has the original and the variants as its bases, and its run's folder inside. variants: files on top of
    the config; their names become part of the folder's. An earlier rehearsal is replaced, with its run. Raises
    ValueError when the folder exists and is not a rehearsal, or when a reader has no miniature.
    """
    files = (path, *variants)
    folder = root / "-".join(file.stem for file in files)
    _require_ours(folder)
    config = loading.load(path, kind, [str(variant) for variant in variants])
    scale = _scale(config)
    result, readers = copies(config, folder, lambda size: _scaled(size, scale))
    root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=root))
    try:
        for copy in result:
            write(copy.spec, temporary / Path(copy.spec.root).relative_to(folder))
            for file, text in copy.files.items():
                file = temporary / file.relative_to(folder)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
        base = [os.path.relpath(file.resolve(), folder.resolve()) for file in files]
        tree = {"base": base, **changes(config, folder, scale, readers)}
        text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=110)
        text = f"{MARK}: {' '.join(map(str, files))}\n{text}"
        (temporary / "config.yaml").write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / "config.yaml"


def changes(config: Config, folder: Path, scale: float, readers: dict[str, list[dict]]) -> dict[str, Any]:
    """Changes of the rehearsal's config against the original.

    scale: factor by which images, crops and rows shrink; pixel counts shrink by its square. readers: role -> new
    keywords of each data set.
    """
    training, counted = config.training, _counted(config, scale)
    small: dict[str, Any] = {"run": str(folder / "run"), "resolution": 1}
    small["evaluation"] = _of_data(config.evaluation, readers["evaluation"][0], scale)
    source, target = (
        [_of_data(data, keywords, scale) for data, keywords in zip(domain.members, readers[role], strict=True)]
        for role, domain in (("source", config.source), ("target", config.target))
    )
    if (rare := config.source.rare) is not None:
        small_rare = {"min_pixels": counted(rare.min_pixels), "min_crop_ratio": rare.min_crop_ratio}
        source = [{**each, "rare": small_rare} for each in source]
    for each, data in zip(target, config.target.members, strict=True):
        if own := getattr(data, "flow", None):
            each["flow"] = _of_flow(own, folder)
    small |= {"source": _as_written(config.source, source), "target": _as_written(config.target, target)}
    small["evaluation"]["every"] = STEPS // 2
    small["model"] = _of_model(config.model)
    # The small encoder has no pretrained weights to stay near, and needs no second network beside it.
    small["feature_distance"] = small["foundation_distance"] = None
    small["self_training"] = _of_self_training(config.self_training, scale)
    small["blda"] = {"warmup": STEPS // 4, "min_pixels": counted(config.blda.min_pixels)}
    small["optimizer"] = {"warmup": STEPS // 4}
    small["training"] = {
        "steps": STEPS,
        "batch": min(training.batch, BATCH),
        "precision": "no",
        "workers": min(training.workers, 1),
        "checkpoint_every": STEPS // 2,
    }
    small["log"] = {"every": STEPS // 4, "pictures": STEPS // 2}
    small["data"] = {"cache": None, "on_unseen": "warn"}
    return {**small, **_of_video(config, folder), **_of_classifier(config, scale)}


def _as_written(domain: Target, small: list[dict[str, Any]]) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the changes of a single data set; of several, all keys of all, as a list replaces the original's list."""
    if not domain.others:
        return small[0]
    whole = loading.plain(domain)
    return [_over(each, changed) for each, changed in zip(whole, small, strict=True)]


def _over(keys: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Return the keys with the changed ones; parts keep the keywords that are not changed."""
    both = {key: {**keys[key], **value} for key, value in changed.items() if isinstance(keys.get(key), dict)}
    return {**keys, **changed, **both}


def _of_model(model: Model) -> dict[str, Any]:
    head = model.head.get("name")
    small: dict[str, Any] = {
        "encoder": {"name": "small", "channels": [8, 16, 24, 32]},
        "head": {"name": head, **HEADS.get(head, {})},
    }
    if model.hrda is not None:
        attention = model.hrda.attention.get("name")
        small["hrda"] = {"attention": {"name": attention, **HEADS.get(attention, {})}, "detail": None}
    return small


def _of_self_training(settings: SelfTraining, scale: float) -> dict[str, Any]:
    small: dict[str, Any] = {
        "ignore_top": round(settings.ignore_top * scale),
        "ignore_bottom": round(settings.ignore_bottom * scale),
        "burn_in": min(settings.burn_in, STEPS // 4),
    }
    if settings.margins is not None:
        small["margins"] = [round(margin * scale) for margin in settings.margins]
    if settings.masked is not None:
        small["masked"] = {"block": max(round(settings.masked.block * scale), 4)}
    return small


def _of_data(data: Any, keywords: dict[str, Any], scale: float) -> dict[str, Any]:
    """Changes of the source, target or evaluation data."""
    sizes = {key: _scaled(getattr(data, key, None), scale) for key in ("resize", "crop", "size", "window", "stride")}
    shrunk = {key: list(size) for key, size in sizes.items() if size is not None}
    return {"reader": {"name": data.reader["name"], **keywords}, **shrunk}


def _of_video(config: Config, folder: Path) -> dict[str, Any]:
    if not isinstance(config, VideoConfig):
        return {}
    return {"flow": _of_flow(config.flow, folder), "worlds": []}


def _of_flow(flow: Component, folder: Path) -> Component:
    if flow.get("name") == "store":
        return {"name": "store", "root": str(moved(folder, flow["root"])), "estimator": "dis-medium"}
    return dict(flow) if flow.get("name") in ("dis", "none") else {"name": "dis", "preset": "medium"}


def _of_classifier(config: Config, scale: float) -> dict[str, Any]:
    if not isinstance(config, ClassifyConfig):
        return {}
    small: dict[str, Any] = {}
    if (centre := _scaled(config.classification.centre, scale)) is not None:
        small["centre"] = list(centre)
    if (mask := config.classification.mask) is not None:
        small["mask"] = {"block": max(round(mask.block * scale), 4)}
    return {"classification": small}


def _counted(config: Config, scale: float) -> Callable[[int], int]:
    """Scale `min_pixels` down: with the area, or with the batch when it counts images."""
    images = isinstance(config, ClassifyConfig)
    share = min(1, BATCH / config.training.batch) if images else scale**2
    return lambda count: max(round(count * share), 1)


def _scale(config: Config) -> float:
    sides = config.source.crop or config.source.resize
    return 1.0 if sides is None else min(1.0, SHORT / min(sides))


def _scaled(size: tuple[int, int] | None, scale: float) -> tuple[int, ...] | None:
    return None if size is None else tuple(max(round(side * scale), 1) for side in size)


def _require_ours(folder: Path) -> None:
    config = folder / "config.yaml"
    if folder.exists() and not (config.is_file() and config.read_text(encoding="utf-8").startswith(MARK)):
        raise ValueError(f"{folder} exists and is no rehearsal of a config; choose another --root")
