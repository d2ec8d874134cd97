"""Make small street-world copies of data sets, to rehearse a run before a download, or a sheet to look at.

    python tools/make_world.py --like configs/viper2csseq.yaml [configs/variants/mic.yaml]
    python tools/make_world.py --layout NAME [--root DIR] [--split train val] [--sequences 8] [--size 128 256] ...
    python tools/make_world.py --preview sheet.png

--like: writes ROOT/viper2csseq with all that the config reads (images, labels, lists, stored flow) and a config of 20
steps of a small network on it, and prints the command that trains and evaluates it. Made again, it replaces the last
rehearsal. --layout: writes one data set as its owners name and encode it; a finished split is left as it is.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

import compute_flow
import kinds
from blda.config import loading
from blda.engine import label_colors, runtime
from blda_video.config import VideoConfig, WorldSpec
from blda_video.street_world import rehearsal
from blda_video.street_world.layouts.layout_names import LAYOUTS
from blda_video.street_world.simulator.domains import LOOKS
from blda_video.street_world.simulator.world import World
from blda_video.street_world.world_writer import ensure
from command import one_line_errors, parser

COLORS = label_colors.palette(len(label_colors.CITYSCAPES)).numpy()
"""Cityscapes' colours of the 19 classes."""
ROOT = Path("data/miniature")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    reading = parser(__doc__)
    what = reading.add_mutually_exclusive_group(required=True)
    like = "all that this config reads, with these variants, and a config to run"
    what.add_argument("--like", type=Path, nargs="+", metavar="CONFIG", help=like)
    what.add_argument("--layout", choices=sorted(LAYOUTS), help="one data set, in this layout")
    what.add_argument("--preview", type=Path, metavar="PNG", help="image, labels and flow of both looks")
    reading.add_argument("--root", type=Path, help=f"folder; without, {ROOT} with --like, {ROOT}/LAYOUT with --layout")
    reading.add_argument("--look", choices=sorted(LOOKS), help="clean game or grey camera; without, what suits")
    reading.add_argument("--split", nargs="+", help="other splits have other streets; without, those of the layout")
    reading.add_argument("--sequences", type=int)
    reading.add_argument("--frames", type=int, help="frames of a sequence")
    reading.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    reading.add_argument("--seed", type=int, default=0)
    reading.add_argument("--labelled", type=int, nargs="+", metavar="FRAME", help="frame numbers that get labels")
    reading.add_argument("--flow", action="store_true", help="also store the exact flow between consecutive frames")
    reading.add_argument("--workers", type=int, default=1, help="processes")
    return reading.parse_args()


def make_like(path: Path, variants: Sequence[Path], root: Path) -> str:
    """Write the rehearsal of a config; return the command that runs it."""
    kind, compose = kinds.of_run(path)
    made = rehearsal.make(path, kind, root, variants)
    config = loading.load(made, kind)
    video = isinstance(config, VideoConfig)
    if video and config.flow.get("name") == "store":
        compute_flow.fill(compose(config, runtime.start("no")))
    tool = "train_video" if video else "train_image"
    return shlex.join(["accelerate", "launch", f"tools/{tool}.py", str(made)])


def make_layout(args: argparse.Namespace) -> None:
    """Write the splits of one data set."""
    root, layout = args.root or ROOT / args.layout, LAYOUTS[args.layout]()
    usual, frames = layout.usual, args.frames or layout.usual.frames
    for split in args.split or usual.splits:
        spec = WorldSpec(
            *(root, args.layout, args.look or usual.look, split, args.sequences or usual.sequences, frames),
            size=tuple(args.size or usual.size),
            seed=args.seed,
            labelled=layout.published(frames) if args.labelled is None else tuple(args.labelled),
            flow=args.flow,
        )
        ensure(spec, workers=args.workers)
        print(f"{root}: {args.layout} layout, split {split}, {spec.sequences} sequences of {frames} frames")


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


def main() -> None:
    """Run the command."""
    args = arguments()
    with one_line_errors():
        if args.preview is not None:
            preview(args.preview, tuple(args.size or (128, 256)), args.seed)
        elif args.layout is not None:
            make_layout(args)
        else:
            print(make_like(args.like[0], args.like[1:], args.root or ROOT))


if __name__ == "__main__":
    main()
