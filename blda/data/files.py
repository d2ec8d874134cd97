"""Decoding of image and label files: the whole file or an error with its path."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

_TAIL = 4096
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
"""First bytes of JPEG and PNG -> their end marks. Some OpenCV versions fill a cut-off file with grey, silently."""


def _bytes(path: Path) -> np.ndarray:
    """Contents of a file as uint8; OpenCV's own opening fails on non-ASCII paths on some systems."""
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {path}; was it moved while the run was using it?") from error
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}); check the disk and the permissions") from error
    end = _ENDS.get(data[:2].tobytes())
    if data.size == 0 or (end is not None and end not in data[-_TAIL:].tobytes()):
        raise ValueError(f"cannot read {path}: the file is empty or cut off; download or extract it again")
    return data


def _decoded(path: Path, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(_bytes(path), flags)
    except cv2.error as error:
        raise ValueError(f"cannot read {path}: {error.err}; download or extract it again") from error
    if pixels is None:
        raise ValueError(f"cannot read {path}: not a complete image; download or extract it again")
    return pixels


def read_image(path: Path) -> np.ndarray:
    """RGB image (H, W, 3) uint8, as stored: an orientation tag is not applied, because label files have none."""
    return _decoded(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def read_ids(path: Path) -> np.ndarray:
    """Ids (H, W) of a one-channel label image; of an indexed one the indices, not the palette's colours."""
    data = io.BytesIO(_bytes(path))
    try:
        with Image.open(data) as image:
            ids = np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(f"cannot read {path}: {error}; download or extract it again") from error
    if ids.dtype == bool:
        ids = ids.astype(np.uint8)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(
            f"label {path} has shape {ids.shape}, {ids.dtype}; expected one channel of class ids, not colours"
        )
    return ids


def read_red_ids(path: Path) -> np.ndarray:
    """Ids (H, W) in the red channel of a colour label image of 8 or 16 bits (SYNTHIA)."""
    pixels = _decoded(path, cv2.IMREAD_UNCHANGED)
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        raise ValueError(f"label {path} has shape {pixels.shape}; expected colour channels with the class id in red")
    return pixels[:, :, 2]


def read_colour_ids(path: Path, colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Ids (H, W) of a colour label image: the position of every pixel's (red, green, blue) in `colours` (CamVid)."""
    blue, green, red = cv2.split(_decoded(path, cv2.IMREAD_COLOR).astype(np.int32))
    code = red << 16 | green << 8 | blue
    known = np.array([r << 16 | g << 8 | b for r, g, b in colours])
    order = known.argsort()
    ids = order[np.searchsorted(known, code, sorter=order).clip(max=len(known) - 1)]
    wrong = code[known[ids] != code]
    if wrong.size:
        colour = tuple(int(wrong[0]) >> shift & 255 for shift in (16, 8, 0))
        raise ValueError(f"label {path} has the colour {colour}, which means nothing; mend the file or leave it out")
    return ids
