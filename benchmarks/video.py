"""Measure clips per second from a video file and the memory that remains in use, in one process; prints JSON.

    python benchmarks/video.py [FILE ...] [--clips 1000] [--frames 3] [--size 720 1280]

A clip is --frames consecutive frames at a random position. Without FILEs, four videos with different key frames are
written: closed groups of 12 and 250 frames, open groups of 12 and 250.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from blda_video.clips.video_files.video_file import VideoFile
from blda_video.clips.video_files.video_index import pyav

WRITTEN = {"closed_12": (12, 0), "closed_250": (250, 0), "open_12": (12, 1), "open_250": (250, 1)}
"""Name -> frames from one key frame to the next, and whether groups are open."""
LENGTH = 300


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("files", nargs="*", type=Path, metavar="FILE")
    arguments.add_argument("--clips", type=int, default=1000)
    arguments.add_argument("--frames", type=int, default=3, help="of a clip")
    arguments.add_argument("--size", nargs=2, type=int, default=(720, 1280), metavar=("HEIGHT", "WIDTH"))
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = given.files or [write(Path(folder) / f"{name}.mp4", name, given.size) for name in WRITTEN]
        measured = {path.name: measure(path, given.clips, given.frames) for path in files}
    print(json.dumps({"clips": given.clips, "frames": given.frames, "machine": platform.machine(), "files": measured}))


def measure(path: Path, clips: int, frames: int) -> dict[str, float | int | bool]:
    """Measure rates of one file, and resident memory before the first, after the tenth and after the last clip."""
    before, start = resident(), time.perf_counter()
    video = VideoFile(path)
    places = random.Random(0).choices(range(len(video) - frames + 1), k=clips)
    indexed = time.perf_counter() - start
    early = before
    start = time.perf_counter()
    for number, place in enumerate(places):
        for i in range(place, place + frames):
            height, width, _ = video.read(i).shape
        early = resident() if number == 9 else early
    return {
        "length": len(video),
        "height": height,
        "width": width,
        "index_ms": round(1000 * indexed, 1),
        "clips_per_second": round(clips / (time.perf_counter() - start), 1),
        "mb_before": round(before),
        "mb_after_10": round(early),
        "mb_after": round(resident()),
    }


def resident() -> float:
    """Memory of this process in MB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def write(path: Path, name: str, size: Sequence[int]) -> Path:
    """Write a video of moving texture."""
    group, is_open = WRITTEN[name]
    height, width = size
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8 + LENGTH, 3), np.uint8)
    with pyav().open(str(path), "w") as file:
        parameters = f"keyint={group}:min-keyint={group}:scenecut=0:bframes=3:open-gop={is_open}"
        stream = file.add_stream("libx264", rate=30, options={"x264-params": parameters, "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for i in range(LENGTH):
            image = cv2.resize(noise[:, i : i + width // 8], (width, height), interpolation=cv2.INTER_CUBIC)
            file.mux(stream.encode(pyav().VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    main()
