"""Flow files of other projects: one small reader a format.

Each takes a path and gives (2, H, W) float32 pixels, x right and y down; a vector that the file marks as unknown, or
that cannot be one, is NaN, which `geometry` takes for invalid.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

FLO_TAG = 202021.25
LONGEST = 32768.0
"""Pixels. Nothing moves that far: Middlebury writes 1e9 and more where there is no truth."""


def read_flow(path: str | Path) -> Tensor:
    """Flow (2, H, W) float32 pixels of a file in the format that its suffix names: .png, .flo, .npy or .npz.

    Raises FileNotFoundError, or ValueError naming the file: unknown suffix, damaged, no vector that is finite.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise ValueError(f"flow file {path} has no known format; give one of {', '.join(READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"no flow file {path}; check the folder and how its files are named")
    try:
        flow = READERS[path.suffix](path)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, cv2.error) as error:
        raise ValueError(f"corrupt flow file {path} ({error}); download or compute it again") from error
    known = (flow.abs() < LONGEST).all(0)  # NaN compares as False
    if not known.any():
        raise ValueError(f"flow file {path} of shape {tuple(flow.shape)} has no finite vector; compute it again")
    return torch.where(known, flow, torch.nan)


def read_kitti(path: Path) -> Tensor:
    """KITTI's PNG, three channels of 16 bits: u = (R - 2^15) / 64, v = (G - 2^15) / 64, known where B is not 0."""
    data = np.fromfile(path, dtype=np.uint8)
    if b"IEND" not in data[-4096:].tobytes():
        raise ValueError("cut off")
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint16:
        raise ValueError("not a picture of three channels of 16 bits")
    blue, green, red = cv2.split(pixels)
    flow = (np.stack((red, green)).astype(np.float32) - 2**15) / 64
    flow[:, blue == 0] = np.nan
    return torch.from_numpy(flow)


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
    values = np.load(path, allow_pickle=False)
    if values.ndim != 3 or values.shape[2] != 2 or values.dtype != np.int16:
        raise ValueError(f"shape {values.shape}, {values.dtype} instead of H x W x 2, int16")
    return _channels_first(values) / 10


def read_npz(path: Path) -> Tensor:
    """VIPER's own .npz: arrays u and v, float16 H x W."""
    with np.load(path, allow_pickle=False) as archive:
        if not {"u", "v"} <= set(archive.files):
            raise ValueError(f"it holds {', '.join(archive.files) or 'nothing'} instead of u and v")
        u, v = archive["u"], archive["v"]
    if u.ndim != 2 or u.shape != v.shape or u.dtype.kind != "f":
        raise ValueError(f"u {u.shape} and v {v.shape}, {u.dtype}, instead of two H x W of floats")
    return torch.from_numpy(np.stack((u, v)).astype(np.float32))


def _channels_first(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))


READERS: dict[str, Callable[[Path], Tensor]] = {
    ".png": read_kitti,
    ".flo": read_flo,
    ".npy": read_npy,
    ".npz": read_npz,
}
