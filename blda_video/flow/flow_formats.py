"""Flow files of other projects: one small reader a format.

Each takes a path and returns (2, H, W) float32 pixels, x right and y down. A vector that the file marks as unknown, or
that is impossible, is NaN, which `flow_geometry` treats as invalid. A PNG file does not say what its numbers mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from blda.data.readers.array_headers import array_header
from blda.data.readers.headers import LARGEST, read_header
from blda.data.readers.remarks import remark

FLO_TAG = 202021.25
LONGEST = 32768.0
"""Pixels. Nothing moves that far: Middlebury writes 1e9 and more where there is no truth."""


def read_flow(path: str | Path, png: str | float = "kitti") -> Tensor:
    """Read flow (2, H, W) float32 pixels from a file in the format of its suffix: .png, .flo, .npy or .npz.

    png: what the numbers of PNG files mean, see `read_png`. Logs a remark when more than one vector in twenty is longer
    than the frame: the scale is probably wrong.
    Raises FileNotFoundError, or ValueError naming the file: unknown suffix, damaged, no vector that is finite.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise ValueError(f"flow file {path} has no known format; give one of {', '.join(READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"no flow file {path}; check the folder and how its files are named")
    try:
        flow = read_png(path, png) if path.suffix == ".png" else READERS[path.suffix](path)
    except Exception as error:  # damaged files raise many types, a MemoryError where they claim to be huge
        raise ValueError(f"corrupt flow file {path} ({error}); download or compute it again") from error
    known = (flow.abs() < LONGEST).all(0)  # NaN compares as False
    if not known.any():
        raise ValueError(f"flow file {path} of shape {tuple(flow.shape)} has no finite vector; compute it again")
    flow = torch.where(known, flow, torch.nan)
    sample = flow[:, ::4, ::4].abs().amax(0)
    too_long = (sample > max(flow.shape[-2:])).sum() / (~sample.isnan()).sum()
    if too_long > 0.05:
        fix = ", set flow.png" if path.suffix == ".png" else ""
        remark(f"flow file {path}: {too_long:.0%} of its vectors are longer than the frame; is its scale another{fix}?")
    return flow


def require_png(png: str | float) -> None:
    """Raise ValueError unless `read_png` knows this encoding of PNG files."""
    number = isinstance(png, (int, float)) and not isinstance(png, bool) and 0 < png < 2**16
    if png not in ("kitti", "vkitti2") and not number:
        raise ValueError(f"flow.png is {png!r}; give kitti, vkitti2, or the steps of a pixel, above 0")


def read_png(path: Path, png: str | float = "kitti") -> Tensor:
    """Read flow from a PNG of three channels of 16 bits.

    png: 'kitti', or a number of steps a pixel in place of KITTI's 64, u = (R - 2^15) / 64, v = (G - 2^15) / 64, known
    where B is not 0 (KITTI 2012 development kit); 'vkitti2': shares of the frame, u = (2 R / (2^16 - 1) - 1) (W - 1), v
    likewise of H, known where B is not 0 (Virtual KITTI 2, format description of its page).
    """
    pixels = _png_pixels(path)
    blue, green, red = (channel.astype(np.float32) for channel in cv2.split(pixels))
    if png == "vkitti2":
        height, width = pixels.shape[:2]
        flow = np.stack(((red * 2 / 65535 - 1) * (width - 1), (green * 2 / 65535 - 1) * (height - 1)))
    else:
        flow = (np.stack((red, green)) - 2**15) / (64 if png == "kitti" else png)
    flow[:, blue == 0] = np.nan
    return torch.from_numpy(flow.astype(np.float32))


def _png_pixels(path: Path) -> np.ndarray:
    data = np.fromfile(path, dtype=np.uint8)
    read_header(data)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint16:
        raise ValueError("not a picture of three channels of 16 bits")
    return pixels


def read_flo(path: Path) -> Tensor:
    """Middlebury's .flo: float32 tag, int32 width and height, float32 H x W x 2."""
    data = path.read_bytes()
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != np.float32(FLO_TAG):
        raise ValueError("it does not begin with the tag of a .flo file")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=4))
    if min(width, height) < 1 or len(data) != 12 + 8 * width * height:
        raise ValueError(f"{len(data)} bytes are not those of a flow of {height} x {width}")
    return _channels_first(np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2))


def read_npy(path: Path) -> Tensor:
    """The DA-VSN family's .npy: int16 H x W x 2, tenths of a pixel."""
    shape, kind = array_header(path)
    if len(shape) != 3 or shape[2] != 2 or kind != np.int16 or math.prod(shape) > 2 * LARGEST:
        raise ValueError(f"shape {shape}, {kind} instead of H x W x 2, int16")
    return _channels_first(np.load(path, allow_pickle=False)) / 10


def read_npz(path: Path) -> Tensor:
    """VIPER's own .npz: arrays u and v, float16 H x W."""
    (shape, kind), (other, _) = array_header(path, "u"), array_header(path, "v")
    if len(shape) != 2 or shape != other or kind.kind != "f" or math.prod(shape) > LARGEST:
        raise ValueError(f"u {shape} and v {other}, {kind}, instead of two H x W of floats")
    with np.load(path, allow_pickle=False) as archive:
        u, v = archive["u"], archive["v"]
    return torch.from_numpy(np.stack((u, v)).astype(np.float32))


def _channels_first(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))


READERS: dict[str, Callable[[Path], Tensor]] = {
    ".png": read_png,
    ".flo": read_flo,
    ".npy": read_npy,
    ".npz": read_npz,
}
