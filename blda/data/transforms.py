"""Random geometry of a crop, applied alike to image, label, context frames and flow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from blda.data.sample import IGNORE
from blda.data.span import Span, span

Size = tuple[int, int]
"""(height, width) in pixels."""
Margins = tuple[int, int, int, int]
"""Top, bottom, left, right in pixels."""

TRIES = 10
"""Crops drawn for one sample before the last is taken as it is; published code draws one more."""
_SAME = np.arange(256, dtype=np.uint8)


def interpolation(old: Size, new: Size) -> int:
    """Return OpenCV's mode to resize images: bilinear, or area average where both sides shrink more than twofold."""
    strong = old[0] > 2 * new[0] and old[1] > 2 * new[1]
    return cv2.INTER_AREA if strong else cv2.INTER_LINEAR


@dataclass(frozen=True)
class Resize:
    """Rule for the size of a whole image.

    size: (H, W), None for the image's own. keep_ratio: take the largest size of the image's shape within `size`,
    upright or lying, as mmcv's imrescale does. nearest_exact: a label pixel takes the nearest pixel centre, as OpenCV's
    INTER_NEAREST_EXACT does; False takes the pixel under its upper left corner, as INTER_NEAREST does.
    """

    size: Size | None = None
    keep_ratio: bool = False
    nearest_exact: bool = True

    def __call__(self, shape: Size) -> Size:
        """Return the size (H, W) that an image of (H, W) `shape` is resized to."""
        if self.size is None:
            return int(shape[0]), int(shape[1])
        if not self.keep_ratio:
            return self.size
        scale = min(max(self.size) / max(shape), min(self.size) / min(shape))
        return int(shape[0] * scale + 0.5), int(shape[1] * scale + 0.5)

    @classmethod
    def of(cls, given: Resize | Size | None) -> Resize:
        """Return a rule unchanged; turn an (H, W) or None into the rule with that size."""
        return given if isinstance(given, Resize) else cls(None if given is None else tuple(given))


@dataclass(frozen=True)
class Geometry:
    """Resize to `size`, cut `height` x `width` at (`top`, `left`), then mirror left-right if `flip`.

    nearest_exact: see `Resize`.
    """

    size: Size
    top: int
    left: int
    height: int
    width: int
    flip: bool
    nearest_exact: bool = True

    def image(self, image: np.ndarray) -> np.ndarray:
        """Resize and cut an image: (H, W, 3) uint8 -> (height, width, 3).

        Only the pixels that the crop needs are resized.
        """
        return self._resized(image, interpolation(image.shape[:2], self.size))

    def label(self, label: np.ndarray) -> np.ndarray:
        """Resize and cut a label: (H, W) uint8 -> (height, width), without interpolation."""
        if self.nearest_exact:
            # Plain INTER_NEAREST would shift by half a pixel against the image.
            return self._resized(label, cv2.INTER_NEAREST_EXACT)
        rows = _corners(label.shape[0], self.size[0], self.top, self.height)
        columns = _corners(label.shape[1], self.size[1], self.left, self.width)
        return self._mirrored(label[rows][:, columns])

    def _resized(self, pixels: np.ndarray, interpolation: int) -> np.ndarray:
        if pixels.shape[:2] == self.size:
            return self.cut(pixels)
        rows, columns = self.spans(pixels.shape[:2])
        window = pixels[rows.source, columns.source]
        resized = cv2.resize(window, (columns.size, rows.size), interpolation=interpolation)
        return self._mirrored(resized[rows.part, columns.part])

    def spans(self, old: Size) -> tuple[Span, Span]:
        """Return the rows and columns of an `old` image from which the crop is computed."""
        rows = span(old[0], self.size[0], self.top, self.height)
        return rows, span(old[1], self.size[1], self.left, self.width)

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Crop and mirror pixels that are already resized: (*size, ...) -> (height, width, ...)."""
        return self._mirrored(pixels[self.top : self.top + self.height, self.left : self.left + self.width])

    def _mirrored(self, crop: np.ndarray) -> np.ndarray:
        # A view with a negative stride would be copied by whatever comes next, and slowly.
        return cv2.flip(crop, 1) if self.flip else crop


def _corners(old: int, new: int, start: int, length: int) -> np.ndarray:
    """Return the pixels of an `old` axis that OpenCV's INTER_NEAREST takes for `length` of `new` pixels."""
    scale = 1 / (new / old)
    return np.minimum(np.floor(np.arange(start, start + length) * scale).astype(np.int64), old - 1)


