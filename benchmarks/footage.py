"""Frames, videos and flow for measuring the loaders: the street world, enlarged, with camera noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from blda.data.label_map import CITYSCAPES19
from blda.data.segmentation_dataset import image_tensor
from blda.data.transforms import Size
from blda_video.clips.clip_dataset import VideoReader
from blda_video.clips.readers.folder_sequence import FolderSequence
from blda_video.clips.readers.unlabelled_videos import VideoFiles
from blda_video.clips.video_files.video_index import pyav
from blda_video.flow.dis import DIS
from blda_video.flow.flow_store import FlowStore
from blda_video.street_world.simulator.world import World

IDS = dict(enumerate(CITYSCAPES19))
GRAIN = 8
"""Standard deviation before blurring; JPEG and PNG files get the sizes of VIPER's and Cityscapes'."""


def drive(size: Size, frames: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images (H, W, 3) uint8 and labels (H, W) uint8 of consecutive frames."""
    world = World("source", 0, (size[0] // 2, size[1] // 2), frames)
    random = np.random.default_rng(0)
    for t in range(frames):
        frame = world.frame(t)
        image = cv2.resize(frame.image, size[::-1], interpolation=cv2.INTER_CUBIC)
        grain = cv2.GaussianBlur(random.normal(0, GRAIN, size).astype(np.float32), (0, 0), 0.6)
        label = cv2.resize(frame.label, size[::-1], interpolation=cv2.INTER_NEAREST)
        yield np.clip(image + grain[..., None], 0, 255).astype(np.uint8), label


def frame_files(root: Path, suffix: str, size: Size, frames: int = 6) -> tuple[Path, Path]:
    """Folders of images (JPEG of quality 90, or PNG) and of labels (indexed PNG); one sequence."""
    images, labels = root / "images", root / "labels"
    for t, (image, label) in enumerate(drive(size, frames)):
        for folder in (images, labels):
            (folder / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(images / f"a/{t:06d}{suffix}", quality=90)
        indexed = Image.fromarray(label)
        indexed.putpalette([3 * i % 256 for i in range(768)])
        indexed.save(labels / f"a/{t:06d}.png")
    return images, labels


def frame_reader(root: Path, suffix: str, size: Size, labelled: bool) -> FolderSequence:
    """Reader of `frame_files`, which are written if missing."""
    images, labels = root / "images", root / "labels"
    if not images.is_dir():
        frame_files(root, suffix, size)
    return FolderSequence(images, labels, IDS, image_suffix=suffix, labelled=labelled)


def video_reader(root: Path, size: Size, frames: int = 50, group: int = 12, every: int = 7) -> VideoFiles:
    """Reader of an H.264 file with a key frame each `group`; every `every`-th frame is a key frame of training."""
    if not root.is_dir():
        root.mkdir(parents=True)
        with pyav().open(str(root / "a.mp4"), "w") as file:
            options = {"x264-params": f"keyint={group}:min-keyint={group}:scenecut=0:bframes=2", "preset": "veryfast"}
            stream = file.add_stream("libx264", rate=30, options=options)
            (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
            for image, _ in drive(size, frames):
                file.mux(stream.encode(pyav().VideoFrame.from_ndarray(image, format="rgb24")))
            file.mux(stream.encode(None))
    return VideoFiles(root, every=every)


def flow_store(root: Path, reader: VideoReader, offset: int) -> FlowStore:
    """DIS flow from every frame to its neighbour and back."""
    store, estimate = FlowStore(root, "dis-medium"), DIS("medium")
    for frame in reader.frames:
        other = reader.neighbour(frame, offset)
        if other is None or store.has(other.name, frame.name):
            continue
        image, neighbour = image_tensor(frame.read()), image_tensor(other.read())
        store.write(frame.name, other.name, estimate(image, neighbour))
        store.write(other.name, frame.name, estimate(neighbour, image))
    return store
