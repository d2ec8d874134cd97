"""Index of the frames of a video file: exact times and key frames from its packets, without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from blda.data.readers.remarks import remark

AGAIN = "copy or download it again, or leave it out"
_TRANSMISSIONS = ("mpegts", "mpeg")
"""FFmpeg's names of containers of broadcasts, which have a constant rate and no header that counts frames."""
_MOVIE = "mp4"
"""Part of FFmpeg's name for the MP4 and MOV family."""


@dataclass(frozen=True)
class VideoIndex:
    """Frames of a video in the order they are shown.

    times: (N,) int64, ascending, their presentation times in units of `unit` seconds. Frame i is the i-th shown.
    keys: (K,) int64, ascending, the frames that decoding can start at.
    stamp: size and modification time of the file; a file of this name with another stamp is another video.
    """

    times: np.ndarray
    keys: np.ndarray
    unit: float
    stamp: tuple[int, int]

    def __len__(self) -> int:
        return len(self.times)

    def seconds(self, i: int) -> float:
        """Time of frame i after the first one."""
        return float(self.times[i] - self.times[0]) * self.unit

    def nearest(self, seconds: float) -> int:
        """The frame whose time is nearest to `seconds` after the first one, the earlier of two."""
        return int(np.abs((self.times - self.times[0]) * self.unit - seconds).argmin())


def pyav() -> ModuleType:
    """Import PyAV when it is first needed; ValueError with the command that installs it."""
    try:
        import av
    except ImportError as error:
        raise ValueError(f"reading video files needs PyAV ({error}); run: python -m pip install av") from error
    return av


def read_index(path: Path) -> VideoIndex:
    """The index of a file's best video stream.

    FileNotFoundError without the file, ValueError naming it and the reason when it is no video or not whole.
    """
    av = pyav()
    if not path.is_file():
        raise FileNotFoundError(f"no video {path}; check the data set's root and files")
    if path.stat().st_size == 0:
        raise ValueError(f"cannot read {path}: the file is empty; {AGAIN}")
    try:
        with av.open(str(path)) as file:
            return _index(path, file)
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}; {AGAIN}") from error


def _index(path: Path, file: Any) -> VideoIndex:
    stream = file.streams.best("video")
    if stream is None:
        raise ValueError(f"cannot read {path}: it holds no video; leave it out")
    packets = [packet for packet in file.demux(stream) if packet.size]
    movie = _MOVIE in file.format.name.split(",")
    if not packets or (movie and _cut_off(path)):
        raise ValueError(f"cannot read {path}: the file is cut off after {len(packets)} frames; {AGAIN}")
    # An edit list discards frames that must be decoded but are not shown.
    shown = [packet for packet in packets if not packet.is_discard]
    stored = [packet.pts for packet in shown]
    if not stored or None in stored or len(set(stored)) != len(stored):
        raise ValueError(
            f"cannot read {path}: its frames have no times of their own; write it again, with: ffmpeg -i OLD NEW.mp4"
        )
    times = np.array(stored, dtype=np.int64)
    if lost := _lost(np.sort(times), stream.frames - len(packets), file.format.name):
        remark(
            f"video {path} lacks about {lost} frames that it should hold; those after them may look wrong "
            f"until the next key frame: {AGAIN}"
        )
    key = np.array([packet.is_keyframe for packet in shown])
    order = np.argsort(times)
    state = path.stat()
    stamp = (state.st_size, state.st_mtime_ns)
    return VideoIndex(times[order], np.flatnonzero(key[order]), float(stream.time_base), stamp)


def _lost(times: np.ndarray, counted: int, container: str) -> int:
    """Count the frames missing inside a file, by its header's frame count or by gaps in a transmission."""
    steps = np.diff(times)
    if container not in _TRANSMISSIONS or not len(steps):
        return max(counted, 0)
    return int((steps > 1.5 * np.median(steps)).sum())


def _cut_off(path: Path) -> bool:
    """Tell whether the last box of an MP4 or MOV file is shorter than declared (ISO 14496-12, section 4.2)."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:], "big") if length == 1 else length
            if length < 8:  # 0: to the end of the file
                return False
            at += length
    return at > size
