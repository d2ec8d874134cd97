"""Street worlds on disk, in the layouts of data sets, made once; an unfinished split is never left behind."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from blda import atomic
from blda.config.components import construct
from blda_video.config import WorldSpec
from blda_video.flow import store_manifest
from blda_video.street_world.layouts.layout import Layout, Place
from blda_video.street_world.layouts.layout_names import LAYOUTS
from blda_video.street_world.simulator import density
from blda_video.street_world.simulator.shift import shifted
from blda_video.street_world.simulator.world import World

_LOG = logging.getLogger(__name__)
FORMAT = 1
"""Raised whenever the same specification starts to give other files."""
UNSAID: Mapping[str, Any] = {"density": 1, "shift": 1, "options": {}}
"""Values that a manifest does not name."""


def layout_of(spec: WorldSpec) -> Layout:
    """Make the layout that a world is written in, with its options; ValueError for an unknown name or option."""
    if spec.layout not in LAYOUTS:
        raise ValueError(f"no layout '{spec.layout}' for a street world; choose one of {', '.join(LAYOUTS)}")
    return construct("options", {"name": spec.layout, **spec.options}, LAYOUTS)


def label_frames(spec: WorldSpec) -> tuple[int, ...]:
    """Frame numbers that get a label file: those of the specification, else those that the layout labels."""
    return layout_of(spec).labelled(spec.frames) if spec.labelled is None else tuple(sorted(set(spec.labelled)))


def check(spec: WorldSpec) -> None:
    """Raise ValueError for a world that cannot be made in its layout."""
    layout = layout_of(spec)
    shifted(spec.look, spec.shift)
    density.factors(spec.density)
    most, frames = layout.usual.most, layout.usual.most_frames
    if spec.sequences > most or spec.frames > frames:
        raise ValueError(
            f"sequences {spec.sequences}, frames {spec.frames} of a street world; use "
            f"1 .. {most} sequences of 1 .. {frames} frames in the layout {spec.layout}"
        )
    if spec.flow and not layout.name(Place(spec.split, 0, 0, spec.frames)).startswith(f"{spec.split}/"):
        raise ValueError(f"exact flow is not stored beside the layout {spec.layout}; use viper or cityscapes_seq")
    if not set(label_frames(spec)) <= set(range(spec.frames)):
        raise ValueError(f"labelled {spec.labelled} of {spec.frames} frames; choose from 0 .. {spec.frames - 1}")


def settings(spec: WorldSpec) -> dict[str, Any]:
    """Return the content of the manifest; it leaves out what manifests had no word for before it could be chosen."""
    values = asdict(spec)
    del values["root"]
    for key, default in UNSAID.items():
        if values[key] == default:
            del values[key]
    return {"format": FORMAT, **values, "size": list(spec.size), "labelled": list(label_frames(spec))}


def ensure(spec: WorldSpec, progress: bool = True, workers: int = 1) -> None:
    """Make the world unless it exists.

    Raises ValueError when the existing one has other settings or is not finished.
    """
    check(spec)
    _recover(spec)
    if not spec.manifest.is_file():
        make(spec, progress, workers)
        return
    _require_same(spec)


def _require_same(spec: WorldSpec) -> None:
    """Raise ValueError unless the finished world at this place was made with these settings."""
    try:
        made = json.loads(spec.manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"corrupt manifest {spec.manifest} ({error}); delete {spec.root} and make it again") from error
    asked, result = {**UNSAID, **settings(spec)}, {**UNSAID, **made} if isinstance(made, dict) else {}
    changed = [key for key in {**asked, **result} if result.get(key) != asked.get(key)]
    if changed:
        list_of = ", ".join(f"{key}: {_text(result.get(key))}, asked {_text(asked.get(key))}" for key in changed)
        raise ValueError(f"{spec.manifest} was made with other settings ({list_of}); delete it or choose another root")


def make(spec: WorldSpec, progress: bool = True, workers: int = 1) -> None:
    """Write the world of `spec` with `workers` processes; an interrupted run leaves nothing below the root.

    If another process finishes the same world first, that one stays. Raises ValueError when the split's folders exist
    already.
    """
    check(spec)
    _recover(spec)
    for piece in _pieces(spec):
        if (spec.root / piece).exists() or spec.manifest.exists():
            raise ValueError(
                f"{spec.root / piece} exists already and is no finished street world; choose another root or split"
            )
    _check_store(spec)
    spec.root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{_draft_prefix(spec)}{os.getpid()}-", dir=spec.root.parent))
    try:
        write(spec, temporary, progress, workers)
        if spec.manifest.is_file():
            _require_same(spec)
        else:
            _publish(spec, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write(spec: WorldSpec, root: Path, progress: bool = False, workers: int = 1) -> None:
    """Write the files of `spec` below `root`, over existing ones: without manifest, and incomplete if interrupted."""
    jobs = [(spec, index, root) for index in range(spec.sequences)]
    for _ in tqdm(_run(jobs, workers), f"{spec.look} world", spec.sequences, disable=not progress, unit="seq"):
        pass
    for path, text in layout_of(spec).lists(spec.split, spec.sequences, spec.frames).items():
        (root / path).write_text(text, encoding="utf-8")


def _run(jobs: list[tuple], workers: int) -> Iterator[None]:
    if workers <= 1:
        yield from (_sequence(job) for job in jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
        yield from pool.map(_sequence, jobs)


def _start_worker() -> None:
    """Limit a worker to one thread, and end it with the process that started it, which may be killed."""
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # waits for no other worker, which may wait for this one


def _sequence(job: tuple[WorldSpec, int, Path]) -> None:
    spec, index, root = job
    layout = layout_of(spec)
    world = World(spec.look, sequence_seed(spec, index), spec.size, spec.frames, spec.density, spec.shift)
    layout.write(root, spec.split, index, world, label_frames(spec))
    if spec.flow:
        names = [layout.name(Place(spec.split, index, t, spec.frames)) for t in range(spec.frames)]
        _flows(world, names, root / "flow")


def _flows(world: World, names: list[str], root: Path) -> None:
    import torch

    from blda_video.flow.flow_store import FlowStore

    store = FlowStore(root, "exact")
    store.note((-1, 1))
    for t in range(len(names) - 1):
        store.write(names[t], names[t + 1], torch.from_numpy(world.flow(t, 1)[0])[None])
        store.write(names[t + 1], names[t], torch.from_numpy(world.flow(t + 1, -1)[0])[None])


def sequence_seed(spec: WorldSpec, index: int) -> int:
    """Seed of a sequence's World: differs over indices, seeds and splits, and is consecutive over indices."""
    return zlib.crc32(f"{spec.split}/{spec.seed}".encode()) * 1000 + index


