"""Make a street world on disk (see blda_video/data/world), or draw a sheet of it to look at.

python tools/make_world.py data/world/source --layout viper --look source --sequences 8 --size 128 256
python tools/make_world.py data/world/target --layout cityscapes_seq --look target --split val --sequences 4
python tools/make_world.py --preview sheet.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from blda.engine import pictures
from blda_video.data.world.domains import LOOKS
from blda_video.data.world.layouts import LAYOUTS
from blda_video.data.world.world import World
from blda_video.data.world.writer import WorldSpec, ensure

COLORS = pictures.palette(len(pictures.CITYSCAPES)).numpy()
"""Cityscapes' colours of the 19 classes."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, help="folder of the data set; a finished split is left as it is")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="viper", help="how files are named and encoded")
    parser.add_argument("--look", choices=sorted(LOOKS), default="source", help="clean game or grey camera")
    parser.add_argument("--split", default="train", help="folder name; other splits have other streets")
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--frames", type=int, default=30, help="frames of a sequence")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labelled", type=int, nargs="+", metavar="FRAME", help="frame numbers that get labels")
    parser.add_argument("--flow", action="store_true", help="also store the exact flow between consecutive frames")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="draw image, labels and flow of both looks instead")
    parsed = parser.parse_args()
    if parsed.root is None and parsed.preview is None:
        parser.error("give a ROOT to write to, or --preview PNG")
    return parsed


def preview(path: Path, size: tuple[int, int], seed: int, rows: int = 4) -> None:
    """A sheet: one street a row, image, labels and flow of the source and then of the target."""
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
    """Flow (2, H, W) as colours (H, W, 3): hue is direction, strength is speed (full at 12 px); black is occluded."""
    speed, angle = cv2.cartToPolar(flow[0], flow[1], angleInDegrees=True)
    strength = (speed / 12 * 255).clip(0, 255)
    picture = np.stack([angle / 2, strength, np.where(seen, 255, 0)], axis=-1).astype(np.uint8)
    return cv2.cvtColor(picture, cv2.COLOR_HSV2RGB)


def main() -> None:
    """Entry point."""
    args = arguments()
    try:
        if args.preview is not None:
            preview(args.preview, tuple(args.size), args.seed)
            return
        labelled = None if args.labelled is None else tuple(args.labelled)
        spec = WorldSpec(
            *(args.root, args.layout, args.look, args.split, args.sequences, args.frames, tuple(args.size), args.seed),
            labelled=labelled,
            flow=args.flow,
        )
        ensure(spec, workers=args.workers)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.root}: {args.layout} layout, split {args.split}, {args.sequences} sequences of {args.frames} frames")


if __name__ == "__main__":
    main()
