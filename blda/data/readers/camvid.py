"""CamVid in the layouts of its owners and of the SegNet tutorial."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from blda.data.label_map import CLASS_LISTS
from blda.data.readers.decoding import read_colour_ids, read_ids
from blda.data.readers.frames import existing_folder, listed, pairs, require, scan

# fmt: off
COLOURS: dict[str, tuple[int, int, int]] = {
    "Animal": (64, 128, 64), "Archway": (192, 0, 128), "Bicyclist": (0, 128, 192), "Bridge": (0, 128, 64),
    "Building": (128, 0, 0), "Car": (64, 0, 128), "CartLuggagePram": (64, 0, 192), "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128), "Fence": (64, 64, 128), "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64), "Misc_Text": (128, 128, 64), "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64), "ParkingBlock": (64, 192, 128), "Pedestrian": (64, 64, 0), "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192), "Sidewalk": (0, 0, 192), "SignSymbol": (192, 128, 128), "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192), "TrafficCone": (0, 0, 64), "TrafficLight": (0, 64, 64), "Train": (192, 64, 128),
    "Tree": (128, 128, 0), "Truck_Bus": (192, 128, 192), "Tunnel": (64, 0, 64), "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0), "Wall": (64, 192, 0),
}
"""The owners' 32 classes in the order of their label_colors.txt, red, green, blue
(web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData)."""

GROUPS: dict[str, tuple[str, ...]] = {
    "sky": ("Sky",),
    "building": ("Bridge", "Building", "Wall", "Tunnel", "Archway"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "pavement": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "tree": ("Tree", "VegetationMisc"),
    "sign": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"),
    "pedestrian": ("Pedestrian", "Child", "CartLuggagePram", "Animal"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
}
"""SegNet's 11 classes of the owners' 32, as in MATLAB's SegNet example; only void is left."""
# fmt: on

_GROUP = {member: group for group, members in GROUPS.items() for member in members}


class CamVid:
    """CamVid in either layout, told apart by the folders that exist; both give the names of `camvid11`.

    Owners' layout: `<root>/701_StillsRaw_full/*.png` with colours in `<root>/LabeledApproved_full/*_L.png`. split:
    'all', or a word `w` that takes the names listed in `<root>/w.txt`.
    SegNet's layout: `<root>/<split>/*.png` with ids in `<root>/<split>annot/*.png`. split: train, val or test.
    sequences: only frames whose names begin so, for example [0016E5]; empty takes all.
    """

    def __init__(
        self, root: str | Path, split: str = "train", labelled: bool = True, sequences: Sequence[str] = ()
    ) -> None:
        root = Path(root)
        images = root / "701_StillsRaw_full"
        self.label_map: Mapping[int, str] = dict(enumerate(CLASS_LISTS["camvid11"]))
        self.ignored: Collection[int] = (11,)
        self._read = read_ids
        labels = (root / f"{split}annot", ".png")
        if images.is_dir():
            names = listed(root, split, images, ".png", every="all")
            labels = (root / "LabeledApproved_full", "_L.png")
            self.label_map = {i: _GROUP[name] for i, name in enumerate(COLOURS) if name in _GROUP}
            self.ignored = tuple(i for i, name in enumerate(COLOURS) if name not in _GROUP)
            self._read = partial(read_colour_ids, colours=tuple(COLOURS.values()))
        else:
            images = existing_folder(root / split, "extract 701_StillsRaw_full, or SegNet's copy and choose its split")
            names = scan(images, ".png")
        if unquoted := [name for name in sequences if not isinstance(name, str)]:
            raise ValueError(f"sequences: {unquoted[0]!r} is a number to YAML; put names in quotes, such as '0016E5'")
        chosen = (name for name in names if not sequences or name.startswith(tuple(sequences)))
        frames = pairs(chosen, (images, ".png"), labels if labelled else None)
        self.frames = require(frames, "extract the labels beside the images")
        if not self.frames:
            raise ValueError(f"no name below {images} begins with {', '.join(sequences)}; check sequences")

    def read_label(self, path: Path) -> np.ndarray:
        """Read the ids (H, W) from the colours or ids of the layout."""
        return self._read(path)
