"""Video files whose frames show their own number, in blocks too large for lossy coding to blur."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

av = pytest.importorskip("av")
BITS = 9
"""In a grid of 3 x 3 blocks."""
TICK = Fraction(1, 600)


def picture(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """(height, width, 3) uint8 RGB."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8).reshape(3, 3)
    blocks = cv2.resize(bits * 205 + 25, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.repeat(blocks[..., None], 3, 2)


def number(image: np.ndarray) -> int:
    """The number of a picture."""
    height, width = image.shape[0] // 3, image.shape[1] // 3
    blocks = image[: 3 * height, : 3 * width].reshape(3, height, 3, width, 3)
    means = blocks[:, height // 4 : -height // 4, :, width // 4 : -width // 4].mean((1, 3, 4))
    return sum(1 << bit for bit, mean in enumerate(means.ravel()) if mean > 128)


def write(
    path: Path,
    frames: int = 100,
    codec: str = "libx264",
    parameters: str = "",
    times: Sequence[int] | None = None,
    size: tuple[int, int] = (64, 96),
    **options: str,
) -> Path:
    """A file of numbered frames. parameters: of x264 or x265. times: of the frames in TICKs, instead of 30 a second."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    if parameters:
        options[f"{codec.removeprefix('lib')}-params"] = parameters
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=30, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = TICK
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], TICK
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def write_mp4v(path: Path, frames: int = 100) -> Path:
    """OpenCV's own MPEG-4 file."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (96, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MPEG-4")
    for i in range(frames):
        writer.write(picture(i)[..., ::-1])
    writer.release()
    return path


def turn(path: Path, degrees: int) -> Path:
    """Have an MP4 or MOV file shown turned clockwise, by the matrix of its track header (ISO 14496-12, 8.3.2)."""
    one = 1 << 16
    a, b = {0: (one, 0), 90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", a, b, 0, -b, a, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def start_at(path: Path, frame: int) -> Path:
    """Have an MP4 file shown from a frame on, by its edit list (ISO 14496-12, 8.6.6)."""
    with av.open(str(path)) as file:
        ticks = round(frame / 30 / file.streams.video[0].time_base)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 16
    data[at : at + 4] = struct.pack(">i", struct.unpack(">i", data[at : at + 4])[0] + ticks)
    path.write_bytes(data)
    return path
