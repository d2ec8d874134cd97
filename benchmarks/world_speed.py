"""Measure frames per second of the street world, images and labels, on one core; prints JSON.

python benchmarks/world_speed.py [--size 256 512] [--frames 60]
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import cv2
import torch

from blda_video.street_world.simulator.world import World


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", nargs=2, type=int, default=(256, 512), metavar=("HEIGHT", "WIDTH"))
    arguments.add_argument("--frames", type=int, default=60)
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    size = tuple(given.size)
    speed = {look: round(rate(look, size, given.frames), 1) for look in ("source", "target")}
    print(json.dumps({"size": size, "frames": given.frames, "machine": platform.machine(), "frames_per_second": speed}))


def rate(look: str, size: tuple[int, int], frames: int) -> float:
    """Frames per second after the first one, which paints the textures."""
    world = World(look, 0, size, frames + 1)
    world.frame(0)
    start = time.perf_counter()
    for t in range(1, frames + 1):
        world.frame(t)
    return frames / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
