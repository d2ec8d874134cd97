"""Decoding of image and label files: the whole file, upright, or an error with its path and the fix."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from blda.data.readers.decoder_messages import caught
from blda.data.readers.headers import Header, read_header, upright
from blda.data.readers.remarks import remark

_AGAIN = "download or extract it again"
_DAMAGE = ("premature end", "bad huffman", "instead of rst", "no image in", "libpng error")
"""Parts of messages of libjpeg and libpng, in small letters, after which pixels are missing or wrong."""
_DOUBT = ("corrupt", "jpeg", "libpng warning")
"""Of others about the file; one about colour profiles, which are not used, is none."""
_DARK = 16
"""Of 8 bits. 16-bit images that stay below hold 12 bits or fewer, and would come out almost black."""
_TURNED: dict[Path, int] = {}
"""Files read so far whose EXIF orientation is not upright."""


def _opened(path: Path) -> tuple[np.ndarray, Header]:
    """Read a file's bytes (N,) uint8 and its header.

    OpenCV's own opening fails on non-ASCII paths on some systems.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {path}; was it moved while the run was using it?") from error
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}); check the disk and the permissions") from error
    try:
        header = read_header(data)
    except ValueError as error:
        fix = "" if "; " in str(error) else f"; {_AGAIN}"
        raise ValueError(f"cannot read {path}: {error}{fix}") from error
    if header.orientation != 1:
        if header.kind == "TIFF":
            raise ValueError(
                f"{path} is a TIFF with an orientation, which each decoder reads its own way; save it upright"
            )
        _TURNED[path] = header.orientation
    return data, header


def _decoded(path: Path, data: np.ndarray, header: Header, flags: int) -> np.ndarray:
    """Decode pixels with OpenCV, in the orientation they are stored in."""
    try:
        with caught() as messages:
            pixels = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f"cannot read {path}: {error.err}; {_AGAIN}") from error
    if pixels is None:
        raise ValueError(f"cannot read {path}: not a complete image; {_AGAIN}")
    _report(path, messages)
    return pixels


def _report(path: Path, messages: Sequence[str]) -> None:
    """Raise ValueError when a decoder reports missing pixels; make a remark of its other messages."""
    for message in messages:
        said = message.lower()
        if any(part in said for part in _DAMAGE):
            raise ValueError(f"cannot read {path}: {message.strip()}; {_AGAIN}")
        if any(part in said for part in _DOUBT):
            if "iccp" not in said:
                remark(f"image {path} may be damaged: the decoder says '{message.strip()}'; {_AGAIN}")
        elif message.strip():
            print(message, file=sys.stderr)  # noqa: T201  written by others meanwhile


def read_image(path: Path) -> np.ndarray:
    """Read an RGB image (H, W, 3) uint8, turned upright by its EXIF orientation.

    Images of 16 bits a channel keep the upper 8; alpha is left out. Raises ValueError naming the file when it is
    damaged, too large, in floating point, has 16 bits of which only the lower ones are used, or is a TIFF of further
    channels, such as infrared.
    """
    data, header = _opened(path)
    if header.channels > 3:
        raise ValueError(
            f"image {path} has {header.channels} channels, but networks here read red, green and blue; "
            "save these three as an image of their own"
        )
    pixels = _decoded(path, data, header, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
    if pixels.dtype != np.uint8:
        pixels = _upper_bits(path, pixels)
    return upright(pixels, header.orientation)


def _upper_bits(path: Path, pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint16:
        raise ValueError(f"image {path} holds {pixels.dtype} numbers of unknown range; save it with 8 bits a channel")
    image = (pixels >> 8).astype(np.uint8)
    if image.max() < _DARK and (brightest := int(pixels.max())):
        raise ValueError(
            f"image {path} has 16 bits a channel but no value above {brightest}, so it would be almost black; "
            "save it with 8 bits, or scale it to the whole range of 16"
        )
    return image


def orientation(path: Path) -> int:
    """Return the EXIF orientation of a file that this process has read, 1 for upright."""
    return _TURNED.get(path, 1)


def _label(path: Path) -> tuple[np.ndarray, Header]:
    """Read a label's bytes and header; ValueError for a compression that changes ids."""
    data, header = _opened(path)
    if header.lossy:
        raise ValueError(f"label {path} is compressed as {header.lossy}, which changes ids; save labels as PNG files")
    return data, header


def read_ids(path: Path) -> np.ndarray:
    """Read the ids (H, W) of a one-channel label image; an indexed image gives its indices, not its colours."""
    data, header = _label(path)
    file = io.BytesIO(memoryview(data))
    try:
        # Image.open has a limit of its own, lower than that of images.
        with PngImageFile(file) if header.kind == "PNG" else Image.open(file) as image:
            ids = np.asarray(image)
    except Exception as error:  # those of Pillow's decoders have no other base
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}; {_AGAIN}") from error
    if ids.dtype == bool:
        ids = ids.astype(np.uint8)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(
            f"label {path} has shape {ids.shape}, {ids.dtype}; expected one channel of class ids, not colours"
        )
    return upright(ids, header.orientation)


def read_red_ids(path: Path) -> np.ndarray:
    """Read the ids (H, W) in the red channel of a colour label image of 8 or 16 bits (SYNTHIA)."""
    data, header = _label(path)
    pixels = _decoded(path, data, header, cv2.IMREAD_UNCHANGED)
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        raise ValueError(f"label {path} has shape {pixels.shape}; expected colour channels with the class id in red")
    return upright(pixels[:, :, 2], header.orientation)


def read_colour_ids(path: Path, colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Read the ids (H, W) of a colour label image (CamVid).

    The id of a pixel is the position of its (red, green, blue) in `colours`.
    """
    data, header = _label(path)
    blue, green, red = cv2.split(_decoded(path, data, header, cv2.IMREAD_COLOR).astype(np.int32))
    code = red << 16 | green << 8 | blue
    known = np.array([r << 16 | g << 8 | b for r, g, b in colours])
    order = known.argsort()
    ids = order[np.searchsorted(known, code, sorter=order).clip(max=len(known) - 1)]
    wrong = code[known[ids] != code]
    if wrong.size:
        colour = tuple(int(wrong[0]) >> shift & 255 for shift in (16, 8, 0))
        raise ValueError(f"label {path} has the colour {colour}, which means nothing; mend the file or leave it out")
    return upright(ids, header.orientation)
