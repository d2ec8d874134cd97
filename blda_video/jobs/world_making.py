"""Miniatures of data sets, the rehearsal of a config on them, and a sheet of the street world to look at."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from blda.config import loading
from blda.data.label_map import CITYSCAPES19
from blda.engine import label_colors, runtime
from blda.spelling import nearest
from blda_video.config import VideoConfig, WorldSpec
from blda_video.jobs import flow_computation, kinds, shipped_configs
from blda_video.street_world import rehearsal
from blda_video.street_world.layouts.layout_names import LAYOUTS
from blda_video.street_world.simulator.domains import LOOKS
from blda_video.street_world.simulator.world import World
from blda_video.street_world.world_writer import ensure

COLORS = label_colors.palette(CITYSCAPES19).numpy()
"""Cityscapes' colours of the 19 classes."""
ROOT = Path("data/miniature")


def make_like(name: str, variants: Sequence[str], root: Path | None = None) -> Path:
    """Write the rehearsal of a config, a file or a shipped name, with variants; return its config file."""
    path, *variants = (shipped_configs.found(each) for each in (name, *variants))
    kind, compose = kinds.of_run(path, [str(each) for each in variants])
    made = rehearsal.make(path, kind, root or ROOT, variants)
    config = loading.load(made, kind)
    if isinstance(config, VideoConfig) and stores_flow(config):
        flow_computation.fill(compose(config, runtime.start("no")))
    return made


def stores_flow(config: VideoConfig) -> bool:
    """Return whether a run reads flow of its own stores."""
    flows = (config.flow, *(each.flow for each in config.target.members))
    return any(flow is not None and flow.get("name") == "store" for flow in flows)


def make_layout(args: Namespace) -> Iterator[str]:
    """Write the splits of one data set; yield a line for each."""
    if args.layout not in LAYOUTS:
        raise ValueError(f"--layout: unknown '{args.layout}'; {nearest(args.layout, LAYOUTS)}")
    root, layout = args.root or ROOT / args.layout, LAYOUTS[args.layout]()
    usual, frames = layout.usual, args.frames or layout.usual.frames
    for split in args.split or usual.splits:
        spec = WorldSpec(
            *(root, args.layout, args.look or usual.look, split, args.sequences or usual.sequences, frames),
            size=tuple(args.size or usual.size),
            seed=args.seed,
            labelled=layout.published(frames) if args.labelled is None else tuple(args.labelled),
            flow=args.flow,
            density=args.density,
            shift=args.shift,
        )
        ensure(spec, workers=args.workers)
        yield (f"{root}: {args.layout} layout, split {split}, {spec.sequences} sequences of {frames} frames")


def preview(path: Path, size: tuple[int, int], seed: int, rows: int = 4) -> None:
    """Draw a sheet: one street a row, with image, labels and flow of the source and then of the target."""
    sheet = []
    for row in range(rows):
        cells = []
        for look in LOOKS:
            world = World(look, seed + row, size, frames=16)
            frame, (motion, seen) = world.frame(8), world.flow(8, 1)
            cells += [frame.image, COLORS[frame.label], flow_colors(motion, seen)]
        sheet.append(np.hstack(cells))
    if not cv2.imwrite(str(path), np.vstack(sheet)[..., ::-1]):
        raise OSError(f"cannot write {path}; check the folder and use the extension .png")


def flow_colors(flow: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Colour flow (2, H, W) as (H, W, 3): hue is direction, strength is speed (full at 12 px), black is occluded."""
    speed, angle = cv2.cartToPolar(flow[0], flow[1], angleInDegrees=True)
    strength = (speed / 12 * 255).clip(0, 255)
    picture = np.stack([angle / 2, strength, np.where(seen, 255, 0)], axis=-1).astype(np.uint8)
    return cv2.cvtColor(picture, cv2.COLOR_HSV2RGB)