def _pieces(spec: WorldSpec) -> list[Path]:
    layout = layout_of(spec)
    lists = layout.lists(spec.split, spec.sequences, spec.frames)
    flow = [f"flow/{spec.split}"] if spec.flow else []
    pieces = [*layout.pieces(spec.split), *flow]
    return [Path(piece) for piece in (*pieces, *(path for path in lists if path.split("/")[0] not in pieces))]


def _check_store(spec: WorldSpec) -> None:
    """Check that the flow store holds this size; the splits below one root share one store of one size."""
    path = spec.root / "flow" / "manifest.json"
    made = store_manifest.read(path) if spec.flow else None
    if made is not None and made.size != spec.size:
        raise ValueError(f"flow store {path} has another size than {_text(list(spec.size))}; choose another root")


def _publish(spec: WorldSpec, temporary: Path) -> None:
    """Move the finished pieces to their places, the manifest last."""
    manifest = temporary / spec.manifest.name
    manifest.write_text(json.dumps(settings(spec), indent=1) + "\n", encoding="utf-8")
    # From here on a kill leaves some pieces here and some there: the note says where the others are.
    atomic.write(_moving(spec), json.dumps({"from": temporary.name, "process": os.getpid()}))
    _move(spec, temporary)


def _move(spec: WorldSpec, temporary: Path) -> None:
    """Move the pieces that are still in the temporary folder, in the order that `_publish` started."""
    for piece in _pieces(spec):
        if not (temporary / piece).exists():  # a flow store of single frames, labels that the owners withhold
            continue
        (spec.root / piece).parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary / piece, spec.root / piece)
    store = temporary / "flow" / "manifest.json"
    if store.is_file():
        os.replace(store, spec.root / "flow" / "manifest.json")
    os.replace(temporary / spec.manifest.name, spec.manifest)
    _moving(spec).unlink()


def _draft_prefix(spec: WorldSpec) -> str:
    return f".{spec.root.name}-"


def _moving(spec: WorldSpec) -> Path:
    """Path of the note that marks a split as being moved to its place."""
    return spec.root / f".moving_{spec.split}.json"


def _recover(spec: WorldSpec) -> None:
    """Finish a move that a kill interrupted, and delete the unfinished files of processes that have ended."""
    if spec.root.is_dir():
        atomic.sweep(spec.root)
    note = _moving(spec)
    if note.is_file():
        try:
            left = json.loads(note.read_text(encoding="utf-8"))
            temporary, process = spec.root.parent / Path(left["from"]).name, int(left["process"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{note} is damaged; delete it and the split '{spec.split}' beside it") from error
        if process != os.getpid() and atomic.alive(process):
            raise ValueError(f"{spec.root} is being made by process {process}; wait for it")
        if (temporary / spec.manifest.name).is_file():
            _LOG.warning("%s: process %s was killed while it moved this world into place; finished", spec.root, process)
            _move(spec, temporary)
        note.unlink(missing_ok=True)
    for draft in spec.root.parent.glob(f"{_draft_prefix(spec)}*-*"):
        owner = draft.name.removeprefix(_draft_prefix(spec)).partition("-")[0]
        if owner.isdecimal() and not atomic.alive(int(owner)):
            shutil.rmtree(draft, ignore_errors=True)


def _text(value: object) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value)) if len(value) < 3 else ",".join(map(str, value))
    return str(value)
