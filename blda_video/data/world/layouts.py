"""The on-disk layouts in which a street world is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from blda.data.cityscapes import LABEL_IDS
from blda_video.data.world.materials import CLASSES

VIPER_IDS = dict(
    zip(
        CLASSES,
        (3, 4, 9, 10, 11, 10, 13, 14, 8, 6, 2, 20, 20, 24, 27, 26, 29, 23, 22),
        strict=True,
    )
)
"""VIPER has no wall and no pole (both are 10, infrastructure, which readers ignore) and counts riders as persons."""

CITYSCAPES_IDS = {name: raw for raw, name in LABEL_IDS.items()}

VIPER_PALETTE = (
    *((0, 0, 0), (111, 74, 0), (70, 130, 180), (128, 64, 128), (244, 35, 232), (230, 150, 140), (152, 251, 152)),
    *((87, 182, 35), (35, 142, 35), (70, 70, 70), (153, 153, 153), (190, 153, 153), (150, 20, 20), (250, 170, 30)),
    *((220, 220, 0), (180, 180, 100), (173, 153, 153), (168, 153, 153), (81, 0, 21), (81, 0, 81), (220, 20, 60)),
    *((255, 0, 0), (119, 11, 32), (0, 0, 230), (0, 0, 142), (0, 80, 100), (0, 60, 100), (0, 0, 70), (0, 0, 90)),
    *((0, 80, 100), (0, 100, 100), (50, 0, 90)),
)
"""Colours of VIPER's ids 0 .. 31 (25 and 29 are equal in the original, too)."""

CITY = "streetworld"


@dataclass(frozen=True)
class Layout:
    """How files are named and encoded.

    folders: what belongs to one split, with `{split}`. image, label: file of a frame, with `{split}` and `{rest}`.
    frame: name of frame `t` of sequence `s` inside its split, without folder of the split and extension.
    ids: class name -> raw id. palette: colours of an indexed PNG, or None for a grey PNG.
    labelled: number of frames -> the frames that have labels unless told otherwise.
    """

    folders: tuple[str, ...]
    image: str
    label: str
    frame: str
    first: int
    ids: Mapping[str, int]
    palette: tuple[tuple[int, int, int], ...] | None
    labelled: Callable[[int], tuple[int, ...]]

    def name(self, split: str, sequence: int, t: int) -> str:
        """The name that the layout's reader gives a frame: `<split>/...` without extension."""
        return f"{split}/{self.frame.format(s=sequence + self.first, t=t)}"

    def path(self, root: Path, pattern: str, name: str) -> Path:
        """The file of a frame by `image` or `label`; its folder is made."""
        split, rest = name.split("/", 1)
        path = root / pattern.format(split=split, rest=rest)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_image(self, root: Path, name: str, image: np.ndarray) -> None:
        """Write an RGB image (H, W, 3) uint8; OSError when the disk refuses."""
        path = self.path(root, self.image, name)
        options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 2]
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
        if not done:
            raise OSError(f"cannot encode {path}")
        path.write_bytes(data.tobytes())

    def write_label(self, root: Path, name: str, label: np.ndarray) -> None:
        """Write classes (H, W) as the layout's raw ids; 255 becomes id 0, which is unlabelled in both layouts."""
        table = np.zeros(256, np.uint8)
        table[: len(CLASSES)] = [self.ids[key] for key in CLASSES]
        picture = Image.fromarray(table[label])
        if self.palette is not None:
            picture.putpalette([value for color in self.palette for value in color])
        picture.save(self.path(root, self.label, name))


def _all(frames: int) -> tuple[int, ...]:
    return tuple(range(frames))


def _fifth(frames: int) -> tuple[int, ...]:
    return tuple(range(4, frames, 5)) or (frames - 1,)


LAYOUTS: Mapping[str, Layout] = {
    "viper": Layout(
        folders=("{split}",),
        image="{split}/img/{rest}.jpg",
        label="{split}/cls/{rest}.png",
        frame="{s:03d}/{s:03d}_{t:05d}",
        first=1,
        ids=VIPER_IDS,
        palette=VIPER_PALETTE,
        labelled=_all,
    ),
    "cityscapes_seq": Layout(
        folders=("leftImg8bit_sequence/{split}", "gtFine/{split}"),
        image="leftImg8bit_sequence/{split}/{rest}_leftImg8bit.png",
        label="gtFine/{split}/{rest}_gtFine_labelIds.png",
        frame=f"{CITY}/{CITY}_{{s:06d}}_{{t:06d}}",
        first=0,
        ids=CITYSCAPES_IDS,
        palette=None,
        labelled=_fifth,
    ),
}
