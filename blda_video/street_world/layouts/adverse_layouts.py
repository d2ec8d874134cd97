"""ACDC and Dark Zurich: drives under adverse conditions, with Cityscapes' ids."""

from __future__ import annotations

from collections.abc import Callable

from blda.data.readers.acdc import CONDITIONS
from blda_video.street_world.layouts.cityscapes_layouts import both_kinds
from blda_video.street_world.layouts.layout import Frames, Place, Usual

TIMES = ("night", "twilight", "day")


def acdc() -> Frames:
    """`rgb_anon/<condition>/<split>/<drive>/*_rgb_anon.png` with `gt`, one condition after the other; test has no
    labels.

    Files of train_ref, val_ref and test_ref have `_ref` in their names.
    """

    def folder(split: str, drive: int) -> str:
        return f"{CONDITIONS[drive % len(CONDITIONS)]}/{split}"

    return _drives(len(CONDITIONS), folder, lambda split: not split.startswith("test"))


def dark_zurich() -> Frames:
    """`rgb_anon/<split>/<time>/<drive>/*_rgb_anon.png`; train has three times of day, only val has labels, of night."""

    def folder(split: str, drive: int) -> str:
        times = TIMES if split == "train" else TIMES[-1:] if split.endswith("_ref") else TIMES[:1]
        return f"{split}/{times[drive % len(times)]}"

    return _drives(len(TIMES), folder, lambda split: split == "val")


def _drives(number: int, folder: Callable[[str, int], str], has_labels: Callable[[str], bool]) -> Frames:
    def stem(place: Place) -> str:
        drive = f"GOPR{351 + place.sequence:04d}"
        return f"{folder(place.split, place.sequence)}/{drive}/{drive}_frame_{159 + place.t:06d}"

    def ref(place: Place) -> str:
        return "_ref" if place.split.endswith("_ref") else ""

    def pieces(split: str) -> tuple[str, ...]:
        folders = dict.fromkeys(folder(split, drive) for drive in range(number))
        return tuple(f"{tree}/{name}" for tree in ("rgb_anon", "gt") for name in folders)

    return Frames(
        Usual("target", ("train", "val"), number, 1, (72, 128)),
        naming=stem,
        image=lambda place: f"rgb_anon/{stem(place)}_rgb{ref(place)}_anon.png",
        labels=lambda place: both_kinds(f"gt/{stem(place)}_gt{ref(place)}") if has_labels(place.split) else {},
        folders=pieces,
    )
