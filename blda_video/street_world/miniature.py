"""Small street-world copies of all data sets that a config reads, to rehearse its run before a download."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blda.config.data_schema import Component, Target
from blda.config.schema import Config
from blda.data.label_map import CLASS_LISTS
from blda.spelling import nearest
from blda_video.config import WorldSpec
from blda_video.street_world.layouts.encode import RATE
from blda_video.street_world.layouts.layout import Place
from blda_video.street_world.layouts.layout_names import LAYOUTS
from blda_video.street_world.world_writer import layout_of


@dataclass(frozen=True)
class Copy:
    """One part of a data set to write. key: two copies with one key are the same files. files: path -> text of files
    outside the copy's folder.
    """

    key: tuple[Any, ...]
    spec: WorldSpec
    files: Mapping[Path, str]


@dataclass(frozen=True)
class Wanted:
    """A reader in a config and the use that the run makes of it.

    look: of the street world. size: least (height, width) of the images. reach: farthest neighbour, in frames.
    classes: of the run. moved: function from a path in the config to the path of its copy. folder: folder of all
    copies.
    """

    part: Component
    look: str
    size: tuple[int, int]
    reach: int
    classes: tuple[str, ...]
    folder: Path

    def moved(self, path: str | Path) -> Path:
        """`<folder>/data/viper` for data/viper or /data/viper."""
        return moved(self.folder, path)

    def text(self, key: str) -> str:
        """Value of a keyword that the reader requires."""
        if not isinstance(self.part.get(key), str):
            raise ValueError(f"reader {self.part['name']} needs '{key}'; see docs/datasets.md")
        return self.part[key]

    def spec(self, root: Path, layout: str, split: str, **changes: Any) -> WorldSpec:
        """Specify a street world in the default small form of a layout, with labels on the frames labelled in the
        original.
        """
        options = changes.get("options", {})
        made = LAYOUTS[layout](**options)
        frames = changes.pop("frames", made.usual.frames)
        size = tuple(map(max, made.usual.size, self.size))
        labelled = changes.pop("labelled", made.published(frames))
        sizes = (made.usual.sequences, frames, size)
        return WorldSpec(root, layout, self.look, split, *sizes, labelled=labelled, **changes)


def moved(folder: Path, path: str | Path) -> Path:
    """The path's place in the tree below `folder`."""
    path = Path(path)
    return folder.joinpath(*(part for part in path.parts if part not in (path.anchor, "..")))


def copies(config: Config, folder: Path, scale: Callable[[Any], Any]) -> tuple[list[Copy], dict[str, list[Component]]]:
    """List the copies to write below `folder` so that a config's readers find their data, and the new keywords of the
    readers of source, target and evaluation: of each data set in the config's order.

    scale: (height, width) of the config -> (height, width) of the small run. ValueError for a reader without a layout.
    """
    result: dict[tuple[Any, ...], Copy] = {}
    readers: dict[str, list[Component]] = {"source": [], "target": [], "evaluation": []}
    for role, data in _data_sets(config):
        make = READERS.get(data.reader.get("name"))
        if make is None:
            name = str(data.reader.get("name"))
            raise ValueError(f"{role}.reader: no miniature of '{name}'; {nearest(name, list(READERS))}")
        wanted = _wanted(config, data, "source" if role == "source" else "target", folder, scale)
        parts, keywords = make(wanted)
        readers[role].append(keywords)
        for part in parts:
            before = result.get(part.key, part)
            # What is wanted twice is written once, with labels if either has them, as the target if either is.
            kept = part if part.spec.options.get("labels") and not before.spec.options.get("labels") else before
            look = part.spec.look if before.spec.look == "source" else before.spec.look
            result[part.key] = replace(kept, spec=replace(kept.spec, look=look))
    seeded = (replace(copy, spec=replace(copy.spec, seed=seed)) for seed, copy in enumerate(result.values()))
    return list(seeded), readers


