"""Exact frames of video files, in any process, with few files open at a time."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from blda.data.readers.frames import Frame
from blda_video.clips.video_files.video_decoders import Damaged, PyAVDecoder
from blda_video.clips.video_files.video_index import AGAIN, VideoIndex, read_index

OPEN = 2
"""Files that a process keeps open: an open decoder holds tens to hundreds of megabytes."""
BACK = 2
"""Frames before a wanted one that are kept because its neighbours are likely to be wanted next."""


class OpenVideo:
    """A decoder and the frames that it returned last."""

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self.stamp, self._keys = index.stamp, index.keys.tolist()
        self._decoder = PyAVDecoder(path, index)
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()

    def read(self, i: int) -> np.ndarray:
        """Frame i, (H, W, 3) uint8 RGB, read-only."""
        if i not in self._recent:
            # The frames since the key frame are decoded on the way anyway.
            key = self._keys[max(bisect_right(self._keys, i) - 1, 0)] if self._keys else 0
            first = i if i - 1 in self._recent else min(max(i - BACK, key), i)
            for number in range(first, i + 1):
                try:
                    frame = self._decoder.frame(number)
                except Damaged:
                    if number == i:
                        raise
                    continue
                frame.flags.writeable = False  # it may be handed out again
                self._recent[number] = frame
            while len(self._recent) > 2 * BACK:
                self._recent.popitem(last=False)
        return self._recent[i]


class OpenVideos:
    """The open files of a process: the `OPEN` used most recently.

    A forked child starts with none. It keeps a reference to its parent's files, because only the parent may close them.
    """

    def __init__(self) -> None:
        self._inherited: list[OrderedDict[Path, OpenVideo]] = []
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, OpenVideo] = OrderedDict()

    def read(self, path: Path, index: VideoIndex, i: int) -> np.ndarray:
        """Frame i of a file, (H, W, 3) uint8 RGB."""
        if self._process != os.getpid():
            self._inherited.append(self._open)
            self._start()
        with self._lock:  # a decoder serves one thread at a time
            video = self._open.pop(path, None)
            while len(self._open) >= OPEN:
                self._open.popitem(last=False)
            if video is None or video.stamp != index.stamp:
                video = OpenVideo(path, index)
            # A decoder that failed is not used again: it is put back only after its frame is there.
            frame = video.read(i)
            self._open[path] = video
            return frame


_OPEN = OpenVideos()


class VideoFile:
    """A video by frame number. Opened by the process that reads it; pickles as its path and, once read, its index."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @cached_property
    def index(self) -> VideoIndex:
        """Index of the video's frames; reads the whole file once, without decoding."""
        return read_index(self.path)

    def __len__(self) -> int:
        return len(self.index)

    def read(self, i: int) -> np.ndarray:
        """Frame i, upright, (H, W, 3) uint8 RGB, read-only; ValueError naming the file and the reason."""
        if not 0 <= i < len(self):
            raise ValueError(f"no frame {i} in {self.path}, which has {len(self)}; check frame numbers and times")
        try:
            return _OPEN.read(self.path, self.index, i)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"no video {self.path}; was it moved while the run was using it?") from error
        except Exception as error:  # the errors of PyAV have no other base
            reason = str(error).strip().split("\n")[0]
            raise ValueError(f"cannot read frame {i} of {self.path}: {reason}; {AGAIN}") from error


@dataclass(frozen=True)
class VideoFrame(Frame):
    """Frame `number` of a video; `image` is the path of the video file."""

    video: VideoFile
    number: int

    def read(self) -> np.ndarray:
        """Pixels of the frame, (H, W, 3) uint8 RGB."""
        return self.video.read(self.number)
