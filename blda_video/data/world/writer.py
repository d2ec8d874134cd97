"""Street worlds on disk, in the layouts of data sets, made once and whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from blda.parts import construct
from blda_video.data.layouts.layout import Layout, Place
from blda_video.data.layouts.table import LAYOUTS
from blda_video.data.world.domains import LOOKS
from blda_video.data.world.world import World

FORMAT = 1
"""Raised whenever the same specification starts to give other files."""


@dataclass(frozen=True)
class WorldSpec:
    """What to write; `split` names a part of the world below `root`, and parts share no sequence.

    layout: a name of blda_video/data/layouts/table.py. look: 'source' or 'target'. size: (height, width).
    labelled: frame numbers that get a label file; None is every frame for VIPER, 4, 9, 14, 19, ... for Cityscapes-Seq
        (the real data set has number 19 of each 30 frames only), and as in the real one for the other layouts.
    flow: also store the exact flow between consecutive frames, both directions, in `<root>/flow`.
    options: keywords of the layout.
    Raises ValueError for a value that cannot be made.
    """

    root: str | Path
    layout: str
    look: str
    split: str = "train"
    sequences: int = 8
    frames: int = 30
    size: tuple[int, int] = (128, 256)
    seed: int = 0
    labelled: tuple[int, ...] | None = None
    flow: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"no layout '{self.layout}' for a street world; choose one of {', '.join(LAYOUTS)}")
        layout = self.made_layout()
        if self.look not in LOOKS:
            raise ValueError(f"no look '{self.look}' in the street world; choose one of {', '.join(LOOKS)}")
        if not self.split or any(mark in self.split for mark in "/\\."):
            raise ValueError(f"'{self.split}' is no name for a split; use a folder name such as train")
        if len(self.size) != 2 or min(self.size) < 16:
            raise ValueError(f"size {tuple(self.size)} of a street world; use (height, width) of at least 16")
        most, frames = layout.usual.most, layout.usual.most_frames
        if not 1 <= self.sequences <= most or not 1 <= self.frames <= frames or self.seed < 0:
            raise ValueError(
                f"sequences {self.sequences}, frames {self.frames}, seed {self.seed} of a street world; use "
                f"1 .. {most} sequences of 1 .. {frames} frames in the layout {self.layout}, and a seed of at least 0"
            )
        if self.flow and not layout.name(Place(self.split, 0, 0, self.frames)).startswith(f"{self.split}/"):
            raise ValueError(f"exact flow is not stored beside the layout {self.layout}; use viper or cityscapes_seq")
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "size", tuple(int(side) for side in self.size))
        if not set(self.label_frames) <= set(range(self.frames)):
            raise ValueError(f"labelled {self.labelled} of {self.frames} frames; choose from 0 .. {self.frames - 1}")

    @property
    def label_frames(self) -> tuple[int, ...]:
        """The frame numbers that get a label file."""
        if self.labelled is None:
            return self.made_layout().labelled(self.frames)
        return tuple(sorted(set(self.labelled)))

    @property
    def manifest(self) -> Path:
        """The file that says that this split is complete, and what made it."""
        return self.root / f"world_{self.split}.json"

    def made_layout(self) -> Layout:
        """The layout with its options."""
        return construct("options", {"name": self.layout, **self.options}, LAYOUTS)

    def settings(self) -> dict:
        """The content of the manifest."""
        values = asdict(self)
        del values["root"]
        if not self.options:
            del values["options"]
        return {"format": FORMAT, **values, "size": list(self.size), "labelled": list(self.label_frames)}


def ensure(spec: WorldSpec, progress: bool = True, workers: int = 1) -> None:
    """Make the world unless it is there already.

    Raises ValueError in one line when other settings made what is there, or when it is not a finished world.
    """
    if not spec.manifest.is_file():
        make(spec, progress, workers)
        return
    try:
        made = json.loads(spec.manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"corrupt manifest {spec.manifest} ({error}); delete {spec.root} and make it again") from error
    asked = spec.settings()
    changed = [key for key in asked if not isinstance(made, dict) or made.get(key) != asked[key]]
    if changed:
        found = made if isinstance(made, dict) else {}
        list_of = ", ".join(f"{key}: {_text(found.get(key))}, asked {_text(asked[key])}" for key in changed)
        raise ValueError(f"{spec.manifest} was made with other settings ({list_of}); delete it or choose another root")


def make(spec: WorldSpec, progress: bool = True, workers: int = 1) -> None:
    """Write the world of `spec` with `workers` processes; a broken-off run leaves nothing below the root.

    Raises ValueError when something is already where the split belongs.
    """
    for piece in _pieces(spec):
        if (spec.root / piece).exists() or spec.manifest.exists():
            raise ValueError(
                f"{spec.root / piece} exists already and is no finished street world; choose another root or split"
            )
    _check_store(spec)
    spec.root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{spec.root.name}-", dir=spec.root.parent))
    try:
        write(spec, temporary, progress, workers)
        _publish(spec, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write(spec: WorldSpec, root: Path, progress: bool = False, workers: int = 1) -> None:
    """Write the files of `spec` below `root`, over what is there: no manifest, and in pieces if it is stopped."""
    jobs = [(spec, index, root) for index in range(spec.sequences)]
    for _ in tqdm(_run(jobs, workers), f"{spec.look} world", spec.sequences, disable=not progress, unit="seq"):
        pass
    for path, text in spec.made_layout().lists(spec.split, spec.sequences, spec.frames).items():
        (root / path).write_text(text, encoding="utf-8")


def _run(jobs: list[tuple], workers: int) -> Iterator[None]:
    if workers <= 1:
        yield from (_sequence(job) for job in jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        yield from pool.map(_sequence, jobs)


def _sequence(job: tuple[WorldSpec, int, Path]) -> None:
    spec, index, root = job
    layout = spec.made_layout()
    world = World(spec.look, sequence_seed(spec, index), spec.size, spec.frames)
    layout.write(root, spec.split, index, world, spec.label_frames)
    if spec.flow:
        names = [layout.name(Place(spec.split, index, t, spec.frames)) for t in range(spec.frames)]
        _flows(world, names, root / "flow")


def _flows(world: World, names: list[str], root: Path) -> None:
    import torch

    from blda_video.flow.store import FlowStore

    store = FlowStore(root, "exact")
    store.note((-1, 1))
    for t in range(len(names) - 1):
        store.write(names[t], names[t + 1], torch.from_numpy(world.flow(t, 1)[0])[None])
        store.write(names[t + 1], names[t], torch.from_numpy(world.flow(t + 1, -1)[0])[None])


def sequence_seed(spec: WorldSpec, index: int) -> int:
    """Seed of a sequence's World: differs over indices, seeds and splits, and is consecutive over indices."""
    return zlib.crc32(f"{spec.split}/{spec.seed}".encode()) * 1000 + index


