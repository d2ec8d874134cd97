"""Map from a data set's raw label ids to the class indices of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from blda.data.sample import IGNORE
from blda.spelling import nearest

# fmt: off
CITYSCAPES19: tuple[str, ...] = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "light", "sign", "vegetation", "terrain", "sky",
    "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)
"""In the order of Cityscapes' trainIds."""


def _without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in CITYSCAPES19 if name not in names)


CLASS_LISTS: dict[str, tuple[str, ...]] = {
    "cityscapes19": CITYSCAPES19,
    "synthia16": _without("terrain", "truck", "train"),
    "synthia13": _without("terrain", "truck", "train", "wall", "fence", "pole"),
    "viper15": _without("wall", "pole", "rider", "train"),
    "synthia_seq12": _without("wall", "terrain", "truck", "bus", "train", "motorcycle", "bicycle"),
    "synthia_seq11": _without("wall", "fence", "terrain", "truck", "bus", "train", "motorcycle", "bicycle"),
    "camvid11": (
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    ),
    "visda12": (
        "aeroplane", "bicycle", "bus", "car", "horse", "knife", "motorcycle", "person", "plant", "skateboard", "train",
        "truck",
    ),
}
"""Named lists of classes, for configurations."""
# fmt: on

_UNKNOWN = -1
_SAME = np.arange(256, dtype=np.uint8)


class LabelLookup:
    """Look-up from raw ids to class indices; picklable.

    lookup: (n,) int16; entry i is the class index of raw id i, IGNORE, or -1 where i is not a legal id.
    """

    def __init__(self, lookup: np.ndarray) -> None:
        self.lookup = np.asarray(lookup, dtype=np.int16)
        self._of_bytes = self.lookup[:256].astype(np.uint8)
        self._first, self._row = _row(self.lookup[:256] != _UNKNOWN)

    def __call__(self, raw: np.ndarray, path: Path) -> np.ndarray:
        """Convert raw ids (H, W) to class indices (H, W) uint8.

        Raises ValueError naming `path` and its unknown ids.
        """
        ids, classes = self.compact(raw, path)
        return np.take(classes, ids)

    def compact(self, raw: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return ids (H, W) uint8 and the class index (256,) uint8 of each id, to look up after cropping.

        Ids of 8 bits stay as they are; others become class indices. Raises ValueError naming `path` and its unknown
        ids.
        """
        in_row = raw.dtype == np.uint8 and (np.subtract(raw, self._first) if self._first else raw).max() < self._row
        if in_row:
            return raw, self._of_bytes
        if raw.dtype == np.uint8 or (raw.min() >= 0 and raw.max() < len(self.lookup)):
            classes = np.take(self.lookup, raw)
            if classes.min() > _UNKNOWN:
                return classes.astype(np.uint8), _SAME
        raise ValueError(
            f"label {path} holds unknown ids {self._unknown(raw)}; add them to the data set's ids or ignored"
        )

    def _unknown(self, raw: np.ndarray) -> str:
        legal = np.flatnonzero(self.lookup != _UNKNOWN)
        unknown = [int(i) for i in np.setdiff1d(raw, legal)]
        return ", ".join(map(str, unknown[:10])) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")


def _row(legal: np.ndarray) -> tuple[np.uint8, int]:
    """Return the first legal id and the number of legal ids, if they are consecutive modulo 256; else (0, 0).

    One comparison then checks an image.
    """
    first = np.flatnonzero(legal & ~np.roll(legal, 1))
    return (np.uint8(first[0]), int(legal.sum())) if len(first) == 1 else (np.uint8(0), 0)


def label_lookup(
    ids: Mapping[int, str],
    ignored: Collection[int],
    classes: Sequence[str],
    rename: Mapping[str, str] | None = None,
) -> LabelLookup:
    """Build the look-up from the raw `ids` of a data set to indices into the run's `classes`.

    rename: the data set's class name -> the run's, e.g. {"rider": "bicyclist"}; several may go to one.
    Names that are not in `classes` after renaming, and the `ignored` ids, become IGNORE.
    Raises ValueError for a rename from a name the data set lacks or to a name the run lacks (it would have no effect),
    no class in common, an id both with a class and ignored, or more classes than labels can hold.
    """
    rename = dict(rename or {})
    _check(ids, ignored, classes, rename)
    lookup = np.full(max(256, *(i + 1 for i in (*ids, *ignored))), _UNKNOWN, dtype=np.int16)
    lookup[list(ignored)] = IGNORE
    index = {name: i for i, name in enumerate(classes)}
    for raw, name in ids.items():
        lookup[raw] = index.get(rename.get(name, name), IGNORE)
    return LabelLookup(lookup)


def _check(ids: Mapping[int, str], ignored: Collection[int], classes: Sequence[str], rename: Mapping[str, str]) -> None:
    names = tuple(ids.values())
    if len(classes) > IGNORE or len(set(classes)) != len(classes):
        raise ValueError(f"classes: {len(classes)} names; they must differ and be at most {IGNORE}")
    if any(raw < 0 or raw > 65535 for raw in (*ids, *ignored)):
        raise ValueError(f"ids and ignored must be within 0..65535, got {sorted((*ids, *ignored))}")
    if both := sorted(set(ids) & set(ignored)):
        raise ValueError(f"ids {both} have a class and are ignored; remove them from one of the two")
    _check_rename(rename, names, classes)
    if not {rename.get(name, name) for name in names} & set(classes):
        raise ValueError(f"the data set's classes ({', '.join(names)}) share no name with the run's; add a rename")


def _check_rename(rename: Mapping[str, str], names: Sequence[str], classes: Sequence[str]) -> None:
    for old, new in rename.items():
        if old not in names:
            raise ValueError(f"rename: the data set has no class '{old}'; {nearest(old, names)}")
        if new not in classes:
            raise ValueError(f"rename: the run has no class '{new}' for '{old}'; {nearest(new, classes)}")
