"""Two frames of every published layout, byte by byte like the original where a reader could go wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from blda.data.readers.acdc import ACDC
from blda.data.readers.bdd10k import BDD10k
from blda.data.readers.camvid import COLOURS, CamVid
from blda.data.readers.cityscapes import Cityscapes
from blda.data.readers.dark_zurich import DarkZurich
from blda.data.readers.gta5 import GTA5
from blda.data.readers.synthia import Synthia
from blda.data.readers.viper import Viper

SIZE = (4, 6)


def save_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (255, 0, 0)).save(path)


def _tiled(ids: Sequence[int], kind: type = np.uint8) -> np.ndarray:
    return np.resize(np.array(ids, kind), SIZE)


def save_grey(path: Path, ids: Sequence[int]) -> None:
    """8-bit grey PNG of ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_tiled(ids)).save(path)


def save_indexed(path: Path, ids: Sequence[int]) -> None:
    """Indexed PNG with one colour for all indices: whoever reads colours fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(_tiled(ids))
    image.putpalette([0, 80, 100] * 256)
    image.save(path)


def save_red(path: Path, ids: Sequence[int]) -> None:
    """16-bit colour PNG: ids in red, instance numbers that need the 16 bits in green."""
    path.parent.mkdir(parents=True, exist_ok=True)
    label = np.full((*SIZE, 3), 7, np.uint16)
    label[..., 2], label[..., 1] = _tiled(ids, np.uint16), 60000  # OpenCV's order is blue, green, red
    cv2.imwrite(str(path.with_name("draft.png")), label)
    path.with_name("draft.png").rename(path)  # imwrite knows no non-ASCII paths on some systems


def save_colours(path: Path, ids: Sequence[int]) -> None:
    """Colour PNG of CamVid's colours; an id past the 32 becomes a colour of no class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.array([*COLOURS.values(), *[(1, 2, 3)] * 300], np.uint8)
    Image.fromarray(colours[_tiled(ids, np.int64)]).save(path)


@dataclass(frozen=True)
class Layout:
    """One layout: how it is made and read. image, label: files of the frame `{}`. names: two frames.

    reader: its constructor. ids: legal raw ids in the label files. save: writes them.
    """

    image: str
    label: str
    names: tuple[str, str]
    reader: Callable
    ids: tuple[int, ...]
    save: Callable[[Path, Sequence[int]], None] = save_grey

    def make(self, root: Path) -> Path:
        """Both frames below `root`."""
        for name in self.names:
            save_image(root / self.image.format(name))
            self.save(root / self.label.format(name), self.ids)
        return root


RAW, TRAIN = (7, 24, 25, 4, 33, 31), (0, 11, 12, 255, 18, 16)
AACHEN = ("aachen/aachen_000000_000019", "aachen/aachen_000001_000019")
GOPRO = ("GOPR0475/GOPR0475_frame_000041", "GOPR0475/GOPR0475_frame_000148")
STILLS = ("0006R0_f00930", "0016E5_07961")

LAYOUTS = {
    "cityscapes": Layout(
        "leftImg8bit/train/{}_leftImg8bit.png", "gtFine/train/{}_gtFine_labelIds.png", AACHEN, Cityscapes, RAW
    ),
    "gta5": Layout("images/{}.png", "labels/{}.png", ("00001", "00002"), GTA5, RAW, save_indexed),
    "synthia": Layout(
        *("RGB/{}.png", "GT/LABELS/{}.png", ("0000000", "0000001"), Synthia, (3, 10, 17, 0, 11, 22), save_red)
    ),
    "viper": Layout(
        *("train/img/{}.jpg", "train/cls/{}.png", ("001/001_00000", "001/001_00010"), Viper, (3, 25, 29, 7, 8, 1)),
        save_indexed,
    ),
    "acdc": Layout(
        *("rgb_anon/fog/train/{}_rgb_anon.png", "gt/fog/train/{}_gt_labelTrainIds.png", GOPRO),
        lambda root, **options: ACDC(root, **{"conditions": ["fog"], **options}),
        TRAIN,
    ),
    "dark_zurich": Layout(
        *("rgb_anon/val/night/{}_rgb_anon.png", "gt/val/night/{}_gt_labelTrainIds.png", GOPRO),
        lambda root, **options: DarkZurich(root, **{"split": "val", **options}),
        TRAIN,
    ),
    "bdd10k": Layout(
        *("images/10k/train/{}.jpg", "labels/sem_seg/masks/train/{}.png", ("0a0a-7c39", "0a0b-16e4"), BDD10k, TRAIN)
    ),
    "camvid_segnet": Layout("train/{}.png", "trainannot/{}.png", STILLS, CamVid, (3, 9, 10, 11, 0, 1)),
    "camvid_owners": Layout(
        *("701_StillsRaw_full/{}.png", "LabeledApproved_full/{}_L.png", STILLS),
        lambda root, **options: CamVid(root, **{"split": "all", **options}),
        tuple(map(list(COLOURS).index, ("Road", "Child", "MotorcycleScooter", "Void", "Sky", "Wall"))),
        save_colours,
    ),
}
