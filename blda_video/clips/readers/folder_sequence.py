"""Any folders of video frames: a `FolderReader` whose frames know their neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from blda.data.readers.frames import Frame
from blda.data.readers.image_folder import FolderReader


class FolderSequence(FolderReader):
    """One video a subfolder, in the natural order of the file names.

    spacing: difference of the numbers at the end of the names between one frame and the next; the neighbour at offset
        k is then the file numbered k * spacing higher, so gaps in a recording are seen. None: the k-th next
        file of the same folder, whatever the names.
    A split or labels choose key frames; every image can be a neighbour. Other arguments as in `FolderReader`.
    """

    def __init__(
        self,
        images: str | Path,
        labels: str | Path | None = None,
        ids: Mapping[int, str] = MappingProxyType({}),
        ignored: Sequence[int] = (255,),
        image_suffix: str = ".jpg",
        label_suffix: str = ".png",
        folders: Sequence[str] = (),
        split: str | Path | None = None,
        labelled: bool | None = None,
        spacing: int | None = None,
    ) -> None:
        if spacing is not None and spacing < 1:
            raise ValueError(f"spacing {spacing} of {images} must be at least 1; leave it out to go by position")
        super().__init__(images, labels, ids, ignored, image_suffix, label_suffix, folders, split, labelled)
        self.spacing = spacing
        self._position = {name: i for i, name in enumerate(self.names)}

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The unlabelled frame `offset` frames later in the same folder, None past the ends or in a gap."""
        result = self._by_position if self.spacing is None else self._by_number
        name = result(frame.name, offset)
        return None if name is None else Frame(name, self.images / f"{name}{self.image_suffix}", None)

    def _by_position(self, name: str, offset: int) -> str | None:
        position = self._position[name] + offset
        if not 0 <= position < len(self.names):
            return None
        result = self.names[position]
        return result if Path(result).parent == Path(name).parent else None

    def _by_number(self, name: str, offset: int) -> str | None:
        digits = re.search(r"[0-9]+$", name)
        if digits is None:
            raise ValueError(f"frame {name} of {self.images} does not end in a number; leave spacing out")
        number = int(digits[0]) + offset * self.spacing
        candidates = (f"{name[: digits.start()]}{number:0{width}d}" for width in (len(digits[0]), 1))
        return next((result for result in candidates if result in self._position), None)