def inside(geometry: Geometry, margins: Margins) -> np.ndarray:
    """Mark the pixels of a crop that lie within `margins` of the whole resized image: (height, width) bool.

    The mask is mirrored as the crop is. Raises ValueError when the margins leave nothing of the image.
    """
    (height, width), (top, bottom, left, right) = geometry.size, margins
    if min(margins) < 0 or top + bottom >= height or left + right >= width:
        raise ValueError(f"margins {list(margins)} (top, bottom, left, right) leave nothing of {geometry.size} pixels")
    row, column = (np.arange(side) for side in geometry.size)
    rows, columns = (row >= top) & (row < height - bottom), (column >= left) & (column < width - right)
    kept = rows[geometry.top :][: geometry.height, None] & columns[geometry.left :][: geometry.width]
    return np.ascontiguousarray(kept[:, ::-1] if geometry.flip else kept)


def whole(size: Size) -> Geometry:
    """Build the geometry that only resizes."""
    return Geometry(size, 0, 0, *size, flip=False)


def random_geometry(generator: torch.Generator, size: Size, crop: Size, flip: bool) -> Geometry:
    """Draw a crop of (height, width) `crop` anywhere in `size`, mirrored with probability 1/2 if `flip`.

    Raises ValueError when the crop is larger than the image.
    """
    if crop[0] > size[0] or crop[1] > size[1]:
        raise ValueError(f"crop {crop} is larger than the image {size} (height, width); reduce crop or enlarge resize")
    top = int(torch.randint(size[0] - crop[0] + 1, (), generator=generator))
    left = int(torch.randint(size[1] - crop[1] + 1, (), generator=generator))
    mirrored = bool(torch.rand((), generator=generator) < 0.5) and flip
    return Geometry(size, top, left, *crop, flip=mirrored)


class RandomCrop:
    """Resize, random crop and mirroring for training.

    resize: (H, W) of the whole image or the rule of its size, None keeps its own.
    crop: (H, W) cut from it, None for the whole.
    max_share: a labelled crop in which one class covers this share or more of the labelled pixels is drawn again.
    min_pixels: a crop for a wanted class is drawn again unless it has more than this many pixels of the class;
        published: 3000 pixels in the frame x min crop ratio 0.5 (METHOD section 6).
    margins: borders of the whole image whose pixels are not `trusted`; None trusts all pixels.
    tries: most crops that are drawn for each of the two reasons; the last is taken as it is.
    """

    def __init__(
        self,
        resize: Resize | Size | None = None,
        crop: Size | None = None,
        flip: bool = True,
        max_share: float = 0.75,
        min_pixels: float = 1500,
        margins: Margins | None = None,
        tries: int = TRIES,
    ) -> None:
        self.resize = Resize.of(resize)
        self.crop = None if crop is None else tuple(crop)
        self.flip = flip
        self.max_share = max_share
        self.min_pixels = min_pixels
        self.margins = margins
        self.tries = tries

    def trusted(self, geometry: Geometry) -> torch.Tensor | None:
        """Mark the pixels of a crop that pseudo-labels may be learnt from, (1, height, width) bool; None for all."""
        return None if self.margins is None else torch.from_numpy(inside(geometry, self.margins))[None]

    def random_geometry(
        self, generator: torch.Generator, shape: Size, label: np.ndarray | None = None, wanted: int | None = None
    ) -> Geometry:
        """Draw a geometry for an image of (H, W) `shape`.

        label: (H, W) uint8 class indices that the crop must suit, see `RandomCrop`. wanted: class the crop should show.
        """
        if label is None:
            size = self.resize(shape)
            geometry = random_geometry(generator, size, self.crop or size, self.flip)
            return replace(geometry, nearest_exact=self.resize.nearest_exact)
        return self.random_label_geometry(generator, label, _SAME, wanted)[0]

    def random_label_geometry(
        self, generator: torch.Generator, ids: np.ndarray, classes: np.ndarray, wanted: int | None = None
    ) -> tuple[Geometry, np.ndarray]:
        """Draw a geometry that suits a label, and return it with the cropped ids (height, width) uint8.

        ids: (H, W) uint8. classes: (256,) uint8, the class index of each id. wanted: class the crop should show.
        """
        for _ in range(self.tries):
            geometry, cut, pixels = self._diverse(generator, ids, classes)
            if wanted is None or pixels[wanted] > self.min_pixels:
                break
        return geometry, cut

    def _diverse(
        self, generator: torch.Generator, ids: np.ndarray, classes: np.ndarray
    ) -> tuple[Geometry, np.ndarray, np.ndarray]:
        """Draw a geometry below `max_share`, and return it with the cropped ids and the pixels of each class (256,)."""
        for _ in range(self.tries):
            geometry = self.random_geometry(generator, ids.shape)
            cut = geometry.label(ids)
            pixels = np.bincount(classes, weights=_histogram(cut), minlength=256)
            if pixels[:IGNORE].max() < self.max_share * pixels[:IGNORE].sum():
                break
        return geometry, cut, pixels


def _histogram(label: np.ndarray) -> np.ndarray:
    """Count the pixels of each value: (256,) float64.

    numpy's bincount would first copy to 8 bytes a pixel.
    """
    return cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(np.float64)
