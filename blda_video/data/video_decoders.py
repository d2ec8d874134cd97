"""Decoders of video files that return the frame asked for and no other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from blda_video.data.video_index import VideoIndex, pyav

_WHOLE = 1
"""FFmpeg's AV_PICTURE_TYPE_I."""


class Decoder(Protocol):
    """An open file. Asking for frames in ascending order is fast."""

    def frame(self, i: int) -> np.ndarray:
        """Frame i, upright, (H, W, 3) uint8 RGB."""
        ...


class DecordDecoder:
    """decord, for files whose index is `closed`. One thread: each DataLoader worker has its own decoder."""

    def __init__(self, path: Path, index: VideoIndex) -> None:
        import decord

        if not decord.__version__.startswith("0."):
            raise ImportError("decord2 3.4 goes by the same name and returns wrong pixels")
        self._reader = decord.VideoReader(str(path), num_threads=1)
        if len(self._reader) != len(index):
            raise ValueError(f"decord counts {len(self._reader)} frames in it, PyAV {len(index)}")
        if self._reader[0].shape[2] != 3:
            # Seen at a width of 48, where a row with its padding is as long as one of four channels.
            raise ImportError("decord takes the padding of this file's rows for a fourth channel")

    def frame(self, i: int) -> np.ndarray:
        """Frame i; decord itself turns it upright."""
        # Not through decord's bridge to torch, which is a switch for the whole process.
        return self._reader[i].asnumpy()


class PyAVDecoder:
    """PyAV, for any file: what it returns has the time that the index says, or it is an error."""

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path, self._index = path, index
        self._keys = index.keys.tolist()
        self._open()

    def _open(self) -> None:
        self._file = pyav().open(str(self._path))
        self._stream = self._file.streams.best("video")
        self._stream.thread_type, self._stream.codec_context.thread_count = "NONE", 1
        self._frames: Iterator[Any] = self._file.decode(self._stream)
        self._at = -1

    def frame(self, i: int) -> np.ndarray:
        """Frame i, turned upright."""
        frame = self._find(i)
        self._at = i
        turns, odd = divmod(frame.rotation, 90)
        if odd:
            raise ValueError(f"it is turned by {frame.rotation} degrees, not by a multiple of 90")
        return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))

    def _find(self, i: int) -> Any:
        before = self._keys[: bisect_right(self._keys, i)]
        if (before or [0])[-1] <= self._at < i and (frame := self._forward(i)) is not None:
            return frame
        for key in before[:-4:-1]:
            if self._seek(key) and (frame := self._forward(i)) is not None:
                return frame
        self._file.close()
        self._open()
        if (frame := self._forward(i)) is not None:
            return frame
        raise ValueError(f"frame {i} cannot be decoded")

    def _seek(self, key: int) -> bool:
        """Go to a key frame; False where that does not decode to a whole picture, so that more must come before."""
        self._file.seek(int(self._index.times[key]), stream=self._stream, backward=True)
        frames = self._file.decode(self._stream)
        first = next(frames, None)
        self._frames = chain([] if first is None else [first], frames)
        return first is not None and int(first.pict_type) == _WHOLE

    def _forward(self, i: int) -> Any | None:
        """Decode on to the frame of that time; None when it has passed or cannot be decoded whole."""
        wanted = self._index.times[i]
        found = next((frame for frame in self._frames if frame.pts is not None and frame.pts >= wanted), None)
        return found if found is not None and found.pts == wanted and not found.is_corrupt else None


def open_decoder(path: Path, index: VideoIndex) -> Decoder:
    """decord where it is exact and installed, otherwise PyAV, which gives the same pixels."""
    try:
        return (DecordDecoder if index.closed else PyAVDecoder)(path, index)
    except ImportError:  # there is no decord for some machines, and no right one for some files
        return PyAVDecoder(path, index)
