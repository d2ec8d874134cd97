"""Reader of any folder of images, with or without a folder of labels: a data set declared in YAML alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import Frame, existing_folder, natural_key, read_split, require, scan


class FolderReader:
    """Images below `images`; the label of `a/b<image_suffix>` is `<labels>/a/b<label_suffix>`.

    labels: label folder, None for unlabelled data. ids, ignored: meaning of the raw label ids (see `Reader`).
    labelled: False reads no labels even where they exist, True requires them, None reads them if `labels` is given.
    folders: only images below these subfolders of `images`; empty takes all.
    split: text file with one frame name a line (relative path without the suffix); None takes all.
    Labels are one-channel or indexed PNG files of ids.
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
    ) -> None:
        if labelled and not (labels and ids):
            raise ValueError(f"images {images} are wanted with labels; give the data set's labels folder and ids")
        self.images = Path(images)
        wanted = labels if labelled is not False else None
        self.labels = None if wanted is None else existing_folder(wanted, "check the data set's labels folder")
        self.image_suffix = image_suffix
        self.label_suffix = label_suffix
        self.label_map: Mapping[int, str] = {int(raw): name for raw, name in ids.items()}
        self.ignored: Collection[int] = tuple(ignored)
        self.names = self._scan(folders)
        chosen = self.names if split is None else read_split(split)
        fix = "list the frames to use in a split file" if split is None else f"correct the split file {split}"
        self.frames = require(map(self._frame, chosen), f"add the file, or {fix}")

    def read_label(self, path: Path) -> np.ndarray:
        """Read the raw ids (H, W)."""
        return read_ids(path)

    def _scan(self, folders: Sequence[str]) -> list[str]:
        """List the names of all images below these folders, or below `images` when there are none."""
        fix = f"check the data set's images folder and image_suffix '{self.image_suffix}'"
        if not folders:
            return scan(self.images, self.image_suffix, fix)
        names = [
            f"{folder}/{name}" for folder in folders for name in scan(self.images / folder, self.image_suffix, fix)
        ]
        return sorted(names, key=natural_key)

    def _frame(self, name: str) -> Frame:
        label = None if self.labels is None else self.labels / f"{name}{self.label_suffix}"
        return Frame(name, self.images / f"{name}{self.image_suffix}", label)
