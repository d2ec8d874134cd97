"""The decoder of video files: it returns the frame asked for, whole, or raises an error."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blda_video.clips.video_files.video_index import VideoIndex, pyav

_WHOLE = 1
"""FFmpeg's AV_PICTURE_TYPE_I."""
_MARKING = ("h264", "hevc")
"""Codecs whose decoders mark damaged pictures. Of the others only strict decoding tells, an error for a picture;
these it would fail on whole files, for the pictures before a key frame that decoding began at."""


class Damaged(ValueError):
    """A frame that cannot be decoded whole."""


class PyAVDecoder:
    """Decoder of one open file. Frames in ascending order are fast; it uses one thread, as each loader process has its
    own.

    A returned frame has the time that the index names. FFmpeg conceals the damage of a frame and goes on to decode the
    frames that refer to it. So a frame that is decoded after damage and before the next whole key frame is not whole.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path, self._index = path, index
        self._times, self._keys = index.times.tolist(), index.keys.tolist()
        self._shown_times = set(self._times)
        self._key_times = {self._times[key] for key in self._keys}
        self._open()

    def frame(self, i: int) -> np.ndarray:
        """Frame i, upright, (H, W, 3) uint8 RGB in the colours and range that the file declares. Raises `Damaged` when
        it is not whole.
        """
        frame = self._find(i)
        self._at = i
        turns, odd = divmod(frame.rotation, 90)
        if odd:
            raise ValueError(f"it is turned by {frame.rotation} degrees, not by a multiple of 90")
        return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))

    def _open(self) -> None:
        self._file = pyav().open(str(self._path))
        self._stream = self._file.streams.best("video")
        self._stream.thread_type, self._stream.codec_context.thread_count = "NONE", 1
        if self._stream.codec_context.name not in _MARKING:
            self._stream.codec_context.options = {"err_detect": "explode"}
        self._start()

    def _start(self) -> None:
        """Start decoding at the current position of the file."""
        self._pictures = Pictures(self._file.demux(self._stream), self._shown_times, self._key_times)
        self._at = -1

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
        raise Damaged(f"frame {i} cannot be decoded")

    def _seek(self, key: int) -> bool:
        """Go to a key frame; False when it does not decode to a whole picture, so decoding must start earlier."""
        self._file.seek(self._times[key], stream=self._stream, backward=True)
        self._start()
        first = self._pictures.peek()
        return first is not None and int(first.pict_type) == _WHOLE

    def _forward(self, i: int) -> Any | None:
        """Decode on to the frame of that time; None when it has passed. Raises `Damaged` when it cannot be whole."""
        wanted = self._times[i]
        while (frame := self._pictures.next()) is not None and (frame.pts is None or frame.pts < wanted):
            pass
        result = frame is not None and frame.pts == wanted
        damage = self._pictures.damage(wanted)
        if damage is not None:
            at = bisect_left(self._times, damage)
            raise Damaged(f"frame {i} cannot be decoded whole: the file is damaged at frame {at}")
        return frame if result else None


class Pictures:
    """Frames in display order, with the damage met while decoding them, in decoding order.

    packets: packets from any position in the file. Errors before the first picture are not damage, because these frames
    refer to frames that were not read. times, keys: times of all frames and of key frames.
    """

    def __init__(self, packets: Iterator[Any], times: Collection[int], keys: Collection[int]) -> None:
        self._packets, self._times, self._keys = packets, times, keys
        self._first: int | None = None
        self._errors = pyav().error.FFmpegError
        self._ready: deque[Any] = deque()
        self._order: dict[int, int] = {}
        self._pending: set[int] = set()
        self._damaged: dict[int, int] = {}
        self._whole_keys: dict[int, int] = {}

    def peek(self) -> Any | None:
        """The next frame, which `next` returns again; None at the end of the file."""
        while not self._ready and self._decode():
            pass
        return self._ready[0] if self._ready else None

    def next(self) -> Any | None:
        """The next frame; None at the end of the file."""
        frame = self.peek()
        return self._ready.popleft() if frame is not None else None

    def damage(self, time: int) -> int | None:
        """Time of the damage that affects the picture shown at a time; None when the picture is whole."""
        if self._first is None or time < self._first:
            return None
        order = self._order.get(time, len(self._order))
        # What it may look back at can be shown after it.
        while any(self._order[each] < order for each in self._pending if each > time) and self._decode():
            pass
        whole = [at for key, at in self._whole_keys.items() if key <= time and at <= order]
        since = max(whole, default=-1)
        return next((hurt for hurt, at in sorted(self._damaged.items()) if since <= at <= order), None)

    def _decode(self) -> bool:
        """Give the decoder one more packet; False at the end of the file."""
        packet = next(self._packets, None)
        if packet is None:
            return False
        if packet.pts in self._times and not packet.is_discard:
            self._order[packet.pts] = len(self._order)
            self._pending.add(packet.pts)
        try:
            frames = packet.decode()
        except self._errors:
            self._note_damage(packet.pts)
            return True
        if packet.is_corrupt:
            self._note_damage(packet.pts)
        for frame in frames:
            self._show(frame)
        return True

    def _show(self, frame: Any) -> None:
        self._ready.append(frame)
        if frame.pts is None:
            return
        if self._first is None:
            self._first = frame.pts
            self._damaged = {time: at for time, at in self._damaged.items() if time >= self._first}
            self._pending = {time for time in self._pending if time >= self._first}
        lost = [time for time in self._pending if time < frame.pts]
        self._pending -= {frame.pts, *lost}
        for time in lost:
            self._note_damage(time)
        if frame.is_corrupt:
            self._note_damage(frame.pts)
        elif frame.pts in self._keys and int(frame.pict_type) == _WHOLE:
            self._whole_keys[frame.pts] = self._order.get(frame.pts, -1)

    def _note_damage(self, time: int | None) -> None:
        if time in self._times and (self._first is None or time >= self._first):
            self._damaged.setdefault(time, self._order.get(time, len(self._order)))
