"""The frames around a frame, where the digits that end its name count them."""

from __future__ import annotations

import re

from blda.data.readers.frames import Frame


def by_number(frame: Frame, offset: int) -> Frame | None:
    """The unlabelled frame whose number is `offset` higher, in the same folder; None where there is no such image.

    `a/b_0009` -> `a/b_0010`; the image's file name begins with the last part of the frame's name.
    ValueError when the name does not end in a number.
    """
    digits = re.search(r"[0-9]+$", frame.name)
    if digits is None:
        raise ValueError(f"frame {frame.name} does not end in a number, so its neighbours are unknown")
    name = f"{frame.name[: digits.start()]}{int(digits[0]) + offset:0{len(digits[0])}d}"
    suffix = frame.image.name.removeprefix(frame.name.rsplit("/", 1)[-1])
    image = frame.image.with_name(name.rsplit("/", 1)[-1] + suffix)
    return Frame(name, image, None) if image.is_file() else None