def _pieces(spec: WorldSpec) -> list[Path]:
    layout = spec.made_layout()
    lists = layout.lists(spec.split, spec.sequences, spec.frames)
    flow = [f"flow/{spec.split}"] if spec.flow else []
    pieces = [*layout.pieces(spec.split), *flow]
    return [Path(piece) for piece in (*pieces, *(path for path in lists if path.split("/")[0] not in pieces))]


def _check_store(spec: WorldSpec) -> None:
    """The splits below one root share one flow store, which holds one size."""
    path = spec.root / "flow" / "manifest.json"
    if spec.flow and path.is_file() and json.loads(path.read_text())["size"] != list(spec.size):
        raise ValueError(f"flow store {path} has another size than {_text(list(spec.size))}; choose another root")


def _publish(spec: WorldSpec, temporary: Path) -> None:
    """Move the finished pieces to their places, the manifest last."""
    manifest = temporary / spec.manifest.name
    manifest.write_text(json.dumps(spec.settings(), indent=1) + "\n", encoding="utf-8")
    for piece in _pieces(spec):
        if not (temporary / piece).exists():  # a flow store of single frames, labels that the owners withhold
            continue
        (spec.root / piece).parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary / piece, spec.root / piece)
    store = temporary / "flow" / "manifest.json"
    if store.is_file():
        os.replace(store, spec.root / "flow" / "manifest.json")
    os.replace(manifest, spec.manifest)


def _text(value: object) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value)) if len(value) < 3 else ",".join(map(str, value))
    return str(value)
