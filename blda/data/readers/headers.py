"""Headers of image files, read before any pixel is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, TiffImagePlugin

LARGEST = 2**28
"""Pixels of an image or label at most, 16384 x 16384: of a small file, a header can ask for all memory there is."""

_ORIENTATION = 0x112
_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG 2000", "AVIF": "AVIF", "HEIF": "HEIF"}
_CMYK = 5
"""TIFF's interpretation of four inks, which decoders turn to colours."""
CUT_OFF = "the file is empty or cut off"


@dataclass(frozen=True)
class Header:
    """Header of an image file.

    kind: Pillow's name of the format. size: (height, width) as stored; (0, 0) is unknown, a format that only OpenCV
    reads. orientation: EXIF orientation, 1 for upright. lossy: name of a compression that changes pixels, None without.
    channels: of a TIFF; 3 for other formats, in which decoders leave alpha out and make colours of the rest.
    """

    kind: str
    size: tuple[int, int]
    orientation: int = 1
    lossy: str | None = None
    channels: int = 3


def read_header(data: np.ndarray) -> Header:
    """Read the header of a whole file's bytes (N,) uint8.

    Raises ValueError when the file is empty or ends before the image does, or the image has more than `LARGEST` pixels.
    Other data behind the image's end are allowed, as in every decoder.
    """
    view = memoryview(data)
    if view[:2] == b"\xff\xd8":
        header = _jpeg(view)
    elif view[:8] == b"\x89PNG\r\n\x1a\n":
        header = _png(view)
    elif len(view) == 0:
        raise ValueError(CUT_OFF)
    else:
        header = _other(view)
    height, width = header.size
    if height * width > LARGEST:
        raise ValueError(f"it has {height} x {width} pixels, more than {LARGEST}; cut it into tiles")
    return header


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels (H, W, ...) upright by their EXIF orientation (EXIF 2.3, tag 0x112)."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = slice(None), slice(None)
    if orientation in (3, 4, 7, 8):
        rows = slice(None, None, -1)
    if orientation in (2, 3, 6, 7):
        columns = slice(None, None, -1)
    return np.ascontiguousarray(pixels[rows, columns])


def _jpeg(view: memoryview) -> Header:
    size, orientation, at = (0, 0), 1, 2
    while at + 4 <= len(view):
        if view[at] != 0xFF or view[at + 1] == 0xFF:  # fill bytes, or bytes that decoders skip
            at += 1
            continue
        marker = view[at + 1]
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        if marker == 0xD9:
            break
        body = view[at + 4 : at + 2 + int.from_bytes(view[at + 2 : at + 4], "big")]
        if marker in _STARTS_OF_FRAME:
            size = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        elif marker == 0xE1 and body[:6] == b"Exif\0\0" and orientation == 1:
            orientation = _exif_orientation(body[6:])
        elif marker == 0xDA:
            _require_end(view, at)
            return Header("JPEG", size, orientation, "JPEG")
        at += 2 + max(int.from_bytes(view[at + 2 : at + 4], "big"), 2)
    raise ValueError(CUT_OFF)


def _require_end(view: memoryview, scan: int) -> None:
    """Raise ValueError unless the marker FF D9 ends the image behind the scan's start.

    In coded pixels FF is followed by 00 or a restart, so the first FF D9 is the end.
    """
    if view[-2:] != b"\xff\xd9" and bytes(view[scan:]).find(b"\xff\xd9") < 0:
        raise ValueError(CUT_OFF)


def _png(view: memoryview) -> Header:
    size, orientation, at = (0, 0), 1, 8
    while at + 12 <= len(view):
        length, kind = int.from_bytes(view[at : at + 4], "big"), view[at + 4 : at + 8]
        body = view[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            size = int.from_bytes(body[4:8], "big"), int.from_bytes(body[:4], "big")
        elif kind == b"eXIf":
            orientation = _exif_orientation(body)
        elif kind == b"IEND":
            return Header("PNG", size, orientation)
        at += 12 + length
    raise ValueError(CUT_OFF)


def _exif_orientation(tiff: memoryview) -> int:
    """Read the orientation in the first directory of EXIF data, laid out as a TIFF file; 1 if absent."""
    order = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    start = number(4, 4)
    for entry in range(start + 2, start + 2 + 12 * min(number(start, 2), 512), 12):
        if number(entry, 2) == _ORIENTATION:
            result = number(entry + 8, 2)
            return result if 1 <= result <= 8 else 1
    return 1


def _other(view: memoryview) -> Header:
    """Read the header with Pillow, which decodes no pixels until asked."""
    channels = _tiff_channels(view) if view[:4] in (b"II*\0", b"MM\0*") else 3
    try:
        with Image.open(io.BytesIO(view)) as image:
            kind, (width, height), mode = image.format or "", image.size, image.mode
            orientation = image.getexif().get(_ORIENTATION, 1)
            lossy = _LOSSY.get(kind) or ("JPEG" if "jpeg" in str(image.info.get("compression")) else None)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error}; cut it into tiles") from error
    except Exception:  # not Pillow's, or damaged: the decoder says what is wrong with it
        return Header("", (0, 0), channels=channels)
    if mode == "F":
        raise ValueError("it holds floating-point numbers of unknown range; save it with 8 bits a channel")
    if kind == "WEBP" and b"VP8L" not in bytes(view[:4096]):
        lossy = "WebP"
    return Header(kind, (height, width), orientation if orientation in range(1, 9) else 1, lossy, channels)


def _tiff_channels(view: memoryview) -> int:
    """Count the channels of a TIFF (TIFF 6.0, SamplesPerPixel), four inks as three; 3 for a damaged one.

    Alpha counts too: decoders multiply colours by it.
    """
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(bytes(view[:8]))
        file = io.BytesIO(view)
        file.seek(tags.next)
        tags.load(file)
        inks = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _CMYK
        return tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1) - inks
    except Exception:  # of any type: the decoder says what is wrong with it
        return 3
