"""CamVid, as its owners ship it and as the SegNet tutorial has it."""

from __future__ import annotations

from blda.data.label_map import CLASS_LISTS
from blda.data.readers.camvid import COLOURS, GROUPS
from blda_video.street_world.layouts.encode import coloured, grey
from blda_video.street_world.layouts.layout import Frames, Place, Usual

# fmt: off
OWNERS: dict[str, str] = {
    "road": "Road", "sidewalk": "Sidewalk", "building": "Building", "wall": "Wall", "fence": "Fence",
    "pole": "Column_Pole", "light": "TrafficLight", "sign": "SignSymbol", "vegetation": "Tree",
    "terrain": "VegetationMisc", "sky": "Sky", "person": "Pedestrian", "rider": "Bicyclist", "car": "Car",
    "truck": "Truck_Bus", "bus": "Truck_Bus", "train": "Train", "motorcycle": "MotorcycleScooter",
    "bicycle": "Bicyclist",
}
"""Class of the world -> the owners' class."""
# fmt: on
SEGNET: dict[str, str] = {
    name: next(group for group, members in GROUPS.items() if owners in members) for name, owners in OWNERS.items()
}
"""Class of the world -> SegNet's class."""

DRIVES = (
    ("0016E5_{:05d}", 7959, 2),
    ("0001TP_{:06d}", 6690, 30),
    ("0006R0_f{:05d}", 930, 30),
    ("Seq05VD_f{:05d}", 0, 30),
)
"""Names, first number, and numbers from one frame to the next: 15 Hz, and about 1 Hz."""


def stem(place: Place) -> str:
    """Name of a frame: 0016E5_07959."""
    pattern, first, step = DRIVES[place.sequence]
    return pattern.format(first + step * place.t)


def camvid() -> Frames:
    """SegNet's copy: `<split>/0016E5_07959.png` with ids in `<split>annot/0016E5_07959.png`."""
    index = {name: raw for raw, name in enumerate(CLASS_LISTS["camvid11"])}
    save = grey({name: index[group] for name, group in SEGNET.items()})
    return Frames(
        Usual("target", ("train", "val", "test"), 2, 4, (72, 96), most=len(DRIVES)),
        naming=stem,
        image=lambda place: f"{place.split}/{stem(place)}.png",
        labels=lambda place: {f"{place.split}annot/{stem(place)}.png": save},
        folders=lambda split: (split, f"{split}annot"),
    )


def camvid_owners() -> Frames:
    """`701_StillsRaw_full/0016E5_07959.png` with colours in `LabeledApproved_full/0016E5_07959_L.png`."""
    save = coloured({name: COLOURS[owners] for name, owners in OWNERS.items()})
    return Frames(
        Usual("target", ("all",), 2, 4, (72, 96), most=len(DRIVES)),
        naming=stem,
        image=lambda place: f"701_StillsRaw_full/{stem(place)}.png",
        labels=lambda place: {f"LabeledApproved_full/{stem(place)}_L.png": save},
        folders=lambda split: ("701_StillsRaw_full", "LabeledApproved_full"),
        all_split="all",
    )