def _data_sets(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield the role and the keys of every data set of a config."""
    yield from (("source", each) for each in config.source.members)
    yield from (("target", each) for each in config.target.members)
    yield "evaluation", config.evaluation


def _wanted(config: Config, data: Any, look: str, folder: Path, scale: Callable[[Any], Any]) -> Wanted:
    whole = isinstance(data, Target) and data.resize is None and data.crop is not None
    offsets = (*getattr(config, "offsets", ()), *getattr(config, "consistency", ()))
    classes = CLASS_LISTS[config.classes] if isinstance(config.classes, str) else config.classes
    size = scale(data.crop) if whole else (0, 0)
    return Wanted(data.reader, look, tuple(size), max(map(abs, offsets), default=0), tuple(classes), folder)


Made = tuple[list[Copy], Component]


def _rooted(wanted: Wanted, layout: str | None = None, **changes: Any) -> Made:
    """Copies of a data set that has a root and splits. changes: of the street world, for videos of any length."""
    part, layout = wanted.part, layout or wanted.part["name"]
    root, split = wanted.moved(wanted.text("root")), part.get("split", "train")
    options = {key: value for key, value in part.items() if key in inspect.signature(LAYOUTS[layout]).parameters}
    spec = wanted.spec(root, layout, split, options=options, **changes)
    return [Copy((layout, root, split, *options.values()), spec, {})], {"root": str(root)}


def _drive(wanted: Wanted, layout: str | None = None) -> Made:
    frames = LAYOUTS[layout or wanted.part["name"]]().usual.frames
    return _rooted(wanted, layout, frames=max(frames, 2 * wanted.reach + 2))


def _viper(wanted: Wanted) -> Made:
    every = wanted.part.get("every", 10)
    frames = max(2 * every + 1, 2 * wanted.reach + 2, 6)
    return _rooted(wanted, frames=frames, labelled=tuple(range(0, frames, every)))


def _camvid(wanted: Wanted) -> Made:
    segnet = wanted.part.get("split", "train") in ("train", "val", "test")
    return _drive(wanted, "camvid" if segnet else "camvid_owners")


def _bdd100k(wanted: Wanted) -> Made:
    (copy,), part = _rooted(wanted)
    if not wanted.part.get("ids"):
        return [copy], part
    path = wanted.moved(wanted.part["ids"])
    names = [Path(name).name for name in _names(copy.spec, 1)]
    return [replace(copy, files={path: _lines(names)})], {**part, "ids": str(path)}


def _folder(wanted: Wanted) -> Made:
    part = {"folders": ("drive_1", "drive_2"), **wanted.part}
    wanted.text("images")
    paths = {key: wanted.moved(part[key]) for key in ("images", "labels", "split") if part.get(key)}
    trees = {key: str(paths[key].relative_to(wanted.folder)) if key in paths else None for key in ("images", "labels")}
    known = ("ids", "image_suffix", "label_suffix", "spacing")
    options = {**trees, **{key: part[key] for key in known if part.get(key)}}
    frames, names = max(4, 2 * wanted.reach + 2), []
    made = []
    for folder in part["folders"] or ("drive_1", "drive_2"):
        spec = wanted.spec(wanted.folder, "folder", "all", options={**options, "folders": (folder,)}, frames=frames)
        names += _names(spec, frames)
        made.append(Copy(("folder", trees["images"], folder), spec, {}))
    if "split" in paths:
        made[0] = replace(made[0], files={paths["split"]: _lines(names)})
    return made, {key: str(path) for key, path in paths.items()}


def _videos(wanted: Wanted) -> Made:
    part = wanted.part
    root, files = wanted.moved(wanted.text("root")), part.get("files") or "*.mp4"
    still = math.ceil(RATE * (part.get("start", 0) + (part.get("seconds") or 0)))
    frames = max(12, 2 * wanted.reach * part.get("spacing", 1) + 2, part.get("every", 1) + 2)
    spec = wanted.spec(root, "videos", "all", options={"files": files, "still": still}, frames=frames)
    return [Copy(("videos", root, str(files)), spec, {})], {"root": str(root)}


def _class_folders(wanted: Wanted) -> Made:
    images, listing = wanted.moved(wanted.text("images")), wanted.part.get("listing")
    options = {"classes": tuple(wanted.part.get("classes", wanted.classes))}
    spec = wanted.spec(images.parent, "class_folders", images.name, options=options)
    keywords, files = {"images": str(images)}, {}
    if listing:
        path = wanted.moved(listing)
        (text,) = layout_of(spec).lists(spec.split, spec.sequences, spec.frames).values()
        keywords, files = {**keywords, "listing": str(path)}, {path: text}
    return [Copy(("class_folders", images), spec, files)], keywords


def _names(spec: WorldSpec, frames: int) -> list[str]:
    """Names of the first so many frames of each sequence."""
    layout = layout_of(spec)
    places = (Place(spec.split, i, t, spec.frames) for i in range(spec.sequences) for t in range(frames))
    return [layout.name(place) for place in places]


def _lines(names: Iterable[str]) -> str:
    return "".join(f"{name}\n" for name in names)


READERS: Mapping[str, Callable[[Wanted], Made]] = {
    "acdc": _rooted,
    "bdd10k": _rooted,
    "bdd100k": _bdd100k,
    "bdd_vid": _rooted,
    "camvid": _camvid,
    "cityscapes": _rooted,
    "cityscapes_seq": _rooted,
    "class_folders": _class_folders,
    "dark_zurich": _rooted,
    "folder": _folder,
    "gta5": _rooted,
    "synthia": _rooted,
    "synthia_seq": _drive,
    "videos": _videos,
    "viper": _viper,
}
"""Reader -> what makes its copy."""
