"""Video files of any kind as unlabelled data."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from blda.data.readers.frames import Frame, existing_folder, natural_key
from blda.data.readers.walk import files_below, matches, with_suffixes
from blda_video.clips.video_files.video_file import VideoFile, VideoFrame

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg")


class VideoFiles:
    """Every `every`-th frame of video files below `root`, each with its neighbours.

    files: names relative to `root`, or a pattern such as 'day/*.mp4'; empty takes all video files below `root`.
    every: frames from one key frame to the next. seconds: instead, seconds from one to the next.
    spacing: frames of the video from a frame to its neighbour at offset 1.
    start, stop: seconds between which key frames lie; neighbours may lie outside. None: the end.
    labelled: whether the run needs labels; True is an error, because videos have none.
    Frame 123 of `drives/a.mp4` is named `drives/a/000123`, counted from 0 in the order of display. Making the reader
    reads all files once, without decoding.
    """

    label_map: Mapping[int, str] = MappingProxyType({})
    ignored: Collection[int] = ()

    def __init__(
        self,
        root: str | Path,
        files: str | Sequence[str] = (),
        every: int = 1,
        seconds: float | None = None,
        spacing: int = 1,
        start: float = 0.0,
        stop: float | None = None,
        labelled: bool | None = None,
    ) -> None:
        if labelled:
            raise ValueError(
                f"videos below {root} have no labels; use them as target, and for source and evaluation a reader of "
                "labelled images such as folder"
            )
        if every < 1 or spacing < 1 or (seconds is not None and seconds <= 0):
            raise ValueError(f"every {every}, spacing {spacing} and seconds {seconds} of {root} must be positive")
        self.root = Path(root)
        self.spacing = spacing
        paths = _paths(existing_folder(root, "check the data set's root"), files)
        self.videos = {path.relative_to(self.root).with_suffix("").as_posix(): VideoFile(path) for path in paths}
        if len(self.videos) < len(paths):
            raise ValueError(f"two videos below {root} differ in their suffix alone; rename one or list the files")
        self.frames = tuple(
            _frame(name, video, number)
            for name, video in self.videos.items()
            for number in _numbers(video, every, seconds, start, stop)
        )
        if not self.frames:
            raise ValueError(f"no video below {root} has a frame between {start} and {stop} seconds; change them")

    def neighbour(self, frame: Frame, offset: int) -> VideoFrame | None:
        """The frame `offset` * spacing later in the same video, None past its ends."""
        name, number = frame.name.rsplit("/", 1)
        video, result = self.videos[name], int(number) + offset * self.spacing
        return _frame(name, video, result) if 0 <= result < len(video) else None

    def read_label(self, path: Path) -> np.ndarray:
        """ValueError: there are no labels."""
        raise ValueError(f"videos have no labels, so {path} is not one of them")


def _paths(root: Path, files: str | Sequence[str]) -> list[Path]:
    """The video files in natural order, a given list in its own order; FileNotFoundError when there is none."""
    if not isinstance(files, str) and files:
        return [root / file for file in dict.fromkeys(files)]
    result = files_below(root, "check the data set's root")
    paths = [file for file in result if matches(file, files)] if files else with_suffixes(result, SUFFIXES)
    if not paths:
        kinds = "" if files else f" ({' '.join(SUFFIXES)})"
        raise FileNotFoundError(
            f"no video file {root / (files or '**/*')}{kinds}; check the data set's root and files (hidden folders are "
            "left out unless a list names their files)"
        )
    return [root / file for file in sorted(paths, key=natural_key)]


def _numbers(video: VideoFile, every: int, seconds: float | None, start: float, stop: float | None) -> Iterator[int]:
    """Key frames of one video."""
    index = video.index
    last = index.seconds(len(index) - 1)
    stop = last if stop is None else min(stop, last)
    if seconds is None:
        inside = [number for number in range(len(index)) if start <= index.seconds(number) <= stop]
        return iter(inside[::every])
    steps = range(max(int((stop - start) / seconds) + 1, 0))
    return iter(dict.fromkeys(index.nearest(start + step * seconds) for step in steps))


def _frame(name: str, video: VideoFile, number: int) -> VideoFrame:
    return VideoFrame(f"{name}/{number:06d}", video.path, None, video, number)
