"""Frames to predict, one at a time: of a video file, or of folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from blda.data.readers.frames import Frame, natural_key
from blda.data.readers.walk import IMAGE_SUFFIXES, files_below, with_suffixes
from blda_video.clips.video_files.video_file import VideoFile, VideoFrame


@dataclass(frozen=True)
class FrameSource:
    """Frames to predict.

    frames: all frames in order, video by video. rate: frames a second, None when unknown.

    A frame's name is its path below a folder, without suffix, or its six-digit number in a video, from 0.
    """

    frames: Sequence[Frame]
    rate: float | None

    def begins(self, i: int) -> bool:
        """Tell whether frame i is the first of its video; every folder is one video."""
        return i == 0 or Path(self.frames[i].name).parent != Path(self.frames[i - 1].name).parent


def open_frame_source(path: Path) -> FrameSource:
    """Open a video file, all images below a folder, or one image; FileNotFoundError or ValueError without any."""
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return FrameSource([Frame(path.stem, path, None)], None)
    if not path.is_dir():
        video = VideoFile(path)
        count = len(video)
        seconds = video.index.seconds(count - 1)
        rate = (count - 1) / seconds if seconds > 0 else None
        return FrameSource([VideoFrame(f"{i:06d}", path, None, video, i) for i in range(count)], rate)
    fix = "give a folder of frames or a video file"
    result = with_suffixes(files_below(path, fix), IMAGE_SUFFIXES)
    if not result:
        raise ValueError(f"no image ({' '.join(IMAGE_SUFFIXES)}) below {path}; {fix}")
    frames = [Frame(file.rpartition(".")[0], path / file, None) for file in result]
    frames.sort(key=lambda frame: (natural_key(Path(frame.name).parent.as_posix()), natural_key(frame.name)))
    for one, other in pairwise(frames):
        if one.name == other.name:
            raise ValueError(f"{one.image} and {other.image} differ in their suffix alone; move one away")
    return FrameSource(frames, None)
